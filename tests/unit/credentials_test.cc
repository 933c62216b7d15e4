extern "C" {
#include "ipc/fd.h"
#include "worker/credentials.h"
}
#include "tests/harness/certs.h"
#include "tests/harness/harness.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <initializer_list>
#include <string>

namespace {

/* Descriptors are taken, memory is given back: the sanitizer sees the rest. */
class CredentialsTest : public testing::Test {
protected:
    void SetUp() override {
        (void)harness_cert("server.pem");
        descriptors_ = harness_own_descriptors();
        message_init(&m_, MESSAGE_CONTEXT);
        m_.as.context.context = 7;
        m_.as.context.role = ROLE_SERVER;
        m_.as.context.versions = TLS_1_2 | TLS_1_3;
    }
    void TearDown() override {
        message_fini(&m_);
        credentials_free(c_);
        EXPECT_EQ(descriptors_, harness_own_descriptors());
    }

    int Attach(const char *name) {
        size_t size;
        char *bytes = harness_read_file(harness_cert(name), &size);

        EXPECT_EQ(RESULT_OK, memfd_sealed(&m_.fds[m_.fd_count], "pem", bytes, size));
        free(bytes);
        return static_cast<int>(m_.fd_count++);
    }
    void Certificate(const char *name) {
        m_.as.context.certificate_index = static_cast<uint32_t>(Attach(name));
        m_.as.context.has_certificate_index = true;
        m_.as.context.key_algorithm = KEY_ECDSA;
        m_.as.context.has_key_algorithm = true;
        m_.as.context.key_bits = 256;
    }
    void Trust(const char *name) {
        m_.as.context.trust_index = static_cast<uint32_t>(Attach(name));
        m_.as.context.has_trust_index = true;
    }
    void Suites(std::initializer_list<uint8_t> codes) {
        m_.as.context.suites = {codes.begin(), codes.size()};
    }
    enum result Make() { return credentials_new(&c_, &m_, &fault_); }

    struct message m_;
    struct credentials *c_ = nullptr;
    struct credentials_fault fault_ = {"", ""};
    size_t descriptors_ = 0;
};

TEST_F(CredentialsTest, ServerWithCertificateAndTrust) {
    Certificate("ecdsa.pem");
    Trust("ca.pem");
    ASSERT_EQ(RESULT_OK, Make()) << fault_.option << ": " << fault_.why;
    EXPECT_EQ(7u, c_->number);
    EXPECT_TRUE(c_->has_key);
    EXPECT_TRUE(credentials_allow(c_, 0x1302));
    EXPECT_FALSE(credentials_allow(c_, 0xc014)); /* of TLS 1.1 */
}

TEST_F(CredentialsTest, BrokenCertificateIsCertfile) {
    Certificate("broken.pem");
    ASSERT_EQ(RESULT_OPTIONS, Make());
    EXPECT_STREQ("certfile", fault_.option);
}

TEST_F(CredentialsTest, ServerWithoutCertificateIsRefused) {
    ASSERT_EQ(RESULT_OPTIONS, Make());
    EXPECT_STREQ("certfile", fault_.option);
}

TEST_F(CredentialsTest, BrokenTrustIsCacertfile) {
    m_.as.context.role = ROLE_CLIENT;
    Trust("broken.pem");
    ASSERT_EQ(RESULT_OPTIONS, Make());
    EXPECT_STREQ("cacertfile", fault_.option);
}

TEST_F(CredentialsTest, VersionsWithoutASuiteAreNotOffered) {
    static const std::initializer_list<uint8_t> codes = {0xc0, 0x2f};

    Certificate("ecdsa.pem");
    Suites(codes);
    ASSERT_EQ(RESULT_OK, Make());
    EXPECT_EQ(unsigned{TLS_1_2}, c_->versions);
    EXPECT_EQ(1u, c_->suite_count);
}

TEST_F(CredentialsTest, NoSuiteForAnyVersionIsCiphers) {
    static const std::initializer_list<uint8_t> codes = {0xc0, 0x2f};

    m_.as.context.versions = TLS_1_3;
    Certificate("ecdsa.pem");
    Suites(codes);
    ASSERT_EQ(RESULT_OPTIONS, Make());
    EXPECT_STREQ("ciphers", fault_.option);
}

TEST_F(CredentialsTest, OlderVersionsBringTheirSuites) {
    m_.as.context.role = ROLE_CLIENT;
    m_.as.context.versions = TLS_1_1;
    ASSERT_EQ(RESULT_OK, Make());
    EXPECT_EQ(unsigned{TLS_1_1}, c_->versions);
    EXPECT_TRUE(credentials_allow(c_, 0xc014));
}

TEST_F(CredentialsTest, ProtocolNamesAreCheckedAgain) {
    static const char names[] = "\x02h2\x05"
                                "cut";

    m_.as.context.role = ROLE_CLIENT;
    m_.as.context.alpn = {reinterpret_cast<const uint8_t *>(names), sizeof names - 1};
    ASSERT_EQ(RESULT_OPTIONS, Make());
    EXPECT_STREQ("alpn_advertised_protocols", fault_.option);
}

} // namespace
