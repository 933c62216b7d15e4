/* Much at once, many at once, and very many one after another, through descriptor delivery. */
#include "tests/harness/connection.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <sys/resource.h>
#include <sys/socket.h>

namespace {

using namespace harness;

/* Byte number `at` of a stream; two streams differ from the first byte on, and no shift of one is like
 * it. */
uint8_t PatternByte(uint64_t at, uint64_t stream) {
    uint64_t x = (at + 1) * 0x9e3779b97f4a7c15u + stream * 0xbf58476d1ce4e5b9u;

    return static_cast<uint8_t>(x >> 56 ^ x >> 29);
}

/* One direction: what was sent is made from its position, what came is compared with it. */
class Stream {
public:
    Stream(uint64_t number, uint64_t size) : number_(number), size_(size) {}

    /* The next bytes to send; they stay the same until Sent says how many were taken. */
    const std::vector<uint8_t> &Next() {
        if (next_.empty()) {
            next_.resize(std::min<uint64_t>(65536, size_ - sent_));
            for (size_t i = 0; i < next_.size(); i++)
                next_[i] = PatternByte(sent_ + i, number_);
        }
        return next_;
    }
    void Sent(size_t size) {
        sent_ += size;
        next_.erase(next_.begin(), next_.begin() + static_cast<ptrdiff_t>(size));
    }
    void Received(const uint8_t *bytes, size_t size) {
        for (size_t i = 0; i < size && broken_at_ < 0; i++) {
            if (bytes[i] != PatternByte(received_ + i, number_))
                broken_at_ = static_cast<int64_t>(received_ + i);
        }
        received_ += size;
    }
    bool IsSent() const { return sent_ == size_; }
    bool IsDone() const { return received_ >= size_ || broken_at_ >= 0; }
    void ExpectWhole() const {
        EXPECT_EQ(-1, broken_at_) << "a byte of stream " << number_ << " is another";
        EXPECT_EQ(size_, received_) << "stream " << number_;
    }

private:
    uint64_t number_, size_, sent_ = 0, received_ = 0;
    int64_t broken_at_ = -1;
    std::vector<uint8_t> next_;
};

class VolumeTest : public ConnectionTest {
protected:
    static bool SendPlain(const Fd &data, Stream &s) {
        if (s.IsSent())
            return false;
        ssize_t sent =
            send(data.get(), s.Next().data(), s.Next().size(), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent > 0)
            s.Sent(static_cast<size_t>(sent));
        return sent > 0;
    }
    static bool ReceivePlain(const Fd &data, Stream &s) {
        uint8_t bytes[65536];
        ssize_t got = recv(data.get(), bytes, sizeof(bytes), MSG_DONTWAIT);

        if (got > 0)
            s.Received(bytes, static_cast<size_t>(got));
        return got > 0;
    }
    static bool SendTls(Tls &peer, Stream &s) {
        if (s.IsSent())
            return false;
        size_t size = s.Next().size();

        if (harness_tls_write_step(peer.get(), s.Next().data(), &size) == HARNESS_TLS_FAILED)
            ADD_FAILURE() << harness_tls_error(peer.get());
        s.Sent(size);
        return size > 0;
    }
    static bool ReceiveTls(Tls &peer, Stream &s) {
        uint8_t bytes[65536];
        size_t size = sizeof(bytes);
        enum harness_tls_step step = harness_tls_read_step(peer.get(), bytes, &size);

        if (step != HARNESS_TLS_DONE)
            return false;
        s.Received(bytes, size);
        return size > 0;
    }

    void MoveBothWays(const char *priority, uint64_t size) {
        harness_tls_options options = {};

        options.priority = priority;
        auto [owned, peer] = Accept(Listen(client(), Identity("ecdsa")), options);
        Stream in(1, size), out(2, size);
        int64_t deadline_ms = harness_deadline(HARNESS_WAIT_MS + static_cast<int64_t>(size >> 10));

        while (!HasFailure() && !(in.IsDone() && out.IsDone())) {
            bool moved = SendPlain(owned.data, out);

            moved |= SendTls(peer, in);
            moved |= ReceivePlain(owned.data, in);
            moved |= ReceiveTls(peer, out);
            if (moved)
                continue;
            short data_events = static_cast<short>(POLLIN | (out.IsSent() ? 0 : POLLOUT));
            short peer_events = static_cast<short>(POLLIN | (in.IsSent() ? 0 : POLLOUT));
            struct pollfd ready[2] = {{owned.data.get(), data_events, 0},
                                      {harness_tls_fd(peer.get()), peer_events, 0}};

            ASSERT_LT(harness_now_ms(), deadline_ms) << "nothing moves any more";
            poll(ready, 2, 1000);
        }
        in.ExpectWhole();
        out.ExpectWhole();
        owned.data.Reset();
        EXPECT_TRUE(peer.ReadEnd());
        Line last = client().Event("ssl_closed", owned.conn);
        EXPECT_EQ(static_cast<int64_t>(size), last.Integer("params.in"));
        EXPECT_EQ(static_cast<int64_t>(size), last.Integer("params.out"));
        client().Must("ssl.close", OnConn(owned.conn));
    }

    /* A connection from beginning to end, with a word each way. */
    void Visit(const Listener &listener) {
        auto [owned, peer] = Accept(listener);

        ExpectEcho(owned, peer);
        owned.data.Reset();
        EXPECT_TRUE(peer.ReadEnd());
        client().Event("ssl_closed", owned.conn);
        client().Must("ssl.close", OnConn(owned.conn));
    }

    /* Private_Dirty in KiB by kind of process; of the nurseries, which come and go, the mean. */
    std::map<std::string, double> Memory() {
        std::vector<process> found(64);
        size_t count = processes_below(harness_tree_pid(tree_), found.data(), found.size());
        std::map<std::string, double> sum;
        std::map<std::string, int> number;

        for (size_t i = 0; i < count && i < found.size(); i++) {
            std::string kind = Census::KindOf(found[i], i == 0);

            sum[kind] += static_cast<double>(process_private_dirty_kib(found[i].pid));
            number[kind]++;
        }
        for (auto &[kind, kib] : sum)
            kib /= number[kind];
        return sum;
    }
};

TEST_F(VolumeTest, BothWaysAtOnceEveryByteArrives) {
    MoveBothWays("NORMAL:-VERS-ALL:+VERS-TLS1.3", harness_count(8 << 20, 200 << 20));
}

TEST_F(VolumeTest, BothWaysAtOnceInTls12) {
    MoveBothWays("NORMAL:-VERS-ALL:+VERS-TLS1.2", harness_count(8 << 20, 200 << 20));
}

TEST_F(VolumeTest, ManyAreHeldAtTheSameTimeAndEachEchoes) {
    size_t count = harness_count(100, 1000);
    struct rlimit files;
    Listener listener = Listen(client(), Identity("ecdsa"));
    std::vector<std::pair<Owned, Tls>> held;

    ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &files));
    files.rlim_cur = files.rlim_max;
    ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &files));
    for (size_t i = 0; i < count && !HasFailure(); i++)
        held.push_back(Accept(listener));
    EXPECT_EQ(count, processes_named(harness_tree_pid(tree_), "cordon worker"));
    for (auto &[owned, peer] : held)
        ExpectEcho(owned, peer);
    for (auto &[owned, peer] : held)
        owned.data.Reset();
    for (auto &[owned, peer] : held)
        EXPECT_TRUE(peer.ReadEnd());
    client().Must("ssl.close", "{\"listener\": \"" + listener.handle + "\"}");
}

/* What the first ones leave behind is the price of being up; what later ones leave is a leak. */
TEST_F(VolumeTest, VeryManyOneAfterAnotherLeaveNothing) {
    size_t first = harness_count(100, 1000), all = harness_count(300, 20000);
    Listener listener = Listen(client(), Identity("ecdsa"));

    for (size_t i = 0; i < first && !HasFailure(); i++)
        Visit(listener);
    Census census = Settled();
    std::map<std::string, double> memory = Memory();

    for (size_t i = first; i < all && !HasFailure(); i++)
        Visit(listener);
    Census census_after = Settled();
    std::map<std::string, double> memory_after = Memory();

    EXPECT_TRUE(census_after.IsLike(census, 0)) << "after the first:\n"
                                                << census.Text() << "after all:\n"
                                                << census_after.Text();
    for (const auto &[kind, kib] : memory) {
        printf("measured %zu connections, then %zu: Private_Dirty of %s %.0f KiB, then %.0f KiB\n",
               first, all, kind.c_str(), kib, memory_after[kind]);
#ifndef CORDON_SANITIZED /* which keeps freed memory on purpose */
        EXPECT_LE(memory_after[kind], kib * 1.05) << kind;
#endif
    }
}

} /* namespace */
