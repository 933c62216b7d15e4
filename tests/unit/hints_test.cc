/*
 * Every way in which TLS fails has a hint: whatever the worker can say, and whatever alert comes.
 */
extern "C" {
#include "ipc/suites.h"
#include "manager/hints.h"
#include "worker/alerts.h"
}

#include <gnutls/gnutls.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

namespace {

/* Every cause that the table of the worker can give. */
std::set<std::string> Causes() {
    std::set<std::string> causes;
    auto ask = [&causes](struct alerts_question q) {
        for (bool is_tls13 : {false, true}) {
            q.is_tls13 = is_tls13;
            struct failure f = alerts_answer(&q);
            if (f.result == RESULT_TLS_ALERT && !f.by_peer)
                causes.insert(f.cause);
        }
    };
    struct alerts_question q = {};

    for (int code = -500; code < 0; code++) {
        q.code = code;
        ask(q);
    }
    q.code = GNUTLS_E_CERTIFICATE_ERROR;
    for (unsigned bit = 0; bit < 32; bit++) {
        q.certificate_status = 1U << bit;
        ask(q);
    }
    q = {};
    for (int fault = 0; fault <= CERTIFICATE_MALFORMED; fault++) {
        q.certificate = static_cast<enum certificate_fault>(fault);
        ask(q);
    }
    q = {};
    for (int fault = 0; fault <= RECORDS_TOO_MANY_IDLE; fault++) {
        q.records = static_cast<enum records_fault>(fault);
        ask(q);
    }
    q = {};
    q.keeper_failed = true;
    ask(q);
    q = {};
    q.suite_refused = true;
    ask(q);
    q = {};
    q.plain_protocol = "the peer speaks HTTP, not TLS";
    ask(q);
    return causes;
}

TEST(HintsTest, EveryCauseOfOursHasOne) {
    std::set<std::string> causes = Causes();

    EXPECT_GT(causes.size(), 35U);
    for (const std::string &cause : causes) {
        for (enum tls_role role : {ROLE_SERVER, ROLE_CLIENT}) {
            const char *hint = hint_for_alert("handshake_failure", cause.c_str(), false, role);
            EXPECT_NE(nullptr, hint) << cause;
        }
    }
}

TEST(HintsTest, EveryAlertOfThePeerHasOne) {
    for (uint32_t alert = 0; alert < 256; alert++) {
        for (enum tls_role role : {ROLE_SERVER, ROLE_CLIENT})
            EXPECT_NE(nullptr,
                      hint_for_alert(tls_alert_name(alert), tls_alert_name(alert), true, role));
    }
}

TEST(HintsTest, WhoRefusesWhomMakesTheDifference) {
    std::string trusts_us_not = hint_for_alert("unknown_ca", "unknown_ca", true, ROLE_SERVER);
    std::string we_trust_not = hint_for_alert("unknown_ca", "unknown_ca", false, ROLE_SERVER);

    EXPECT_NE(std::string::npos, trusts_us_not.find("intermediate certificate in certfile"));
    EXPECT_NE(std::string::npos, we_trust_not.find("cacertfile"));
    EXPECT_NE(trusts_us_not,
              std::string(hint_for_alert("unknown_ca", "unknown_ca", true, ROLE_CLIENT)));
    EXPECT_EQ(nullptr, hint_for_alert("unknown_ca", "no such cause", false, ROLE_SERVER));
}

TEST(HintsTest, SomeReasonsWithoutAnAlertHaveOneToo) {
    for (enum result reason : {RESULT_TIMEOUT, RESULT_CLOSED, RESULT_POSIX, RESULT_WORKER_DIED}) {
        EXPECT_NE(nullptr, hint_for_reason(reason, ROLE_SERVER));
        EXPECT_NE(nullptr, hint_for_reason(reason, ROLE_CLIENT));
    }
    EXPECT_EQ(nullptr, hint_for_reason(RESULT_INTERNAL, ROLE_SERVER));
}

} /* namespace */
