extern "C" {
#include "manager/log_limit.h"
}

#include <gtest/gtest.h>

namespace {

TEST(LogLimitTest, SoManyInASecondAndTheOthersAreCounted) {
    struct log_limit l = {};

    for (int i = 0; i < 3; i++)
        EXPECT_TRUE(log_limit_allows(&l, 3, 5000 + i));
    for (int i = 0; i < 7; i++)
        EXPECT_FALSE(log_limit_allows(&l, 3, 5999));
    EXPECT_TRUE(log_limit_allows(&l, 3, 6000));
    EXPECT_EQ(7U, log_limit_take_dropped(&l));
    EXPECT_EQ(0U, log_limit_take_dropped(&l));
}

TEST(LogLimitTest, ANewOneAllowsItsFirstLineWheneverThatIs) {
    for (int64_t now : {INT64_C(0), INT64_C(1), INT64_C(123456789)}) {
        struct log_limit l = {};

        EXPECT_TRUE(log_limit_allows(&l, 1, now));
        EXPECT_FALSE(log_limit_allows(&l, 1, now));
    }
}

TEST(LogLimitTest, TheCountDoesNotWrap) {
    struct log_limit l = {};

    l.since_ms = 1;
    l.count = 1;
    l.dropped = UINT32_MAX;
    EXPECT_FALSE(log_limit_allows(&l, 1, 1));
    EXPECT_EQ(UINT32_MAX, log_limit_take_dropped(&l));
}

} /* namespace */
