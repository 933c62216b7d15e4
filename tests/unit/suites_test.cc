/* ipc/suites and ipc/results: one list each, without contradictions. */
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <string>
#include <unistd.h>

extern "C" {
#include "ipc/board.h"
#include "ipc/fd.h"
#include "ipc/result.h"
#include "ipc/suites.h"
}

namespace {

TEST(Suites, HaveOneCodeAndOneNameEach) {
    std::set<uint16_t> codes;
    std::set<std::string> names;

    for (size_t i = 0; i < suite_count; i++) {
        EXPECT_TRUE(codes.insert(suites[i].code).second) << suites[i].iana;
        EXPECT_TRUE(names.insert(suites[i].iana).second) << suites[i].iana;
        EXPECT_EQ(&suites[i], suite_by_code(suites[i].code));
        EXPECT_EQ(&suites[i], suite_by_name(suites[i].iana));
        EXPECT_EQ(&suites[i], suite_by_name(suites[i].openssl));
    }
    EXPECT_EQ(nullptr, suite_by_code(0));
    EXPECT_EQ(nullptr, suite_by_name("TLS_NULL_WITH_NULL_NULL"));
}

TEST(Suites, DefaultOnesOfTls12AreForwardSecretAead) {
    for (size_t i = 0; i < suite_count; i++) {
        if (suites[i].is_default && !(suites[i].versions & TLS_1_3)) {
            EXPECT_EQ(nullptr, suites[i].hash) << suites[i].iana;
            EXPECT_NE(nullptr, strstr(suites[i].key_exchange, "dhe_")) << suites[i].iana;
        }
    }
}

TEST(Versions, GoThereAndBack) {
    for (uint32_t version : {TLS_1_0, TLS_1_1, TLS_1_2, TLS_1_3})
        EXPECT_EQ(version, tls_version_by_name(tls_version_name(version)));
    EXPECT_EQ(0u, tls_version_by_name("sslv3"));
    EXPECT_EQ(nullptr, tls_version_name(3));
}

TEST(Alerts, HaveTheirStandardNames) {
    EXPECT_STREQ("unknown_ca", tls_alert_name(48));
    EXPECT_STREQ("close_notify", tls_alert_name(0));
    EXPECT_STREQ("unknown", tls_alert_name(200));
}

TEST(Results, HaveOneReasonEach) {
    std::set<std::string> names;

    for (int i = 0; i < RESULT_COUNT; i++)
        EXPECT_TRUE(names.insert(result_name((enum result)i)).second) << i;
    EXPECT_STREQ("unknown", result_name(RESULT_COUNT));
}

TEST(Results, PosixNamesAreTheReferencesWords) {
    EXPECT_STREQ("econnrefused", posix_name(ECONNREFUSED));
    EXPECT_STREQ("eunknown", posix_name(99999));
}

TEST(Board, AHostileStateIsRecognised) {
    uint32_t state = WORKER_CIPHER;
    int board;

    ASSERT_EQ(RESULT_OK, board_new(&board));
    ASSERT_EQ((ssize_t)sizeof state, pwrite(board, &state, sizeof state, 7 * BOARD_PAGE_SIZE));
    EXPECT_EQ((uint32_t)WORKER_CIPHER, board_read_state(board, 7));
    EXPECT_EQ((uint32_t)WORKER_SPAWNED, board_read_state(board, 8));
    state = 0xffffffff;
    ASSERT_EQ((ssize_t)sizeof state, pwrite(board, &state, sizeof state, 7 * BOARD_PAGE_SIZE));
    EXPECT_EQ((uint32_t)WORKER_STATE_COUNT, board_read_state(board, 7));
    EXPECT_EQ((uint32_t)WORKER_STATE_COUNT, board_read_state(board, BOARD_PAGES));
    EXPECT_EQ(-1, ftruncate(board, 4096)) << "sealed against shrinking";
    fd_close(&board);
}

} // namespace
