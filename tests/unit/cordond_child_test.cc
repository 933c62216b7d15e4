/* One child, from fork to reaping, whatever goes wrong between. */
#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ipc/fd.h"
#include "ipc/mailbox.h"
#include "manager/cordond_child.h"
}

#include "tests/harness/harness.h"

namespace {

class ChildTest : public testing::Test {
protected:
    void SetUp() override {
        descriptors_ = harness_own_descriptors();
        programs_.null = open("/dev/null", O_RDWR | O_CLOEXEC);
        SetProgram("/bin/false");
    }
    void TearDown() override {
        child_free(child_);
        fd_close(&ours_);
        fd_close(&programs_.null);
        fd_close(&programs_.of[PROCESS_CHECKER].binary);
        EXPECT_EQ(descriptors_, harness_own_descriptors());
    }

    void SetProgram(const char *path) {
        struct program *program = &programs_.of[PROCESS_CHECKER];

        if (programs_.of[PROCESS_CHECKER].title != nullptr)
            fd_close(&program->binary);
        program->title = "a child";
        program->binary = open(path, O_PATH | O_CLOEXEC);
        ASSERT_GE(program->binary, 0);
        program->arguments = arguments_;
    }

    static void OnState(struct child *c) {
        static_cast<ChildTest *>(c->owner)->states_.push_back(c->state);
    }

    void Start() {
        int pair[2];

        ASSERT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX));
        ours_ = pair[0];
        child_ = child_new(PROCESS_CHECKER, 5, pair[1], &programs_, OnState, this);
        ASSERT_NE(nullptr, child_);
        EXPECT_EQ(CHILD_WAITING, child_->state);
        child_step(child_, CHILD_EVENT_START_DUE);
    }
    void Report() {
        ASSERT_TRUE(harness_wait_fd(child_->report, POLLIN, harness_deadline(HARNESS_WAIT_MS)));
        child_on_report(child_);
    }
    void Reap() {
        int status;

        ASSERT_TRUE(harness_wait_fd(child_->pidfd, POLLIN, harness_deadline(HARNESS_WAIT_MS)));
        ASSERT_EQ(child_->pid, waitpid(child_->pid, &status, 0));
        child_on_exit(child_, status);
    }

    char argument_[8] = "1000"; /* seconds, for sleep */
    char *arguments_[2] = {argument_, nullptr};
    struct programs programs_ = {};
    struct child *child_ = nullptr;
    int ours_ = -1;
    size_t descriptors_ = 0;
    std::vector<enum child_state> states_;
};

TEST_F(ChildTest, RunsAndEnds) {
    Start();
    EXPECT_EQ(CHILD_STARTING, child_->state);
    EXPECT_EQ(-1, child_->mailbox) << "the child has it now";
    Report();
    EXPECT_EQ(CHILD_RUNNING, child_->state);
    Reap();
    EXPECT_EQ((std::vector<enum child_state>{CHILD_RUNNING, CHILD_ENDED}), states_);
    EXPECT_EQ(1, WEXITSTATUS(child_->status));
}

TEST_F(ChildTest, WhatHasEndedBeforeItsReportWasReadDidRun) {
    Start();
    Reap();
    EXPECT_EQ((std::vector<enum child_state>{CHILD_RUNNING, CHILD_ENDED}), states_);
}

TEST_F(ChildTest, AFileThatIsNoProgramFailsWithItsErrno) {
    SetProgram("/etc/passwd");
    Start();
    Report();
    EXPECT_EQ(CHILD_FAILED, child_->state);
    EXPECT_EQ(EACCES, child_->error);
    Reap();
    EXPECT_EQ((std::vector<enum child_state>{CHILD_FAILED, CHILD_ENDED}), states_);
    EXPECT_FALSE(child_->was_started);
}

TEST_F(ChildTest, IsKilledWhenItsEndIsAskedFor) {
    SetProgram("/bin/sleep");
    Start();
    Report();
    child_step(child_, CHILD_EVENT_END_ASKED);
    EXPECT_EQ(CHILD_ENDING, child_->state);
    Reap();
    EXPECT_EQ(SIGKILL, WTERMSIG(child_->status));
}

TEST_F(ChildTest, OneThatStillWaitsIsNeverForked) {
    int pair[2];

    ASSERT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX));
    ours_ = pair[0];
    child_ = child_new(PROCESS_CHECKER, 5, pair[1], &programs_, OnState, this);
    child_step(child_, CHILD_EVENT_END_ASKED);
    EXPECT_EQ((std::vector<enum child_state>{CHILD_ENDED}), states_);
    EXPECT_EQ(0, child_->pid);
    char byte;
    EXPECT_EQ(0, recv(ours_, &byte, 1, MSG_DONTWAIT)) << "its mailbox does not hang up";
}

TEST_F(ChildTest, AMoveThatIsNotWrittenChangesNothing) {
    Start();
    Report();
    child_step(child_, CHILD_EVENT_EXECUTED);
    child_step(child_, CHILD_EVENT_START_DUE);
    EXPECT_EQ(CHILD_RUNNING, child_->state);
    Reap();
    child_step(child_, CHILD_EVENT_END_ASKED);
    EXPECT_EQ(CHILD_ENDED, child_->state);
}

} /* namespace */
