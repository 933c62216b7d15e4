/* A nursery makes place for a fresh one; the connections it made live on. */
#include "tests/harness/connection.h"

namespace {

using harness::Identity;
using harness::Listen;
using harness::Listener;
using harness::OnConn;
using harness::Owned;
using harness::Tls;

class RetirementTest : public harness::ConnectionTest {
protected:
    void CloseAll() {
        for (auto &[owned, peer] : there_)
            client().Must("ssl.close", OnConn(owned.conn));
        there_.clear();
    }
    void ExpectAllEcho() {
        for (auto &[owned, peer] : there_)
            ExpectEcho(owned, peer);
    }

    std::vector<std::pair<Owned, Tls>> there_;
};

TEST_F(RetirementTest, AfterItsNumberOfForks) {
    ASSERT_NO_FATAL_FAILURE(Restart(R"({"nursery_forks_max": 4})"));
    Listener listener = Listen(client(), Identity("ecdsa"));

    /* One was forked before the count of what the tree holds. */
    for (int round = 0; round < 3; round++) {
        size_t from = harness_tree_log_size(tree_);

        for (int i = round == 0 ? 1 : 0; i < 4; i++)
            there_.push_back(Accept(listener));
        ASSERT_TRUE(WaitLog("nursery=[0-9]+ retired why=\"it has forked nursery_forks_max times\" "
                            "forks=4",
                            from))
            << round;
        ASSERT_NO_FATAL_FAILURE(ExpectAllEcho());
    }
    /* The one that forks and its spare. */
    EXPECT_TRUE(Eventually(
        [&] { return processes_named(harness_tree_pid(tree_), "cordon nursery") == 2; }));
    ExpectAllEcho();
    CloseAll();
}

TEST_F(RetirementTest, AfterItsTime) {
    ASSERT_NO_FATAL_FAILURE(Restart(R"({"nursery_age_max": 1})"));
    Listener listener = Listen(client(), Identity("ecdsa"));

    for (int i = 0; i < 2; i++) {
        size_t from = harness_tree_log_size(tree_);

        there_.push_back(Accept(listener));
        ASSERT_TRUE(
            WaitLog("nursery=[0-9]+ retired why=\"it has forked for nursery_age_max\"", from));
        ASSERT_NO_FATAL_FAILURE(ExpectAllEcho());
    }
    EXPECT_FALSE(WaitLog("retired .* forks=0", 0, 0)) << "the spare is fresh, however old";
    CloseAll();
}

} /* namespace */
