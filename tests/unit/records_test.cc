extern "C" {
#include "ipc/fd.h"
#include "worker/records.h"
}

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace {

std::string Record(char type, const std::string &payload) {
    return std::string(1, type) + "\x03\x03" + static_cast<char>(payload.size() >> 8) +
           static_cast<char>(payload.size()) + payload;
}

std::string Message(size_t claimed, const std::string &body) {
    return std::string(1, 1) + static_cast<char>(claimed >> 16) + static_cast<char>(claimed >> 8) +
           static_cast<char>(claimed) + body;
}

const char kCcs = 20, kAlert = 21, kHandshake = 22, kData = 23;

class RecordsTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair_));
        ASSERT_EQ(RESULT_OK, records_new(&r_, pair_[0]));
    }
    void TearDown() override {
        records_free(r_);
        fd_close(&pair_[1]);
    }

    void Peer(const std::string &bytes) {
        ASSERT_EQ(static_cast<ssize_t>(bytes.size()),
                  send(pair_[1], bytes.data(), bytes.size(), MSG_DONTWAIT));
    }
    /* As GnuTLS does: at most so many bytes in one call. "" with errno in error_. */
    std::string PullOnce(size_t size) {
        std::string bytes(size, '\0');

        errno = 0;
        ssize_t got = records_pull(r_, &bytes[0], size);
        error_ = got < 0 ? errno : 0;
        return bytes.substr(0, got > 0 ? static_cast<size_t>(got) : 0);
    }
    /* As one does that polls and comes back: nothing is there when it is said twice. */
    std::string Pull(size_t size) {
        std::string bytes = PullOnce(size);

        return error_ == EAGAIN ? PullOnce(size) : bytes;
    }
    /* Whole records of these, one after the other; how many were handed out. */
    int PullRecords(const std::string &record, int count) {
        for (int i = 0; i < count; i++) {
            Peer(record);
            if (Pull(5).size() != 5 ||
                (record.size() > 5 && Pull(20000).size() != record.size() - 5))
                return i;
        }
        return count;
    }

    int pair_[2] = {-1, -1};
    struct records *r_ = nullptr;
    int error_ = 0;
};

TEST_F(RecordsTest, HandsOutWholeRecordsOnly) {
    std::string record = Record(kHandshake, Message(3, "abc"));

    Peer(record.substr(0, 8));
    EXPECT_EQ("", Pull(5));
    EXPECT_EQ(EAGAIN, error_);
    EXPECT_FALSE(records_has_more(r_));
    Peer(record.substr(8));
    EXPECT_EQ(record.substr(0, 5), Pull(5));
    EXPECT_EQ(record.substr(5), Pull(1000));
}

TEST_F(RecordsTest, NeverHandsOutPartsOfTwoRecords) {
    std::string one = Record(kHandshake, Message(3, "abc")), two = Record(kData, "defg");

    Peer(one + two);
    EXPECT_EQ(one, Pull(1000));
    EXPECT_TRUE(records_has_more(r_));
    EXPECT_EQ(1, records_pull_timeout(r_, 1000));
    EXPECT_EQ(two, Pull(1000));
    EXPECT_EQ(0, records_pull_timeout(r_, 1000));
}

TEST_F(RecordsTest, AfterAReadThatTookAllTheKernelIsNotAskedAgainBeforeAPoll) {
    std::string record = Record(kHandshake, Message(3, "abc"));

    Peer(record);
    EXPECT_EQ(record, PullOnce(1000));
    Peer(record);
    EXPECT_EQ("", PullOnce(1000));
    EXPECT_EQ(EAGAIN, error_);
    EXPECT_EQ(record, PullOnce(1000));
}

TEST_F(RecordsTest, WhenWritingFailsTheKernelIsAskedAtOnce) {
    std::string record = Record(kAlert, "why");

    Peer(record);
    EXPECT_EQ(record, PullOnce(1000));
    Peer(record);
    fd_close(&pair_[1]);
    EXPECT_EQ(3, records_push(r_, "abc", 3));
    EXPECT_EQ(RESULT_POSIX, records_flush(r_));
    EXPECT_EQ(record, PullOnce(1000));
}

TEST_F(RecordsTest, EndOfFileIsZero) {
    fd_close(&pair_[1]);
    EXPECT_EQ("", Pull(5));
    EXPECT_EQ(0, error_);
    EXPECT_EQ(0, records_error(r_));
    EXPECT_TRUE(records_has_more(r_));
}

TEST_F(RecordsTest, BytesReadBeforeComeFirst) {
    std::string record = Record(kHandshake, Message(3, "abc"));

    ASSERT_EQ(RESULT_OK, records_prefill(r_, record.data(), 6));
    Peer(record.substr(6));
    EXPECT_EQ(record, Pull(1000));
}

TEST_F(RecordsTest, PrefillHasALimit) {
    std::string bytes(RECORDS_IN_SIZE + 1, 'x');

    EXPECT_EQ(RESULT_LIMIT, records_prefill(r_, bytes.data(), bytes.size()));
}

TEST_F(RecordsTest, WhatIsNoTlsIsHandedOutForGnutlsToRefuse) {
    Peer("GET / HTTP/1.1\r\n");
    EXPECT_EQ("GET /", Pull(5));
}

TEST_F(RecordsTest, TooLongAHeaderIsHandedOutWithoutTheRest) {
    Peer(std::string("\x17\x03\x03\xff\xff", 5));
    EXPECT_EQ(5u, Pull(5).size());
}

TEST_F(RecordsTest, MessageThatClaimsMoreThan64KiBIsRefusedAtItsHeader) {
    Peer(Record(kHandshake, Message(RECORDS_MAX_MESSAGE + 1, "x")));
    EXPECT_EQ("", Pull(5));
    EXPECT_EQ(EPROTO, error_);
    EXPECT_EQ(RECORDS_MESSAGE_TOO_LARGE, records_fault(r_));
}

TEST_F(RecordsTest, MessageHeaderMaySpanRecords) {
    std::string message = Message(RECORDS_MAX_MESSAGE + 1, "x");

    for (size_t i = 0; i < 3; i++) {
        Peer(Record(kHandshake, message.substr(i, 1)));
        EXPECT_EQ(6u, Pull(1000).size());
    }
    Peer(Record(kHandshake, message.substr(3)));
    EXPECT_EQ("", Pull(1000));
    EXPECT_EQ(RECORDS_MESSAGE_TOO_LARGE, records_fault(r_));
}

TEST_F(RecordsTest, LargestMessagePassesAndTheNextIsReadFromItsStart) {
    std::string bytes = Message(RECORDS_MAX_MESSAGE, std::string(RECORDS_MAX_MESSAGE, '\xff')) +
                        Message(1, "y");

    for (size_t i = 0; i < bytes.size(); i += 16000) {
        Peer(Record(kHandshake, bytes.substr(i, 16000)));
        EXPECT_NE("", Pull(20000));
    }
    EXPECT_EQ(RECORDS_FINE, records_fault(r_));
}

TEST_F(RecordsTest, WholeHandshakeIsLimitedAlsoWhenItIsEncrypted) {
    std::string record = Record(kData, std::string(16000, 'x'));

    EXPECT_EQ(RECORDS_MAX_HANDSHAKE / 16005, PullRecords(record, 20));
    EXPECT_EQ(RECORDS_HANDSHAKE_TOO_LARGE, records_fault(r_));
    EXPECT_EQ(EPROTO, error_);
    EXPECT_EQ("", Pull(5));
}

TEST_F(RecordsTest, NothingIsLimitedOnceTheHandshakeIsDone) {
    std::string record = Record(kData, std::string(16000, 'x'));

    records_set_established(r_);
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(1, PullRecords(record, 1));
        records_progress(r_);
    }
}

TEST_F(RecordsTest, EncryptedHandshakeMessagesAreNotRead) {
    EXPECT_EQ(1, PullRecords(Record(kCcs, "\x01"), 1));
    EXPECT_EQ(1, PullRecords(Record(kHandshake, "\x01\xff\xff\xff encrypted"), 1));
}

TEST_F(RecordsTest, AnAlertWithoutEncryptionIsKnownUntilTheNextRecord) {
    EXPECT_EQ(0u, records_plain_alert(r_));
    EXPECT_EQ(1, PullRecords(Record(kAlert, "\x02\x30"), 1));
    EXPECT_EQ(0x30u, records_plain_alert(r_));
    EXPECT_EQ(1, PullRecords(Record(kAlert, "\x02\x30 encrypted, in TLS 1.2"), 1));
    EXPECT_EQ(0u, records_plain_alert(r_));
}

struct Idle {
    const char *name;
    char type;
    const char *payload;
};

class RecordsIdleTest : public RecordsTest, public testing::WithParamInterface<Idle> {};

TEST_P(RecordsIdleTest, ThirtyTwoInARow) {
    std::string record = Record(GetParam().type, GetParam().payload);

    EXPECT_EQ(RECORDS_MAX_IDLE, PullRecords(record, 100));
    EXPECT_EQ(RECORDS_TOO_MANY_IDLE, records_fault(r_));
}

TEST_P(RecordsIdleTest, AHandshakeRecordInBetweenBeginsAnew) {
    std::string record = Record(GetParam().type, GetParam().payload);

    for (int i = 0; i < 4; i++) {
        EXPECT_EQ(30, PullRecords(record, 30));
        EXPECT_EQ(1, PullRecords(Record(kHandshake, Message(1, "x")), 1));
    }
}

INSTANTIATE_TEST_SUITE_P(
    All, RecordsIdleTest,
    testing::Values(Idle{"Alerts", kAlert, "\x01\x5a"}, Idle{"ChangeCipherSpecs", kCcs, "\x01"},
                    Idle{"EmptyHandshake", kHandshake, ""}, Idle{"EmptyData", kData, ""}),
    [](const testing::TestParamInfo<Idle> &info) { return std::string(info.param.name); });

TEST_F(RecordsTest, RecordsWithoutPlaintextAreIdleAfterTheHandshake) {
    records_set_established(r_);
    EXPECT_EQ(RECORDS_MAX_IDLE, PullRecords(Record(kData, "key update"), 100));
    EXPECT_EQ(RECORDS_TOO_MANY_IDLE, records_fault(r_));
}

TEST_F(RecordsTest, DataWaitsWhileItIsNotAllowed) {
    std::string data = Record(kData, "data");

    records_allow_data(r_, false);
    Peer(data);
    EXPECT_EQ("", Pull(5));
    EXPECT_EQ(EAGAIN, error_);
    records_allow_data(r_, true);
    EXPECT_EQ(data, Pull(1000));
}

TEST_F(RecordsTest, WritesGatherUntilTheyAreFlushed) {
    char bytes[100];

    EXPECT_EQ(3, records_push(r_, "abc", 3));
    EXPECT_EQ(3, records_push(r_, "def", 3));
    EXPECT_EQ(6u, records_unsent(r_));
    EXPECT_EQ(-1, recv(pair_[1], bytes, sizeof bytes, MSG_DONTWAIT));
    EXPECT_EQ(RESULT_OK, records_flush(r_));
    EXPECT_EQ(0u, records_unsent(r_));
    EXPECT_EQ(6, recv(pair_[1], bytes, sizeof bytes, MSG_DONTWAIT));
}

TEST_F(RecordsTest, FullBufferTakesNoMoreAndLosesNothing) {
    std::string block(16384, 'x'), all;
    size_t pushed = 0, got = 0;
    ssize_t n;

    while ((n = records_push(r_, block.data(), block.size())) > 0)
        pushed += static_cast<size_t>(n);
    EXPECT_EQ(EAGAIN, errno);
    EXPECT_EQ(size_t{RECORDS_OUT_SIZE}, records_unsent(r_));
    while (got < pushed) {
        n = recv(pair_[1], &block[0], block.size(), MSG_DONTWAIT);
        if (n > 0)
            got += static_cast<size_t>(n);
        else
            ASSERT_NE(RESULT_POSIX, records_flush(r_));
    }
    EXPECT_EQ(RESULT_OK, records_flush(r_));
    EXPECT_EQ(pushed, got);
}

TEST_F(RecordsTest, PeerThatIsGoneIsAnErrorWithoutASignal) {
    fd_close(&pair_[1]);
    EXPECT_EQ(3, records_push(r_, "abc", 3));
    EXPECT_EQ(RESULT_POSIX, records_flush(r_));
    EXPECT_EQ(EPIPE, records_error(r_));
}

TEST_F(RecordsTest, DiscardSaysWhenTheStreamIsAtItsEnd) {
    Peer(Record(kData, "nobody wants it"));
    EXPECT_FALSE(records_discard(r_));
    EXPECT_FALSE(records_has_more(r_));
    fd_close(&pair_[1]);
    EXPECT_TRUE(records_discard(r_));
}

} // namespace
