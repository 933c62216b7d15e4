extern "C" {
#include "worker/alerts.h"
}

#include <gnutls/gnutls.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

namespace {

struct Row {
    const char *name;
    int code;
    unsigned alert;
    const char *cause;
};

class AlertsCodeTest : public testing::TestWithParam<Row> {};

TEST_P(AlertsCodeTest, IsThatAlert) {
    struct alerts_question q = {};

    q.code = GetParam().code;
    q.is_tls13 = true;
    struct failure f = alerts_answer(&q);
    EXPECT_EQ(RESULT_TLS_ALERT, f.result);
    EXPECT_EQ(GetParam().alert, f.alert);
    EXPECT_STREQ(GetParam().cause, f.cause);
    EXPECT_FALSE(f.by_peer);
    EXPECT_NE('\0', *f.detail);
}

INSTANTIATE_TEST_SUITE_P(
    All, AlertsCodeTest,
    testing::Values(Row{"Version", GNUTLS_E_UNSUPPORTED_VERSION_PACKET, 70, "no_shared_version"},
                    Row{"Suites", GNUTLS_E_NO_CIPHER_SUITES, 71, "no_shared_cipher"},
                    Row{"Protocol", GNUTLS_E_NO_APPLICATION_PROTOCOL, 120,
                        "no_application_protocol"},
                    Row{"Fallback", GNUTLS_E_INAPPROPRIATE_FALLBACK, 86, "inappropriate_fallback"},
                    Row{"Garbage", GNUTLS_E_UNEXPECTED_PACKET, 10, "unexpected_message"},
                    Row{"Record", GNUTLS_E_DECRYPTION_FAILED, 20, "bad_record"},
                    Row{"Overflow", GNUTLS_E_RECORD_OVERFLOW, 22, "record_too_large"},
                    Row{"Finished", GNUTLS_E_ERROR_IN_FINISHED_PACKET, 51, "bad_finished"},
                    Row{"Signature", GNUTLS_E_PK_SIG_VERIFY_FAILED, 51, "bad_signature"},
                    Row{"NoCertificate", GNUTLS_E_NO_CERTIFICATE_FOUND, 116, "no_certificate"},
                    Row{"Length", GNUTLS_E_UNEXPECTED_PACKET_LENGTH, 50, "malformed"},
                    Row{"Memory", GNUTLS_E_MEMORY_ERROR, 80, "no_memory"},
                    Row{"OtherOfGnutls", GNUTLS_E_ASN1_DER_ERROR, 42, "malformed"},
                    Row{"Internal", GNUTLS_E_INTERNAL_ERROR, 80, "internal"}),
    [](const testing::TestParamInfo<Row> &info) { return std::string(info.param.name); });

class AlertsStatusTest : public testing::TestWithParam<Row> {};

TEST_P(AlertsStatusTest, IsThatAlert) {
    struct alerts_question q = {};

    q.code = GNUTLS_E_CERTIFICATE_ERROR;
    q.certificate_status = GNUTLS_CERT_INVALID | static_cast<unsigned>(GetParam().code);
    struct failure f = alerts_answer(&q);
    EXPECT_EQ(GetParam().alert, f.alert);
    EXPECT_STREQ(GetParam().cause, f.cause);
}

INSTANTIATE_TEST_SUITE_P(
    All, AlertsStatusTest,
    testing::Values(Row{"Revoked", GNUTLS_CERT_REVOKED, 44, "revoked"},
                    Row{"UnknownCa", GNUTLS_CERT_SIGNER_NOT_FOUND, 48, "unknown_ca"},
                    Row{"Expired", GNUTLS_CERT_EXPIRED, 45, "expired"},
                    Row{"NotYet", GNUTLS_CERT_NOT_ACTIVATED, 45, "not_yet_valid"},
                    Row{"Name", GNUTLS_CERT_UNEXPECTED_OWNER, 42, "hostname_mismatch"},
                    Row{"Purpose", GNUTLS_CERT_PURPOSE_MISMATCH, 43, "wrong_purpose"},
                    Row{"JustInvalid", 0, 42, "bad_certificate"}),
    [](const testing::TestParamInfo<Row> &info) { return std::string(info.param.name); });

TEST(AlertsTest, UnknownAuthorityComesBeforeTheName) {
    struct alerts_question q = {};

    q.code = GNUTLS_E_CERTIFICATE_ERROR;
    q.certificate_status = GNUTLS_CERT_INVALID | GNUTLS_CERT_UNEXPECTED_OWNER |
                           GNUTLS_CERT_SIGNER_NOT_FOUND;
    EXPECT_STREQ("unknown_ca", alerts_answer(&q).cause);
}

TEST(AlertsTest, MissingCertificateHasNoAlertOfItsOwnBeforeTls13) {
    struct alerts_question q = {};

    q.code = GNUTLS_E_CERTIFICATE_ERROR;
    q.certificate = CERTIFICATE_MISSING;
    EXPECT_EQ(40u, alerts_answer(&q).alert);
    q.is_tls13 = true;
    EXPECT_EQ(116u, alerts_answer(&q).alert);
}

TEST(AlertsTest, PeersAlertIsThePeers) {
    struct alerts_question q = {};

    q.code = GNUTLS_E_FATAL_ALERT_RECEIVED;
    q.received_alert = 48;
    struct failure f = alerts_answer(&q);
    EXPECT_EQ(RESULT_TLS_ALERT, f.result);
    EXPECT_TRUE(f.by_peer);
    EXPECT_EQ(48u, f.alert);
    EXPECT_STREQ("unknown_ca", f.cause);
}

/* What an OpenSSL client sends that does not know our CA. */
TEST(AlertsTest, AnAlertWithoutEncryptionIsThePeersToo) {
    struct alerts_question q = {};

    q.code = GNUTLS_E_DECRYPTION_FAILED;
    q.is_tls13 = true;
    EXPECT_FALSE(alerts_answer(&q).by_peer);
    q.plain_alert = 48;
    EXPECT_TRUE(alerts_answer(&q).by_peer);
    EXPECT_STREQ("unknown_ca", alerts_answer(&q).cause);
}

TEST(AlertsTest, EndOfFileIsTruncationUnlessTheSocketFailed) {
    struct alerts_question q = {};

    q.code = GNUTLS_E_PREMATURE_TERMINATION;
    EXPECT_EQ(RESULT_TRUNCATED, alerts_answer(&q).result);
    q.transport_error = EPIPE;
    EXPECT_EQ(RESULT_POSIX, alerts_answer(&q).result);
    EXPECT_EQ(EPIPE, alerts_answer(&q).error);
}

TEST(AlertsTest, OurLimitsSayMoreThanAPullError) {
    struct alerts_question q = {};

    q.code = GNUTLS_E_PULL_ERROR;
    q.records = RECORDS_HANDSHAKE_TOO_LARGE;
    EXPECT_STREQ("handshake_too_large", alerts_answer(&q).cause);
    q.records = RECORDS_TOO_MANY_IDLE;
    EXPECT_EQ(10u, alerts_answer(&q).alert);
    q.records = RECORDS_FINE;
    q.transport_error = ECONNRESET;
    EXPECT_EQ(RESULT_POSIX, alerts_answer(&q).result);
    EXPECT_STREQ("econnreset", alerts_answer(&q).cause);
}

TEST(AlertsTest, KeeperAndVetoAreOurs) {
    struct alerts_question q = {};

    q.code = GNUTLS_E_PK_SIGN_FAILED;
    q.keeper_failed = true;
    EXPECT_EQ(80u, alerts_answer(&q).alert);
    EXPECT_STREQ("keeper", alerts_answer(&q).cause);
    q = {};
    q.code = GNUTLS_E_NO_CIPHER_SUITES;
    q.suite_refused = true;
    EXPECT_STREQ("unwanted_cipher", alerts_answer(&q).cause);
}

} // namespace
