extern "C" {
#include "manager/keeper_pem.h"
}

#include <gtest/gtest.h>

#include <nettle/base64.h>

#include <ostream>
#include <string>
#include <vector>

namespace {

std::string Base64(const std::string &bytes) {
    std::string out(BASE64_ENCODE_RAW_LENGTH(bytes.size()), '\0');

    base64_encode_raw(&out[0], bytes.size(), reinterpret_cast<const uint8_t *>(bytes.data()));
    return out;
}

std::string Wrapped(const std::string &text, const std::string &newline = "\n", size_t width = 64) {
    std::string out;

    for (size_t at = 0; at < text.size(); at += width)
        out += text.substr(at, width) + newline;
    return out;
}

std::string Block(const std::string &label, const std::string &body,
                  const std::string &newline = "\n") {
    return "-----BEGIN " + label + "-----" + newline + body + "-----END " + label + "-----" +
           newline;
}

/* What a certificate's DER begins with, and enough after it for several lines. */
std::string CertificateBody(char filling = 'c', const std::string &newline = "\n",
                            size_t width = 64) {
    return Wrapped(Base64(std::string("\x30\x82\x01\x10\x30\x81\xf0\xa0\x03\x02\x01\x02", 12) +
                          std::string(150, filling)),
                   newline, width);
}

std::string Certificate(char filling = 'c') {
    return Block("CERTIFICATE", CertificateBody(filling));
}

std::string Key(const std::string &label = "PRIVATE KEY") {
    return Block(label, Wrapped(Base64("\x30\x82\x01\x10\x02\x01" + std::string(150, 'k'))));
}

class KeeperPem : public testing::Test {
protected:
    ~KeeperPem() override { keeper_pem_fini(&pem_); }

    enum result Split(const std::string &file) {
        file_ = file;
        keeper_pem_fini(&pem_);
        why_ = nullptr;
        return keeper_pem_split(&pem_, file_.data(), file_.size(), &why_);
    }

    std::string Certificates() const {
        return std::string(pem_.certificates ? pem_.certificates : "", pem_.certificates_size);
    }

    std::string KeyBlock() const {
        return std::string(reinterpret_cast<const char *>(pem_.key.data), pem_.key.size);
    }

    std::string file_;
    keeper_pem pem_ = {};
    const char *why_ = nullptr;
};

TEST_F(KeeperPem, KeyAndCertificatesOfOneFileAreParted) {
    ASSERT_EQ(RESULT_OK, Split("a comment\n" + Certificate('a') + Key() + Certificate('b')));
    EXPECT_EQ(1u, pem_.key_count);
    EXPECT_EQ(Key(), KeyBlock());
    EXPECT_EQ(2u, pem_.certificate_count);
    EXPECT_EQ(Certificate('a') + Certificate('b'), Certificates());
}

TEST_F(KeeperPem, CommentsBetweenTheBlocksStay) {
    ASSERT_EQ(RESULT_OK, Split("password: secret\n" + Certificate() + "key: secret\n"));
    EXPECT_EQ(Certificate(), Certificates());
}

TEST_F(KeeperPem, OtherBlocksStay) {
    ASSERT_EQ(RESULT_OK, Split(Block("EC PARAMETERS", "BggqhkjOPQMBBw==\n") +
                               Key("EC PRIVATE KEY") + Block("DH PARAMETERS", "MIIB\n") +
                               Certificate() + Block("SOMETHING", "AAAA\n")));
    EXPECT_EQ(1u, pem_.key_count);
    EXPECT_EQ(Key("EC PRIVATE KEY"), KeyBlock());
    EXPECT_EQ(Certificate(), Certificates());
}

TEST_F(KeeperPem, LinesMayEndAsInWindows) {
    ASSERT_EQ(RESULT_OK, Split(Block("CERTIFICATE", CertificateBody('c', "\r\n"), "\r\n")));
    EXPECT_EQ(Certificate(), Certificates());
}

TEST_F(KeeperPem, LinesMayHaveAnyLength) {
    ASSERT_EQ(RESULT_OK, Split(Block("CERTIFICATE", CertificateBody('c', "\n", 76)) +
                               Block("CERTIFICATE", CertificateBody('c', "\n", 10000))));
    EXPECT_EQ(Certificate() + Certificate(), Certificates());
}

TEST_F(KeeperPem, TheLastLineNeedsNoNewline) {
    std::string file = Certificate() + Key();

    file.pop_back();
    ASSERT_EQ(RESULT_OK, Split(file));
    EXPECT_EQ(1u, pem_.key_count);
}

TEST_F(KeeperPem, TheOldNameOfCertificatesIsKnown) {
    ASSERT_EQ(RESULT_OK, Split(Block("X509 CERTIFICATE", CertificateBody())));
    EXPECT_EQ(Certificate(), Certificates());
}

TEST_F(KeeperPem, AnEncryptedTraditionalKeyKeepsItsHeaders) {
    std::string key = Block("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\n"
                                               "DEK-Info: AES-128-CBC,00112233445566778899AABB\n\n"
                                               "MIIB\n");

    ASSERT_EQ(RESULT_OK, Split(Certificate() + key));
    EXPECT_EQ(key, KeyBlock());
}

TEST_F(KeeperPem, AnEmptyFileHoldsNothing) {
    ASSERT_EQ(RESULT_OK, Split(""));
    EXPECT_EQ(0u, pem_.key_count);
    EXPECT_EQ(0u, pem_.certificate_count);
    EXPECT_EQ("", Certificates());
}

TEST_F(KeeperPem, NoFileMakesItReadBeyondItsEnd) {
    const std::string file = "text\n" + Certificate() + Key() + Certificate();

    for (size_t size = 0; size <= file.size(); size++) {
        std::vector<char> exact(file.begin(), file.begin() + static_cast<long>(size));
        keeper_pem pem = {};
        const char *why = nullptr;

        if (keeper_pem_split(&pem, exact.data(), exact.size(), &why) == RESULT_OK)
            keeper_pem_fini(&pem);
        else
            EXPECT_NE(nullptr, why);
    }
}

struct KeyKind {
    const char *name;
    const char *label;
    size_t keys, foreign;
};

class KeeperPemKeys : public testing::TestWithParam<KeyKind> {};

TEST_P(KeeperPemKeys, AreCountedAndStay) {
    const std::string file = Certificate() + Key(GetParam().label);
    keeper_pem pem = {};
    const char *why = nullptr;

    ASSERT_EQ(RESULT_OK, keeper_pem_split(&pem, file.data(), file.size(), &why));
    EXPECT_EQ(GetParam().keys, pem.key_count);
    EXPECT_EQ(GetParam().foreign, pem.foreign_key_count);
    EXPECT_EQ(Certificate(), std::string(pem.certificates, pem.certificates_size));
    keeper_pem_fini(&pem);
}

INSTANTIATE_TEST_SUITE_P(Kinds, KeeperPemKeys,
                         testing::Values(KeyKind{"Pkcs8", "PRIVATE KEY", 1, 0},
                                         KeyKind{"Pkcs8Encrypted", "ENCRYPTED PRIVATE KEY", 1, 0},
                                         KeyKind{"Pkcs1", "RSA PRIVATE KEY", 1, 0},
                                         KeyKind{"Sec1", "EC PRIVATE KEY", 1, 0},
                                         KeyKind{"Dsa", "DSA PRIVATE KEY", 0, 1},
                                         KeyKind{"OpenSsh", "OPENSSH PRIVATE KEY", 0, 1},
                                         KeyKind{"PublicIsNoKey", "PUBLIC KEY", 0, 0}),
                         [](const testing::TestParamInfo<KeyKind> &info) {
                             return info.param.name;
                         });

TEST_F(KeeperPem, SeveralKeysAreCounted) {
    ASSERT_EQ(RESULT_OK, Split(Key() + Certificate() + Key("RSA PRIVATE KEY")));
    EXPECT_EQ(2u, pem_.key_count);
    EXPECT_EQ(Key(), KeyBlock());
}

/* Each of these would let a key out if certificates were cut out of the file as they are. */
struct Trick {
    const char *name;
    std::string file;
};

void PrintTo(const Trick &trick, std::ostream *os) {
    *os << trick.name;
}

std::vector<Trick> Tricks() {
    const std::string key_body = Wrapped(Base64("\x30\x82\x01\x10\x02\x01" + std::string(90, 'k')));
    const std::string encrypted_body =
        Wrapped(Base64("\x30\x82\x01\x10\x30\x40\x06\x09" + std::string(90, 'k')));
    const std::string begin = "-----BEGIN CERTIFICATE-----\n";

    return {
        {"CertificateWithoutEndBeforeAKey", begin + CertificateBody() + Key()},
        {"CertificateWithoutEnd", Key() + begin + CertificateBody()},
        {"CertificateAroundAKey", Block("CERTIFICATE", CertificateBody() + Key())},
        {"KeyInACertificatesName", Block("CERTIFICATE", key_body)},
        {"EncryptedKeyInACertificatesName", Block("CERTIFICATE", encrypted_body)},
        {"EndsWithAnotherName",
         begin + CertificateBody() + "-----END PRIVATE KEY-----\n" + Certificate()},
        {"HeadersInACertificate",
         Block("CERTIFICATE", "Proc-Type: 4,ENCRYPTED\n\n" + CertificateBody())},
        {"NulInACertificate",
         Block("CERTIFICATE", CertificateBody() + std::string(1, '\0') + "\n")},
        {"EmptyCertificate", Block("CERTIFICATE", "")},
        {"ShortCertificate", Block("CERTIFICATE", "MIIB\n")},
        {"KeyWithoutEnd", Certificate() + "-----BEGIN PRIVATE KEY-----\nMIIB\n"},
    };
}

class KeeperPemTricks : public testing::TestWithParam<Trick> {};

TEST_P(KeeperPemTricks, AreRefused) {
    keeper_pem pem = {};
    const char *why = nullptr;

    EXPECT_EQ(RESULT_MALFORMED,
              keeper_pem_split(&pem, GetParam().file.data(), GetParam().file.size(), &why));
    ASSERT_NE(nullptr, why);
    EXPECT_EQ(nullptr, pem.certificates);
}

INSTANTIATE_TEST_SUITE_P(Files, KeeperPemTricks, testing::ValuesIn(Tricks()),
                         [](const testing::TestParamInfo<Trick> &info) { return info.param.name; });

} // namespace
