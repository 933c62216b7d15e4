/* How often keeper and nursery may end, and what happens past that. */
#include <gtest/gtest.h>

extern "C" {
#include "manager/cordond_restarts.h"
}

namespace {

class RestartsTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(RESULT_OK, restarts_init(&restarts_, 3, 10)); }
    void TearDown() override { restarts_fini(&restarts_); }

    int64_t DelayAfter(int ends, int64_t at_ms) {
        for (int i = 0; i < ends; i++)
            restarts_count(&restarts_, at_ms);
        return restarts_delay_ms(&restarts_, at_ms);
    }

    struct restarts restarts_ = {};
};

TEST_F(RestartsTest, AsManyAsTheIntensityAreFree) {
    EXPECT_EQ(0, DelayAfter(3, 1000));
}

TEST_F(RestartsTest, OneMoreWaitsASecondAndEachAfterItTwiceAsLong) {
    EXPECT_EQ(1000, DelayAfter(4, 1000));
    EXPECT_EQ(2000, DelayAfter(1, 1001));
    EXPECT_EQ(4000, DelayAfter(1, 1002));
    EXPECT_EQ(1002, restarts_last_ms(&restarts_));
}

TEST_F(RestartsTest, NeverLongerThanAMinute) {
    EXPECT_EQ(RESTARTS_DELAY_MAX_MS, DelayAfter(10, 1000));
    EXPECT_EQ(RESTARTS_DELAY_MAX_MS, DelayAfter(100000, 1000));
}

TEST_F(RestartsTest, WhatIsOlderThanThePeriodIsForgotten) {
    EXPECT_EQ(1000, DelayAfter(4, 1000));
    EXPECT_EQ(1000, restarts_delay_ms(&restarts_, 10999));
    EXPECT_EQ(0, restarts_delay_ms(&restarts_, 11000));
    EXPECT_EQ(0, DelayAfter(3, 11001));
}

TEST_F(RestartsTest, OtherLimitsKeepWhatWasCounted) {
    EXPECT_EQ(0, DelayAfter(3, 1000));
    ASSERT_EQ(RESULT_OK, restarts_configure(&restarts_, 1, 10));
    EXPECT_EQ(2000, restarts_delay_ms(&restarts_, 1000));
    ASSERT_EQ(RESULT_OK, restarts_configure(&restarts_, 1000000, 10));
    EXPECT_EQ(0, restarts_delay_ms(&restarts_, 1000));
}

TEST_F(RestartsTest, AnIntensityOfZeroDelaysTheFirst) {
    ASSERT_EQ(RESULT_OK, restarts_configure(&restarts_, 0, 10));
    EXPECT_EQ(0, restarts_delay_ms(&restarts_, 1000));
    EXPECT_EQ(1000, DelayAfter(1, 1000));
}

} /* namespace */
