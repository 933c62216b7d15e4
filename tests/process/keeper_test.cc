/*
 * The real keeper with the real key decoder.  The test is the manager, cordond
 * and every worker.
 */
#include "tests/process/tree_child.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <pwd.h>
#include <sys/resource.h>

#include <iostream>
#include <memory>
#include <ostream>

using namespace cordon_test;

namespace {

const std::string kHash(32, 'h');

/* What key_loaded or key_failed said. */
struct Loaded {
    bool is_loaded = false;
    uint64_t request = 0, key = 0;
    uint32_t algorithm = 0, bits = 0;
    std::string public_key, certificates;
    std::string option, why;
    int error = 0;
    std::string files; /* two struct file_state */
};

struct Misuse {
    uint64_t channel, connection;
    std::string why;
};

/* What a load is asked with. */
struct Ask {
    std::string certfile, keyfile, password;
    int certfile_fd = -1, keyfile_fd = -1, password_fd = -1;
    uint64_t password_of = 0;
};

std::string Content13(const std::string &hash, const char *side = "server") {
    return std::string(64, ' ') + "TLS 1.3, " + side + " CertificateVerify" + std::string(1, '\0') +
           hash;
}

std::string Content12(bool with_sentinel) {
    return std::string(32, 'c') + std::string(24, 's') +
           (with_sentinel ? "DOWNGRD\x01" : "ssssssss") + std::string("\x03\x00\x1d\x20", 4) +
           std::string(32, 'p');
}

class KeeperTest : public testing::Test {
protected:
    static void SetUpTestSuite() {
        folder_ = new Folder;
        MakeKeys(*folder_);
    }
    static void TearDownTestSuite() {
        delete folder_;
        folder_ = nullptr;
    }

    void SetUp() override {
        descriptors_ = CountDescriptors();
        StartKeeper(0);
    }

    void TearDown() override {
        fd_close(&manager_);
        if (keeper_->pid() > 0) {
            EXPECT_EQ(0, keeper_->Wait()) << keeper_->Log();
        }
        if (HasFailure())
            std::cout << "keeper: " << keeper_->Log() << "\n" << lines_;
        keeper_.reset();
        EXPECT_EQ(descriptors_, CountDescriptors());
    }

    void StartKeeper(uid_t uid) {
        int pair[2];

        ASSERT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX_LARGE));
        fd_close(&manager_);
        manager_ = pair[0];
        keeper_ = std::make_unique<TreeChild>();
        keeper_->Start("keeper", pair[1], uid);
    }

    static void SelfSigned(const Folder &f, const std::string &name, const std::string &make) {
        f.Run(make + " && openssl req -x509 -new -key " + name + ".key -subj /CN=" + name +
              " -days 30 -out " + name + ".crt");
    }

    static void MakeKeys(const Folder &f) {
        SelfSigned(f, "rsa",
                   "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 "
                   "-out rsa.key");
        SelfSigned(f, "rsa4096", "openssl genrsa -traditional -out rsa4096.key 4096");
        SelfSigned(f, "p256", "openssl ecparam -genkey -name prime256v1 -out p256.key");
        SelfSigned(f, "p384", "openssl ecparam -genkey -name secp384r1 -noout -out p384.key");
        SelfSigned(f, "p521", "openssl ecparam -genkey -name secp521r1 -noout -out p521.key");
        SelfSigned(f, "ed", "openssl genpkey -algorithm ed25519 -out ed.key");
        SelfSigned(f, "ed448", "openssl genpkey -algorithm ed448 -out ed448.key");
        f.Run("openssl pkcs8 -topk8 -nocrypt -in p384.key -out p384.p8");
        f.Run("openssl pkcs8 -topk8 -passout pass:right -in rsa.key -out rsa.p8e");
        f.Run("openssl pkcs8 -topk8 -passout pass:right -v2 des3 -in p256.key -out p256.p8e");
        f.Run("openssl pkcs8 -topk8 -passout pass:right -in ed.key -out ed.p8e");
        f.Run("openssl rsa -traditional -aes256 -passout pass:right -in rsa.key -out rsa.tre");
        f.Run("openssl ec -aes128 -passout pass:right -in p521.key -out p521.tre");
        f.Run("cat rsa.key rsa.crt p256.crt > rsa.both; cat p256.crt p256.key > p256.both;"
              "cat ed.crt ed.p8e > ed.both; cat rsa.key p256.key > two.keys;"
              "cat rsa.crt rsa.key p256.key > two.both; cat rsa.crt rsa.key rsa.key > same.both");
        f.Run("(cat rsa.crt; head -c 1100000 /dev/zero | tr '\\0' x) > large.crt");
        f.Run("head -5 rsa.key > cut.key; head -c 3000 /dev/urandom > garbage; : > empty;"
              "mkfifo fifo; mkdir folder; ln -s loop loop; ssh-keygen -q -t ed25519 -N '' -f ssh "
              "|| printf '%s\\n' '-----BEGIN OPENSSH PRIVATE KEY-----' AAAA "
              "'-----END OPENSSH PRIVATE KEY-----' > ssh");
        f.Run("chmod 644 *.key *.p8 *.p8e *.tre *.both *.keys ssh; cp rsa.key locked.key;"
              "chmod 600 locked.key");
    }

    static std::string Path(const std::string &name) {
        return name.empty() || name[0] == '=' ? name.substr(name.empty() ? 0 : 1) : *folder_ / name;
    }

    /* --- the manager ----------------------------------------------------------------- */

    /* The next message that is no log line. */
    void Next(Received *received, int64_t timeout_ms = 30000) {
        for (;;) {
            ASSERT_EQ(RESULT_OK, received->From(manager_, KEEPER_TO_MANAGER, timeout_ms));
            if (received->m.type != MESSAGE_LOG)
                return;
            lines_ += std::string(received->m.as.log.line) + "\n";
        }
    }

    /* Takes no descriptor; decoder is the keeper's end of a decoder's mailbox. */
    uint64_t SendLoad(const Ask &ask, int decoder) {
        struct message m;

        message_init(&m, MESSAGE_KEY_LOAD);
        m.as.key_load.request = ++last_request_;
        m.fds[m.fd_count++] = decoder;
        m.as.key_load.certfile = ask.certfile.empty() ? nullptr : ask.certfile.c_str();
        m.as.key_load.keyfile = ask.keyfile.empty() ? nullptr : ask.keyfile.c_str();
        m.as.key_load.password = Borrow(ask.password);
        if (ask.certfile_fd >= 0) {
            m.as.key_load.certfile_index = static_cast<uint32_t>(m.fd_count);
            m.fds[m.fd_count++] = ask.certfile_fd;
        }
        if (ask.keyfile_fd >= 0) {
            m.as.key_load.keyfile_index = static_cast<uint32_t>(m.fd_count);
            m.fds[m.fd_count++] = ask.keyfile_fd;
        }
        if (ask.password_fd >= 0) {
            m.as.key_load.password_index = static_cast<uint32_t>(m.fd_count);
            m.fds[m.fd_count++] = ask.password_fd;
        }
        m.as.key_load.password_of = ask.password_of;
        m.as.key_load.has_password_of = ask.password_of != 0;
        EXPECT_EQ(RESULT_OK, mailbox_send(manager_, &m));
        return last_request_;
    }

    /* What `examined` says. */
    std::string Examine(const std::string &certfile, const std::string &keyfile = "") {
        Received received;
        struct message m;

        message_init(&m, MESSAGE_EXAMINE);
        m.as.examine.request = ++last_request_;
        m.as.examine.certfile = certfile.c_str();
        m.as.examine.keyfile = keyfile.empty() ? nullptr : keyfile.c_str();
        EXPECT_EQ(RESULT_OK, mailbox_send(manager_, &m));
        Next(&received);
        EXPECT_EQ(MESSAGE_EXAMINED, received.m.type);
        EXPECT_EQ(last_request_, received.m.as.examined.request);
        return TextOf(received.m.as.examined.files);
    }

    Loaded NextLoaded() {
        Received received;
        Loaded loaded;

        Next(&received);
        loaded.is_loaded = received.m.type == MESSAGE_KEY_LOADED;
        if (loaded.is_loaded)
            ReadLoaded(&received.m, &loaded);
        else if (received.m.type == MESSAGE_KEY_FAILED)
            ReadFailed(received.m.as.key_failed, &loaded);
        else
            ADD_FAILURE() << message_name(received.m.type);
        return loaded;
    }

    static void ReadLoaded(struct message *m, Loaded *loaded) {
        const message_key_loaded &said = m->as.key_loaded;
        uint8_t *bytes = nullptr;
        size_t size = 0;

        loaded->request = said.request;
        loaded->key = said.key;
        loaded->algorithm = said.algorithm;
        loaded->bits = said.bits;
        loaded->public_key = TextOf(said.public_key);
        loaded->files = TextOf(said.files);
        ASSERT_EQ(RESULT_OK, memfd_read(m->fds[0], 1 << 20, &bytes, &size));
        loaded->certificates.assign(reinterpret_cast<char *>(bytes), size);
        free(bytes);
    }

    static void ReadFailed(const message_key_failed &said, Loaded *loaded) {
        loaded->request = said.request;
        loaded->option = said.option;
        loaded->error = static_cast<int>(said.error);
        loaded->why = said.why;
    }

    /* With a real decoder, as the manager and cordond do it. */
    Loaded Load(const Ask &ask) {
        TreeChild decoder;
        Loaded loaded;
        uint64_t request;
        int pair[2];

        EXPECT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX_LARGE));
        decoder.Start("key_decoder", pair[1]);
        request = SendLoad(ask, pair[0]);
        fd_close(&pair[0]);
        loaded = NextLoaded();
        EXPECT_EQ(request, loaded.request);
        (void)decoder.Wait();
        return loaded;
    }

    Loaded LoadFiles(const std::string &cert, const std::string &key = "",
                     const std::string &password = "") {
        Ask ask;

        ask.certfile = Path(cert);
        ask.keyfile = Path(key);
        ask.password = password;
        return Load(ask);
    }

    uint64_t LoadOk(const std::string &cert, const std::string &key = "") {
        Loaded loaded = LoadFiles(cert, key);

        EXPECT_TRUE(loaded.is_loaded) << loaded.why;
        return loaded.key;
    }

    /* Gives the worker's end. */
    int AddChannel(uint64_t number) {
        struct message m;
        int pair[2] = {-1, -1};

        EXPECT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX_LARGE));
        message_init(&m, MESSAGE_CHANNELS);
        m.as.channels.first = number;
        m.fds[0] = pair[0];
        m.fd_count = 1;
        EXPECT_EQ(RESULT_OK, mailbox_send_wait(manager_, &m, clock_now_ms() + 10000));
        fd_close(&pair[0]);
        return pair[1];
    }

    void Bind(uint64_t number, uint64_t key, tls_role role = ROLE_SERVER, uint32_t budget = 1,
              uint32_t versions = TLS_1_2 | TLS_1_3) {
        struct message m;

        message_init(&m, MESSAGE_CHANNEL);
        m.as.channel.channel = number;
        m.as.channel.connection = 1000 + number;
        m.as.channel.key = key;
        m.as.channel.role = role;
        m.as.channel.versions = versions;
        m.as.channel.budget = budget;
        EXPECT_EQ(RESULT_OK, mailbox_send_wait(manager_, &m, clock_now_ms() + 10000));
    }

    void Drop(uint64_t key) {
        struct message m;

        message_init(&m, MESSAGE_KEY_DROP);
        m.as.key_drop.key = key;
        EXPECT_EQ(RESULT_OK, mailbox_send(manager_, &m));
    }

    Misuse NextMisuse() {
        Received received;
        Misuse misuse = {};

        Next(&received);
        EXPECT_EQ(MESSAGE_MISUSE, received.m.type);
        if (received.m.type == MESSAGE_MISUSE)
            misuse = {received.m.as.misuse.channel, received.m.as.misuse.connection,
                      received.m.as.misuse.why};
        return misuse;
    }

    /* After everything sent so far has been handled; a load that fails at once is the question. */
    void RoundTrip() {
        Ask ask;
        int pair[2];

        ask.certfile = "relative";
        ASSERT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX_LARGE));
        SendLoad(ask, pair[0]);
        fd_close(&pair[0]);
        fd_close(&pair[1]);
        EXPECT_EQ("certfile", NextLoaded().option);
    }

    size_t CountLines(const std::string &words) const {
        size_t count = 0;

        for (size_t at = lines_.find(words); at != std::string::npos;
             at = lines_.find(words, at + 1))
            count++;
        return count;
    }

    /* --- a worker -------------------------------------------------------------------- */

    static enum result SendSign(int channel, uint32_t scheme, uint32_t version,
                                const std::string &content) {
        struct message m;

        message_init(&m, MESSAGE_SIGN);
        m.as.sign.scheme = scheme;
        m.as.sign.version = version;
        m.as.sign.content = Borrow(content);
        return mailbox_send(channel, &m);
    }

    /* "" if the channel was closed instead. */
    static std::string NextSignature(int channel) {
        Received received;
        enum result result = received.From(channel, KEEPER_TO_WORKER);

        if (result == RESULT_CHANNEL_CLOSED)
            return "";
        EXPECT_EQ(RESULT_OK, result);
        return result == RESULT_OK ? TextOf(received.m.as.signature.value) : "";
    }

    static std::string Sign(int channel, uint32_t scheme, uint32_t version,
                            const std::string &content) {
        EXPECT_EQ(RESULT_OK, SendSign(channel, scheme, version, content));
        return NextSignature(channel);
    }

    static Folder *folder_;
    std::unique_ptr<TreeChild> keeper_;
    int manager_ = -1;
    uint64_t last_request_ = 0;
    std::string lines_;
    size_t descriptors_ = 0;
};

Folder *KeeperTest::folder_;

bool Verifies(const std::string &spki, gnutls_sign_algorithm_t algorithm,
              const std::string &content, const std::string &signature) {
    gnutls_pubkey_t pubkey;
    gnutls_datum_t der = {(unsigned char *)spki.data(), (unsigned)spki.size()};
    gnutls_datum_t data = {(unsigned char *)content.data(), (unsigned)content.size()};
    gnutls_datum_t sig = {(unsigned char *)signature.data(), (unsigned)signature.size()};
    bool is_good;

    EXPECT_EQ(0, gnutls_pubkey_init(&pubkey));
    EXPECT_EQ(0, gnutls_pubkey_import(pubkey, &der, GNUTLS_X509_FMT_DER));
    is_good = gnutls_pubkey_verify_data2(pubkey, algorithm, 0, &data, &sig) >= 0;
    gnutls_pubkey_deinit(pubkey);
    return is_good;
}

/* The public key of the first certificate, in DER. */
std::string PublicKeyOf(const std::string &pem) {
    gnutls_x509_crt_t certificate;
    gnutls_pubkey_t pubkey;
    gnutls_datum_t data = {(unsigned char *)pem.data(), (unsigned)pem.size()};
    gnutls_datum_t der = {nullptr, 0};
    std::string out;

    EXPECT_EQ(0, gnutls_x509_crt_init(&certificate));
    EXPECT_EQ(0, gnutls_pubkey_init(&pubkey));
    EXPECT_EQ(0, gnutls_x509_crt_import(certificate, &data, GNUTLS_X509_FMT_PEM));
    EXPECT_EQ(0, gnutls_pubkey_import_x509(pubkey, certificate, 0));
    EXPECT_EQ(0, gnutls_pubkey_export2(pubkey, GNUTLS_X509_FMT_DER, &der));
    out.assign(reinterpret_cast<char *>(der.data), der.size);
    gnutls_free(der.data);
    gnutls_pubkey_deinit(pubkey);
    gnutls_x509_crt_deinit(certificate);
    return out;
}

/* --- loading -------------------------------------------------------------------------- */

struct Good {
    const char *name, *cert, *key, *password;
    key_algorithm algorithm;
    uint32_t bits;
    uint32_t scheme;
    gnutls_sign_algorithm_t sign;
};

void PrintTo(const Good &good, std::ostream *os) {
    *os << good.name;
}

class KeeperLoads : public KeeperTest, public testing::WithParamInterface<Good> {};

/* ... and signs with it what the certificate verifies. */
TEST_P(KeeperLoads, AndSigns) {
    const Good &good = GetParam();
    Loaded loaded = LoadFiles(good.cert, good.key, good.password);
    std::string signature;
    int channel;

    ASSERT_TRUE(loaded.is_loaded) << loaded.option << ": " << loaded.why;
    EXPECT_EQ((uint32_t)good.algorithm, loaded.algorithm);
    EXPECT_EQ(good.bits, loaded.bits);
    EXPECT_EQ(PublicKeyOf(ReadFile(Path(good.cert))), loaded.public_key);
    EXPECT_EQ(0u, loaded.certificates.find("-----BEGIN CERTIFICATE-----\n"));
    EXPECT_EQ(std::string::npos, loaded.certificates.find("PRIVATE"));

    channel = AddChannel(7);
    Bind(7, loaded.key);
    signature = Sign(channel, good.scheme, TLS_1_3, kHash);
    EXPECT_TRUE(Verifies(loaded.public_key, good.sign, Content13(kHash), signature));
    EXPECT_FALSE(Verifies(loaded.public_key, good.sign, Content13(kHash, "client"), signature));
    fd_close(&channel);
}

const auto kPss = GNUTLS_SIGN_RSA_PSS_RSAE_SHA256;
const auto kEs256 = GNUTLS_SIGN_ECDSA_SECP256R1_SHA256;
const auto kEs384 = GNUTLS_SIGN_ECDSA_SECP384R1_SHA384;
const auto kEs512 = GNUTLS_SIGN_ECDSA_SECP521R1_SHA512;
const auto kEd = GNUTLS_SIGN_EDDSA_ED25519;

INSTANTIATE_TEST_SUITE_P(
    Keys, KeeperLoads,
    testing::Values(
        Good{"RsaPkcs8", "rsa.crt", "rsa.key", "", KEY_RSA, 2048, 0x0804, kPss},
        Good{"RsaPkcs1", "rsa4096.crt", "rsa4096.key", "", KEY_RSA, 4096, 0x0806,
             GNUTLS_SIGN_RSA_PSS_RSAE_SHA512},
        Good{"EcWithParameters", "p256.crt", "p256.key", "", KEY_ECDSA, 256, 0x0403, kEs256},
        Good{"Sec1", "p521.crt", "p521.key", "", KEY_ECDSA, 521, 0x0603, kEs512},
        Good{"EcPkcs8", "p384.crt", "p384.p8", "", KEY_ECDSA, 384, 0x0503, kEs384},
        Good{"Ed25519", "ed.crt", "ed.key", "", KEY_ED25519, 256, 0x0807, kEd},
        Good{"RsaInOneFile", "rsa.both", "", "", KEY_RSA, 2048, 0x0805,
             GNUTLS_SIGN_RSA_PSS_RSAE_SHA384},
        Good{"EcInOneFile", "p256.both", "", "", KEY_ECDSA, 256, 0x0403, kEs256},
        Good{"SameFileTwice", "p256.both", "p256.both", "", KEY_ECDSA, 256, 0x0403, kEs256},
        Good{"AKeyInCertfileToo", "p256.both", "p256.key", "", KEY_ECDSA, 256, 0x0403, kEs256},
        Good{"EncryptedPkcs8Rsa", "rsa.crt", "rsa.p8e", "right", KEY_RSA, 2048, 0x0804, kPss},
        Good{"EncryptedPkcs8Ec", "p256.crt", "p256.p8e", "right", KEY_ECDSA, 256, 0x0403, kEs256},
        Good{"EncryptedInOneFile", "ed.both", "", "right", KEY_ED25519, 256, 0x0807, kEd},
        Good{"EncryptedTraditionalRsa", "rsa.crt", "rsa.tre", "right", KEY_RSA, 2048, 0x0804, kPss},
        Good{"EncryptedTraditionalEc", "p521.crt", "p521.tre", "right", KEY_ECDSA, 521, 0x0603,
             kEs512},
        Good{"UnneededPassword", "rsa.crt", "rsa.key", "unneeded", KEY_RSA, 2048, 0x0804, kPss}),
    [](const testing::TestParamInfo<Good> &info) { return info.param.name; });

TEST_F(KeeperTest, OnlyTheCertificatesOfTheFileLeaveIt) {
    Loaded loaded = LoadFiles("rsa.both");

    EXPECT_EQ(ReadFile(Path("rsa.crt")) + ReadFile(Path("p256.crt")), loaded.certificates);
}

TEST_F(KeeperTest, FilesAndPasswordMayComeAsDescriptors) {
    Ask ask;
    int pipe_fds[2];
    Loaded loaded;

    ASSERT_EQ(0, pipe2(pipe_fds, O_CLOEXEC));
    ASSERT_EQ(6, write(pipe_fds[1], "right\n", 6));
    fd_close(&pipe_fds[1]);
    ask.certfile_fd = open(Path("rsa.crt").c_str(), O_RDONLY | O_CLOEXEC);
    ask.keyfile_fd = open(Path("rsa.p8e").c_str(), O_RDONLY | O_CLOEXEC);
    ask.password_fd = pipe_fds[0];
    loaded = Load(ask);
    EXPECT_TRUE(loaded.is_loaded) << loaded.why;
    close(ask.certfile_fd);
    close(ask.keyfile_fd);
    close(ask.password_fd);
}

TEST_F(KeeperTest, TheKeyMayBeInTheDescriptorForCertfile) {
    Ask ask;

    ask.certfile_fd = open(Path("p256.both").c_str(), O_RDONLY | O_CLOEXEC);
    EXPECT_TRUE(Load(ask).is_loaded);
    close(ask.certfile_fd);
}

TEST_F(KeeperTest, AFileThatTheKeepersUserMayNotReadIsExplained) {
    const struct passwd *user = getpwnam("cordon-keeper");
    Loaded loaded;

    if (geteuid() != 0)
        GTEST_SKIP() << "needs root, to be somebody else";
    fd_close(&manager_);
    ASSERT_EQ(0, keeper_->Wait());
    StartKeeper(user ? user->pw_uid : 65534);
    loaded = LoadFiles("rsa.crt", "locked.key");
    EXPECT_FALSE(loaded.is_loaded);
    EXPECT_EQ("keyfile", loaded.option);
    EXPECT_EQ(EACCES, loaded.error);
    EXPECT_NE(std::string::npos, loaded.why.find(Path("locked.key") + ": permission denied"))
        << loaded.why;
    EXPECT_NE(std::string::npos,
              loaded.why.find(user ? "chgrp cordon-keeper" : "send it as a descriptor"))
        << loaded.why;
    EXPECT_TRUE(LoadFiles("rsa.crt", "rsa.key").is_loaded);
}

struct Bad {
    const char *name, *cert, *key, *password;
    const char *option;
    int error;
    const char *words;
};

void PrintTo(const Bad &bad, std::ostream *os) {
    *os << bad.name;
}

class KeeperRefuses : public KeeperTest, public testing::WithParamInterface<Bad> {};

TEST_P(KeeperRefuses, AndSaysOptionFileAndReason) {
    const Bad &bad = GetParam();
    Loaded loaded = LoadFiles(bad.cert, bad.key, bad.password);

    EXPECT_FALSE(loaded.is_loaded);
    EXPECT_EQ(bad.option, loaded.option) << loaded.why;
    EXPECT_EQ(bad.error, loaded.error) << loaded.why;
    EXPECT_NE(std::string::npos, loaded.why.find(bad.words)) << loaded.why;
    EXPECT_TRUE(LoadFiles("p256.both").is_loaded);
}

INSTANTIATE_TEST_SUITE_P(
    Files, KeeperRefuses,
    testing::Values(
        Bad{"NoCertfile", "", "rsa.key", "", "certfile", 0, "no certificate file"},
        Bad{"CertfileMissing", "none", "", "", "certfile", ENOENT, "/none: there is no such"},
        Bad{"KeyfileMissing", "rsa.crt", "none", "", "keyfile", ENOENT, "/none: there is no"},
        Bad{"RelativePath", "=some.pem", "", "", "certfile", EINVAL, "not absolute"},
        Bad{"Folder", "folder", "", "", "certfile", EISDIR, "a folder, not a regular file"},
        Bad{"Fifo", "rsa.crt", "fifo", "", "keyfile", EINVAL, "a pipe, not a regular file"},
        Bad{"Device", "=/dev/zero", "", "", "certfile", EINVAL, "a device"},
        Bad{"Loop", "loop", "", "", "certfile", ELOOP, "cannot be opened"},
        Bad{"TooLarge", "large.crt", "", "", "certfile", EFBIG, "larger than 1048576 bytes"},
        Bad{"Empty", "empty", "", "", "certfile", 0, "holds no certificate"},
        Bad{"Garbage", "garbage", "rsa.key", "", "certfile", 0, "holds no certificate"},
        Bad{"GarbageKey", "rsa.crt", "garbage", "", "keyfile", 0, "holds no private key"},
        Bad{"NoKey", "rsa.crt", "", "", "certfile", 0, "name its file with keyfile"},
        Bad{"KeyfileIsACertificate", "rsa.crt", "p256.crt", "", "keyfile", 0,
            "/p256.crt: holds no private key"},
        Bad{"CertfileIsAKey", "rsa.key", "", "", "certfile", 0, "holds no certificate"},
        Bad{"TwoKeys", "rsa.crt", "two.keys", "", "keyfile", 0, "holds 2 private keys"},
        Bad{"TwoKeysInCertfile", "two.both", "", "", "certfile", 0, "holds 2 private keys"},
        Bad{"OneKeyTwice", "same.both", "", "", "certfile", 0, "holds 2 private keys"},
        Bad{"KeyCut", "rsa.crt", "cut.key", "", "keyfile", 0, "a PEM block has no end"},
        Bad{"OpenSshKey", "rsa.crt", "ssh", "", "keyfile", 0, "a kind that TLS does not use"},
        Bad{"Ed448", "ed448.crt", "ed448.key", "", "keyfile", 0, "RSA, ECDSA or Ed25519"},
        Bad{"NoPassword", "rsa.crt", "rsa.p8e", "", "password", 0, "there is no password"},
        Bad{"WrongPassword", "rsa.crt", "rsa.p8e", "wrong", "password", 0,
            "/rsa.p8e: the password does not open"},
        Bad{"WrongPasswordOfATraditionalKey", "rsa.crt", "rsa.tre", "wrong", "password", 0,
            "the password does not open"},
        Bad{"NoPasswordForATraditionalKey", "p521.crt", "p521.tre", "", "password", 0,
            "there is no password"}),
    [](const testing::TestParamInfo<Bad> &info) { return info.param.name; });

TEST_F(KeeperTest, APasswordDescriptorThatSaysNothingIsGivenUp) {
    Ask ask;
    int pipe_fds[2];
    Loaded loaded;

    ASSERT_EQ(0, pipe2(pipe_fds, O_CLOEXEC));
    ask.certfile = Path("ed.both");
    ask.password_fd = pipe_fds[0];
    loaded = Load(ask);
    EXPECT_FALSE(loaded.is_loaded);
    EXPECT_EQ("password", loaded.option);
    fd_close(&pipe_fds[0]);
    fd_close(&pipe_fds[1]);
}

/* --- decoders that fail --------------------------------------------------------------- */

class KeeperDecoderTest : public KeeperTest {
protected:
    void SetUp() override {
        Ask ask;
        int pair[2];

        KeeperTest::SetUp();
        ASSERT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX_LARGE));
        decoder_ = pair[1];
        ask.certfile = Path("p256.both");
        request_ = SendLoad(ask, pair[0]);
        fd_close(&pair[0]);
        ASSERT_EQ(RESULT_OK, asked_.From(decoder_, KEEPER_TO_DECODER));
    }

    void TearDown() override {
        fd_close(&decoder_);
        KeeperTest::TearDown();
    }

    void ExpectFailed(const std::string &words) {
        Loaded loaded = NextLoaded();

        EXPECT_FALSE(loaded.is_loaded);
        EXPECT_EQ(request_, loaded.request);
        EXPECT_EQ("certfile", loaded.option);
        EXPECT_NE(std::string::npos, loaded.why.find(words)) << loaded.why;
        EXPECT_TRUE(LoadFiles("p256.both").is_loaded);
    }

    Received asked_;
    int decoder_ = -1;
    uint64_t request_ = 0;
};

TEST_F(KeeperDecoderTest, GetsTheKeyBlockAlone) {
    std::string pem = TextOf(asked_.m.as.decode.pem);

    EXPECT_EQ(0u, pem.find("-----BEGIN EC PRIVATE KEY-----"));
    EXPECT_EQ(std::string::npos, pem.find("CERTIFICATE"));
    fd_close(&decoder_);
    ExpectFailed("ended without an answer");
}

TEST_F(KeeperDecoderTest, ThatDiesFailsTheLoad) {
    fd_close(&decoder_);
    ExpectFailed("ended without an answer");
}

TEST_F(KeeperDecoderTest, ThatTalksNonsenseFailsTheLoad) {
    ASSERT_EQ(8, send(decoder_, "nonsense", 8, MSG_NOSIGNAL));
    ExpectFailed("the key decoder failed");
}

TEST_F(KeeperDecoderTest, ThatGivesWrongNumbersFailsTheLoad) {
    struct message m;

    message_init(&m, MESSAGE_DECODED);
    m.as.decoded.algorithm = KEY_RSA;
    m.as.decoded.m = Borrow("modulus");
    ASSERT_EQ(RESULT_OK, mailbox_send(decoder_, &m));
    ExpectFailed("cannot be used");
}

TEST_F(KeeperDecoderTest, ThatGivesAPointOffTheCurveFailsTheLoad) {
    struct message m;

    message_init(&m, MESSAGE_DECODED);
    m.as.decoded.algorithm = KEY_ECDSA;
    m.as.decoded.curve = 999;
    m.as.decoded.x = m.as.decoded.y = m.as.decoded.k = Borrow("number");
    ASSERT_EQ(RESULT_OK, mailbox_send(decoder_, &m));
    ExpectFailed("cannot be used");
}

TEST_F(KeeperDecoderTest, ThatIsSlowIsGivenUpAndDelaysNobody) {
    int64_t begin_ms = clock_now_ms();
    int channel = AddChannel(1);

    Bind(1, LoadOk("rsa.both"));
    EXPECT_NE("", Sign(channel, 0x0804, TLS_1_3, kHash));
    fd_close(&channel);
    char next[64] = "";
    EXPECT_EQ(-1, recv(manager_, next, sizeof next - 1, MSG_PEEK | MSG_DONTWAIT)) << next;
    ExpectFailed("longer than 15 s");
    EXPECT_GE(clock_now_ms() - begin_ms, 3000);
}

/* --- signing -------------------------------------------------------------------------- */

TEST_F(KeeperTest, SignsAsAClient) {
    Loaded loaded = LoadFiles("rsa.both");
    int channel = AddChannel(1);

    Bind(1, loaded.key, ROLE_CLIENT);
    EXPECT_TRUE(Verifies(loaded.public_key, kPss, Content13(kHash, "client"),
                         Sign(channel, 0x0804, TLS_1_3, kHash)));
    fd_close(&channel);
}

TEST_F(KeeperTest, SignsTheContentsOfTls12) {
    const struct {
        const char *file;
        uint32_t scheme;
        gnutls_sign_algorithm_t sign;
    } cases[] = {
        {"rsa", 0x0401, GNUTLS_SIGN_RSA_SHA256},
        {"rsa", 0x0501, GNUTLS_SIGN_RSA_SHA384},
        {"rsa", 0x0601, GNUTLS_SIGN_RSA_SHA512},
        {"rsa", 0x0804, kPss},
        {"p256", 0x0403, GNUTLS_SIGN_ECDSA_SHA256},
        {"p256", 0x0503, GNUTLS_SIGN_ECDSA_SHA384},
        {"p384", 0x0403, GNUTLS_SIGN_ECDSA_SHA256},
        {"p521", 0x0603, GNUTLS_SIGN_ECDSA_SHA512},
        {"ed", 0x0807, kEd},
    };
    uint64_t number = 0;

    for (const auto &c : cases) {
        Loaded loaded = LoadFiles(std::string(c.file) + ".crt", std::string(c.file) + ".key");
        int channel = AddChannel(++number);

        Bind(number, loaded.key);
        EXPECT_TRUE(Verifies(loaded.public_key, c.sign, Content12(true),
                             Sign(channel, c.scheme, TLS_1_2, Content12(true))))
            << c.file << " " << c.scheme;
        fd_close(&channel);
    }
}

TEST_F(KeeperTest, GivesAsManySignaturesAsTheBudgetSays) {
    int channel = AddChannel(1);

    Bind(1, LoadOk("p256.both"), ROLE_SERVER, 2);
    EXPECT_NE("", Sign(channel, 0x0403, TLS_1_3, kHash));
    EXPECT_NE("", Sign(channel, 0x0403, TLS_1_3, kHash));
    EXPECT_EQ("", Sign(channel, 0x0403, TLS_1_3, kHash));
    EXPECT_EQ("the connection has had all its signatures", NextMisuse().why);
    EXPECT_EQ(1u, CountLines("attack"));
    fd_close(&channel);
}

TEST_F(KeeperTest, RequestsThatCameTogetherGetOneSignature) {
    int channel = AddChannel(1);
    size_t signatures = 0;

    Bind(1, LoadOk("p256.both"));
    ASSERT_EQ(0, kill(keeper_->pid(), SIGSTOP));
    for (int i = 0; i < 5; i++)
        ASSERT_EQ(RESULT_OK, SendSign(channel, 0x0403, TLS_1_3, kHash));
    ASSERT_EQ(0, kill(keeper_->pid(), SIGCONT));
    EXPECT_EQ(1u, NextMisuse().channel);
    /* A socket closed with unread requests says so first, once, before what it had sent. */
    for (int i = 0; i < 5; i++)
        signatures += NextSignature(channel) != "";
    EXPECT_EQ(1u, signatures);
    fd_close(&channel);
}

/* The binding was sent before the worker got its end, but both wait when the keeper looks. */
TEST_F(KeeperTest, ABindingIsSeenBeforeTheRequestThatFollowedIt) {
    const uint64_t count = 150;
    uint64_t key = LoadOk("p256.both");
    std::vector<int> channels;

    for (uint64_t i = 1; i <= count; i++)
        channels.push_back(AddChannel(i));
    RoundTrip();
    ASSERT_EQ(0, kill(keeper_->pid(), SIGSTOP));
    for (uint64_t i = 1; i <= count; i++)
        Bind(i, key);
    for (int channel : channels)
        ASSERT_EQ(RESULT_OK, SendSign(channel, 0x0403, TLS_1_3, kHash));
    ASSERT_EQ(0, kill(keeper_->pid(), SIGCONT));
    for (int &channel : channels) {
        EXPECT_NE("", NextSignature(channel));
        fd_close(&channel);
    }
    EXPECT_EQ(0u, CountLines("attack"));
}

/* --- misuse --------------------------------------------------------------------------- */

struct Abuse {
    const char *name;
    bool is_bound;
    void (*act)(int channel);
    const char *words;
};

void PrintTo(const Abuse &abuse, std::ostream *os) {
    *os << abuse.name;
}

void SendText(int channel, const std::string &text) {
    ASSERT_EQ(static_cast<ssize_t>(text.size()),
              send(channel, text.data(), text.size(), MSG_NOSIGNAL));
}

void SendSignWith(int channel, uint32_t scheme, uint32_t version, const std::string &content) {
    struct message m;

    message_init(&m, MESSAGE_SIGN);
    m.as.sign.scheme = scheme;
    m.as.sign.version = version;
    m.as.sign.content = Borrow(content);
    ASSERT_EQ(RESULT_OK, mailbox_send(channel, &m));
}

void SendSignWithDescriptor(int channel) {
    const char text[] = "{\"type\":\"sign\",\"scheme\":1027,\"version\":8,\"content\":\"\"}";
    size_t size = sizeof text - 1;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

    ASSERT_EQ(RESULT_OK, fd_send(channel, text, &size, &fd, 1, 0));
    close(fd);
}

class KeeperMisuse : public KeeperTest, public testing::WithParamInterface<Abuse> {};

TEST_P(KeeperMisuse, EndsTheChannelAndTellsTheManager) {
    uint64_t key = LoadOk("p256.both");
    int bad = AddChannel(5);
    int good = AddChannel(6);
    Misuse misuse;

    Bind(6, key);
    if (GetParam().is_bound)
        Bind(5, key);
    GetParam().act(bad);
    EXPECT_EQ("", NextSignature(bad));
    misuse = NextMisuse();
    EXPECT_EQ(5u, misuse.channel);
    EXPECT_EQ(GetParam().is_bound ? 1005u : 0u, misuse.connection);
    EXPECT_NE(std::string::npos, misuse.why.find(GetParam().words)) << misuse.why;
    EXPECT_EQ(1u, CountLines("attack")) << lines_;

    EXPECT_NE("", Sign(good, 0x0403, TLS_1_3, kHash));
    fd_close(&bad);
    fd_close(&good);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, KeeperMisuse,
    testing::Values(
        Abuse{"AsksUnbound", false, [](int c) { SendSignWith(c, 0x0403, TLS_1_3, kHash); },
              "nobody's yet"},
        Abuse{"TalksUnbound", false, [](int c) { SendText(c, "hello"); }, ""},
        Abuse{"OtherScheme", true, [](int c) { SendSignWith(c, 0x0804, TLS_1_3, kHash); },
              "kind of key"},
        Abuse{"OldVersion", true, [](int c) { SendSignWith(c, 0x0203, TLS_1_0, kHash); },
              "this TLS version"},
        Abuse{"WholeContent", true,
              [](int c) { SendSignWith(c, 0x0403, TLS_1_3, Content13(kHash)); }, "transcript hash"},
        Abuse{"NoSentinel", true, [](int c) { SendSignWith(c, 0x0403, TLS_1_2, Content12(false)); },
              "downgrade sentinel"},
        Abuse{"NotJson", true, [](int c) { SendText(c, "hello"); }, ""},
        Abuse{"UnknownMessage", true, [](int c) { SendText(c, "{\"type\":\"digest\"}"); }, ""},
        Abuse{"AManagersMessage", true,
              [](int c) { SendText(c, "{\"type\":\"key_drop\",\"key\":1}"); }, ""},
        Abuse{"ABinding", false,
              [](int c) {
                  SendText(c, "{\"type\":\"channel\",\"channel\":5,\"connection\":1,\"key\":1,"
                              "\"role\":0,\"versions\":12,\"budget\":9}");
              },
              ""},
        Abuse{"FieldMissing", true,
              [](int c) { SendText(c, "{\"type\":\"sign\",\"scheme\":1027}"); }, ""},
        Abuse{"TooLong", true, [](int c) { SendText(c, std::string(70000, ' ')); }, "longer than"},
        Abuse{"WithADescriptor", true, SendSignWithDescriptor, "descriptor"}),
    [](const testing::TestParamInfo<Abuse> &info) { return info.param.name; });

/* --- keys and channels that go -------------------------------------------------------- */

TEST_F(KeeperTest, ADroppedKeySignsNothingMore) {
    uint64_t key = LoadOk("p256.both");
    int before = AddChannel(1), after = AddChannel(2), other = AddChannel(3);

    Bind(1, key);
    Drop(key);
    Bind(2, key);
    RoundTrip();
    EXPECT_EQ("", Sign(before, 0x0403, TLS_1_3, kHash));
    (void)SendSign(after, 0x0403, TLS_1_3, kHash);
    EXPECT_EQ("", NextSignature(after));
    Bind(3, LoadOk("p256.both"));
    EXPECT_NE("", Sign(other, 0x0403, TLS_1_3, kHash));
    EXPECT_EQ(0u, CountLines("attack"));
    for (int channel : {before, after, other})
        close(channel);
}

/* ... also when the request is there before the binding that cannot be. */
TEST_F(KeeperTest, AChannelForADroppedKeyIsClosed) {
    uint64_t key = LoadOk("p256.both");
    std::vector<int> channels;

    Drop(key);
    for (uint64_t i = 1; i <= 100; i++)
        channels.push_back(AddChannel(i));
    RoundTrip();
    ASSERT_EQ(0, kill(keeper_->pid(), SIGSTOP));
    for (uint64_t i = 1; i <= 100; i++)
        Bind(i, key);
    for (int channel : channels)
        ASSERT_EQ(RESULT_OK, SendSign(channel, 0x0403, TLS_1_3, kHash));
    ASSERT_EQ(0, kill(keeper_->pid(), SIGCONT));
    for (int &channel : channels) {
        EXPECT_EQ("", NextSignature(channel));
        fd_close(&channel);
    }
    RoundTrip();
    EXPECT_EQ(0u, CountLines("attack"));
}

TEST_F(KeeperTest, AChannelIsBoundOnce) {
    uint64_t key = LoadOk("p256.both");
    int channel = AddChannel(1);

    Bind(1, key);
    Bind(1, key, ROLE_CLIENT);
    RoundTrip();
    (void)SendSign(channel, 0x0403, TLS_1_3, kHash);
    EXPECT_EQ("", NextSignature(channel));
    EXPECT_EQ(1u, CountLines("bound already"));
    fd_close(&channel);
}

/* Another copy of the keeper's end keeps the socket alive, and with it what the loop knew of it. */
TEST_F(KeeperTest, AChannelThatWasEndedIsOutOfTheLoopThoughTheManagerHasACopy) {
    struct message m;
    int pair[2] = {-1, -1};

    ASSERT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX_LARGE));
    message_init(&m, MESSAGE_CHANNELS);
    m.as.channels.first = 1;
    m.fds[0] = pair[0];
    m.fd_count = 1;
    ASSERT_EQ(RESULT_OK, mailbox_send_wait(manager_, &m, clock_now_ms() + 10000));
    ASSERT_EQ(RESULT_OK, SendSign(pair[1], 0x0403, TLS_1_3, kHash));
    EXPECT_EQ(1u, NextMisuse().channel);
    ASSERT_EQ(RESULT_OK, SendSign(pair[1], 0x0403, TLS_1_3, kHash));
    for (int i = 0; i < 3; i++)
        RoundTrip();
    fd_close(&pair[0]);
    fd_close(&pair[1]);
}

TEST_F(KeeperTest, NumbersOfKeysAreNotUsedAgain) {
    uint64_t key = LoadOk("p256.both");

    Drop(key);
    EXPECT_GT(LoadOk("p256.both"), key);
}

TEST_F(KeeperTest, EndsWithTheManager) {
    fd_close(&manager_);
    EXPECT_EQ(0, keeper_->Wait());
}

TEST_F(KeeperTest, HoldsAThousandChannels) {
    const uint64_t count = 1000;
    uint64_t key = LoadOk("p256.both");
    const std::string pid = std::to_string(keeper_->pid());
    RoundTrip(); /* the load is over, and its descriptors closed */
    size_t before = CountDescriptors(pid);
    std::vector<int> channels;
    struct rlimit limit;

    ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
    limit.rlim_cur = limit.rlim_max;
    ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
    for (uint64_t i = 1; i <= count; i++) {
        channels.push_back(AddChannel(i));
        Bind(i, key);
    }
    for (int channel : channels)
        ASSERT_EQ(RESULT_OK, SendSign(channel, 0x0403, TLS_1_3, kHash));
    for (int channel : channels)
        EXPECT_NE("", NextSignature(channel));
    if (before > 0) {
        EXPECT_EQ(before + count, CountDescriptors(pid));
    }
    for (int &channel : channels)
        fd_close(&channel);
    for (int turn = 0; turn < 1000 && CountDescriptors(pid) != before; turn++)
        RoundTrip();
    EXPECT_EQ(before, CountDescriptors(pid));
}

/* --- memory --------------------------------------------------------------------------- */

/* Everything that the process has mapped and may be read; "" if we may not look. */
std::string MemoryOf(pid_t pid) {
    const std::string proc = "/proc/" + std::to_string(pid);
    std::ifstream maps(proc + "/maps");
    std::string line, memory;
    int mem = open((proc + "/mem").c_str(), O_RDONLY | O_CLOEXEC);

    while (mem >= 0 && std::getline(maps, line)) {
        unsigned long from, until;
        char rights[5] = "";

        if (sscanf(line.c_str(), "%lx-%lx %4s", &from, &until, rights) != 3 || rights[1] != 'w' ||
            until - from > 1UL << 30)
            continue;
        for (; from < until; from += 4096) {
            char page[4096];

            if (pread(mem, page, sizeof page, static_cast<off_t>(from)) == sizeof page)
                memory.append(page, sizeof page);
        }
    }
    fd_close(&mem);
    return memory;
}

/* A prime of the RSA key, as GMP has it in memory: little-endian. */
std::string PrimeInMemory(const std::string &pem) {
    gnutls_x509_privkey_t key;
    gnutls_datum_t file = {(unsigned char *)pem.data(), (unsigned)pem.size()};
    gnutls_datum_t m, e, d, p, q, u;
    std::string prime;

    EXPECT_EQ(0, gnutls_x509_privkey_init(&key));
    EXPECT_EQ(0, gnutls_x509_privkey_import(key, &file, GNUTLS_X509_FMT_PEM));
    EXPECT_EQ(0, gnutls_x509_privkey_export_rsa_raw(key, &m, &e, &d, &p, &q, &u));
    prime.assign(reinterpret_cast<char *>(p.data + p.size - 64), 64);
    for (gnutls_datum_t *datum : {&m, &e, &d, &p, &q, &u})
        gnutls_free(datum->data);
    gnutls_x509_privkey_deinit(key);
    std::reverse(prime.begin(), prime.end());
    return prime;
}

TEST_F(KeeperTest, ADroppedKeyIsGoneFromMemory) {
    const std::string file = ReadFile(Path("rsa.key"));
    const std::string little = PrimeInMemory(file);
    const std::string big(little.rbegin(), little.rend());
    uint64_t key = LoadOk("rsa.crt", "rsa.key");
    std::string memory = MemoryOf(keeper_->pid());
    int channel = AddChannel(1);

    if (memory.empty())
        GTEST_SKIP() << "needs root, to read the keeper's memory";
    EXPECT_NE(std::string::npos, memory.find(little)) << "the keeper has no key?";
    Bind(1, key);
    EXPECT_NE("", Sign(channel, 0x0804, TLS_1_3, kHash));
    Drop(key);
    RoundTrip();
    memory = MemoryOf(keeper_->pid());
    EXPECT_EQ(std::string::npos, memory.find(little));
    EXPECT_EQ(std::string::npos, memory.find(big));
    EXPECT_EQ(std::string::npos, memory.find(file.substr(100, 40))) << "a piece of the file";
    fd_close(&channel);
}

/* Where the files cannot be read once more, and where the key is dropped. */
TEST_F(KeeperTest, APasswordIsGoneFromMemoryOnceNobodyNeedsIt) {
    const std::string password = "right but a good deal too long, so that it is found";
    std::string memory;
    Ask ask;

    folder_->Run("openssl pkcs8 -topk8 -passout 'pass:" + password +
                 "' -in rsa.key -out long.p8e; chmod 644 long.p8e");
    ask.certfile = Path("rsa.crt");
    ask.password = password;
    ask.keyfile_fd = open(Path("long.p8e").c_str(), O_RDONLY | O_CLOEXEC);
    for (const char *way : {"dropped", "descriptor", "no certificate"}) {
        if (way == std::string("dropped"))
            Drop(LoadFiles("rsa.crt", "long.p8e", password).key);
        else if (way == std::string("descriptor"))
            EXPECT_TRUE(Load(ask).is_loaded);
        else
            EXPECT_FALSE(LoadFiles("none", "long.p8e", password).is_loaded);
        RoundTrip();
        memory = MemoryOf(keeper_->pid());
        if (memory.empty())
            GTEST_SKIP() << "needs root, to read the keeper's memory";
        EXPECT_EQ(std::string::npos, memory.find(password)) << way;
        /* Decoded in place, a message's base64 is gone but for its end. */
        EXPECT_EQ(std::string::npos, memory.find("IGlzIGZvdW5k")) << way;
    }
    fd_close(&ask.keyfile_fd);
}

/* --- Files that change ------------------------------------------------------------------------ */

TEST_F(KeeperTest, RemembersThePasswordWithTheKey) {
    Ask ask;
    ask.certfile = Path("rsa.crt");
    ask.keyfile = Path("rsa.p8e");
    ask.password = "right";
    Loaded first = Load(ask);
    ASSERT_TRUE(first.is_loaded) << first.why;

    ask.password = "";
    ask.password_of = first.key;
    Loaded second = Load(ask);
    ASSERT_TRUE(second.is_loaded) << second.why;
    EXPECT_NE(first.key, second.key);
    EXPECT_EQ(first.public_key, second.public_key);

    /* It goes on with the newer key, and goes with it. */
    Drop(first.key);
    ask.password_of = second.key;
    Loaded third = Load(ask);
    ASSERT_TRUE(third.is_loaded) << third.why;
    Drop(second.key);
    Drop(third.key);
    ask.password_of = third.key;
    Loaded none = Load(ask);
    EXPECT_FALSE(none.is_loaded);
    EXPECT_EQ("password", none.option);
}

TEST_F(KeeperTest, TheRememberedPasswordOpensNothingElse) {
    Ask ask;
    ask.certfile = Path("rsa.crt");
    ask.keyfile = Path("rsa.key");
    Loaded open = Load(ask);
    ASSERT_TRUE(open.is_loaded) << open.why;
    ask.keyfile = Path("rsa.p8e");
    ask.password_of = open.key;
    Loaded loaded = Load(ask);
    EXPECT_FALSE(loaded.is_loaded);
    EXPECT_EQ("password", loaded.option);
}

TEST_F(KeeperTest, SaysWhetherFilesHaveChanged) {
    const std::string cert = Path("watched.crt"), key = Path("watched.key");
    folder_->Run("cp rsa.crt watched.crt && cp rsa.key watched.key && touch -d 2001-01-01 "
                 "watched.crt watched.key");
    std::string settled = Examine(cert, key);
    /* What was written just now is equal to nothing for a moment. */
    while (settled != Examine(cert, key))
        settled = Examine(cert, key);
    Loaded loaded = LoadFiles("watched.crt", "watched.key");
    EXPECT_EQ(settled, loaded.files);
    EXPECT_NE(settled, Examine(cert));
    folder_->Run("touch -d 2001-01-02 watched.key");
    EXPECT_NE(settled, Examine(cert, key));
    EXPECT_NE(Examine(cert), Examine(Path("no such file")));
}

} // namespace
