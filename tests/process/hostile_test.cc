/*
 * A worker that is taken over, in a real nursery: what it tries is killed or fails in the way
 * written beside it, and its nursery lives on.
 */
extern "C" {
#include "ipc/board.h"
#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/mailbox.h"
#include "ipc/message.h"
#include "ipc/process.h"
#include "ipc/suites.h"
#include "ipc/walls.h"
#include "tests/harness/harness.h"
}

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

const int kWaitMs = 20000;
const uid_t kNobody = 65534;

enum Outcome { KILLED, FAILS, WORKS };

struct Attempt {
    const char *name;
    Outcome outcome;
    int error;
    const char *words;
};

const Attempt kAttempts[] = {
#define ATTEMPT(name, outcome, error, expression, words) {#name, outcome, error, words},
#include "tests/hostile/attempts.def"
#undef ATTEMPT
};

std::string Text(const Attempt &attempt) {
    if (attempt.outcome == KILLED)
        return "killed";
    return attempt.outcome == FAILS ? "fails with " + std::string(strerrorname_np(attempt.error))
                                    : "works";
}

class HostileTest : public testing::TestWithParam<size_t> {
protected:
    static void SetUpTestSuite() {
        int pair[2];
        struct message m;

        ASSERT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX));
        ASSERT_EQ(RESULT_OK, board_new(&board_));
        Start(pair[1]);
        close(pair[1]);
        manager_ = pair[0];
        ASSERT_EQ(MESSAGE_NURSERY_READY, Next(&m));
        walls_ = m.as.nursery_ready.walls;
        message_init(&m, MESSAGE_CONTEXT);
        m.as.context.context = 1;
        m.as.context.role = ROLE_CLIENT;
        m.as.context.versions = TLS_1_2 | TLS_1_3;
        ASSERT_EQ(RESULT_OK, mailbox_send(manager_, &m));
        ASSERT_EQ(MESSAGE_CONTEXT_READY, Next(&m));
    }

    static void TearDownTestSuite() {
        int status = -1;

        fd_close(&manager_);
        fd_close(&board_);
        EXPECT_EQ(pid_, waitpid(pid_, &status, 0));
        EXPECT_EQ(0, status) << "the nursery outlives whatever its workers try";
    }

    /* As a user that owns nothing. */
    static void Start(int mailbox) {
        std::string path = std::string(harness_root()) + "/tests/hostile_nursery";
        int program = open(path.c_str(), O_PATH | O_CLOEXEC);
        char title[] = "cordon nursery";
        char *argv[] = {title, nullptr}, *environment[] = {nullptr};

        ASSERT_GE(program, 0) << path;
        pid_ = fork();
        if (pid_ == 0) {
            int box = fcntl(mailbox, F_DUPFD, 100), board = fcntl(board_, F_DUPFD, 100);
            int null = open("/dev/null", O_RDWR);

            if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
                dup2(box, PROCESS_MAILBOX) < 0 || dup2(board, PROCESS_BOARD) < 0)
                _exit(2);
            if (geteuid() == 0 &&
                (setgroups(0, nullptr) != 0 || setresgid(kNobody, kNobody, kNobody) != 0 ||
                 setresuid(kNobody, kNobody, kNobody) != 0))
                _exit(3);
            fexecve(program, argv, environment);
            _exit(4);
        }
        close(program);
    }

    /* The next message of the nursery that is no log line. */
    static enum message_type Next(struct message *m) {
        static char buffer[MESSAGE_MAX + 1];

        do {
            if (mailbox_receive_wait(manager_, NURSERY_TO_MANAGER, buffer, MESSAGE_MAX, m, nullptr,
                                     clock_now_ms() + kWaitMs) != RESULT_OK)
                return MESSAGE_TYPE_COUNT;
            if (m->type == MESSAGE_LOG)
                printf("nursery: %s\n", m->as.log.line);
        } while (m->type == MESSAGE_LOG);
        return m->type;
    }

    /* What the worker says; -1: nothing.  Gives its status as from waitpid. */
    static int Try(uint8_t number, int *status) {
        struct message m;
        int peer[2], mailbox[2];
        int32_t answer = -1;

        EXPECT_TRUE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, peer) == 0);
        EXPECT_EQ(RESULT_OK, mailbox_pair(mailbox, MESSAGE_MAX));
        message_init(&m, MESSAGE_SPAWN);
        m.as.spawn.connection = ++connections_;
        m.as.spawn.context = 1;
        m.as.spawn.handle = "c1.1";
        m.fds[0] = peer[1];
        m.fds[1] = mailbox[1];
        m.fd_count = 2;
        EXPECT_EQ(RESULT_OK, mailbox_send(manager_, &m));
        close(peer[1]);
        close(mailbox[1]);
        EXPECT_EQ(MESSAGE_FORKED, Next(&m));
        message_fini(&m);
        EXPECT_EQ(1, send(peer[0], &number, 1, MSG_NOSIGNAL));
        if (recv(peer[0], &answer, sizeof answer, MSG_WAITALL) != sizeof answer)
            answer = -1;
        EXPECT_EQ(MESSAGE_EXITED, Next(&m));
        *status = static_cast<int>(m.as.exited.status);
        close(peer[0]);
        close(mailbox[0]);
        return answer;
    }

    static int manager_, board_;
    static pid_t pid_;
    static uint32_t walls_;
    static uint64_t connections_;
};

int HostileTest::manager_ = -1, HostileTest::board_ = -1;
pid_t HostileTest::pid_ = -1;
uint32_t HostileTest::walls_ = 0;
uint64_t HostileTest::connections_ = 0;

TEST_P(HostileTest, Tries) {
    const Attempt &attempt = kAttempts[GetParam()];
    int status = -1;

    if (!(walls_ & WALL_BIT(WALL_SECCOMP)))
        GTEST_SKIP() << "this build has no system call filter";
    if (std::string(attempt.name) == "stat_by_name" && !(walls_ & WALL_BIT(WALL_EMPTY_ROOT)))
        GTEST_SKIP() << "this machine gives no user namespaces";
    int answer = Try(static_cast<uint8_t>(GetParam()), &status);
    if (attempt.outcome == KILLED) {
        EXPECT_TRUE(WIFSIGNALED(status)) << "it answered " << answer;
        EXPECT_EQ(SIGSYS, WTERMSIG(status));
    } else {
        EXPECT_EQ(0, status);
        EXPECT_EQ(attempt.outcome == FAILS ? attempt.error : 0, answer) << strerror(answer);
    }
}

INSTANTIATE_TEST_SUITE_P(Attempts, HostileTest,
                         testing::Range<size_t>(0, sizeof kAttempts / sizeof *kAttempts),
                         [](const testing::TestParamInfo<size_t> &info) {
                             return std::string(kAttempts[info.param].name);
                         });

TEST(ContainmentTest, TheDocumentHasEveryAttempt) {
    std::string path = std::string(getenv("CORDON_SOURCE")) + "/docs/containment.md";
    char *text = harness_read_file(path.c_str(), nullptr);

    ASSERT_NE(nullptr, text) << path;
    for (const Attempt &attempt : kAttempts) {
        std::string row = "| `" + std::string(attempt.name) + "` | " + attempt.words + " | " +
                          Text(attempt) + " |";

        EXPECT_NE(nullptr, strstr(text, row.c_str())) << "missing: " << row;
    }
    free(text);
}

} // namespace
