/* The tree as a whole: how it starts, who its processes are, how it ends. */
#include "tests/harness/fixture.h"

#include <pwd.h>
#include <sys/stat.h>

namespace {

using harness::Census;
using harness::Client;
using harness::Line;

class TreeProcessTest : public harness::TreeTest {
protected:
    void Kill(const std::string &title) {
        pid_t pid = Pid(title);

        ASSERT_GT(pid, 0) << "no " << title;
        ASSERT_TRUE(harness_tree_signal(tree_, pid, SIGKILL));
        ASSERT_TRUE(process_wait_end(pid, harness_deadline(HARNESS_WAIT_MS)));
    }

    /* Waits for cordond's end; its exit status. */
    int ExitStatus() {
        int status = harness_tree_wait(tree_, harness_deadline(2 * HARNESS_WAIT_MS));

        EXPECT_NE(-1, status) << "cordond has not ended";
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
};

TEST_F(TreeProcessTest, StartsManagerKeeperAndNursery) {
    EXPECT_GT(Pid("cordon manager"), 0);
    EXPECT_GT(Pid("cordon keeper"), 0);
    EXPECT_GT(Pid("cordon nursery"), 0);
}

TEST_F(TreeProcessTest, EachProcessHasItsOwnUser) {
    if (geteuid() != 0)
        GTEST_SKIP() << "only root can give processes users of their own";
    const std::map<std::string, std::string> users = {{"cordon manager", "cordon"},
                                                      {"cordon keeper", "cordon-keeper"},
                                                      {"cordon nursery", "cordon-worker"}};
    std::vector<process> found(64);
    size_t count = processes_below(harness_tree_pid(tree_), found.data(), found.size());
    size_t seen = 0;

    for (size_t i = 0; i < count; i++) {
        for (const auto &[title, user] : users) {
            if (std::string(found[i].title).rfind(title, 0) != 0)
                continue;
            EXPECT_EQ(harness_uid(user.c_str()), static_cast<long>(found[i].uid)) << title;
            seen++;
        }
    }
    EXPECT_GE(seen, users.size());
}

TEST_F(TreeProcessTest, NoChildCanGainPrivilegesDumpCoreOrBeLookedInto) {
    for (const char *title : {"cordon manager", "cordon keeper", "cordon nursery"}) {
        std::string folder = "/proc/" + std::to_string(Pid(title));
        char *status = harness_read_file((folder + "/status").c_str(), nullptr);
        char *limits = harness_read_file((folder + "/limits").c_str(), nullptr);
        struct stat info;

        ASSERT_NE(nullptr, status);
        ASSERT_NE(nullptr, limits);
        EXPECT_NE(nullptr, strstr(status, "NoNewPrivs:\t1")) << title;
        EXPECT_NE(nullptr, strstr(limits, "Max core file size        0 ")) << title;
        if (strcmp(title, "cordon manager") != 0) {
            EXPECT_NE(nullptr, strstr(status, "CapPrm:\t0000000000000000")) << title;
        }
        /* The kernel gives /proc/PID of a process that is not dumpable to root. */
        ASSERT_EQ(0, stat((folder + "/environ").c_str(), &info));
        EXPECT_EQ(0U, info.st_uid) << title;
        free(status);
        free(limits);
    }
}

TEST_F(TreeProcessTest, TheSslKeyLogFileOfTheEnvironmentReachesNobody) {
    tree_ends_itself_ = true;
    ASSERT_EQ(0, harness_tree_stop(tree_));
    setenv("SSLKEYLOGFILE", "/tmp/never-written", 1);
    Start(nullptr);
    unsetenv("SSLKEYLOGFILE");
    tree_ends_itself_ = false;
    for (const char *title : {"cordon manager", "cordon keeper", "cordon nursery"}) {
        std::string path = "/proc/" + std::to_string(Pid(title)) + "/environ";
        size_t size = 0;
        char *text = harness_read_file(path.c_str(), &size);

        if (text != nullptr) {
            EXPECT_EQ(nullptr, memmem(text, size, "SSLKEYLOGFILE", 13)) << title;
        }
        free(text);
    }
}

TEST_F(TreeProcessTest, SigtermStopsItWithStatusZero) {
    tree_ends_itself_ = true;
    ASSERT_TRUE(harness_tree_signal(tree_, harness_tree_pid(tree_), SIGTERM));
    EXPECT_EQ(0, ExitStatus());
    EXPECT_TRUE(WaitLog("Z info cordond stopped exit_status=0", 0, 0));
    EXPECT_NE(0, access(harness_tree_socket(tree_), F_OK)) << "the control socket is still there";
}

TEST_F(TreeProcessTest, SigintStopsItWithStatusZero) {
    tree_ends_itself_ = true;
    ASSERT_TRUE(harness_tree_signal(tree_, harness_tree_pid(tree_), SIGINT));
    EXPECT_EQ(0, ExitStatus());
}

TEST_F(TreeProcessTest, CordonStopStopsItWithStatusZero) {
    Client client(tree_);

    tree_ends_itself_ = true;
    client.Must("cordon.stop");
    EXPECT_EQ(0, ExitStatus());
    client.Close();
}

TEST_F(TreeProcessTest, SigkillOfCordondEndsEverything) {
    tree_ends_itself_ = true;
    ASSERT_TRUE(harness_tree_signal(tree_, harness_tree_pid(tree_), SIGKILL));
    EXPECT_EQ(-1, ExitStatus());
    /* TearDown looks for what is left. */
}

TEST_F(TreeProcessTest, SigkillOfTheManagerEndsEverythingWithAnErrorLine) {
    tree_ends_itself_ = true;
    Kill("cordon manager");
    EXPECT_EQ(1, ExitStatus());
    EXPECT_TRUE(WaitLog("Z error cordond manager ended, so everything ends pid=[0-9]+ "
                        "signal=SIGKILL",
                        0, 0));
}

TEST_F(TreeProcessTest, TheKeeperIsStartedAnew) {
    pid_t old = Pid("cordon keeper");
    size_t from = harness_tree_log_size(tree_);

    Kill("cordon keeper");
    EXPECT_TRUE(
        WaitLog("cordond keeper ended pid=" + std::to_string(old) + " signal=SIGKILL", from));
    EXPECT_TRUE(WaitLog("cordond keeper started", from));
    EXPECT_GT(Pid("cordon keeper"), 0);
    EXPECT_NE(old, Pid("cordon keeper"));
}

TEST_F(TreeProcessTest, TheNurseryIsStartedAnew) {
    pid_t old = Pid("cordon nursery");
    size_t from = harness_tree_log_size(tree_);

    Kill("cordon nursery");
    EXPECT_TRUE(
        WaitLog("cordond nursery ended pid=" + std::to_string(old) + " signal=SIGKILL", from));
    EXPECT_TRUE(WaitLog("cordond nursery started", from));
    EXPECT_GT(Pid("cordon nursery"), 0);
    EXPECT_NE(old, Pid("cordon nursery"));
}

TEST_F(TreeProcessTest, TooManyUnplannedEndsSlowTheNextStartsWithAnErrorLine) {
    tree_ends_itself_ = true;
    ASSERT_EQ(0, harness_tree_stop(tree_));
    harness_tree_options options = {};
    options.config = R"({"restart_intensity": 1, "restart_period": 600})";
    ASSERT_NO_FATAL_FAILURE(Start(&options));
    tree_ends_itself_ = false;

    for (int i = 0; i < 2; i++) {
        size_t from = harness_tree_log_size(tree_);

        EXPECT_FALSE(WaitLog("end too often", 0, 0)) << "after " << i << " ends";
        Kill("cordon keeper");
        EXPECT_TRUE(WaitLog("cordond keeper ended", from));
        EXPECT_TRUE(WaitLog("cordond keeper started", from));
    }
    EXPECT_TRUE(WaitLog("Z error cordond keeper and nursery end too often intensity=1 period_s=600 "
                        "next_start_in_ms=1000",
                        0, 0));
}

TEST_F(TreeProcessTest, ASecondSignalDoesNotWaitForAStoppedManager) {
    pid_t manager = Pid("cordon manager");

    tree_ends_itself_ = true;
    ASSERT_TRUE(harness_tree_signal(tree_, manager, SIGSTOP));
    ASSERT_TRUE(harness_tree_signal(tree_, harness_tree_pid(tree_), SIGTERM));
    ASSERT_TRUE(WaitLog("stopping signal=SIGTERM"));
    ASSERT_TRUE(harness_tree_signal(tree_, harness_tree_pid(tree_), SIGTERM));
    int status = harness_tree_wait(tree_, harness_deadline(5000));
    ASSERT_NE(-1, status);
    EXPECT_EQ(1, WEXITSTATUS(status));
}

TEST_F(TreeProcessTest, RunsWithoutRoot) {
    if (geteuid() != 0)
        GTEST_SKIP() << "all the other tests show it";
    tree_ends_itself_ = true;
    ASSERT_EQ(0, harness_tree_stop(tree_));
    harness_tree_options options = {};
    options.as_nobody = true;
    options.default_socket = true;
    ASSERT_NO_FATAL_FAILURE(Start(&options));
    tree_ends_itself_ = false;

    std::vector<process> found(64);
    size_t count = processes_below(harness_tree_pid(tree_), found.data(), found.size());
    for (size_t i = 0; i < count; i++)
        EXPECT_EQ(65534U, found[i].uid) << found[i].title;
    EXPECT_EQ(std::string(harness_tree_folder(tree_)) + "/cordon/control.sock",
              harness_tree_socket(tree_));
    Client client(tree_);
    EXPECT_GT(client.Must("cordon.status").Integer("result.start"), 0);
}

TEST_F(TreeProcessTest, MissingUsersAreNamedWithTheCommandsThatMakeThem) {
    if (geteuid() != 0)
        GTEST_SKIP() << "only root needs them";
    tree_ends_itself_ = true;
    ASSERT_EQ(0, harness_tree_stop(tree_));
    harness_tree_free(tree_);
    char *folder = harness_make_folder();
    std::string passwd = std::string(folder) + "/passwd";
    const char root_only[] = "root:x:0:0:root:/root:/bin/sh\n";
    ASSERT_TRUE(harness_write_file(passwd.c_str(), root_only, strlen(root_only), 0644));

    harness_tree_options options = {};
    options.passwd = passwd.c_str();
    options.expect_failure = true;
    tree_ = harness_tree_start(&options);
    ASSERT_NE(nullptr, tree_);
    int status = ExitStatus();
    if (status == 126)
        GTEST_SKIP() << "no mount namespace here";
    EXPECT_EQ(1, status);
    for (const char *user : {"cordon", "cordon-keeper", "cordon-helper"}) {
        EXPECT_TRUE(WaitLog("^ +useradd --system .* " + std::string(user) + "$", 0, 0)) << user;
    }
    harness_remove_folder(folder);
}

TEST_F(TreeProcessTest, AWrongArgumentIsAUsageError) {
    std::string program = std::string(harness_root()) + "/bin/cordond";
    for (const char *argument :
         {"--no-such-option", "--log-level=loud", "--ready-fd=77", "extra"}) {
        harness_peer *peer = harness_peer_run("%s %s", program.c_str(), argument);

        ASSERT_NE(nullptr, peer);
        int status = harness_peer_wait(peer, harness_deadline(HARNESS_WAIT_MS));
        EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 2)
            << argument << ": " << harness_peer_output(peer);
        harness_peer_free(peer);
    }
}

} /* namespace */
