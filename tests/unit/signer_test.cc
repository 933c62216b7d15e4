extern "C" {
#include "worker/signer.h"
}

#include <gtest/gtest.h>

#include <string>

namespace {

const std::string kHash(48, 'h');

std::string Content13(const std::string &side) {
    return std::string(64, ' ') + "TLS 1.3, " + side + " CertificateVerify" + std::string(1, '\0') +
           kHash;
}

/* What is sent to the keeper; "refused" if nothing is. */
std::string Sent(enum tls_role role, unsigned version, std::string content) {
    gnutls_datum_t data = {reinterpret_cast<unsigned char *>(&content[0]),
                           static_cast<unsigned>(content.size())};
    struct bytes sent;

    if (!signer_content(role, version, &data, &sent))
        return "refused";
    return std::string(reinterpret_cast<const char *>(sent.data), sent.size);
}

TEST(SignerTest, InTls13OnlyTheTranscriptHashIsSent) {
    EXPECT_EQ(kHash, Sent(ROLE_SERVER, TLS_1_3, Content13("server")));
    EXPECT_EQ(kHash, Sent(ROLE_CLIENT, TLS_1_3, Content13("client")));
}

TEST(SignerTest, OtherContentIsRefusedInTls13) {
    std::string spaces = Content13("server");

    EXPECT_EQ("refused", Sent(ROLE_CLIENT, TLS_1_3, Content13("server")));
    EXPECT_EQ("refused", Sent(ROLE_SERVER, TLS_1_3, kHash));
    EXPECT_EQ("refused", Sent(ROLE_SERVER, TLS_1_3, spaces.substr(0, 98)));
    spaces[63] = 'x';
    EXPECT_EQ("refused", Sent(ROLE_SERVER, TLS_1_3, spaces));
}

TEST(SignerTest, InTls12TheContentIsSentWhole) {
    EXPECT_EQ("randoms and parameters", Sent(ROLE_SERVER, TLS_1_2, "randoms and parameters"));
}

TEST(SignerTest, OlderVersionsAreRefused) {
    EXPECT_EQ("refused", Sent(ROLE_CLIENT, TLS_1_1, "an MD5 and a SHA-1"));
}

} // namespace
