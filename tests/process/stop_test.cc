/* The end of a tree whose workers do not want to. */
#include "tests/harness/connection.h"

#include <cerrno>

extern "C" {
#include <sys/pidfd.h> /* glibc 2.36 says nothing to C++ */

#include "ipc/fd.h"
}

namespace {

using harness::Fd;
using harness::Identity;
using harness::Listen;
using harness::Listener;
using harness::Owned;
using harness::Tls;

class StopTest : public harness::ConnectionTest {
protected:
    void SetUp() override {
        ConnectionTest::SetUp();
        tree_ends_itself_ = true;
    }
    void TearDown() override {
        there_.clear();
        ConnectionTest::TearDown();
    }

    /* So many workers that do nothing any more. */
    void Stick(const Listener &listener, size_t count) {
        for (size_t i = 0; i < count; i++) {
            there_.push_back(Accept(listener));
            /* Something that it cannot pass on, and a question that it cannot answer. */
            EXPECT_TRUE(there_.back().second.Write("nobody reads this"));
        }
        for (pid_t pid : Workers())
            EXPECT_TRUE(harness_tree_signal(tree_, pid, SIGSTOP));
    }
    std::vector<pid_t> Workers() {
        std::vector<process> found(1024);
        size_t count = processes_below(harness_tree_pid(tree_), found.data(), found.size());
        std::vector<pid_t> workers;

        for (size_t i = 0; i < count && i < found.size(); i++) {
            if (harness::Census::KindOf(found[i], i == 0) == "cordon worker")
                workers.push_back(found[i].pid);
        }
        return workers;
    }
    /* The mailboxes of all workers end, and the workers do not.  false: we may not. */
    bool HangUp() {
        std::vector<pid_t> workers = Workers();

        for (pid_t pid : workers) {
            Fd pidfd(pidfd_open(pid, 0));

            for (int number = 3; number < 16; number++) {
                Fd copy(pidfd_getfd(pidfd.get(), number, 0));

                if (copy.get() < 0 && errno == EPERM)
                    return false;
                if (copy.get() >= 0 && fd_is_seqpacket(copy.get()))
                    shutdown(copy.get(), SHUT_RDWR);
            }
        }
        return true;
    }
    void ExpectStopped() {
        int status = harness_tree_wait(tree_, harness_deadline(2 * HARNESS_WAIT_MS));

        ASSERT_NE(-1, status) << "it has not ended";
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
    }

    std::vector<std::pair<Owned, Tls>> there_;
};

TEST_F(StopTest, WorkersThatDoNotReadAreKilled) {
    Listener listener = Listen(client(), Identity("ecdsa"));

    Stick(listener, harness_count(71, 300));
    ASSERT_TRUE(harness_tree_signal(tree_, harness_tree_pid(tree_), SIGTERM));
    ExpectStopped();
}

TEST_F(StopTest, WorkersThatHaveHungUpAndStayAreKilled) {
    Listener listener = Listen(client(), Identity("ecdsa"));

    Stick(listener, harness_count(71, 300));
    if (!HangUp())
        GTEST_SKIP() << "no CAP_SYS_PTRACE to take a copy of a worker's descriptors";
    for (auto &[owned, peer] : there_)
        client().Event("ssl_error", owned.conn);
    ASSERT_TRUE(harness_tree_signal(tree_, harness_tree_pid(tree_), SIGTERM));
    ExpectStopped();
}

TEST_F(StopTest, AWorkerThatHasHungUpAndStaysIsKilledBeforeThat) {
    Listener listener = Listen(client(), Identity("ecdsa"));
    pid_t pid;

    Stick(listener, 1);
    pid = WorkerOf(there_[0].first.conn);
    ASSERT_GT(pid, 0);
    if (!HangUp())
        GTEST_SKIP() << "no CAP_SYS_PTRACE to take a copy of a worker's descriptors";
    client().Event("ssl_error", there_[0].first.conn);
    EXPECT_TRUE(process_wait_end(pid, harness_deadline(2 * HARNESS_WAIT_MS)));
    ASSERT_TRUE(harness_tree_signal(tree_, harness_tree_pid(tree_), SIGTERM));
    ExpectStopped();
}

} /* namespace */
