/* A manager that does not read: nothing is lost, nobody waits, the order stays. */
#include <gtest/gtest.h>

#include <fcntl.h>
#include <unistd.h>

extern "C" {
#include "ipc/fd.h"
#include "ipc/mailbox.h"
#include "manager/cordond_outbox.h"
}

#include "tests/harness/harness.h"
#include "tests/harness/in_flight.h"

namespace {

class OutboxTest : public testing::Test {
protected:
    void SetUp() override {
        descriptors_ = harness_own_descriptors();
        ASSERT_EQ(RESULT_OK, mailbox_pair(pair_, MESSAGE_MAX));
        outbox_init(&outbox_, pair_[0]);
    }
    void TearDown() override {
        outbox_fini(&outbox_);
        fd_close(&pair_[0]);
        fd_close(&pair_[1]);
        EXPECT_EQ(descriptors_, harness_own_descriptors());
    }

    enum result Send(uint64_t request) {
        struct message m;

        message_init(&m, MESSAGE_STARTED);
        m.as.started.request = request;
        m.as.started.pid = 1;
        m.fds[m.fd_count++] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return outbox_send(&outbox_, &m);
    }

    /* The number of the next message; 0: there is none now. */
    uint64_t Receive() {
        struct message m;
        const char *why = nullptr;
        uint64_t request;

        if (mailbox_receive(pair_[1], CORDOND_TO_MANAGER, buffer_, MESSAGE_MAX, &m, &why) !=
            RESULT_OK)
            return 0;
        EXPECT_EQ(MESSAGE_STARTED, m.type);
        EXPECT_EQ(1U, m.fd_count);
        request = m.as.started.request;
        message_fini(&m);
        return request;
    }

    int pair_[2] = {-1, -1};
    struct outbox outbox_ = {};
    size_t descriptors_ = 0;
    char buffer_[MESSAGE_MAX + 1];
};

TEST_F(OutboxTest, KeepsAThousandMessagesAndTheirOrder) {
    const uint64_t all = 1000;
    uint64_t next = 1, got;

    for (uint64_t i = 1; i <= all; i++)
        ASSERT_EQ(RESULT_OK, Send(i));
    EXPECT_FALSE(outbox_is_empty(&outbox_));
    while (next <= all) {
        while ((got = Receive()) != 0)
            ASSERT_EQ(next++, got);
        ASSERT_EQ(RESULT_OK, outbox_flush(&outbox_));
    }
    EXPECT_TRUE(outbox_is_empty(&outbox_));
}

TEST_F(OutboxTest, ADescriptorIsClosedOnceSent) {
    size_t before = harness_own_descriptors();

    ASSERT_EQ(RESULT_OK, Send(1));
    EXPECT_EQ(before, harness_own_descriptors());
    EXPECT_EQ(1U, Receive());
    EXPECT_EQ(before, harness_own_descriptors());
}

TEST_F(OutboxTest, ToAManagerThatIsGoneEverythingIsThrownAway) {
    fd_close(&pair_[1]);
    EXPECT_EQ(RESULT_CHANNEL_CLOSED, Send(1));
    outbox_.mailbox = -1;
    EXPECT_EQ(RESULT_CHANNEL_CLOSED, Send(2));
    EXPECT_TRUE(outbox_is_empty(&outbox_));
}

/* The limit is of the uid, so it runs in a process of another one. */
TEST(OutboxInFlightTest, WithTooManyDescriptorsOnTheirWayItTriesAgainLater) {
    EXPECT_EQ(0, harness_in_flight_run([] {
                  struct outbox outbox;
                  struct message m;
                  char buffer[MESSAGE_MAX + 1];
                  int pair[2], filled[2];

                  EXPECT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX));
                  outbox_init(&outbox, pair[0]);
                  EXPECT_TRUE(harness_in_flight_fill(filled, HARNESS_IN_FLIGHT_MAX + 1));
                  message_init(&m, MESSAGE_STARTED);
                  m.fds[m.fd_count++] = open("/dev/null", O_RDONLY | O_CLOEXEC);
                  EXPECT_EQ(RESULT_OK, outbox_send(&outbox, &m));
                  EXPECT_EQ(1U, outbox.count);
                  EXPECT_GE(outbox.retry_ms, 0) << "the mailbox itself has room";
                  EXPECT_EQ(RESULT_OK, outbox_flush(&outbox));
                  EXPECT_EQ(1U, outbox.count);

                  fd_close(&filled[0]);
                  fd_close(&filled[1]);
                  EXPECT_EQ(RESULT_OK, outbox_flush(&outbox));
                  EXPECT_TRUE(outbox_is_empty(&outbox));
                  EXPECT_LT(outbox.retry_ms, 0);
                  EXPECT_EQ(RESULT_OK, mailbox_receive(pair[1], CORDOND_TO_MANAGER, buffer,
                                                       MESSAGE_MAX, &m, nullptr));
                  EXPECT_EQ(1U, m.fd_count);
                  return HasFailure();
              }));
}

} /* namespace */
