/*
 * Requests through a connect service while its certificate is renewed all the time and workers are
 * killed: only the victims' requests fail.
 */
#include "tests/harness/connection.h"

#include <arpa/inet.h>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <netinet/in.h>
#include <random>
#include <set>
#include <thread>

namespace {

using namespace harness;

constexpr int REQUESTS_PER_S = 200;
constexpr int CALLERS = 24;     /* requests side by side, at most */
constexpr unsigned HELD_ONE_IN = 50;
constexpr int KILL_EVERY_MS = 250;

/* Every so many requests the backend does not answer, so that a worker is sure to die in the middle. */
bool IsHeld(unsigned request) {
    return request % HELD_ONE_IN == HELD_ONE_IN / 2;
}

/* Each request comes from an address of its own, so that nobody can be mistaken for another. */
in_addr_t AddressOf(unsigned request) {
    return INADDR_LOOPBACK + 0x10000 + request;
}

unsigned RequestOf(const char *address) {
    return ntohl(inet_addr(address)) - INADDR_LOOPBACK - 0x10000;
}

Fd ConnectFrom(in_addr_t from, uint16_t port) {
    sockaddr_in source = {}, target = {};
    Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    source.sin_family = target.sin_family = AF_INET;
    source.sin_addr.s_addr = htonl(from);
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    target.sin_port = htons(port);
    if (bind(fd.get(), reinterpret_cast<sockaddr *>(&source), sizeof source) != 0 ||
        connect(fd.get(), reinterpret_cast<sockaddr *>(&target), sizeof target) != 0)
        fd.Reset();
    return fd;
}

std::string Number(unsigned request) {
    char text[16];

    snprintf(text, sizeof text, "%08u", request);
    return text;
}

/* Sends back what it gets and ends, but a request that is held gets no answer.  One thread. */
class Backend {
public:
    Backend() : listener_(harness_listen_tcp(&port_)), thread_([this] { Run(); }) {}
    ~Backend() { Stop(); }

    void Stop() {
        if (thread_.joinable()) {
            shutdown(listener_.get(), SHUT_RDWR);
            thread_.join();
        }
    }
    uint16_t port() const { return port_; }

    /* The requests that are held and have not been taken yet; waits a while for the first. */
    std::vector<unsigned> TakeHeld(std::chrono::milliseconds wait) {
        std::unique_lock lock(mutex_);
        std::vector<unsigned> held;

        news_.wait_for(lock, wait, [this] { return !held_.empty(); });
        held.swap(held_);
        return held;
    }

    /* After Stop: how each connection ended, 0: cleanly, else errno.  Before its request: 0. */
    const std::map<unsigned, int> &Ends() const { return ends_; }
    int ResetsBeforeTheRequest() const { return resets_before_; }

private:
    struct Call {
        Fd fd;
        std::string text;
    };

    void Run() {
        bool accepting = true;

        while (accepting || !calls_.empty()) {
            std::vector<pollfd> ready;

            for (const auto &[fd, call] : calls_)
                ready.push_back({fd, POLLIN, 0});
            if (accepting)
                ready.push_back({listener_.get(), POLLIN, 0});
            if (poll(ready.data(), ready.size(), HARNESS_WAIT_MS) <= 0)
                return;
            if (accepting && ready.back().revents != 0)
                accepting = Accept();
            for (const pollfd &at : ready) {
                if (at.revents != 0 && at.fd != listener_.get())
                    Read(at.fd);
            }
        }
    }
    bool Accept() {
        Fd fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        int number = fd.get();

        if (number < 0)
            return false;
        calls_[number].fd = std::move(fd);
        return true;
    }
    void Read(int fd) {
        Call &call = calls_[fd];
        char bytes[64];
        ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        bool is_known = call.text.size() == Number(0).size();

        if (got > 0) {
            call.text.append(bytes, static_cast<size_t>(got));
            if (call.text.size() == Number(0).size())
                Answer(call);
            return;
        }
        if (got < 0 && is_known)
            ends_[NumberOf(call)] = errno;
        else if (got < 0)
            resets_before_++;
        else if (is_known)
            ends_[NumberOf(call)] = 0;
        calls_.erase(fd);
    }
    void Answer(const Call &call) {
        if (!IsHeld(NumberOf(call))) {
            (void)WritePlain(call.fd, call.text); /* if its worker is gone, reading says so too */
            shutdown(call.fd.get(), SHUT_WR);
            return;
        }
        std::lock_guard lock(mutex_);
        held_.push_back(NumberOf(call));
        news_.notify_all();
    }
    static unsigned NumberOf(const Call &call) {
        return static_cast<unsigned>(std::stoul(call.text));
    }

    uint16_t port_ = 0;
    Fd listener_;
    std::map<int, Call> calls_;
    std::map<unsigned, int> ends_;
    int resets_before_ = 0;
    std::mutex mutex_;
    std::condition_variable news_;
    std::vector<unsigned> held_;
    std::thread thread_;
};

class ChaosTest : public ConnectionTest {
protected:
    void SetUp() override {
        folder_ = harness_make_folder();
        ca_ = harness_cert("ca.pem");
        certificate_ = std::string(folder_) + "/web.pem";
        ASSERT_TRUE(harness_cert_renew(certificate_.c_str(), 1));
        ConnectionTest::SetUp();
    }
    void TearDown() override {
        ConnectionTest::TearDown();
        harness_remove_folder(folder_);
    }

    /* "": all is well; else why not. */
    std::string Request(unsigned request, uint16_t port) {
        harness_tls_options options = {};
        uint32_t oldest = loaded_;

        options.trust = ca_;
        options.name = "localhost";
        Fd fd = ConnectFrom(AddressOf(request), port);
        if (fd.get() < 0)
            return "no connection";
        Tls peer(fd.Take(), options);
        if (!peer.Handshake())
            return std::string("handshake: ") + harness_tls_error(peer.get());
        uint32_t shown = harness_tls_peer_serial(peer.get());
        EXPECT_LE(oldest, shown) << "request " << request << " was shown an old certificate";
        EXPECT_GE(written_, shown);
        if (!peer.Write(Number(request)))
            return std::string("write: ") + harness_tls_error(peer.get());
        if (peer.Read(Number(0).size()) != Number(request))
            return std::string("read: ") + harness_tls_error(peer.get());
        if (!peer.ReadEnd())
            return std::string("end: ") + harness_tls_error(peer.get());
        if (!peer.Bye())
            return std::string("bye: ") + harness_tls_error(peer.get());
        return "";
    }

    /* One of several threads: the next request when its time has come, until there are no more. */
    void Call(unsigned count, uint16_t port, std::chrono::steady_clock::time_point start) {
        for (unsigned request = next_++; request < count; request = next_++) {
            std::this_thread::sleep_until(start +
                                          std::chrono::seconds(1) * request / REQUESTS_PER_S);
            std::string fault = Request(request, port);

            if (fault.empty())
                continue;
            std::lock_guard lock(mutex_);
            failed_[request] = fault;
        }
    }

    bool IsOver(std::chrono::milliseconds wait) {
        std::unique_lock lock(mutex_);

        return over_.wait_for(lock, wait, [this] { return is_over_; });
    }
    void End() {
        std::lock_guard lock(mutex_);

        is_over_ = true;
        over_.notify_all();
    }

    void Renew(std::chrono::milliseconds every) {
        Client client(tree_);

        while (!IsOver(every) && !HasFailure()) {
            written_++;
            ASSERT_TRUE(harness_cert_renew(certificate_.c_str(), written_));
            Line line = client.Must("cordon.reload");
            EXPECT_EQ(1, line.Integer("result.reloaded.listeners")) << line.Text();
            loaded_ = written_.load();
        }
    }

    /* Pids of the workers there are, by request. */
    static std::map<unsigned, pid_t> Workers(Client &client) {
        Line line = client.Must("cordon.connections", R"({"limit": 1000})");
        const json_t *rows = line.At("result.connections");
        std::map<unsigned, pid_t> workers;

        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i);
            const json_t *peer = json_object_get(row, "peername");
            const char *address = json_string_value(json_object_get(peer, "address"));
            auto pid = static_cast<pid_t>(json_integer_value(json_object_get(row, "pid")));

            if (address != nullptr && pid > 0)
                workers[RequestOf(address)] = pid;
        }
        return workers;
    }
    void KillOne(unsigned request, pid_t pid) {
        if (harness_tree_signal(tree_, pid, SIGKILL))
            killed_.insert(request);
    }
    void Kill(Backend &backend) {
        const std::chrono::milliseconds every(KILL_EVERY_MS);
        Client client(tree_);
        std::mt19937 random(4711);
        auto next = std::chrono::steady_clock::now() + every;

        while (!IsOver(std::chrono::milliseconds(0))) {
            std::vector<unsigned> held = backend.TakeHeld(every);
            std::map<unsigned, pid_t> workers = Workers(client);

            for (unsigned request : held) {
                ASSERT_EQ(1U, workers.count(request)) << "no worker of request " << request;
                KillOne(request, workers[request]);
            }
            if (std::chrono::steady_clock::now() < next || workers.empty())
                continue;
            next += every;
            auto victim = workers.begin();
            std::advance(victim, random() % workers.size());
            if (!IsHeld(victim->first)) /* whose turn comes */
                KillOne(victim->first, victim->second);
        }
    }

    char *folder_ = nullptr;
    const char *ca_ = nullptr;
    std::string certificate_;
    std::atomic<uint32_t> written_{1}, loaded_{1}; /* serials of certificates */
    std::atomic<unsigned> next_{0};
    std::mutex mutex_;
    std::condition_variable over_;
    bool is_over_ = false;
    std::map<unsigned, std::string> failed_;
    std::set<unsigned> killed_;
};

TEST_F(ChaosTest, OnlyTheVictimsRequestsFail) {
    auto count = static_cast<unsigned>(harness_count(600, 60 * REQUESTS_PER_S));
    std::chrono::milliseconds renew_every(harness_is_full() ? 1000 : 250);
    Backend backend;
    Listener listener =
        Listen(client(), "\"certfile\": " + Quoted(certificate_),
               R"(, "deliver": {"connect": "127.0.0.1:)" + std::to_string(backend.port()) + "\"}");
    auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> callers;

    std::thread renewer([&] { Renew(renew_every); });
    std::thread killer([&] { Kill(backend); });
    for (int i = 0; i < CALLERS; i++)
        callers.emplace_back([&] { Call(count, listener.port, start); });
    for (std::thread &caller : callers)
        caller.join();
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    End();
    renewer.join();
    killer.join();
    backend.Stop();

    for (const auto &[request, fault] : failed_)
        EXPECT_EQ(1U, killed_.count(request)) << "request " << request << ": " << fault;
    for (unsigned request = 0; request < count; request++) {
        auto end = backend.Ends().find(request);

        if (IsHeld(request)) {
            EXPECT_EQ(1U, failed_.count(request)) << request;
            EXPECT_TRUE(end != backend.Ends().end() && end->second == ECONNRESET) << request;
        } else if (failed_.count(request) == 0) {
            EXPECT_TRUE(end != backend.Ends().end()) << request;
            EXPECT_TRUE(end->second == 0 || killed_.count(request) == 1) << request;
        }
    }
    Line status = client().Must("cordon.status");
    EXPECT_LE(failed_.size(), killed_.size());
    EXPECT_GE(static_cast<int64_t>(killed_.size()), status.Integer("result.totals.worker_died"));
    printf("measured %u requests in %.1f s, %u certificates, %zu workers killed, %zu requests "
           "failed\n",
           count, took.count(), written_.load(), killed_.size(), failed_.size());
    /* Their files stay for a minute. */
    if (harness_is_full())
        wait_for_end_ms_ = 90000;
    else
        contexts_left_ += written_;
    client().Must("ssl.close", "{\"listener\": \"" + listener.handle + "\"}");
}

} // namespace
