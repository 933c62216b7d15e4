/* Connections that failed stay until their peer has read the alert: so many, and not for ever. */
#include "tests/harness/connection.h"

namespace {

using harness::Fd;
using harness::Identity;
using harness::Listen;
using harness::Listener;

const size_t MOST = 256;

class LingeringTest : public harness::ConnectionTest {
protected:
    void SetUp() override {
        ConnectionTest::SetUp();
        /* Longer than the test. */
        ASSERT_NO_FATAL_FAILURE(Restart(R"({"alert_timeout": 600000})"));
        listener_ = Listen(client(), Identity("ecdsa"), R"(, "accept": "auto")");
    }
    void TearDown() override {
        peers_.clear();
        ConnectionTest::TearDown();
    }

    /* A peer that says what is not TLS, reads the alert, and stays. */
    void Fail() {
        const char rubbish[] = "GET / HTTP/1.0\r\n\r\n";
        char alert[7];
        Fd peer(harness_connect_tcp(listener_.port));

        ASSERT_TRUE(harness_write_all(peer.get(), rubbish, strlen(rubbish),
                                      harness_deadline(HARNESS_WAIT_MS)));
        ASSERT_TRUE(
            harness_read_all(peer.get(), alert, sizeof(alert), harness_deadline(HARNESS_WAIT_MS)));
        peers_.push_back(std::move(peer));
    }
    size_t Workers() { return processes_named(harness_tree_pid(tree_), "cordon worker"); }

    Listener listener_;
    std::vector<Fd> peers_;
};

TEST_F(LingeringTest, TheOldestMakesPlaceForOneTooMany) {
    /* More at a time than handshakes_max, 128, which they do not take part in any more. */
    for (size_t i = 0; i < MOST; i++)
        ASSERT_NO_FATAL_FAILURE(Fail()) << i;
    EXPECT_EQ(MOST, Workers());
    for (size_t i = 0; i < 3; i++) {
        ASSERT_NO_FATAL_FAILURE(Fail());
        EXPECT_TRUE(harness_read_end(peers_[i].get(), harness_deadline(HARNESS_WAIT_MS))) << i;
        EXPECT_TRUE(Eventually([&] { return Workers() == MOST; }));
    }
    /* The one that would be next is there. */
    EXPECT_FALSE(harness_wait_fd(peers_[3].get(), POLLIN, harness_now_ms()));
    EXPECT_FALSE(WaitLog("worker_died|worker died|worker is killed", 0, 0));
}

} /* namespace */
