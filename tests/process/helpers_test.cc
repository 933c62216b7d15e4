/* The helpers alone: one job, one answer, the end. */
#include "tests/process/tree_child.h"

#include <arpa/inet.h>
#include <sys/resource.h>

using namespace cordon_test;

namespace {

class HelperTest : public testing::Test {
protected:
    static void SetUpTestSuite() { folder_ = new Folder; }
    static void TearDownTestSuite() {
        delete folder_;
        folder_ = nullptr;
    }

    void SetUp() override { descriptors_ = CountDescriptors(); }
    void TearDown() override {
        fd_close(&mailbox_);
        EXPECT_EQ(0, last_status_) << log_;
        EXPECT_EQ(descriptors_, CountDescriptors());
    }

    void Start(TreeChild *child, const std::string &program) {
        int pair[2];

        ASSERT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX_LARGE));
        fd_close(&mailbox_);
        mailbox_ = pair[0];
        child->Start(program, pair[1]);
    }

    /* Sends the request to a fresh helper, gets its answer and its end. */
    enum result Ask(const std::string &program, const struct message &request, enum route route) {
        TreeChild child;
        enum result result;

        Start(&child, program);
        EXPECT_EQ(RESULT_OK, mailbox_send(mailbox_, &request));
        result = answer_.From(mailbox_, route);
        last_status_ = child.Wait();
        log_ = child.Log();
        return result;
    }

    static Folder *folder_;
    Received answer_;
    int mailbox_ = -1;
    int last_status_ = 0;
    std::string log_;
    size_t descriptors_ = 0;
};

Folder *HelperTest::folder_;

/* --- all of them ---------------------------------------------------------------------- */

class EachHelper : public HelperTest, public testing::WithParamInterface<const char *> {};

TEST_P(EachHelper, StartedByHandSaysWhoStartsIt) {
    TreeChild child;

    child.Start(GetParam(), -1);
    EXPECT_EQ(2, WEXITSTATUS(child.Wait()));
    EXPECT_NE(std::string::npos, child.Log().find("started by cordond")) << child.Log();
}

TEST_P(EachHelper, EndsWhenNobodyHasAJobForIt) {
    TreeChild child;
    int status;

    Start(&child, GetParam());
    fd_close(&mailbox_);
    status = child.Wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
}

TEST_P(EachHelper, EndsOnARequestThatIsNotForIt) {
    TreeChild child;
    int status;

    Start(&child, GetParam());
    ASSERT_EQ(10, send(mailbox_, "{\"type\":1}", 10, MSG_NOSIGNAL));
    status = child.Wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
}

INSTANTIATE_TEST_SUITE_P(Programs, EachHelper,
                         testing::Values("resolver", "checker", "key_decoder"),
                         [](const testing::TestParamInfo<const char *> &info) {
                             return std::string(info.param);
                         });

/* --- the resolver --------------------------------------------------------------------- */

class ResolverTest : public HelperTest {
protected:
    void Resolve(const char *host) {
        struct message m;

        message_init(&m, MESSAGE_RESOLVE);
        m.as.resolve.host = host;
        ASSERT_EQ(RESULT_OK, Ask("resolver", m, RESOLVER_TO_MANAGER));
    }

    std::vector<std::string> Addresses() {
        std::vector<std::string> list;
        std::string all = TextOf(answer_.m.as.resolved.addresses);

        EXPECT_EQ(MESSAGE_RESOLVED, answer_.m.type);
        EXPECT_EQ(0u, all.size() % 17);
        for (size_t at = 0; at + 17 <= all.size(); at += 17) {
            char text[INET6_ADDRSTRLEN] = "?";

            inet_ntop(all[at] == 4 ? AF_INET : AF_INET6, &all[at + 1], text, sizeof text);
            list.push_back(text);
        }
        return list;
    }
};

TEST_F(ResolverTest, KnowsLocalhost) {
    Resolve("localhost");
    for (const std::string &address : Addresses())
        EXPECT_TRUE(address == "127.0.0.1" || address == "::1") << address;
    EXPECT_FALSE(Addresses().empty());
}

TEST_F(ResolverTest, AnIpv4AddressIsItself) {
    Resolve("192.0.2.7");
    EXPECT_EQ(std::vector<std::string>{"192.0.2.7"}, Addresses());
}

TEST_F(ResolverTest, AnIpv6AddressIsItselfAlsoWithoutIpv6Here) {
    Resolve("2001:db8::7");
    EXPECT_EQ(std::vector<std::string>{"2001:db8::7"}, Addresses());
}

TEST_F(ResolverTest, SaysWhyThereIsNoAddress) {
    Resolve("no such host");
    ASSERT_EQ(MESSAGE_RESOLVE_FAILED, answer_.m.type);
    EXPECT_GT(strlen(answer_.m.as.resolve_failed.why), 20u);
}

/* --- the checker ---------------------------------------------------------------------- */

class CheckerTest : public HelperTest {
protected:
    static void SetUpTestSuite() {
        HelperTest::SetUpTestSuite();
        MakeCertificates();
    }

    static void MakeCertificates() {
        const Folder &f = *folder_;

        f.Run("openssl ecparam -genkey -name prime256v1 -noout -out ca.key &&"
              "openssl req -x509 -new -key ca.key -subj /CN=Root -days 30 -out ca.pem");
        f.Run("openssl ecparam -genkey -name prime256v1 -noout -out leaf.key &&"
              "openssl req -new -key leaf.key -subj '/O=A \"b\"/CN=leaf.example' -out leaf.csr &&"
              "openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 "
              "-out leaf.pem");
        f.Run("openssl ec -in leaf.key -pubout -outform DER -out leaf.spki &&"
              "openssl ec -in ca.key -pubout -outform DER -out ca.spki");
        f.Run("openssl req -x509 -newkey ed448 -nodes -keyout e.key -subj /CN=e -out ed448.pem");
        f.Run(
            "openssl req -x509 -newkey rsa:2048 -nodes -keyout r.key -subj /CN=r -out rsa.pem &&"
            "openssl req -x509 -newkey ed25519 -nodes -keyout d.key -subj /CN=d -out ed25519.pem");
        f.Run("openssl ecparam -genkey -name secp256k1 -noout -out k.key &&"
              "openssl req -x509 -new -key k.key -subj /CN=k -out k1.pem");
        Dated("past", "2001-01-01 00:00:00", "2002-02-03 00:00:00");
        Dated("future", "2101-01-01 00:00:00", "2102-02-03 00:00:00");
    }

    static void Dated(const std::string &name, const std::string &from, const std::string &until) {
        WriteFile(*folder_ / (name + ".tmpl"), "cn = \"" + name + "\"\nactivation_date = \"" +
                                                   from + "\"\nexpiration_date = \"" + until +
                                                   "\"\n");
        folder_->Run("certtool --generate-self-signed --load-privkey leaf.key --template " + name +
                     ".tmpl --outfile " + name + ".pem");
    }

    static std::string File(const std::string &name) { return ReadFile(*folder_ / name); }

    void Check(enum check_what what, const std::string &pem, const std::string &public_key = "") {
        int fd = -1;

        ASSERT_EQ(RESULT_OK, memfd_sealed(&fd, "pem", pem.data(), pem.size()));
        CheckDescriptor(what, fd, public_key);
        fd_close(&fd);
    }

    void CheckDescriptor(enum check_what what, int fd, const std::string &public_key) {
        struct message m;

        message_init(&m, MESSAGE_CHECK);
        m.as.check.what = what;
        m.as.check.public_key = Borrow(public_key);
        m.fds[0] = fd;
        m.fd_count = 1;
        ASSERT_EQ(RESULT_OK, Ask("checker", m, CHECKER_TO_MANAGER));
        ASSERT_EQ(MESSAGE_CHECKED, answer_.m.type);
    }

    enum result Reason() const { return (enum result)answer_.m.as.checked.reason; }
    uint32_t Count() const { return answer_.m.as.checked.count; }
    std::string Why() const { return answer_.m.as.checked.why ? answer_.m.as.checked.why : ""; }
};

TEST_F(CheckerTest, AChainInOrderIsFine) {
    Check(CHECK_CHAIN, File("leaf.pem") + File("ca.pem"), File("leaf.spki"));
    EXPECT_EQ(RESULT_OK, Reason()) << Why();
    EXPECT_EQ(2u, Count());
    EXPECT_STREQ("CN=leaf.example,O=A \\x5c\\x22b\\x5c\\x22", answer_.m.as.checked.subject);
    EXPECT_NEAR(static_cast<double>(time(nullptr) + 20 * 86400),
                static_cast<double>(answer_.m.as.checked.not_after), 600);
}

TEST_F(CheckerTest, RsaAndEd25519CertificatesAreFine) {
    Check(CHECK_CHAIN, File("rsa.pem"));
    EXPECT_EQ(RESULT_OK, Reason()) << Why();
    Check(CHECK_CHAIN, File("ed25519.pem"));
    EXPECT_EQ(RESULT_OK, Reason()) << Why();
}

TEST_F(CheckerTest, AnotherKeyIsAMismatch) {
    Check(CHECK_CHAIN, File("leaf.pem") + File("ca.pem"), File("ca.spki"));
    EXPECT_EQ(RESULT_KEY_MISMATCH, Reason());
    EXPECT_NE(std::string::npos, Why().find("leaf.example")) << Why();
}

TEST_F(CheckerTest, AChainUpsideDownIsRefused) {
    Check(CHECK_CHAIN, File("ca.pem") + File("leaf.pem"), File("ca.spki"));
    EXPECT_EQ(RESULT_MALFORMED, Reason());
    EXPECT_NE(std::string::npos, Why().find("certificate 2 is not the issuer of certificate 1"))
        << Why();
}

TEST_F(CheckerTest, AnExpiredCertificateIsTold) {
    Check(CHECK_CHAIN, File("past.pem"));
    EXPECT_EQ(RESULT_EXPIRED, Reason());
    EXPECT_NE(std::string::npos, Why().find("expired on 2002-02-03")) << Why();
}

TEST_F(CheckerTest, ACertificateOfTheFutureIsTold) {
    Check(CHECK_CHAIN, File("future.pem"));
    EXPECT_EQ(RESULT_EXPIRED, Reason());
    EXPECT_NE(std::string::npos, Why().find("not valid before 2101-01-01")) << Why();
}

TEST_F(CheckerTest, KeysThatTheKeeperCannotHaveAreNotSupported) {
    Check(CHECK_CHAIN, File("ed448.pem"));
    EXPECT_EQ(RESULT_NOT_SUPPORTED, Reason()) << Why();
    Check(CHECK_CHAIN, File("k1.pem"));
    EXPECT_NE(RESULT_OK, Reason()) << Why();
}

TEST_F(CheckerTest, WhatIsNoCertificateIsMalformed) {
    Check(CHECK_CHAIN, "nothing");
    EXPECT_EQ(RESULT_MALFORMED, Reason());
    EXPECT_EQ("there is no certificate in it", Why());
    Check(CHECK_CHAIN,
          File("leaf.pem") + "-----BEGIN CERTIFICATE-----\nMIIBBBBB\n-----END CERTIFICATE-----\n");
    EXPECT_EQ(RESULT_MALFORMED, Reason());
    EXPECT_NE(std::string::npos, Why().find("certificate 2 cannot be read")) << Why();
}

TEST_F(CheckerTest, AnUnsealedFileIsRefused) {
    int fd = memfd_create("open", MFD_CLOEXEC);

    CheckDescriptor(CHECK_CHAIN, fd, "");
    EXPECT_EQ(RESULT_MALFORMED, Reason());
    EXPECT_NE(std::string::npos, Why().find("not sealed")) << Why();
    fd_close(&fd);
}

TEST_F(CheckerTest, TrustedCertificatesAreCounted) {
    Check(CHECK_TRUST, "# bundle\n" + File("ca.pem") + File("rsa.pem") + File("ed448.pem"));
    EXPECT_EQ(RESULT_OK, Reason());
    EXPECT_EQ(3u, Count());
    EXPECT_EQ("", Why());
}

TEST_F(CheckerTest, UnusableTrustedCertificatesAreTold) {
    Check(CHECK_TRUST,
          File("ca.pem") + "-----BEGIN CERTIFICATE-----\nMIIBBBBB\n-----END CERTIFICATE-----\n");
    EXPECT_EQ(RESULT_OK, Reason());
    EXPECT_EQ(1u, Count());
    EXPECT_EQ("1 of 2 certificates cannot be read and are left out", Why());
}

TEST_F(CheckerTest, TrustWithoutACertificateIsMalformed) {
    Check(CHECK_TRUST, "");
    EXPECT_EQ(RESULT_MALFORMED, Reason());
    Check(CHECK_TRUST, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    EXPECT_EQ(RESULT_MALFORMED, Reason());
    EXPECT_EQ(0u, Count());
}

TEST_F(CheckerTest, APrivateKeyAmongTheTrustedIsRefused) {
    for (const char *key : {"ca.key", "r.key"}) {
        Check(CHECK_TRUST, File("ca.pem") + File(key));
        EXPECT_EQ(RESULT_MALFORMED, Reason());
        EXPECT_NE(std::string::npos, Why().find("private key")) << Why();
    }
}

/* --- the key decoder ------------------------------------------------------------------ */

class KeyDecoderTest : public HelperTest {
protected:
    void Decode(const std::string &pem, const std::string &password = "") {
        ASSERT_EQ(RESULT_OK, Send(pem, password));
        ASSERT_EQ(0, last_status_) << log_;
    }

    enum result Send(const std::string &pem, const std::string &password) {
        struct message m;

        message_init(&m, MESSAGE_DECODE);
        m.as.decode.pem = Borrow(pem);
        m.as.decode.password = Borrow(password);
        return Ask("key_decoder", m, DECODER_TO_KEEPER);
    }

    /* What the command writes to made.key. */
    std::string Make(const std::string &command) {
        folder_->Run(command);
        return ReadFile(*folder_ / "made.key");
    }

    void ExpectFailed(bool is_password, const std::string &words) {
        ASSERT_EQ(MESSAGE_DECODE_FAILED, answer_.m.type);
        EXPECT_EQ(is_password, answer_.m.as.decode_failed.password != 0);
        EXPECT_NE(std::string::npos, std::string(answer_.m.as.decode_failed.why).find(words))
            << answer_.m.as.decode_failed.why;
    }

    const message_decoded &Decoded() const { return answer_.m.as.decoded; }
};

TEST_F(KeyDecoderTest, GivesAnRsaKeysNumbers) {
    Decode(Make("openssl genpkey -out made.key -algorithm RSA -pkeyopt rsa_keygen_bits:2048"));
    ASSERT_EQ(MESSAGE_DECODED, answer_.m.type);
    EXPECT_EQ((uint32_t)KEY_RSA, Decoded().algorithm);
    EXPECT_EQ(256u, Decoded().m.size);
    EXPECT_EQ("\x01" + std::string(1, '\0') + "\x01", TextOf(Decoded().e));
    EXPECT_EQ(128u, Decoded().p.size);
    EXPECT_EQ(128u, Decoded().q.size);
    EXPECT_GT(Decoded().d.size, 200u);
    EXPECT_GT(Decoded().u.size, 100u);
    EXPECT_GT(Decoded().e1.size, 100u);
    EXPECT_GT(Decoded().e2.size, 100u);
}

TEST_F(KeyDecoderTest, GivesAnEcKeysNumbers) {
    Decode(Make("openssl ecparam -out made.key -genkey -name secp521r1 -noout"));
    ASSERT_EQ(MESSAGE_DECODED, answer_.m.type);
    EXPECT_EQ((uint32_t)KEY_ECDSA, Decoded().algorithm);
    EXPECT_EQ(25u, Decoded().curve);
    EXPECT_LE(60u, Decoded().k.size);
    EXPECT_GE(66u, Decoded().k.size);
}

TEST_F(KeyDecoderTest, GivesAnEd25519KeysSeed) {
    Decode(Make("openssl genpkey -out made.key -algorithm ed25519"));
    ASSERT_EQ(MESSAGE_DECODED, answer_.m.type);
    EXPECT_EQ((uint32_t)KEY_ED25519, Decoded().algorithm);
    EXPECT_EQ(32u, Decoded().k.size);
    EXPECT_EQ(32u, Decoded().x.size);
}

TEST_F(KeyDecoderTest, AMissingAndAWrongPasswordAreToldApart) {
    std::string key = Make("openssl genpkey -out made.key -algorithm RSA -aes256 -pass pass:right");

    Decode(key);
    ExpectFailed(true, "there is no password");
    Decode(key, "wrong");
    ExpectFailed(true, "does not open");
    Decode(key, std::string("right\0", 6));
    ExpectFailed(true, "NUL");
    Decode(key, "right");
    EXPECT_EQ(MESSAGE_DECODED, answer_.m.type);
}

/* With bad padding in most, and without in some: none of them may look like anything else. */
TEST_F(KeyDecoderTest, WrongPasswordsOfATraditionalKeyAreAllWrong) {
    std::string key =
        Make("openssl genrsa -out made.key -traditional -aes128 -passout pass:right 2048");

    for (int i = 0; i < 40; i++) {
        Decode(key, "wrong" + std::to_string(i));
        ExpectFailed(true, "does not open");
    }
    Decode(key, "right");
    EXPECT_EQ(MESSAGE_DECODED, answer_.m.type);
}

TEST_F(KeyDecoderTest, APasswordThatIsNotNeededDoesNotMatter) {
    Decode(Make("openssl genpkey -out made.key -algorithm ed25519"), "unneeded");
    EXPECT_EQ(MESSAGE_DECODED, answer_.m.type);
}

TEST_F(KeyDecoderTest, WhatIsNoKeyIsToldSo) {
    Decode("nothing");
    ExpectFailed(false, "cannot be read");
    Decode("-----BEGIN PRIVATE KEY-----\nMIIBBBBB\n-----END PRIVATE KEY-----\n");
    ExpectFailed(false, "cannot be read");
}

TEST_F(KeyDecoderTest, KeysOfOtherKindsAreNotSupported) {
    Decode(Make("openssl genpkey -out made.key -algorithm ed448"));
    ExpectFailed(false, "RSA, ECDSA or Ed25519");
    Decode(Make("openssl genpkey -out made.key -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048"));
    ExpectFailed(false, "RSA, ECDSA or Ed25519");
    Decode(
        Make("openssl genpkey -out made.key -algorithm EC -pkeyopt ec_paramgen_curve:secp224r1"));
    ExpectFailed(false, "secp521r1");
    Decode(Make("openssl genrsa -out made.key 768"));
    ExpectFailed(false, "1024 to 16384 bits");
}

/* --- a key that asks for too many rounds of PBKDF2 ---------------------------------------- */

/* Makes the content of every DER value around position at longer by 2. */
void GrowAround(std::string *der, size_t at) {
    size_t start = 0;

    while (start < at) {
        size_t length_size = 1, length = static_cast<unsigned char>((*der)[start + 1]);

        if (length & 0x80) {
            length_size += length & 0x7f;
            length = 0;
            for (size_t i = 2; i < 1 + length_size; i++)
                length = length << 8 | static_cast<unsigned char>((*der)[start + i]);
        }
        if (start + 1 + length_size + length <= at) {
            start += 1 + length_size + length;
            continue;
        }
        (*der)[start + length_size] = static_cast<char>((*der)[start + length_size] + 2);
        start += 1 + length_size;
    }
}

std::string CraftedKey(const Folder &folder, std::string der, const std::string &count) {
    size_t at = der.find("\x02\x02\x08");

    EXPECT_NE(std::string::npos, at);
    GrowAround(&der, at);
    der.replace(at, 4, "\x02\x04" + count);
    WriteFile(folder / "crafted.der", der);
    folder.Run("openssl asn1parse -inform DER -in crafted.der && "
               "(echo '-----BEGIN ENCRYPTED PRIVATE KEY-----'; base64 -w64 crafted.der;"
               " echo '-----END ENCRYPTED PRIVATE KEY-----') > crafted.key");
    return ReadFile(folder / "crafted.key");
}

/* Of the children that were waited for. */
int64_t ChildrensProcessorTimeMs() {
    struct rusage used;

    EXPECT_EQ(0, getrusage(RUSAGE_CHILDREN, &used));
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
}

/* The library refuses the one count by itself and computes the other; both must end, by the limit of
 * five seconds if not before. */
TEST_F(KeyDecoderTest, ACraftedCountOfRoundsCostsLittleProcessorTime) {
    std::string der = Make("openssl genpkey -algorithm ed25519 | openssl pkcs8 -topk8 -outform DER "
                           "-passout pass:right -out made.key");

    for (const std::string &count :
         {std::string("\x7f\xff\xff\xfe"), std::string("\x00\x80\x00\x00", 4)}) {
        std::string key = CraftedKey(*folder_, der, count);
        int64_t before_ms = ChildrensProcessorTimeMs();
        enum result result = Send(key, "right");

        EXPECT_LT(ChildrensProcessorTimeMs() - before_ms, 7000);
        if (result == RESULT_CHANNEL_CLOSED) {
            EXPECT_TRUE(WIFSIGNALED(last_status_)) << last_status_;
            last_status_ = 0;
        } else {
            EXPECT_EQ(MESSAGE_DECODE_FAILED, answer_.m.type);
        }
    }
}

TEST_F(KeyDecoderTest, HasFiveSecondsOfProcessorTime) {
    TreeChild child;
    struct message m;
    std::string limits;
    const std::string wanted = "Max cpu time              5 ";

    Start(&child, "key_decoder");
    limits = "/proc/" + std::to_string(child.pid()) + "/limits";
    for (int64_t end = clock_now_ms() + 10000;
         ReadFile(limits).find(wanted) == std::string::npos && clock_now_ms() < end;)
        sched_yield();
    EXPECT_NE(std::string::npos, ReadFile(limits).find(wanted)) << ReadFile(limits);
    message_init(&m, MESSAGE_DECODE);
    m.as.decode.pem = Borrow("nothing");
    ASSERT_EQ(RESULT_OK, mailbox_send(mailbox_, &m));
    EXPECT_EQ(0, child.Wait());
}

} // namespace
