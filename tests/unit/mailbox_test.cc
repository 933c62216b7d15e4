/* ipc/mailbox and ipc/fd: packets, descriptors, sealed memory. */
#include <gtest/gtest.h>

#include <fcntl.h>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "ipc/secret.h"
}

#include "tests/harness/in_flight.h"

namespace {

class MailboxTest : public ::testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(RESULT_OK, mailbox_pair(pair_, MESSAGE_MAX)); }

    void TearDown() override {
        message_fini(&m_);
        fd_close(&pair_[0]);
        fd_close(&pair_[1]);
    }

    enum result Receive(enum route route) {
        return mailbox_receive(pair_[1], route, buffer_, MESSAGE_MAX, &m_, &why_);
    }

    int pair_[2] = {-1, -1};
    char buffer_[MESSAGE_MAX + 1];
    struct message m_ = {};
    const char *why_ = nullptr;
};

TEST_F(MailboxTest, AnEmptyMailboxWouldBlock) {
    EXPECT_EQ(RESULT_WOULD_BLOCK, Receive(MANAGER_TO_WORKER));
}

TEST_F(MailboxTest, AClosedMailboxSaysSo) {
    struct message m;

    fd_close(&pair_[0]);
    EXPECT_EQ(RESULT_CHANNEL_CLOSED, Receive(MANAGER_TO_WORKER));
    message_init(&m, MESSAGE_HELLO);
    EXPECT_EQ(RESULT_CHANNEL_CLOSED, mailbox_send(pair_[1], &m));
}

TEST_F(MailboxTest, DescriptorsTravelAndAreBornCloseOnExec) {
    struct message m;

    message_init(&m, MESSAGE_DATA);
    m.as.data.serial = 1;
    m.fds[0] = STDERR_FILENO;
    m.fd_count = 1;
    ASSERT_EQ(RESULT_OK, mailbox_send(pair_[0], &m));
    ASSERT_EQ(RESULT_OK, Receive(MANAGER_TO_WORKER)) << why_;
    ASSERT_EQ(1u, m_.fd_count);
    EXPECT_EQ(FD_CLOEXEC, fcntl(m_.fds[0], F_GETFD));
}

TEST_F(MailboxTest, SurplusDescriptorsAreClosed) {
    int fds[FD_MAX_RECEIVED];
    size_t size = 16;
    int before, after;

    for (int &fd : fds)
        fd = STDERR_FILENO;
    before = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ASSERT_EQ(RESULT_OK, fd_send(pair_[0], R"({"type":"hello"})", &size, fds, FD_MAX_RECEIVED, 0));
    EXPECT_EQ(RESULT_MESSAGE_DESCRIPTORS, Receive(WORKER_TO_MANAGER));
    after = open("/dev/null", O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(before + 1, after) << "the lowest free descriptor is the next one: nothing leaked";
    close(before);
    close(after);
}

TEST_F(MailboxTest, APacketLongerThanTheChannelAllowsIsRefused) {
    std::string text(MESSAGE_MAX + 1, ' ');
    size_t size = text.size();

    ASSERT_EQ(RESULT_OK, fd_send(pair_[0], text.data(), &size, nullptr, 0, 0));
    EXPECT_EQ(RESULT_MESSAGE_TOO_LONG, Receive(MANAGER_TO_WORKER));
    EXPECT_STREQ("longer than the channel allows", why_);
}

TEST_F(MailboxTest, AFullMailboxDoesNotWait) {
    struct message m;
    enum result result;
    int count = 0;

    message_init(&m, MESSAGE_HELLO);
    while ((result = mailbox_send(pair_[0], &m)) == RESULT_OK)
        ASSERT_LT(++count, 10000);
    EXPECT_EQ(RESULT_WOULD_BLOCK, result);
    EXPECT_EQ(RESULT_TIMEOUT, mailbox_send_wait(pair_[0], &m, clock_now_ms() + 10));
}

TEST_F(MailboxTest, WaitingEndsAtTheDeadline) {
    EXPECT_EQ(RESULT_TIMEOUT, mailbox_receive_wait(pair_[1], MANAGER_TO_WORKER, buffer_,
                                                   MESSAGE_MAX, &m_, nullptr, clock_now_ms() + 10));
}

TEST_F(MailboxTest, LogLinesGoWhereTheMailboxGoes) {
    mailbox_log_to(pair_[0]);
    log_warn("conn=c1.1 odd key=%d", 7);
    mailbox_log_to(-1);
    ASSERT_EQ(RESULT_OK, Receive(WORKER_TO_MANAGER)) << why_;
    EXPECT_EQ((uint32_t)LOG_WARN, m_.as.log.level);
    EXPECT_STREQ("conn=c1.1 odd key=7", m_.as.log.line);
}

TEST_F(MailboxTest, LostLogLinesAreCounted) {
    struct message m;
    int lines = 0;

    message_init(&m, MESSAGE_HELLO);
    while (mailbox_send(pair_[0], &m) == RESULT_OK)
        continue;
    mailbox_log_to(pair_[0]);
    log_info("one");
    log_info("two");
    while (Receive(WORKER_TO_MANAGER) == RESULT_OK)
        continue;
    log_info("three");
    mailbox_log_to(-1);
    while (Receive(WORKER_TO_MANAGER) == RESULT_OK) {
        EXPECT_STREQ(lines == 0 ? "log lines were lost count=2" : "three", m_.as.log.line);
        lines++;
    }
    EXPECT_EQ(2, lines);
}

TEST(SealedMemory, IsReadBackWhole) {
    uint8_t *bytes;
    size_t size;
    int fd;

    ASSERT_EQ(RESULT_OK, memfd_sealed(&fd, "test", "abc", 3));
    ASSERT_EQ(RESULT_OK, memfd_read(fd, 3, &bytes, &size));
    EXPECT_EQ(3u, size);
    EXPECT_STREQ("abc", (const char *)bytes);
    free(bytes);
    EXPECT_EQ(RESULT_NOT_SEALED, memfd_read(fd, 2, &bytes, &size));
    EXPECT_EQ(-1, pwrite(fd, "x", 1, 0));
    fd_close(&fd);
}

TEST(SealedMemory, UnsealedOrOtherFilesAreRefused) {
    int unsealed = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    uint8_t *bytes;
    size_t size;

    EXPECT_EQ(RESULT_NOT_SEALED, memfd_read(unsealed, 100, &bytes, &size));
    EXPECT_EQ(RESULT_NOT_SEALED, memfd_read(null, 100, &bytes, &size));
    fd_close(&unsealed);
    fd_close(&null);
}

TEST(ReadAll, APipeThatNeverEndsTimesOut) {
    int ends[2];
    uint8_t *bytes;
    size_t size;

    ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
    EXPECT_EQ(RESULT_TIMEOUT, fd_read_all(ends[0], 100, &bytes, &size));
    ASSERT_EQ(3, write(ends[1], "abc", 3));
    fd_close(&ends[1]);
    ASSERT_EQ(RESULT_OK, fd_read_all(ends[0], 100, &bytes, &size));
    EXPECT_STREQ("abc", (const char *)bytes);
    free(bytes);
    fd_close(&ends[0]);
}

TEST(ReadAll, MoreThanTheBoundIsRefused) {
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    uint8_t *bytes;
    size_t size;

    EXPECT_EQ(RESULT_LIMIT, fd_read_all(fd, 100, &bytes, &size));
    fd_close(&fd);
}

TEST(Descriptors, AreToldApart) {
    int stream[2], packets[2];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int unconnected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream));
    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, packets));
    ASSERT_EQ(0, listen(listener, 1));
    EXPECT_TRUE(fd_is_connected_stream(stream[0]));
    for (int other : {packets[0], listener, unconnected, datagram, null, -1})
        EXPECT_FALSE(fd_is_connected_stream(other)) << other;
    EXPECT_TRUE(fd_is_listening_stream(listener));
    for (int other : {stream[0], packets[0], unconnected, datagram, null, -1})
        EXPECT_FALSE(fd_is_listening_stream(other)) << other;
    EXPECT_TRUE(fd_is_seqpacket(packets[0]));
    EXPECT_FALSE(fd_is_seqpacket(stream[0]));
    for (int *fd : {&stream[0], &stream[1], &packets[0], &packets[1], &listener, &unconnected,
                    &datagram, &null})
        fd_close(fd);
}

TEST(Descriptors, ACopyHasTheSameCookieAndAnotherSocketHasNot) {
    int pair[2], copy;

    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    copy = fcntl(pair[0], F_DUPFD_CLOEXEC, 0);
    EXPECT_NE(0u, fd_cookie(pair[0]));
    EXPECT_EQ(fd_cookie(pair[0]), fd_cookie(copy));
    EXPECT_NE(fd_cookie(pair[0]), fd_cookie(pair[1]));
    fd_close(&copy);
    fd_close(&pair[0]);
    fd_close(&pair[1]);
}

TEST(Descriptors, LingerCannotMakeCloseWait) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct linger linger = {1, 60};
    socklen_t size = sizeof linger;

    ASSERT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    fd_disarm_linger(fd);
    ASSERT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size));
    EXPECT_EQ(0, linger.l_onoff);
    linger = {1, 0};
    ASSERT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    fd_disarm_linger(fd);
    ASSERT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size));
    EXPECT_EQ(1, linger.l_onoff) << "linger 0 is a reset, which nobody waits for";
    fd_close(&fd);
}

TEST(Log, StringsFromOutsideAreEscaped) {
    char out[32];

    log_escape(out, sizeof out, "a\"b\\c\x1b[0m\xff", 10);
    EXPECT_STREQ("a\\x22b\\x5cc\\x1b[0m\\xff", out);
    log_escape(out, 6, "ab\x01", 3);
    EXPECT_STREQ("ab", out) << "an escape is never cut in two";
}

static std::string forwarded;

TEST(Log, ALineFromAWorkerStaysOneLine) {
    log_set_tap([](enum log_level, const char *, const char *line) { forwarded = line; });
    log_forward(LOG_INFO, "worker", "conn=c1.1 odd\nerror manager forged\x1b[2J");
    log_set_tap(nullptr);
    EXPECT_EQ("conn=c1.1 odd\\x0aerror manager forged\\x1b[2J", forwarded);
}

TEST(Secret, IsWipedBeforeItIsFreed) {
    char *block = (char *)malloc(64);

    memcpy(block, "the password", 13);
    secret_wipe(block, 64);
    EXPECT_EQ(std::string(64, '\0'), std::string(block, 64));
    EXPECT_TRUE(secret_equal("abc", "abc", 3));
    EXPECT_FALSE(secret_equal("abc", "abd", 3));
    secret_free(block);
    secret_free(nullptr);
}

struct message OneDescriptor() {
    struct message m;

    message_init(&m, MESSAGE_DATA);
    m.as.data.serial = 1;
    m.fds[0] = STDERR_FILENO;
    m.fd_count = 1;
    return m;
}

TEST(InFlightTest, TooManyDescriptorsOnTheirWayIsNotAFailureOfTheMailbox) {
    EXPECT_EQ(0, harness_in_flight_run([] {
                  struct message m = OneDescriptor();
                  int pair[2], filled[2];

                  EXPECT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX));
                  EXPECT_TRUE(harness_in_flight_fill(filled, HARNESS_IN_FLIGHT_MAX + 1));
                  EXPECT_EQ(RESULT_CHANNEL_BUSY, mailbox_send(pair[0], &m));
                  m.fd_count = 0;
                  m.type = MESSAGE_DELIVERED;
                  m.as.delivered.serial = 1;
                  EXPECT_EQ(RESULT_OK, mailbox_send(pair[0], &m)) << "without a descriptor";
                  m = OneDescriptor();
                  fd_close(&filled[1]);
                  EXPECT_EQ(RESULT_OK, mailbox_send(pair[0], &m)) << "once they are gone";
                  return HasFailure();
              }));
}

TEST(InFlightTest, WaitsForDescriptorsOnTheirWayUntilTheDeadline) {
    EXPECT_EQ(0, harness_in_flight_run([] {
                  struct message m = OneDescriptor();
                  int pair[2], filled[2];

                  EXPECT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX));
                  EXPECT_TRUE(harness_in_flight_fill(filled, HARNESS_IN_FLIGHT_MAX + 1));
                  EXPECT_EQ(RESULT_TIMEOUT, mailbox_send_wait(pair[0], &m, clock_now_ms() + 50));
                  pid_t reader = fork();
                  if (reader == 0)
                      _exit(0); /* and with it the last copies */
                  fd_close(&filled[0]);
                  fd_close(&filled[1]);
                  EXPECT_EQ(RESULT_OK, mailbox_send_wait(pair[0], &m, clock_now_ms() + 20000));
                  EXPECT_EQ(reader, waitpid(reader, nullptr, 0));
                  return HasFailure();
              }));
}

} // namespace
