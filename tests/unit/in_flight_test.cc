/* Who does not read what it was sent has no more than 8 descriptors on their way, and no part of others'. */
#include <gtest/gtest.h>

#include <memory>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ipc/fd.h"
#include "manager/in_flight.h"
}

#include "tests/harness/harness.h"

namespace {

/* Both ends of a control connection. */
struct Pair {
    Pair() {
        EXPECT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
        in_flight_init(&ours, fds[0]);
    }
    ~Pair() {
        fd_close(&fds[1]);
        Leave();
    }
    void Leave() {
        if (ours.socket >= 0)
            in_flight_leave(&ours);
        ours.socket = -1;
    }

    /* Sends one, if there is room. */
    bool Send() {
        size_t size = 1;
        int fd = STDERR_FILENO;

        if (!in_flight_has_room(&ours))
            return false;
        EXPECT_EQ(RESULT_OK, fd_send(ours.socket, "x", &size, &fd, 1, MSG_DONTWAIT));
        in_flight_sent(&ours);
        return true;
    }
    size_t SendAll() {
        size_t sent = 0;

        while (Send())
            sent++;
        return sent;
    }
    void ReadOne() {
        int got[FD_MAX_RECEIVED];
        size_t count = FD_MAX_RECEIVED, size = 1;
        char byte;

        ASSERT_EQ(RESULT_OK, fd_receive(fds[1], &byte, &size, got, &count, MSG_DONTWAIT));
        for (size_t i = 0; i < count; i++)
            fd_close(&got[i]);
    }
    void ReadAll() {
        for (unsigned i = ours.count; i > 0; i--)
            ReadOne();
    }

    struct in_flight ours;
    int fds[2];
};

class InFlightTest : public testing::Test {
protected:
    void SetUp() override { descriptors_ = harness_own_descriptors(); }
    void TearDown() override {
        in_flight_look();
        EXPECT_EQ(0U, in_flight_left());
        EXPECT_EQ(0U, in_flight_total());
        EXPECT_EQ(descriptors_, harness_own_descriptors());
    }

    size_t descriptors_ = 0;
};

TEST_F(InFlightTest, WhoReadsNothingIsSentEight) {
    Pair pair;

    EXPECT_EQ(8U, pair.SendAll());
    pair.ReadOne();
    EXPECT_EQ(0U, pair.SendAll()) << "seven are still there";
    for (int i = 0; i < 7; i++)
        pair.ReadOne();
    EXPECT_EQ(8U, pair.SendAll());
}

TEST_F(InFlightTest, WhoReadsAtOnceMeetsNoLimit) {
    Pair pair;

    for (int i = 0; i < 3000; i++) {
        ASSERT_TRUE(pair.Send()) << i;
        pair.ReadOne();
    }
    EXPECT_LE(in_flight_total(), 8U);
}

TEST_F(InFlightTest, PastAThousandEachHasOneAndTheOthersDoNotWaitForThem) {
    std::vector<std::unique_ptr<Pair>> deaf;

    for (int i = 0; i < IN_FLIGHT_ALL_MAX / IN_FLIGHT_ONE_MAX; i++) {
        deaf.push_back(std::make_unique<Pair>());
        ASSERT_EQ(8U, deaf.back()->SendAll());
    }
    Pair reader;
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(1U, reader.SendAll());
        reader.ReadOne();
    }
    deaf.front()->ReadAll();
    EXPECT_EQ(8U, reader.SendAll()) << "room that another has made";
    reader.ReadAll();
}

TEST_F(InFlightTest, WhatIsLeftUnreadStaysCountedUntilTheOtherEndIsClosed) {
    Pair pair, other;
    int theirs = pair.fds[1];

    pair.fds[1] = -1;
    EXPECT_EQ(8U, pair.SendAll());
    pair.Leave();
    EXPECT_EQ(1U, in_flight_left());
    EXPECT_EQ(8U, in_flight_total());
    in_flight_look();
    EXPECT_EQ(8U, in_flight_total());
    fd_close(&theirs);
    in_flight_look();
    EXPECT_EQ(0U, in_flight_left());
    EXPECT_EQ(0U, in_flight_total());
}

TEST_F(InFlightTest, ASocketWithNothingOnItsWayIsClosedAtOnce) {
    Pair never, read;
    size_t before = harness_own_descriptors();

    ASSERT_TRUE(read.Send());
    read.ReadOne();
    never.Leave();
    read.Leave();
    EXPECT_EQ(before - 2, harness_own_descriptors());
    EXPECT_EQ(0U, in_flight_left());
}

} /* namespace */
