/* Descriptors that run out: on their way to somebody, in the manager, in everybody's count. */
#include "tests/harness/connection.h"

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

} /* namespace */
