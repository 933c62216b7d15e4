/* Mailbox pairs and kept copies: every copy is closed once, and by the right name. */
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

extern "C" {
#include "ipc/fd.h"
#include "manager/cordond_pairs.h"
}

#include "tests/harness/harness.h"

namespace {

class PairsTest : public testing::Test {
protected:
    void SetUp() override {
        descriptors_ = harness_own_descriptors();
        pairs_ = pairs_new();
        ASSERT_NE(nullptr, pairs_);
    }
    void TearDown() override {
        pairs_free(pairs_);
        EXPECT_EQ(descriptors_, harness_own_descriptors());
    }

    static int Null() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

    struct pairs *pairs_ = nullptr;
    size_t descriptors_ = 0;
};

TEST_F(PairsTest, MakesSixtyFourWithGrowingNumbersAndKeepsOneEndOfEach) {
    struct message first, second;

    ASSERT_EQ(RESULT_OK, pairs_make(pairs_, &first));
    EXPECT_EQ(static_cast<size_t>(2 * PAIRS_PER_MESSAGE), first.fd_count);
    EXPECT_EQ(static_cast<size_t>(PAIRS_PER_MESSAGE), pairs_count(pairs_));
    ASSERT_EQ(RESULT_OK, pairs_make(pairs_, &second));
    EXPECT_EQ(first.as.pairs.first + PAIRS_PER_MESSAGE, second.as.pairs.first);
    EXPECT_EQ(descriptors_ + 6 * PAIRS_PER_MESSAGE, harness_own_descriptors());
    message_fini(&first);
    message_fini(&second);
    EXPECT_EQ(descriptors_ + 2 * PAIRS_PER_MESSAGE, harness_own_descriptors());
    pairs_drop_all(pairs_);
    EXPECT_EQ(descriptors_, harness_own_descriptors());
}

TEST_F(PairsTest, TheOtherEndHangsUpOnlyWhenTheCopyIsDroppedToo) {
    struct message m;
    int theirs;
    char byte;

    ASSERT_EQ(RESULT_OK, pairs_make(pairs_, &m));
    theirs = message_take_fd(&m, 1);
    message_fini(&m);
    EXPECT_EQ(-1, recv(theirs, &byte, 1, MSG_DONTWAIT));
    EXPECT_EQ(EAGAIN, errno);
    pairs_drop(pairs_, KEPT_PAIR, m.as.pairs.first);
    EXPECT_EQ(0, recv(theirs, &byte, 1, MSG_DONTWAIT));
    fd_close(&theirs);
}

TEST_F(PairsTest, KindsHaveNumbersOfTheirOwn) {
    ASSERT_EQ(RESULT_OK, pairs_keep(pairs_, KEPT_LISTENER, 7, Null()));
    ASSERT_EQ(RESULT_OK, pairs_keep(pairs_, KEPT_CLIENT, 7, Null()));
    ASSERT_EQ(RESULT_OK, pairs_keep(pairs_, KEPT_CLIENT, 7 + 16384, Null()));
    pairs_drop(pairs_, KEPT_PAIR, 7);
    EXPECT_EQ(3U, pairs_count(pairs_));
    pairs_drop(pairs_, KEPT_CLIENT, 7);
    EXPECT_EQ(2U, pairs_count(pairs_));
    pairs_drop(pairs_, KEPT_CLIENT, 7);
    EXPECT_EQ(2U, pairs_count(pairs_));
}

TEST_F(PairsTest, ASecondCopyUnderOneNumberReplacesTheFirst) {
    ASSERT_EQ(RESULT_OK, pairs_keep(pairs_, KEPT_LISTENER, 7, Null()));
    ASSERT_EQ(RESULT_OK, pairs_keep(pairs_, KEPT_LISTENER, 7, Null()));
    EXPECT_EQ(1U, pairs_count(pairs_));
    EXPECT_EQ(descriptors_ + 1, harness_own_descriptors());
}

TEST_F(PairsTest, AtTheDescriptorLimitThereAreFewerPairsAndNothingIsLost) {
    struct rlimit old, few;
    struct message m;

    ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &old));
    few = old;
    few.rlim_cur = descriptors_ + 10; /* three pairs, and the folder that is read to count them */
    ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &few));
    enum result some = pairs_make(pairs_, &m);
    size_t made = some == RESULT_OK ? m.fd_count / 2 : 0;
    struct message none;
    enum result nothing = pairs_make(pairs_, &none);
    ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &old));

    ASSERT_EQ(RESULT_OK, some);
    EXPECT_EQ(3U, made);
    EXPECT_EQ(RESULT_POSIX, nothing);
    EXPECT_EQ(descriptors_ + 9, harness_own_descriptors());
    message_fini(&m);
}

} /* namespace */
