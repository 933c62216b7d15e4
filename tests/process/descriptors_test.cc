/* Descriptors that run out: on their way to somebody, in the manager, in everybody's count. */
#include "tests/harness/connection.h"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>

extern "C" {
#include "ipc/fd.h"
}

#include "tests/harness/in_flight.h"

namespace {

using harness::Client;
using harness::Fd;
using harness::Identity;
using harness::Line;
using harness::Listen;
using harness::Listener;
using harness::OnConn;
using harness::Owned;
using harness::OwnedOf;
using harness::Tls;

/* A tree with few descriptors for each of its processes; 0: as many as we have. */
class DescriptorsTest : public harness::ConnectionTest {
protected:
    explicit DescriptorsTest(unsigned descriptors = 0) : descriptors_(descriptors) {}

    void SetUp() override {
        harness_tree_options options = {};

        ConnectionTest::SetUp();
        if (descriptors_ == 0)
            return;
        client_.reset();
        options.descriptors = descriptors_;
        ASSERT_EQ(0, harness_tree_stop(tree_));
        ASSERT_NO_FATAL_FAILURE(Start(&options));
        client_ = std::make_unique<Client>(tree_);
    }

    const unsigned descriptors_;
};

/* --- on their way ---------------------------------------------------------------------------- */

class DescriptorsOnTheirWayTest : public DescriptorsTest {
protected:
    using DescriptorsTest::DescriptorsTest;

    /* How many descriptors can be read from the client's socket now; waits for nothing. */
    static size_t ReadDescriptors(Client &c) {
        int fds[FD_MAX_RECEIVED];
        char bytes[65536];
        size_t all = 0;

        for (;;) {
            size_t count = FD_MAX_RECEIVED, size = sizeof(bytes);

            if (fd_receive(harness_client_fd(c.raw()), bytes, &size, fds, &count, MSG_DONTWAIT) !=
                RESULT_OK)
                return all;
            for (size_t i = 0; i < count; i++)
                fd_close(&fds[i]);
            all += count;
        }
    }

    std::vector<Tls> Peers(const Listener &listener, size_t count) {
        std::vector<Tls> peers;

        for (size_t i = 0; i < count; i++) {
            peers.emplace_back(harness_connect_tcp(listener.port), harness_tls_options{});
            EXPECT_TRUE(peers.back().Handshake());
        }
        return peers;
    }
};

TEST_F(DescriptorsOnTheirWayTest, AnOwnerThatReadsNothingIsSentEightAndTheRestWhenItReads) {
    const size_t all = 20;
    Client deaf(tree_);
    Listener listener = Listen(deaf, Identity("ecdsa"), R"(, "accept": "auto")");
    int64_t before = client().Must("cordon.status").Integer("result.totals.established");
    std::vector<Tls> peers = Peers(listener, all);
    size_t got;

    ASSERT_TRUE(Eventually([&] {
        return client().Must("cordon.status").Integer("result.totals.established") ==
               before + static_cast<int64_t>(all);
    }));
    /* Nobody else waits for it. */
    {
        auto [owned, peer] = Accept(Listen(client(), Identity("ecdsa")));
        ExpectEcho(owned, peer);
        client().Must("ssl.close", OnConn(owned.conn));
    }
    ASSERT_TRUE(harness_tree_signal(tree_, Pid("cordon manager"), SIGSTOP));
    got = ReadDescriptors(deaf);
    EXPECT_EQ(8U, got);
    ASSERT_TRUE(harness_tree_signal(tree_, Pid("cordon manager"), SIGCONT));
    EXPECT_TRUE(Eventually([&] {
        got += ReadDescriptors(deaf);
        return got == all;
    })) << got;
}

/* The manager would hold a descriptor for each of them. */
TEST_F(DescriptorsOnTheirWayTest, ForAnOwnerThatReadsNothingNoMoreAreAccepted) {
    const size_t most = 8 + 64 + 1; /* on their way, waiting, and the one that was under way */
    Client deaf(tree_);
    Listener listener =
        Listen(deaf, Identity("ecdsa"), R"(, "accept": "auto", "handshakes_max": 1)");
    std::vector<Tls> peers = Peers(listener, most - 1);
    size_t got = 0;

    for (size_t i = 0; i < 5; i++) {
        peers.emplace_back(harness_connect_tcp(listener.port), harness_tls_options{});
        harness_tls_say_hello(peers.back().get());
    }
    ASSERT_TRUE(WaitLog("listener=" + listener.handle + " waits"));
    Line row = client().Must("cordon.listeners", "{}");
    EXPECT_LE(json_integer_value(
                  json_object_get(json_array_get(row.At("result.listeners"), 0), "accepted")),
              static_cast<int64_t>(most))
        << row.Text();
    for (size_t i = most - 1; i < peers.size(); i++) {
        EXPECT_TRUE(Eventually([&] {
            got += ReadDescriptors(deaf);
            return got >= i;
        })) << got;
        EXPECT_TRUE(peers[i].Handshake()) << harness_tls_error(peers[i].get());
    }
    EXPECT_TRUE(Eventually([&] {
        got += ReadDescriptors(deaf);
        return got == peers.size();
    })) << got;
}

TEST_F(DescriptorsOnTheirWayTest, AnOwnerThatLeavesThemUnreadKeepsNothingOnceItIsGone) {
    {
        Client deaf(tree_);
        Listener listener = Listen(deaf, Identity("ecdsa"), R"(, "accept": "auto")");
        std::vector<Tls> peers = Peers(listener, 3);

        /* Closed by Cordon while they are on their way; the manager keeps the socket. */
        ASSERT_EQ(0, shutdown(harness_client_fd(deaf.raw()), SHUT_RDWR));
        for (Tls &peer : peers)
            EXPECT_TRUE(peer.ReadEnd());
    }
    /* TearDown counts. */
}

/* As many as the manager may have of all descriptors: so many may be on their way from its uid. */
class TooManyOnTheirWayTest : public DescriptorsOnTheirWayTest {
protected:
    static const unsigned LIMIT = 1100;

    TooManyOnTheirWayTest() : DescriptorsOnTheirWayTest(LIMIT) {}
};

TEST_F(TooManyOnTheirWayTest, EverybodyWaitsAndNothingEnds) {
    uid_t uid = geteuid() == 0 ? static_cast<uid_t>(harness_uid("cordon")) : getuid();
    Listener listener = Listen(client(), Identity("ecdsa"));
    auto [before, before_peer] = Accept(listener);
    pid_t filler = harness_in_flight_start(uid, LIMIT + 100);

    ASSERT_GT(filler, 0);
    int64_t id = client().Request("ssl.accept", "{\"listener\": \"" + listener.handle + "\"}");
    Tls peer(harness_connect_tcp(listener.port), {});
    harness_tls_say_hello(peer.get());
    EXPECT_TRUE(Eventually(
        [&] { return client().Must("cordon.status").Integer("result.handshaking") == 1; }));
    /* What needs no descriptor sent goes on: a client, whose copy cordond gets later, and what there is. */
    Client other(tree_);
    other.Must("cordon.status");
    ExpectEcho(before, before_peer);

    harness_in_flight_stop(filler);
    EXPECT_TRUE(peer.Handshake());
    Owned owned = OwnedOf(client().Reply(id));
    ExpectEcho(owned, peer);
    client().Must("ssl.close", OnConn(owned.conn));
    client().Must("ssl.close", OnConn(before.conn));
}

/* --- in the manager -------------------------------------------------------------------------- */

/* The manager keeps the last 512 for our own processes. */
class FewDescriptorsTest : public DescriptorsTest {
protected:
    FewDescriptorsTest() : DescriptorsTest(1024) {}

    void SetUp() override {
        DescriptorsTest::SetUp();
        listener_ = Listen(client(), Identity("ecdsa"));
        there_ = std::make_unique<std::pair<Owned, Tls>>(Accept(listener_));
    }
    void TearDown() override {
        ExpectUndisturbed();
        client().Must("ssl.close", OnConn(there_->first.conn));
        there_.reset();
        {
            auto [owned, peer] = Accept(listener_);
            ExpectEcho(owned, peer);
            client().Must("ssl.close", OnConn(owned.conn));
        }
        DescriptorsTest::TearDown();
    }

    /* Whoever was there before goes on. */
    void ExpectUndisturbed() {
        client().Must("cordon.status");
        ExpectEcho(there_->first, there_->second);
    }

    Listener listener_;
    std::unique_ptr<std::pair<Owned, Tls>> there_;
};

TEST_F(FewDescriptorsTest, ClientsTooManyAreTurnedAway) {
    int64_t id = client().Request("ssl.accept", "{\"listener\": \"" + listener_.handle + "\"}");
    std::vector<std::unique_ptr<Client>> crowd;
    size_t from = 0;

    for (int i = 0; i < 700; i++)
        crowd.push_back(std::make_unique<Client>(tree_));
    /* The first time some of them are copies on their way to cordond, which makes room once more. */
    for (int i = 0; i < 3; i++) {
        ASSERT_TRUE(WaitLog("error manager no descriptors are left for control clients", from));
        from = harness_tree_log_size(tree_);
    }
    ExpectUndisturbed();
    {
        Tls caller(harness_connect_tcp(listener_.port), {});
        EXPECT_FALSE(caller.Handshake()) << "there is no room for it";
        EXPECT_TRUE(WaitLog("listener=[^ ]* pauses why=\"no descriptors are left\""));
    }
    crowd.clear();
    ASSERT_TRUE(
        Eventually([&] { return client().Must("cordon.status").Integer("result.clients") == 1; }));
    Tls caller(harness_connect_tcp(listener_.port), {});
    EXPECT_TRUE(caller.Handshake());
    Owned owned = OwnedOf(client().Reply(id));
    ExpectEcho(owned, caller);
    client().Must("ssl.close", OnConn(owned.conn));
}

TEST_F(FewDescriptorsTest, CallersTooManyWait) {
    Listener crowded =
        Listen(client(), Identity("ecdsa"), R"(, "accept": "auto", "handshakes_max": 1000)");
    std::vector<Tls> callers;

    for (int i = 0; i < 250; i++) {
        callers.emplace_back(harness_connect_tcp(crowded.port), harness_tls_options{});
        harness_tls_say_hello(callers.back().get());
    }
    ASSERT_TRUE(WaitLog("listener=" + crowded.handle + " pauses"));
    ExpectUndisturbed();
    callers.clear();
    client().Must("ssl.close", "{\"listener\": \"" + crowded.handle + "\"}");
}

TEST_F(FewDescriptorsTest, DescriptorsThatClientsSendFindNoRoom) {
    Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
    const std::vector<int> sixty(60, null.get());
    std::vector<std::unique_ptr<Client>> crowd;

    for (int i = 0; i < 20; i++) {
        crowd.push_back(std::make_unique<Client>(tree_));
        crowd.back()->Must("cordon.status");
    }
    /* Without a line, so that nothing claims them. */
    for (const auto &c : crowd)
        ASSERT_TRUE(harness_client_send(c->raw(), " ", 1, sixty.data(), sixty.size(),
                                        harness_deadline(HARNESS_WAIT_MS)));
    /* Each that is refused makes room for others. */
    Client *refused = nullptr;
    ASSERT_TRUE(Eventually([&] {
        for (const auto &c : crowd) {
            if (harness_wait_fd(harness_client_fd(c->raw()), POLLIN, harness_now_ms()))
                refused = c.get();
        }
        return refused != nullptr;
    }));
    EXPECT_TRUE(harness_client_ended(refused->raw(), harness_deadline(HARNESS_WAIT_MS)));
    Line line;
    ASSERT_TRUE(harness_client_line(refused->raw(), line.raw(), harness_deadline(HARNESS_WAIT_MS)));
    EXPECT_EQ("descriptors", line.Reason()) << line.Text();
    ExpectUndisturbed();
}

TEST_F(FewDescriptorsTest, ListenersTooManyAreRefused) {
    const std::string params = R"({"listen": {"address": "127.0.0.1", "port": 0}, "options": {)" +
                               Identity("ecdsa") + "}}";
    Client greedy(tree_);
    Line line;

    for (int i = 0; i < 600; i++) {
        line = greedy.Call("ssl.listen", params);
        if (!line.IsResult())
            break;
    }
    EXPECT_EQ("limit", line.Reason()) << line.Text();
    EXPECT_EQ("descriptors", line.String("error.data.which")) << line.Text();
    ExpectUndisturbed();
}

/* --- none at all ----------------------------------------------------------------------------- */

class NoDescriptorsTest : public DescriptorsTest {
protected:
    void SetUp() override {
        DescriptorsTest::SetUp();
        manager_ = Pid("cordon manager");
    }

    /* The manager cannot open a single one from here on: clients have what was free between. */
    void TakeAll() {
        std::string folder = "/proc/" + std::to_string(manager_) + "/fd";
        unsigned end = 0;
        Line line;

        for (const auto &entry : std::filesystem::directory_iterator(folder))
            end = std::max(end, static_cast<unsigned>(std::stoul(entry.path().filename())) + 1);
        ASSERT_GT(end, 3U);
        ASSERT_TRUE(process_limit_descriptors(manager_, end));
        do {
            fillers_.push_back(std::make_unique<Client>(tree_));
            fillers_.back()->Request("cordon.status");
            line = Line();
            ASSERT_TRUE(harness_client_line(fillers_.back()->raw(), line.raw(),
                                            harness_deadline(HARNESS_WAIT_MS)));
        } while (line.IsResult());
        EXPECT_EQ("descriptors", line.String("error.data.which")) << line.Text();
    }
    void GiveBack() {
        fillers_.clear();
        ASSERT_TRUE(process_limit_descriptors(manager_, 0));
    }

    /* What the manager has had of the processor. */
    int64_t ProcessorMs() {
        char *stat =
            harness_read_file(("/proc/" + std::to_string(manager_) + "/stat").c_str(), nullptr);
        unsigned long user = 0, kernel = 0;

        EXPECT_NE(nullptr, stat);
        if (stat != nullptr)
            sscanf(strrchr(stat, ')') + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                   &user, &kernel);
        free(stat);
        return static_cast<int64_t>(user + kernel) * 1000 / sysconf(_SC_CLK_TCK);
    }

    pid_t manager_ = 0;
    std::vector<std::unique_ptr<Client>> fillers_;
};

TEST_F(NoDescriptorsTest, AListenerSendsOneCallerAwayAndPauses) {
    Listener listener = Listen(client(), Identity("ecdsa"));
    int64_t id = client().Request("ssl.accept", "{\"listener\": \"" + listener.handle + "\"}");
    size_t from = harness_tree_log_size(tree_);

    ASSERT_NO_FATAL_FAILURE(TakeAll());
    {
        int64_t before_ms = ProcessorMs();
        std::vector<Tls> callers;

        for (int i = 0; i < 5; i++) {
            callers.emplace_back(harness_connect_tcp(listener.port), harness_tls_options{});
            harness_tls_say_hello(callers.back().get());
        }
        for (int i = 0; i < 3; i++) {
            ASSERT_TRUE(WaitLog("pauses why=\"Too many open files\" pause_ms=1000", from)) << i;
            from = harness_tree_log_size(tree_);
        }
        /* Two seconds have passed, of which a loop that spins takes all. */
        EXPECT_LT(ProcessorMs() - before_ms, 500);
        EXPECT_FALSE(callers[0].Handshake());
    }
    GiveBack();
    Tls caller(harness_connect_tcp(listener.port), {});
    EXPECT_TRUE(caller.Handshake());
    Owned owned = OwnedOf(client().Reply(id));
    ExpectEcho(owned, caller);
    client().Must("ssl.close", OnConn(owned.conn));
}

TEST_F(NoDescriptorsTest, AClientIsToldSoAndTheOthersWait) {
    ASSERT_NO_FATAL_FAILURE(TakeAll());
    {
        int64_t before_ms = ProcessorMs();
        std::vector<std::unique_ptr<Client>> crowd;

        for (int i = 0; i < 20; i++)
            crowd.push_back(std::make_unique<Client>(tree_));
        for (auto &turned_away : crowd) {
            Line line;

            ASSERT_TRUE(harness_client_line(turned_away->raw(), line.raw(),
                                            harness_deadline(HARNESS_WAIT_MS)));
            EXPECT_EQ("limit", line.Reason()) << line.Text();
            EXPECT_EQ("descriptors", line.String("error.data.which")) << line.Text();
        }
        /* It took 19 pauses of 100 ms. */
        EXPECT_LT(ProcessorMs() - before_ms, 500);
    }
    client().Must("cordon.status");
    GiveBack();
    Client after(tree_);
    after.Must("cordon.status");
}

} /* namespace */
