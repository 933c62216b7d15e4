/* Signals go to processes below us, and to nobody else. */
#include <gtest/gtest.h>

#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <sys/pidfd.h> /* glibc 2.36 says nothing of C++ there */

#include "ipc/fd.h"
#include "manager/cordond_descendants.h"
}

#include "tests/harness/harness.h"

namespace {

/* A child that waits to be killed; *grandchild too, when asked for. */
pid_t Fork(pid_t *grandchild) {
    int pipe_fds[2];
    EXPECT_EQ(0, pipe2(pipe_fds, O_CLOEXEC));
    pid_t child = fork();

    if (child == 0) {
        pid_t inner = grandchild != nullptr ? fork() : 0;

        if (grandchild == nullptr || inner > 0) {
            if (write(pipe_fds[1], &inner, sizeof(inner)) != sizeof(inner))
                _exit(1);
        }
        for (;;)
            pause();
    }
    pid_t inner = 0;
    EXPECT_EQ(static_cast<ssize_t>(sizeof(inner)), read(pipe_fds[0], &inner, sizeof(inner)));
    if (grandchild != nullptr)
        *grandchild = inner;
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    return child;
}

class DescendantsTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
        descriptors_ = harness_own_descriptors();
    }
    void TearDown() override {
        fd_close(&pidfd_);
        EXPECT_EQ(descriptors_, harness_own_descriptors());
    }

    static int Reap(pid_t pid) {
        int status = -1;

        EXPECT_EQ(pid, waitpid(pid, &status, 0));
        return status;
    }

    int pidfd_ = -1;
    size_t descriptors_ = 0;
};

TEST_F(DescendantsTest, AChildIsSignalled) {
    pid_t child = Fork(nullptr);

    pidfd_ = pidfd_open(child, 0);
    EXPECT_EQ(RESULT_OK, descendant_signal(pidfd_, SIGKILL));
    EXPECT_EQ(SIGKILL, WTERMSIG(Reap(child)));
    EXPECT_EQ(RESULT_CLOSED, descendant_signal(pidfd_, SIGKILL)) << "it is reaped";
}

TEST_F(DescendantsTest, AGrandchildIsSignalledAndAfterItsParentsEndToo) {
    pid_t grandchild = 0;
    pid_t child = Fork(&grandchild);

    pidfd_ = pidfd_open(grandchild, 0);
    EXPECT_EQ(RESULT_OK, descendant_signal(pidfd_, SIGCONT));
    ASSERT_EQ(0, kill(child, SIGKILL));
    Reap(child);
    EXPECT_EQ(RESULT_OK, descendant_signal(pidfd_, SIGKILL));
    EXPECT_EQ(SIGKILL, WTERMSIG(Reap(grandchild)));
}

TEST_F(DescendantsTest, AStrangerIsNot) {
    pidfd_ = pidfd_open(getppid(), 0);
    if (pidfd_ < 0)
        pidfd_ = pidfd_open(1, 0);
    ASSERT_GE(pidfd_, 0);
    EXPECT_EQ(RESULT_REFUSED, descendant_signal(pidfd_, SIGCONT));
}

TEST_F(DescendantsTest, NorAreWeOurselves) {
    pidfd_ = pidfd_open(getpid(), 0);
    EXPECT_EQ(RESULT_REFUSED, descendant_signal(pidfd_, SIGCONT));
}

TEST_F(DescendantsTest, WhatIsNoPidfdIsRefused) {
    pidfd_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
    EXPECT_EQ(RESULT_REFUSED, descendant_signal(pidfd_, SIGCONT));
    EXPECT_EQ(RESULT_REFUSED, descendant_signal(-1, SIGCONT));
}

TEST_F(DescendantsTest, AllChildrenAreKilledAndOrphansWhenTheyAreOurs) {
    pid_t grandchild = 0;
    pid_t child = Fork(&grandchild);

    EXPECT_LE(1U, descendants_kill_children());
    EXPECT_EQ(SIGKILL, WTERMSIG(Reap(child)));
    descendants_kill_children(); /* the grandchild is ours now, if it was not a moment ago */
    EXPECT_EQ(SIGKILL, WTERMSIG(Reap(grandchild)));
    EXPECT_EQ(0U, descendants_kill_children());
}

} /* namespace */
