/*
 * The real nursery and its workers.  The test is the manager, the keeper, the
 * owner and, with GnuTLS or OpenSSL, the peer.
 */
extern "C" {
#include "ipc/board.h"
#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/mailbox.h"
#include "ipc/message.h"
#include "ipc/suites.h"
}
#include "tests/harness/certs.h"
#include "tests/harness/harness.h"
#include "tests/harness/peer.h"
#include "tests/harness/processes.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <gtest/gtest.h>

#include <atomic>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kWaitMs = 20000;
constexpr unsigned kBothVersions = TLS_1_2 | TLS_1_3;

int64_t Soon(int ms = kWaitMs) {
    return clock_now_ms() + ms;
}

std::string Bytes(const struct bytes &b) {
    return std::string(reinterpret_cast<const char *>(b.data), b.size);
}

std::string Noise(size_t size) {
    std::string bytes(size, '\0');
    uint32_t x = 12345;

    for (char &c : bytes) {
        x = x * 1664525 + 1013904223;
        c = static_cast<char>(x >> 24);
    }
    return bytes;
}

/* One message and the room it points into. */
class Mail {
public:
    Mail() : buffer_(MESSAGE_MAX_LARGE + 1) {}
    Mail(const Mail &) = delete;
    Mail &operator=(const Mail &) = delete;
    ~Mail() { Forget(); }

    enum result From(int mailbox, enum route route, int64_t deadline_ms) {
        const char *why = nullptr;
        enum result result;

        Forget();
        result = mailbox_receive_wait(mailbox, route, buffer_.data(), MESSAGE_MAX_LARGE, &m, &why,
                                      deadline_ms);
        full_ = result == RESULT_OK;
        return result;
    }

    struct message m {};

private:
    void Forget() {
        if (full_)
            message_fini(&m);
        full_ = false;
    }

    std::vector<char> buffer_;
    bool full_ = false;
};

/* --- the keeper ------------------------------------------------------------------------------- */

gnutls_sign_algorithm_t AlgorithmOf(uint32_t scheme) {
    switch (scheme) {
    case 0x0401:
        return GNUTLS_SIGN_RSA_SHA256;
    case 0x0501:
        return GNUTLS_SIGN_RSA_SHA384;
    case 0x0601:
        return GNUTLS_SIGN_RSA_SHA512;
    case 0x0403:
        return GNUTLS_SIGN_ECDSA_SHA256;
    case 0x0503:
        return GNUTLS_SIGN_ECDSA_SHA384;
    case 0x0804:
        return GNUTLS_SIGN_RSA_PSS_RSAE_SHA256;
    case 0x0805:
        return GNUTLS_SIGN_RSA_PSS_RSAE_SHA384;
    case 0x0806:
        return GNUTLS_SIGN_RSA_PSS_RSAE_SHA512;
    case 0x0807:
        return GNUTLS_SIGN_EDDSA_ED25519;
    default:
        return GNUTLS_SIGN_UNKNOWN;
    }
}

/* Signs one thing over one channel, as the real one does, in a thread. */
class Keeper {
public:
    Keeper(const std::string &key, enum tls_role role) : key_(key), role_(role) {
        int pair[2];

        EXPECT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX_LARGE));
        channel_ = pair[0];
        worker_end_ = pair[1];
    }
    Keeper(const Keeper &) = delete;
    Keeper &operator=(const Keeper &) = delete;
    ~Keeper() {
        if (thread_.joinable())
            thread_.join();
        fd_close(&channel_);
        fd_close(&worker_end_);
    }

    int worker_end() const { return worker_end_; }
    void Start() {
        fd_close(&worker_end_);
        thread_ = std::thread([this] { Serve(); });
    }
    /* It takes the request and never answers. */
    void StartSilent() { fd_close(&worker_end_); }
    /* It is gone. */
    void Leave() {
        fd_close(&worker_end_);
        fd_close(&channel_);
    }
    /* How many signatures were asked for; after the worker has closed its end. */
    int Count() {
        if (thread_.joinable())
            thread_.join();
        return count_;
    }

private:
    std::string Content(const struct message_sign &sign) const {
        std::string content = Bytes(sign.content);

        if (sign.version != TLS_1_3)
            return content;
        return std::string(64, ' ') + "TLS 1.3, " + (role_ == ROLE_SERVER ? "server" : "client") +
               " CertificateVerify" + std::string(1, '\0') + content;
    }

    void Sign(gnutls_privkey_t key, const struct message_sign &sign) {
        std::string content = Content(sign);
        gnutls_datum_t data = {reinterpret_cast<unsigned char *>(&content[0]),
                               static_cast<unsigned>(content.size())};
        gnutls_datum_t signature;
        struct message m;

        EXPECT_LE(0, gnutls_privkey_sign_data2(key, AlgorithmOf(sign.scheme), 0, &data, &signature))
            << std::hex << sign.scheme;
        message_init(&m, MESSAGE_SIGNATURE);
        m.as.signature.value = {signature.data, signature.size};
        EXPECT_EQ(RESULT_OK, mailbox_send(channel_, &m));
        gnutls_free(signature.data);
    }

    void Serve() {
        gnutls_privkey_t key;
        gnutls_datum_t pem;
        Mail mail;

        EXPECT_EQ(0, gnutls_load_file(harness_cert((key_ + ".key").c_str()), &pem));
        EXPECT_EQ(0, gnutls_privkey_init(&key));
        EXPECT_EQ(0, gnutls_privkey_import_x509_raw(key, &pem, GNUTLS_X509_FMT_PEM, nullptr, 0));
        while (mail.From(channel_, WORKER_TO_KEEPER, Soon()) == RESULT_OK) {
            Sign(key, mail.m.as.sign);
            count_++;
        }
        gnutls_privkey_deinit(key);
        gnutls_free(pem.data);
    }

    std::string key_;
    enum tls_role role_;
    int channel_ = -1, worker_end_ = -1;
    std::thread thread_;
    std::atomic<int> count_{0};
};

/* --- the peer --------------------------------------------------------------------------------- */

/* A blocking TLS peer over one end of a TCP connection. */
class Peer {
public:
    Peer(bool is_server, int fd, const std::string &priority = "NORMAL") : fd_(fd) {
        gnutls_certificate_allocate_credentials(&credentials_);
        gnutls_init(&tls, (is_server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NO_SIGNAL |
                              GNUTLS_FORCE_CLIENT_CERT);
        gnutls_priority_set_direct(tls, priority.c_str(), nullptr);
        gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, credentials_);
        gnutls_transport_set_int(tls, fd_);
        gnutls_handshake_set_timeout(tls, kWaitMs);
        gnutls_record_set_timeout(tls, kWaitMs);
    }
    Peer(const Peer &) = delete;
    Peer &operator=(const Peer &) = delete;
    ~Peer() {
        gnutls_deinit(tls);
        gnutls_certificate_free_credentials(credentials_);
        fd_close(&fd_);
    }

    void Identity(const std::string &name) {
        ASSERT_LE(0, gnutls_certificate_set_x509_key_file(
                         credentials_, harness_cert((name + ".pem").c_str()),
                         harness_cert((name + ".key").c_str()), GNUTLS_X509_FMT_PEM));
    }
    void IdentityFiles(const std::string &chain, const std::string &key) {
        ASSERT_LE(0, gnutls_certificate_set_x509_key_file(credentials_, chain.c_str(), key.c_str(),
                                                          GNUTLS_X509_FMT_PEM));
    }
    void ServerName(const std::string &name) {
        gnutls_server_name_set(tls, GNUTLS_NAME_DNS, name.data(), name.size());
    }
    void Alpn(std::vector<std::string> names) {
        std::vector<gnutls_datum_t> data;

        for (std::string &name : names)
            data.push_back(
                {reinterpret_cast<unsigned char *>(&name[0]), static_cast<unsigned>(name.size())});
        gnutls_alpn_set_protocols(tls, data.data(), static_cast<unsigned>(data.size()), 0);
    }

    int Handshake() {
        int code;

        do {
            code = gnutls_handshake(tls);
        } while (code < 0 && !gnutls_error_is_fatal(code));
        return code;
    }
    bool Write(const std::string &bytes) {
        for (size_t done = 0; done < bytes.size();) {
            ssize_t sent = gnutls_record_send(tls, bytes.data() + done, bytes.size() - done);

            if (sent < 0)
                return false;
            done += static_cast<size_t>(sent);
        }
        return true;
    }
    /* What comes, at most size bytes; "" at the end, last_code says which. */
    std::string Read(size_t size) {
        std::string bytes(size, '\0');
        size_t done = 0;

        while (done < size) {
            ssize_t got = gnutls_record_recv(tls, &bytes[done], size - done);

            if (got == GNUTLS_E_AGAIN || got == GNUTLS_E_INTERRUPTED ||
                got == GNUTLS_E_WARNING_ALERT_RECEIVED)
                continue;
            last_code = static_cast<int>(got);
            if (got <= 0)
                break;
            done += static_cast<size_t>(got);
        }
        return bytes.substr(0, done);
    }
    /* The alert that came; -1: none. */
    int ReadAlert() {
        (void)Read(1);
        return last_code == GNUTLS_E_FATAL_ALERT_RECEIVED ? gnutls_alert_get(tls) : -1;
    }
    void Bye() { EXPECT_EQ(0, gnutls_bye(tls, GNUTLS_SHUT_WR)); }
    int fd() const { return fd_; }
    void CloseTransport() { fd_close(&fd_); }

    gnutls_session_t tls{};
    int last_code = 0;

private:
    int fd_;
    gnutls_certificate_credentials_t credentials_{};
};

/* --- the manager's side ------------------------------------------------------------------------ */

/* What a context is asked with. */
struct Wish {
    enum tls_role role = ROLE_SERVER;
    unsigned versions = kBothVersions;
    std::string identity; /* "": none */
    std::string trust;    /* a file; "": not verified */
    bool fail_if_no_peer_cert = false;
    unsigned depth = 10;
    std::string alpn;   /* as in the message */
    std::string suites; /* as in the message */
};

int SealedFile(const std::string &path) {
    size_t size;
    char *bytes = harness_read_file(path.c_str(), &size);
    int fd = -1;

    EXPECT_EQ(RESULT_OK, memfd_sealed(&fd, "pem", bytes, size));
    free(bytes);
    return fd;
}

/* What go is asked with. */
struct Go {
    uint32_t timeout_ms = kWaitMs;
    uint32_t alert_timeout_ms = 5000;
    std::string server_name, verify_name;
    enum delivery delivery = DELIVERY_DESCRIPTOR;
    uint32_t active = ACTIVE_ALWAYS;
    std::string already_read;
};

/* One worker, as the manager knows it. */
struct Conn {
    uint64_t number = 0;
    int mailbox = -1, pidfd = -1, data = -1;
    pid_t pid = 0;
    uint32_t page = 0;
    Mail mail;

    ~Conn() {
        fd_close(&mailbox);
        fd_close(&pidfd);
        fd_close(&data);
    }

    /* The next message that is no log line, and its type must be this. */
    const struct message &Expect(enum message_type type, int wait_ms = kWaitMs) {
        enum result result;

        do {
            result = mail.From(mailbox, static_cast<enum route>(WORKER_TO_MANAGER), Soon(wait_ms));
        } while (result == RESULT_OK && mail.m.type == MESSAGE_LOG);
        EXPECT_EQ(RESULT_OK, result) << "while waiting for " << message_name(type);
        if (result == RESULT_OK && mail.m.type != type) {
            char line[1000];

            message_describe(&mail.m, line, sizeof line);
            ADD_FAILURE() << "wanted " << message_name(type) << ", got " << line;
        }
        if (result != RESULT_OK || mail.m.type != type)
            message_init(&mail.m, type);
        return mail.m;
    }
    /* What it says within a second, for the message of a failed test. */
    std::string Story() {
        std::string story;
        char line[1000];

        while (mail.From(mailbox, static_cast<enum route>(WORKER_TO_MANAGER), Soon(1000)) ==
               RESULT_OK) {
            message_describe(&mail.m, line, sizeof line);
            story += std::string(line) + "\n";
        }
        return story;
    }
    void ExpectEnd() {
        EXPECT_EQ(RESULT_CHANNEL_CLOSED,
                  mail.From(mailbox, static_cast<enum route>(WORKER_TO_MANAGER), Soon()));
    }
    bool IsSilent(int wait_ms) {
        struct pollfd fd = {mailbox, POLLIN, 0};

        return poll(&fd, 1, wait_ms) == 0;
    }
    void Send(const struct message &m) { ASSERT_EQ(RESULT_OK, mailbox_send(mailbox, &m)); }
    void SendClose(uint32_t request, uint32_t linger_ms, bool reset = false) {
        struct message m;

        message_init(&m, MESSAGE_CLOSE);
        m.as.close.reset = reset;
        m.as.close.request = request;
        m.as.close.linger_ms = linger_ms;
        Send(m);
    }
    void SendShutdown(uint32_t request, enum shutdown_how how) {
        struct message m;

        message_init(&m, MESSAGE_SHUTDOWN);
        m.as.shutdown.request = request;
        m.as.shutdown.how = how;
        Send(m);
    }
    void SendActive(uint32_t request, uint32_t credit) {
        struct message m;

        message_init(&m, MESSAGE_ACTIVE);
        m.as.active.request = request;
        m.as.active.credit = credit;
        Send(m);
    }
    void SendReceive(uint32_t request, uint32_t length) {
        struct message m;

        message_init(&m, MESSAGE_RECEIVE);
        m.as.receive.request = request;
        m.as.receive.length = length;
        Send(m);
    }
    void SendReport(uint32_t request) {
        struct message m;

        message_init(&m, MESSAGE_REPORT);
        m.as.report.request = request;
        Send(m);
    }

    std::string ReadData(size_t size) {
        std::string bytes(size, '\0');

        EXPECT_TRUE(harness_read_all(data, &bytes[0], size, Soon()));
        return bytes;
    }
    void WriteData(const std::string &bytes) {
        EXPECT_TRUE(harness_write_all(data, bytes.data(), bytes.size(), Soon()));
    }
    bool DataEnds() { return harness_read_end(data, Soon()); }
};

class NurseryTest : public testing::Test {
protected:
    void SetUp() override {
        int pair[2];

        (void)harness_cert("server.pem");
        descriptors_ = harness_own_descriptors();
        ASSERT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX));
        manager_ = pair[0];
        ASSERT_EQ(RESULT_OK, board_new(&board_));
        Start(pair[1]);
        close(pair[1]);
        ASSERT_EQ(RESULT_OK, Next());
        ASSERT_EQ(MESSAGE_NURSERY_READY, mail_.m.type);
        versions_ = mail_.m.as.nursery_ready.versions;
        suites_ = Bytes(mail_.m.as.nursery_ready.suites);
        library_ = mail_.m.as.nursery_ready.library;
    }

    void TearDown() override {
        int status = -1;

        peer_.reset();
        keeper_.reset();
        fd_close(&manager_);
        fd_close(&board_);
        if (pid_ > 0) {
            EXPECT_EQ(pid_, waitpid(pid_, &status, 0));
            EXPECT_EQ(0, status);
        }
        EXPECT_EQ(descriptors_, harness_own_descriptors());
    }

    void Start(int mailbox) {
        std::string path = std::string(harness_root()) + "/libexec/cordon/nursery";
        std::string title = "cordon nursery", canary = "SSLKEYLOGFILE=/tmp/cordon-no-such/keys";
        char *argv[] = {&title[0], nullptr};
        char *environment[] = {&canary[0], nullptr};
        posix_spawn_file_actions_t actions;
        int box = fcntl(mailbox, F_DUPFD_CLOEXEC, 100);
        int board = fcntl(board_, F_DUPFD_CLOEXEC, 100);

        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_RDWR, 0);
        posix_spawn_file_actions_adddup2(&actions, box, PROCESS_MAILBOX_FD);
        posix_spawn_file_actions_adddup2(&actions, board, PROCESS_BOARD_FD);
        ASSERT_EQ(0, posix_spawn(&pid_, path.c_str(), &actions, nullptr, argv, environment));
        posix_spawn_file_actions_destroy(&actions);
        close(box);
        close(board);
    }

    /* The next message of the nursery that is no log line; ends of workers are noted on the way,
     * they come at any time. */
    enum result Next() {
        enum result result;

        do {
            result = NextOfAll();
        } while (result == RESULT_OK && mail_.m.type == MESSAGE_EXITED);
        return result;
    }
    enum result NextOfAll() {
        enum result result;

        do {
            result = mail_.From(manager_, static_cast<enum route>(NURSERY_TO_MANAGER), Soon());
        } while (result == RESULT_OK && mail_.m.type == MESSAGE_LOG);
        if (result == RESULT_OK && mail_.m.type == MESSAGE_EXITED)
            exits_[mail_.m.as.exited.connection] = mail_.m.as.exited.status;
        return result;
    }

    static uint32_t AlgorithmOfKey(const std::string &identity) {
        if (identity == "server")
            return KEY_RSA;
        return identity == "ed25519" ? KEY_ED25519 : KEY_ECDSA;
    }

    /* context_ready or context_failed is in mail_ afterwards. */
    void AskContext(uint64_t number, const Wish &wish) {
        struct message m;
        int chain = -1, trust = -1;

        message_init(&m, MESSAGE_CONTEXT);
        m.as.context.context = number;
        m.as.context.role = wish.role;
        m.as.context.versions = wish.versions;
        m.as.context.verify = !wish.trust.empty();
        m.as.context.fail_if_no_peer_cert = wish.fail_if_no_peer_cert;
        m.as.context.depth = wish.depth;
        m.as.context.alpn = {reinterpret_cast<const uint8_t *>(wish.alpn.data()), wish.alpn.size()};
        m.as.context.suites = {reinterpret_cast<const uint8_t *>(wish.suites.data()),
                               wish.suites.size()};
        if (!wish.identity.empty()) {
            chain = SealedFile(harness_cert((wish.identity + ".pem").c_str()));
            m.as.context.certificate_index = static_cast<uint32_t>(m.fd_count);
            m.as.context.has_certificate_index = true;
            m.fds[m.fd_count++] = chain;
            m.as.context.key_algorithm = AlgorithmOfKey(wish.identity);
            m.as.context.has_key_algorithm = true;
            m.as.context.key_bits = m.as.context.key_algorithm == KEY_RSA ? 2048 : 256;
        }
        if (!wish.trust.empty()) {
            trust = SealedFile(wish.trust);
            m.as.context.trust_index = static_cast<uint32_t>(m.fd_count);
            m.as.context.has_trust_index = true;
            m.fds[m.fd_count++] = trust;
        }
        ASSERT_EQ(RESULT_OK, mailbox_send(manager_, &m));
        fd_close(&chain);
        fd_close(&trust);
        ASSERT_EQ(RESULT_OK, Next());
    }

    void Context(uint64_t number, const Wish &wish) {
        AskContext(number, wish);
        ASSERT_EQ(MESSAGE_CONTEXT_READY, mail_.m.type);
        EXPECT_EQ(number, mail_.m.as.context_ready.context);
    }

    /* Takes peer. keeper may be NULL.  The worker has said hello afterwards. */
    std::unique_ptr<Conn> Spawn(uint64_t context, int peer, Keeper *keeper) {
        auto conn = std::make_unique<Conn>();
        std::string handle = "c1." + std::to_string(++connections_);
        struct message m;
        int pair[2];

        conn->number = connections_;
        EXPECT_EQ(RESULT_OK, mailbox_pair(pair, MESSAGE_MAX));
        conn->mailbox = pair[0];
        message_init(&m, MESSAGE_SPAWN);
        m.as.spawn.connection = connections_;
        m.as.spawn.context = context;
        m.as.spawn.handle = handle.c_str();
        m.fds[0] = peer;
        m.fds[1] = pair[1];
        m.fds[2] = keeper != nullptr ? keeper->worker_end() : -1;
        m.fd_count = keeper != nullptr ? 3 : 2;
        EXPECT_EQ(RESULT_OK, mailbox_send(manager_, &m));
        close(pair[1]);
        close(peer);
        EXPECT_EQ(RESULT_OK, Next());
        EXPECT_EQ(MESSAGE_FORKED, mail_.m.type);
        if (mail_.m.type != MESSAGE_FORKED)
            return conn;
        EXPECT_EQ(conn->number, mail_.m.as.forked.connection);
        conn->pid = static_cast<pid_t>(mail_.m.as.forked.pid);
        conn->page = mail_.m.as.forked.page;
        conn->pidfd = message_take_fd(&mail_.m, 0);
        conn->Expect(MESSAGE_HELLO);
        return conn;
    }

    static void SendGo(Conn &conn, const Go &go = Go()) {
        struct message m;
        int already_read = -1;

        message_init(&m, MESSAGE_GO);
        m.as.go.timeout_ms = go.timeout_ms;
        m.as.go.alert_timeout_ms = go.alert_timeout_ms;
        m.as.go.server_name = go.server_name.empty() ? nullptr : go.server_name.c_str();
        m.as.go.verify_name = go.verify_name.empty() ? nullptr : go.verify_name.c_str();
        m.as.go.delivery = go.delivery;
        m.as.go.active = go.active;
        m.as.go.log_alert = 1;
        if (!go.already_read.empty()) {
            ASSERT_EQ(RESULT_OK, memfd_sealed(&already_read, "read before", go.already_read.data(),
                                              go.already_read.size()));
            m.as.go.has_already_read_index = true;
            m.fds[m.fd_count++] = already_read;
        }
        conn.Send(m);
        fd_close(&already_read);
    }

    static void GiveData(Conn &conn) {
        struct message m;
        int pair[2];

        ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
        conn.data = pair[0];
        message_init(&m, MESSAGE_DATA);
        m.as.data.serial = 1;
        m.fds[0] = pair[1];
        m.fd_count = 1;
        conn.Send(m);
        close(pair[1]);
        message_init(&m, MESSAGE_DELIVERED);
        m.as.delivered.serial = 1;
        conn.Send(m);
    }

    /* What the nursery says of a worker's end. */
    void ExpectExited(const Conn &conn, int status) {
        while (exits_.count(conn.number) == 0)
            ASSERT_EQ(RESULT_OK, NextOfAll());
        EXPECT_EQ(static_cast<uint32_t>(status), exits_[conn.number]);
    }

    /* Clock ticks that it has used. */
    static long CpuOf(pid_t pid) {
        char *text = harness_read_file(("/proc/" + std::to_string(pid) + "/stat").c_str(), nullptr);
        long user = 0, system = 0;

        EXPECT_EQ(2,
                  sscanf(strrchr(text, ')') + 1,
                         " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system));
        free(text);
        return user + system;
    }

    static size_t DescriptorsOf(pid_t pid) {
        struct descriptors d {};

        EXPECT_TRUE(process_descriptors(pid, &d));
        return d.all;
    }

    uint32_t StateOf(const Conn &conn) { return board_read_state(board_, conn.page); }

    /* A server's worker that shook hands with a client of the test's, with its data. */
    std::unique_ptr<Conn> Established(const Go &go = Go(), const std::string &priority = "NORMAL") {
        int pair[2];

        EXPECT_TRUE(harness_tcp_pair(pair));
        Context(1, ServerWish());
        keeper_ = std::make_unique<Keeper>("ecdsa", ROLE_SERVER);
        auto conn = Spawn(1, pair[0], keeper_.get());
        keeper_->Start();
        peer_ = std::make_unique<Peer>(false, pair[1], priority);
        SendGo(*conn, go);
        EXPECT_EQ(0, peer_->Handshake()) << conn->Story();
        conn->Expect(MESSAGE_ESTABLISHED);
        GiveData(*conn);
        return conn;
    }

    static Wish ServerWish() {
        Wish wish;

        wish.identity = "ecdsa";
        return wish;
    }
    static Wish ClientWish() {
        Wish wish;

        wish.role = ROLE_CLIENT;
        wish.trust = harness_cert("ca.pem");
        return wish;
    }

    static constexpr int PROCESS_MAILBOX_FD = 3, PROCESS_BOARD_FD = 4;
    int manager_ = -1, board_ = -1;
    pid_t pid_ = -1;
    size_t descriptors_ = 0;
    uint64_t connections_ = 0, context_ = 0;
    std::map<uint64_t, uint32_t> exits_;
    unsigned versions_ = 0;
    std::string suites_, library_;
    std::unique_ptr<Keeper> keeper_;
    std::unique_ptr<Peer> peer_;
    Mail mail_;
};

/* --- handshakes --------------------------------------------------------------------------------- */

TEST_F(NurseryTest, SaysWhatItsLibraryHas) {
    EXPECT_EQ(unsigned{TLS_1_0 | TLS_1_1 | TLS_1_2 | TLS_1_3}, versions_);
    EXPECT_EQ(0u, library_.find("GnuTLS 3."));
    EXPECT_NE(std::string::npos, suites_.find("\x13\x02"));
    EXPECT_EQ(0u, suites_.size() % 2);
}

struct Kind {
    const char *name;
    const char *identity;
    const char *priority;
    uint32_t version;
    uint32_t signature;
};

class NurseryKindTest : public NurseryTest, public testing::WithParamInterface<Kind> {};

TEST_P(NurseryKindTest, ServesAndEchoes) {
    const Kind &kind = GetParam();
    Wish wish;
    Keeper keeper(kind.identity, ROLE_SERVER);
    int pair[2];

    wish.identity = kind.identity;
    Context(1, wish);
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    EXPECT_EQ(unsigned{WORKER_SPAWNED}, StateOf(*conn));
    Peer peer(false, pair[1], kind.priority);
    peer.ServerName("www.example.org");
    SendGo(*conn);
    ASSERT_EQ(0, peer.Handshake()) << conn->Story();
    const struct message &m = conn->Expect(MESSAGE_ESTABLISHED);
    EXPECT_EQ(kind.version, m.as.established.version);
    EXPECT_STREQ("www.example.org", m.as.established.server_name);
    EXPECT_EQ(kind.signature, m.as.established.signature) << std::hex << m.as.established.signature;
    EXPECT_NE(nullptr, suite_by_code(static_cast<uint16_t>(m.as.established.suite)));
    EXPECT_NE(0u, m.as.established.group);
    EXPECT_EQ(0u, m.as.established.verified);
    EXPECT_EQ(unsigned{WORKER_CONNECTION}, StateOf(*conn));
    EXPECT_EQ(1, keeper.Count());
    GiveData(*conn);
    ASSERT_TRUE(peer.Write("hello, worker"));
    EXPECT_EQ("hello, worker", conn->ReadData(13));
    conn->WriteData("hello, peer");
    EXPECT_EQ("hello, peer", peer.Read(11));
}

INSTANTIATE_TEST_SUITE_P(
    All, NurseryKindTest,
    testing::Values(Kind{"Rsa13", "server", "NORMAL", TLS_1_3, 0x0804},
                    Kind{"Rsa12", "server", "NORMAL:-VERS-ALL:+VERS-TLS1.2", TLS_1_2, 0x0401},
                    Kind{"Ecdsa13", "ecdsa", "NORMAL", TLS_1_3, 0x0403},
                    Kind{"Ecdsa12", "ecdsa", "NORMAL:-VERS-ALL:+VERS-TLS1.2", TLS_1_2, 0x0403},
                    Kind{"Ed2551913", "ed25519", "NORMAL", TLS_1_3, 0x0807},
                    Kind{"Ed2551912", "ed25519", "NORMAL:-VERS-ALL:+VERS-TLS1.2", TLS_1_2, 0x0807}),
    [](const testing::TestParamInfo<Kind> &info) { return std::string(info.param.name); });

struct Verdict {
    const char *name;
    const char *identity;    /* the server's */
    const char *verify_name; /* NULL: any */
    const char *cause;       /* NULL: it is fine */
    int alert;
};

class NurseryVerifyTest : public NurseryTest, public testing::WithParamInterface<Verdict> {};

TEST_P(NurseryVerifyTest, Client) {
    const Verdict &verdict = GetParam();
    Go go;
    int pair[2];

    Context(1, ClientWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], nullptr);
    Peer peer(true, pair[1]);
    peer.Identity(verdict.identity);
    go.server_name = "localhost";
    go.verify_name = verdict.verify_name != nullptr ? verdict.verify_name : "";
    SendGo(*conn, go);
    int code = peer.Handshake();
    if (verdict.cause == nullptr) {
        ASSERT_EQ(0, code) << gnutls_strerror(code);
        const struct message &m = conn->Expect(MESSAGE_ESTABLISHED);
        EXPECT_EQ(1u, m.as.established.verified);
        EXPECT_NE(0u, m.as.established.peer_certificate);
        EXPECT_STREQ("ecdsa-secp256r1", m.as.established.public_key);
        EXPECT_EQ(64u, std::string(m.as.established.sha256).size());
        EXPECT_LT(0, m.as.established.not_after);
        return;
    }
    const struct message &m = conn->Expect(MESSAGE_FAILED);
    EXPECT_EQ(unsigned{RESULT_TLS_ALERT}, m.as.failed.reason);
    EXPECT_EQ(static_cast<unsigned>(verdict.alert), m.as.failed.alert);
    EXPECT_EQ(0u, m.as.failed.by_peer);
    EXPECT_STREQ(verdict.cause, m.as.failed.cause);
    EXPECT_EQ(unsigned{WORKER_CERTIFY}, m.as.failed.state);
    EXPECT_EQ(unsigned{WORKER_ALERTED}, StateOf(*conn));
    EXPECT_EQ(verdict.alert, code == GNUTLS_E_FATAL_ALERT_RECEIVED ? gnutls_alert_get(peer.tls)
                                                                   : peer.ReadAlert());
}

INSTANTIATE_TEST_SUITE_P(
    All, NurseryVerifyTest,
    testing::Values(Verdict{"Fine", "ecdsa", "localhost", nullptr, 0},
                    Verdict{"FineAddress", "ecdsa", "127.0.0.1", nullptr, 0},
                    Verdict{"FineAddress6", "ecdsa", "::1", nullptr, 0},
                    Verdict{"AnyName", "ecdsa", nullptr, nullptr, 0},
                    Verdict{"OtherName", "ecdsa", "example.org", "hostname_mismatch", 42},
                    Verdict{"OtherAddress", "ecdsa", "127.0.0.2", "hostname_mismatch", 42},
                    Verdict{"UnknownCa", "intruder", "localhost", "unknown_ca", 48},
                    Verdict{"Expired", "expired", "localhost", "expired", 45},
                    Verdict{"NotYet", "not_yet", "localhost", "not_yet_valid", 45},
                    Verdict{"Purpose", "client", nullptr, "wrong_purpose", 43}),
    [](const testing::TestParamInfo<Verdict> &info) { return std::string(info.param.name); });

/* An authority, one that it has signed, and a server's certificate of that one, in files. */
class Path {
public:
    Path() : folder_(harness_make_folder()) {
        Certificate root("root", true, nullptr), middle("middle", true, &root);
        Certificate leaf("localhost", false, &middle);

        Write("root.pem", root.Pem());
        Write("chain.pem", leaf.Pem() + middle.Pem());
        Write("leaf.key", leaf.KeyPem());
    }
    Path(const Path &) = delete;
    Path &operator=(const Path &) = delete;
    ~Path() { harness_remove_folder(folder_); }

    std::string File(const char *name) const { return std::string(folder_) + "/" + name; }

private:
    struct Certificate {
        Certificate(const char *name, bool is_ca, const Certificate *issuer) {
            static unsigned char serial = 1;
            std::string dn = std::string("CN=") + name;

            serial++;
            gnutls_x509_privkey_init(&key);
            gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                         GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
            gnutls_x509_crt_init(&crt);
            gnutls_x509_crt_set_version(crt, 3);
            gnutls_x509_crt_set_serial(crt, &serial, 1);
            gnutls_x509_crt_set_activation_time(crt, time(nullptr) - 1000);
            gnutls_x509_crt_set_expiration_time(crt, time(nullptr) + 1000);
            gnutls_x509_crt_set_dn(crt, dn.c_str(), nullptr);
            gnutls_x509_crt_set_key(crt, key);
            gnutls_x509_crt_set_basic_constraints(crt, is_ca, -1);
            EXPECT_LE(0, gnutls_x509_crt_sign2(crt, issuer != nullptr ? issuer->crt : crt,
                                               issuer != nullptr ? issuer->key : key,
                                               GNUTLS_DIG_SHA256, 0));
        }
        Certificate(const Certificate &) = delete;
        Certificate &operator=(const Certificate &) = delete;
        ~Certificate() {
            gnutls_x509_crt_deinit(crt);
            gnutls_x509_privkey_deinit(key);
        }
        static std::string Take(gnutls_datum_t pem) {
            std::string text(reinterpret_cast<char *>(pem.data), pem.size);

            gnutls_free(pem.data);
            return text;
        }
        std::string Pem() const {
            gnutls_datum_t pem;

            gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem);
            return Take(pem);
        }
        std::string KeyPem() const {
            gnutls_datum_t pem;

            gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem);
            return Take(pem);
        }
        gnutls_x509_crt_t crt;
        gnutls_x509_privkey_t key;
    };
    void Write(const char *name, const std::string &text) {
        EXPECT_TRUE(harness_write_file(File(name).c_str(), text.data(), text.size(), 0644));
    }

    char *folder_;
};

TEST_F(NurseryTest, DepthCountsIntermediateCertificates) {
    Path path;

    for (unsigned depth : {0u, 1u}) {
        Wish wish = ClientWish();
        int pair[2];

        SCOPED_TRACE(depth);
        wish.trust = path.File("root.pem");
        wish.depth = depth;
        Context(++context_, wish);
        ASSERT_TRUE(harness_tcp_pair(pair));
        auto conn = Spawn(context_, pair[0], nullptr);
        Peer peer(true, pair[1]);
        peer.IdentityFiles(path.File("chain.pem"), path.File("leaf.key"));
        SendGo(*conn);
        (void)peer.Handshake();
        if (depth == 1) {
            EXPECT_EQ(1u, conn->Expect(MESSAGE_ESTABLISHED).as.established.verified);
        } else {
            const struct message &m = conn->Expect(MESSAGE_FAILED);
            EXPECT_EQ(42u, m.as.failed.alert);
            EXPECT_STREQ("path_too_long", m.as.failed.cause);
        }
    }
}

TEST_F(NurseryTest, ServerAsksForACertificateAndChecksIt) {
    for (const char *identity : {"client", "intruder", ""}) {
        Wish wish = ServerWish();
        Keeper keeper("ecdsa", ROLE_SERVER);
        int pair[2];

        SCOPED_TRACE(identity);
        wish.trust = harness_cert("ca.pem");
        wish.fail_if_no_peer_cert = true;
        Context(++context_, wish);
        ASSERT_TRUE(harness_tcp_pair(pair));
        auto conn = Spawn(context_, pair[0], &keeper);
        keeper.Start();
        Peer peer(false, pair[1]);
        if (*identity != '\0')
            peer.Identity(identity);
        SendGo(*conn);
        ASSERT_EQ(0, peer.Handshake()) << conn->Story();
        if (std::string(identity) == "client") {
            EXPECT_EQ(1u, conn->Expect(MESSAGE_ESTABLISHED).as.established.verified);
        } else {
            const struct message &m = conn->Expect(MESSAGE_FAILED);
            EXPECT_EQ(*identity != '\0' ? 48u : 116u, m.as.failed.alert);
            EXPECT_STREQ(*identity != '\0' ? "unknown_ca" : "no_certificate", m.as.failed.cause);
        }
    }
}

TEST_F(NurseryTest, ClientSignsOverItsKeeper) {
    for (const char *priority : {"NORMAL", "NORMAL:-VERS-ALL:+VERS-TLS1.2"}) {
        Wish wish = ClientWish();
        Keeper keeper("client", ROLE_CLIENT);
        int pair[2];

        SCOPED_TRACE(priority);
        wish.identity = "client";
        Context(++context_, wish);
        ASSERT_TRUE(harness_tcp_pair(pair));
        auto conn = Spawn(context_, pair[0], &keeper);
        keeper.Start();
        Peer peer(true, pair[1], priority);
        peer.Identity("server");
        gnutls_certificate_server_set_request(peer.tls, GNUTLS_CERT_REQUIRE);
        SendGo(*conn);
        ASSERT_EQ(0, peer.Handshake()) << conn->Story();
        conn->Expect(MESSAGE_ESTABLISHED);
        EXPECT_EQ(1, keeper.Count());
    }
}

TEST_F(NurseryTest, OlderVersionsAsAClientOnly) {
    Wish wish = ClientWish();
    Go go;
    int pair[2];

    wish.versions = TLS_1_0;
    Context(1, wish);
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], nullptr);
    Peer peer(true, pair[1], "NORMAL:-VERS-ALL:+VERS-TLS1.0");
    peer.Identity("server");
    SendGo(*conn, go);
    ASSERT_EQ(0, peer.Handshake()) << conn->Story();
    EXPECT_EQ(unsigned{TLS_1_0}, conn->Expect(MESSAGE_ESTABLISHED).as.established.version);
    GiveData(*conn);
    conn->WriteData("in two records");
    EXPECT_EQ("in two records", peer.Read(14));
}

TEST_F(NurseryTest, NoCommonVersionIsProtocolVersion) {
    Wish wish = ServerWish();
    Keeper keeper("ecdsa", ROLE_SERVER);
    int pair[2];

    wish.versions = TLS_1_3;
    Context(1, wish);
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    Peer peer(false, pair[1], "NORMAL:-VERS-ALL:+VERS-TLS1.2");
    SendGo(*conn);
    EXPECT_EQ(GNUTLS_E_FATAL_ALERT_RECEIVED, peer.Handshake());
    const struct message &m = conn->Expect(MESSAGE_FAILED);
    EXPECT_EQ(70u, m.as.failed.alert);
    EXPECT_STREQ("no_shared_version", m.as.failed.cause);
    EXPECT_EQ(unsigned{WORKER_HELLO}, m.as.failed.state);
}

TEST_F(NurseryTest, NoCommonSuiteIsInsufficientSecurity) {
    Wish wish = ServerWish();
    Keeper keeper("ecdsa", ROLE_SERVER);
    int pair[2];

    wish.versions = TLS_1_2;
    wish.suites = "\xc0\x2c";
    Context(1, wish);
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    Peer peer(false, pair[1], "NORMAL:-VERS-ALL:+VERS-TLS1.2:-AES-256-GCM");
    SendGo(*conn);
    EXPECT_EQ(GNUTLS_E_FATAL_ALERT_RECEIVED, peer.Handshake());
    const struct message &m = conn->Expect(MESSAGE_FAILED);
    EXPECT_EQ(71u, m.as.failed.alert);
    EXPECT_STREQ("no_shared_cipher", m.as.failed.cause);
}

TEST_F(NurseryTest, SuiteOfTheProductThatWasNotNamedIsRefused) {
    Wish wish = ClientWish();
    int pair[2];

    /* GnuTLS then also offers ECDHE-ECDSA with AES-256-GCM. */
    wish.versions = TLS_1_2;
    wish.suites = std::string("\xc0\x2b\xc0\x30", 4);
    Context(1, wish);
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], nullptr);
    Peer peer(true, pair[1],
              "NONE:+VERS-TLS1.2:+AES-256-GCM:+AEAD:+ECDHE-ECDSA:+GROUP-ALL:+SIGN-ALL:+COMP-NULL:"
              "+CTYPE-X509");
    peer.Identity("ecdsa");
    SendGo(*conn);
    EXPECT_EQ(GNUTLS_E_FATAL_ALERT_RECEIVED, peer.Handshake());
    EXPECT_STREQ("unwanted_cipher", conn->Expect(MESSAGE_FAILED).as.failed.cause);
}

TEST_F(NurseryTest, ServerPicksItsPreferredProtocol) {
    Wish wish = ServerWish();

    wish.alpn = std::string("\x02h2\x08http/1.1");
    Context(1, wish);
    for (bool common : {true, false}) {
        Keeper keeper("ecdsa", ROLE_SERVER);
        int pair[2];

        ASSERT_TRUE(harness_tcp_pair(pair));
        auto conn = Spawn(1, pair[0], &keeper);
        keeper.Start();
        Peer peer(false, pair[1]);
        peer.Alpn(common ? std::vector<std::string>{"http/1.1", "h2"}
                         : std::vector<std::string>{"ftp", "x,\n"});
        SendGo(*conn);
        if (common) {
            EXPECT_EQ(0, peer.Handshake());
            EXPECT_EQ("h2", Bytes(conn->Expect(MESSAGE_ESTABLISHED).as.established.alpn));
        } else {
            EXPECT_EQ(GNUTLS_E_FATAL_ALERT_RECEIVED, peer.Handshake());
            const struct message &m = conn->Expect(MESSAGE_FAILED);
            EXPECT_EQ(120u, m.as.failed.alert);
            EXPECT_STREQ("no_application_protocol", m.as.failed.cause);
            EXPECT_STREQ("ftp,x,\\x0a", m.as.failed.alpn_offered);
        }
    }
}

TEST_F(NurseryTest, GarbageIsUnexpectedMessage) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    int pair[2];

    Context(1, ServerWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    SendGo(*conn);
    ASSERT_TRUE(harness_write_all(pair[1], "GET / HTTP/1.1\r\n\r\n", 18, Soon()));
    const struct message &m = conn->Expect(MESSAGE_FAILED);
    EXPECT_EQ(10u, m.as.failed.alert);
    EXPECT_STREQ("not_tls", m.as.failed.cause);
    EXPECT_STREQ("the peer speaks HTTP, not TLS", m.as.failed.detail);
    close(pair[1]);
}

TEST_F(NurseryTest, PeerThatLeavesInTheHandshakeIsClosed) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    int pair[2];

    Context(1, ServerWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    SendGo(*conn);
    close(pair[1]);
    EXPECT_EQ(unsigned{RESULT_CLOSED}, conn->Expect(MESSAGE_FAILED).as.failed.reason);
    EXPECT_EQ(unsigned{ENDING_FAILED}, conn->Expect(MESSAGE_BYE).as.bye.how);
    conn->ExpectEnd();
    ExpectExited(*conn, 0);
}

TEST_F(NurseryTest, SilentPeerMeetsTheDeadline) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    Go go;
    int pair[2];

    Context(1, ServerWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    go.timeout_ms = 200;
    SendGo(*conn, go);
    conn->SendReport(7);
    EXPECT_EQ(7u, conn->Expect(MESSAGE_ANSWER).as.answer.request);
    EXPECT_EQ(unsigned{RESULT_TIMEOUT}, conn->Expect(MESSAGE_FAILED).as.failed.reason);
    EXPECT_EQ(unsigned{ENDING_FAILED}, conn->Expect(MESSAGE_BYE).as.bye.how);
    conn->ExpectEnd();
    close(pair[1]);
}

TEST_F(NurseryTest, SilentKeeperMeetsTheDeadlineAndTheMailboxIsServed) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    Go go;
    int pair[2];

    Context(1, ServerWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.StartSilent();
    go.timeout_ms = 400;
    SendGo(*conn, go);
    std::thread client([&pair] {
        Peer peer(false, pair[1]);
        EXPECT_GT(0, peer.Handshake());
    });
    conn->SendReport(8);
    EXPECT_EQ(8u, conn->Expect(MESSAGE_ANSWER).as.answer.request);
    EXPECT_EQ(unsigned{RESULT_TIMEOUT}, conn->Expect(MESSAGE_FAILED).as.failed.reason);
    client.join();
}

TEST_F(NurseryTest, KeeperThatIsGoneIsAnInternalError) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    int pair[2];

    Context(1, ServerWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Leave();
    SendGo(*conn);
    Peer peer(false, pair[1]);
    EXPECT_EQ(GNUTLS_E_FATAL_ALERT_RECEIVED, peer.Handshake());
    const struct message &m = conn->Expect(MESSAGE_FAILED);
    EXPECT_EQ(80u, m.as.failed.alert);
    EXPECT_STREQ("keeper", m.as.failed.cause);
}

TEST_F(NurseryTest, PeersFatalAlertInTheHandshake) {
    Wish wish = ClientWish();
    int pair[2];

    Context(1, wish);
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], nullptr);
    SendGo(*conn);
    ASSERT_TRUE(harness_write_all(pair[1], "\x15\x03\x03\x00\x02\x02\x28", 7, Soon()));
    const struct message &m = conn->Expect(MESSAGE_FAILED);
    EXPECT_EQ(40u, m.as.failed.alert);
    EXPECT_EQ(1u, m.as.failed.by_peer);
    conn->Expect(MESSAGE_BYE);
    conn->ExpectEnd(); /* at once: nobody waits for alert_timeout */
    close(pair[1]);
}

TEST_F(NurseryTest, FatalAlertKeepsTheSocketForAlertTimeout) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    Go go;
    int pair[2];

    Context(1, ServerWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    go.alert_timeout_ms = 300;
    SendGo(*conn, go);
    ASSERT_TRUE(harness_write_all(pair[1], "garbage garbage", 15, Soon()));
    conn->Expect(MESSAGE_FAILED);
    int64_t told = clock_now_ms();
    conn->Expect(MESSAGE_BYE);
    EXPECT_LE(told + 250, clock_now_ms());
    conn->ExpectEnd();
    close(pair[1]);
}

TEST_F(NurseryTest, CloseEndsAHandshake) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    int pair[2];

    Context(1, ServerWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    SendGo(*conn);
    conn->SendClose(3, 0);
    EXPECT_EQ(3u, conn->Expect(MESSAGE_ANSWER).as.answer.request);
    EXPECT_EQ(unsigned{ENDING_LOCAL}, conn->Expect(MESSAGE_BYE).as.bye.how);
    conn->ExpectEnd();
    close(pair[1]);
}

TEST_F(NurseryTest, SixteenRequestsWaitForTheHandshake) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    int pair[2];

    Context(1, ServerWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    SendGo(*conn);
    for (uint32_t i = 1; i <= 17; i++)
        conn->SendActive(i, i);
    const struct message &refused = conn->Expect(MESSAGE_ANSWER);
    EXPECT_EQ(17u, refused.as.answer.request);
    EXPECT_EQ(unsigned{RESULT_BAD_STATE}, refused.as.answer.reason);
    Peer peer(false, pair[1]);
    ASSERT_EQ(0, peer.Handshake()) << conn->Story();
    conn->Expect(MESSAGE_ESTABLISHED);
    for (uint32_t i = 1; i <= 16; i++)
        EXPECT_EQ(i, conn->Expect(MESSAGE_ANSWER).as.answer.request);
}

TEST_F(NurseryTest, BytesThatWereReadBeforeComeFirst) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    Go go;
    int inner[2], outer[2];

    Context(1, ServerWish());
    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, inner));
    /* The client's first flight is taken off its socket by the one who knows STARTTLS. */
    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, outer));
    std::thread client([&inner] {
        Peer peer(false, inner[1]);
        EXPECT_EQ(0, peer.Handshake());
        EXPECT_TRUE(peer.Write("after STARTTLS"));
        EXPECT_EQ("ok", peer.Read(2));
    });
    ASSERT_TRUE(harness_wait_fd(inner[0], POLLIN, Soon()));
    go.already_read.resize(100);
    ASSERT_TRUE(harness_read_all(inner[0], &go.already_read[0], 100, Soon()));
    auto conn = Spawn(1, inner[0], &keeper);
    keeper.Start();
    SendGo(*conn, go);
    conn->Expect(MESSAGE_ESTABLISHED);
    GiveData(*conn);
    EXPECT_EQ("after STARTTLS", conn->ReadData(14));
    conn->WriteData("ok");
    client.join();
    close(outer[0]);
    close(outer[1]);
}

/* --- huge handshakes ---------------------------------------------------------------------------- */

/* A certificate of several megabytes, giant.pem and giant.key in a folder of its own. */
class Giant {
public:
    Giant() : folder_(harness_make_folder()) {
        std::string filling(6 << 20, 'x');
        static const unsigned char serial[] = {1};
        gnutls_x509_crt_t certificate;
        gnutls_x509_privkey_t key;
        gnutls_datum_t pem;

        gnutls_x509_privkey_init(&key);
        gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                     GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
        gnutls_x509_crt_init(&certificate);
        gnutls_x509_crt_set_version(certificate, 3);
        gnutls_x509_crt_set_serial(certificate, serial, sizeof serial);
        gnutls_x509_crt_set_activation_time(certificate, time(nullptr) - 1000);
        gnutls_x509_crt_set_expiration_time(certificate, time(nullptr) + 1000);
        gnutls_x509_crt_set_key(certificate, key);
        gnutls_x509_crt_set_extension_by_oid(certificate, "1.2.3.4.5", filling.data(),
                                             filling.size(), 0);
        EXPECT_LE(0, gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256, 0));
        EXPECT_EQ(0, gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem));
        EXPECT_TRUE(harness_write_file(Path("giant.pem").c_str(), pem.data, pem.size, 0644));
        gnutls_free(pem.data);
        EXPECT_EQ(0, gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem));
        EXPECT_TRUE(harness_write_file(Path("giant.key").c_str(), pem.data, pem.size, 0644));
        gnutls_free(pem.data);
        gnutls_x509_crt_deinit(certificate);
        gnutls_x509_privkey_deinit(key);
    }
    Giant(const Giant &) = delete;
    Giant &operator=(const Giant &) = delete;
    ~Giant() { harness_remove_folder(folder_); }

    std::string Path(const char *name) const { return std::string(folder_) + "/" + name; }

private:
    char *folder_;
};

/* Passes bytes both ways, in a thread, and keeps the first socket open until its own end: a worker
 * can be looked at after its peer has left.  Takes both. */
class Relay {
public:
    Relay(int a, int b) : fds_{a, b}, thread_([this] { Run(); }) {}
    Relay(const Relay &) = delete;
    Relay &operator=(const Relay &) = delete;
    ~Relay() {
        (void)shutdown(fds_[0], SHUT_RDWR);
        thread_.join();
        close(fds_[0]);
        close(fds_[1]);
    }

private:
    /* false: its end, or nobody takes what it says. */
    static bool Pass(int from, int to) {
        char bytes[65536];
        ssize_t size = recv(from, bytes, sizeof bytes, 0);

        if (size > 0)
            (void)harness_write_all(to, bytes, static_cast<size_t>(size), Soon(1000));
        return size > 0;
    }
    void Run() {
        struct pollfd fds[2] = {{fds_[0], POLLIN, 0}, {fds_[1], POLLIN, 0}};

        while (poll(fds, 2, kWaitMs) > 0) {
            if (fds[0].revents != 0 && !Pass(fds_[0], fds_[1]))
                return;
            if (fds[1].revents != 0 && !Pass(fds_[1], fds_[0]))
                fds[1].fd = -1;
        }
    }

    int fds_[2];
    std::thread thread_;
};

/* What a worker's memory was when it said hello, and what it is now. */
class Memory {
public:
    explicit Memory(pid_t pid) : pid_(pid), before_(process_private_dirty_kib(pid)) {}
    void ExpectSmall(long ordinary_kib) const {
        long grown = process_private_dirty_kib(pid_) - before_;

        ASSERT_LT(0, before_);
        std::cout << "measured huge handshake: private memory grew by " << grown
                  << " KiB, the peak is " << process_peak_kib(pid_) - ordinary_kib
                  << " KiB above an ordinary handshake's\n";
#ifndef CORDON_SANITIZED /* which keeps what was freed */
        EXPECT_LT(process_peak_kib(pid_), ordinary_kib + 1024);
        EXPECT_LT(grown, 1024);
#endif
    }

private:
    pid_t pid_;
    long before_;
};

class NurseryHugeTest : public NurseryTest {
protected:
    /* The most that a worker of this kind has in an ordinary handshake. */
    long Ordinary(uint64_t context, bool is_server) {
        Keeper keeper("ecdsa", ROLE_SERVER);
        int pair[2];

        EXPECT_TRUE(harness_tcp_pair(pair));
        auto conn = Spawn(context, pair[0], is_server ? &keeper : nullptr);
        if (is_server)
            keeper.Start();
        Peer peer(!is_server, pair[1]);
        peer.Identity(is_server ? "client" : "ecdsa");
        SendGo(*conn);
        EXPECT_EQ(0, peer.Handshake());
        conn->Expect(MESSAGE_ESTABLISHED);
        return process_peak_kib(conn->pid);
    }

    /* OpenSSL with the giant certificate; *fd is connected to it. */
    static struct harness_peer *StartOpenssl(const Giant &giant, bool is_server,
                                             const char *version, int *fd) {
        struct harness_peer *openssl;
        uint16_t port;
        int listener = harness_listen_tcp(&port);
        std::string identity = "-cert " + giant.Path("giant.pem") + " -key " +
                               giant.Path("giant.key") + " " + version;

        if (!is_server) {
            openssl = harness_peer_run("openssl s_client -connect 127.0.0.1:%d %s", port,
                                       identity.c_str());
            *fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
            close(listener);
            return openssl;
        }
        close(listener);
        openssl =
            harness_peer_run("openssl s_server -accept 127.0.0.1:%d %s", port, identity.c_str());
        EXPECT_TRUE(harness_peer_wait_output(openssl, "ACCEPT", Soon()));
        *fd = harness_connect_tcp(port);
        return openssl;
    }

    /* A peer whose certificate has no end. */
    void MeetGiant(const Wish &wish, const char *version) {
        bool is_server = wish.role == ROLE_SERVER;
        Keeper keeper("ecdsa", ROLE_SERVER);
        Giant giant;
        int pair[2], fd;

        Context(1, wish);
        long ordinary = Ordinary(1, is_server);
        struct harness_peer *openssl = StartOpenssl(giant, !is_server, version, &fd);
        ASSERT_TRUE(harness_tcp_pair(pair));
        auto conn = Spawn(1, pair[0], is_server ? &keeper : nullptr);
        if (is_server)
            keeper.Start();
        Memory memory(conn->pid);
        {
            Relay relay(pair[1], fd);

            SendGo(*conn);
            const struct message &m = conn->Expect(MESSAGE_FAILED);
            EXPECT_STREQ("handshake_too_large", m.as.failed.cause);
            memory.ExpectSmall(ordinary);
        }
        if (HasFailure())
            std::cout << harness_peer_output(openssl);
        harness_peer_free(openssl);
    }

    /* A peer that begins one message of 16 MiB and never ends it. */
    void MeetFlood(const Wish &wish, const std::string &start) {
        bool is_server = wish.role == ROLE_SERVER;
        Keeper keeper("ecdsa", ROLE_SERVER);
        int pair[2];

        Context(1, wish);
        long ordinary = Ordinary(1, is_server);
        ASSERT_TRUE(harness_tcp_pair(pair));
        auto conn = Spawn(1, pair[0], is_server ? &keeper : nullptr);
        if (is_server)
            keeper.Start();
        Memory memory(conn->pid);
        SendGo(*conn);
        (void)harness_write_all(pair[1], start.data(), start.size(), Soon(2000));
        const struct message &m = conn->Expect(MESSAGE_FAILED);
        EXPECT_STREQ("handshake_too_large", m.as.failed.cause);
        memory.ExpectSmall(ordinary);
        close(pair[1]);
    }

    static std::string Record(const std::string &payload) {
        return std::string("\x16\x03\x03") + static_cast<char>(payload.size() >> 8) +
               static_cast<char>(payload.size()) + payload;
    }

    /* One message of 16 MiB - 1, in records of 16 KiB; or many of 60,000 bytes. */
    static std::string Flood(char type, bool many) {
        std::string message = std::string(1, type) + (many ? std::string("\x00\xea\x60", 3)
                                                           : std::string("\xff\xff\xff", 3));
        std::string bytes, records;

        if (many) {
            for (int i = 0; i < 10; i++)
                bytes += message + std::string(60000, 'x');
        } else {
            bytes = message + std::string(2 << 20, 'x');
        }
        for (size_t i = 0; i < bytes.size(); i += 16384)
            records += Record(bytes.substr(i, 16384));
        return records;
    }
};

TEST_F(NurseryHugeTest, ClientHello) {
    MeetFlood(ServerWish(), Flood(1, false));
}

TEST_F(NurseryHugeTest, ServerHello) {
    MeetFlood(ClientWish(), Flood(2, false));
}

TEST_F(NurseryHugeTest, ServersEncryptedCertificate) {
    MeetGiant(ClientWish(), "-tls1_3");
}

TEST_F(NurseryHugeTest, ServersCertificateBeforeTls13) {
    MeetGiant(ClientWish(), "-tls1_2");
}

TEST_F(NurseryHugeTest, ClientsEncryptedCertificate) {
    Wish wish = ServerWish();

    wish.trust = harness_cert("ca.pem");
    MeetGiant(wish, "-tls1_3");
}

TEST_F(NurseryHugeTest, ClientsCertificateBeforeTls13) {
    Wish wish = ServerWish();

    wish.trust = harness_cert("ca.pem");
    MeetGiant(wish, "-tls1_2");
}

/* --- the connection ----------------------------------------------------------------------------- */

TEST_F(NurseryTest, MovesMegabytesBothWaysAtOnce) {
    for (const char *priority : {"NORMAL", "NORMAL:-VERS-ALL:+VERS-TLS1.2"}) {
        const std::string up = Noise(8 << 20), down = Noise((8 << 20) + 77);
        auto conn = Established(Go(), priority);

        SCOPED_TRACE(priority);
        std::string got_up, got_down;
        std::thread write([&] { EXPECT_TRUE(peer_->Write(up)); });
        std::thread read([&] { got_down = peer_->Read(down.size()); });
        std::thread owner([&] { conn->WriteData(down); });
        got_up = conn->ReadData(up.size());
        write.join();
        read.join();
        owner.join();
        EXPECT_TRUE(got_up == up);
        EXPECT_TRUE(got_down == down);
        conn->SendReport(1);
        const struct message &m = conn->Expect(MESSAGE_ANSWER);
        EXPECT_EQ(up.size(), m.as.answer.in);
        EXPECT_EQ(down.size(), m.as.answer.out);
    }
}

TEST_F(NurseryTest, OwnerThatDoesNotReadStopsThePeer) {
    auto conn = Established();
    size_t sent = 0;
    std::string block = Noise(16384);

    ASSERT_EQ(RESULT_OK, fd_set_nonblocking(peer_->fd()));
    for (int quiet = 0; quiet < 3;) {
        ssize_t n = gnutls_record_send(peer_->tls, block.data(), block.size());

        if (n > 0) {
            sent += static_cast<size_t>(n);
            ASSERT_GT(64u << 20, sent);
        } else if (!harness_wait_fd(peer_->fd(), POLLOUT, Soon(200))) {
            quiet++;
        }
    }
    /* It waits, and does not turn in circles. */
#ifndef CORDON_SANITIZED
    EXPECT_GT(2048, process_private_dirty_kib(conn->pid));
#endif
    long used = CpuOf(conn->pid);
    EXPECT_FALSE(harness_wait_fd(peer_->fd(), POLLOUT, Soon(500)));
    EXPECT_GE(used + 2, CpuOf(conn->pid));
}

TEST_F(NurseryTest, HalfCloseByThePeerAndThenByTheOwner) {
    auto conn = Established();

    ASSERT_TRUE(peer_->Write("last words"));
    peer_->Bye();
    EXPECT_EQ("last words", conn->ReadData(10));
    EXPECT_TRUE(conn->DataEnds());
    EXPECT_EQ(10u, conn->Expect(MESSAGE_PEER_ENDED).as.peer_ended.in);
    EXPECT_TRUE(conn->IsSilent(100));
    conn->WriteData("still here");
    EXPECT_EQ("still here", peer_->Read(10));
    ASSERT_EQ(0, shutdown(conn->data, SHUT_WR));
    EXPECT_EQ("", peer_->Read(1));
    EXPECT_EQ(0, peer_->last_code);
    const struct message &m = conn->Expect(MESSAGE_BYE);
    EXPECT_EQ(unsigned{ENDING_PEER}, m.as.bye.how);
    EXPECT_EQ(10u, m.as.bye.in);
    EXPECT_EQ(10u, m.as.bye.out);
    EXPECT_EQ(unsigned{WORKER_CLOSING}, StateOf(*conn));
    peer_->CloseTransport();
    conn->ExpectEnd();
    ExpectExited(*conn, 0);
    EXPECT_EQ(unsigned{WORKER_CLOSED}, StateOf(*conn));
}

TEST_F(NurseryTest, HalfCloseByTheOwnerAndThenByThePeer) {
    auto conn = Established();

    conn->WriteData("request");
    ASSERT_EQ(0, shutdown(conn->data, SHUT_WR));
    EXPECT_EQ("request", peer_->Read(7));
    EXPECT_EQ("", peer_->Read(1));
    EXPECT_EQ(0, peer_->last_code);
    std::string reply = Noise(300000);
    ASSERT_TRUE(peer_->Write(reply));
    peer_->Bye();
    EXPECT_TRUE(conn->ReadData(reply.size()) == reply);
    EXPECT_TRUE(conn->DataEnds());
    conn->Expect(MESSAGE_PEER_ENDED);
    EXPECT_EQ(unsigned{ENDING_PEER}, conn->Expect(MESSAGE_BYE).as.bye.how);
}

TEST_F(NurseryTest, ShutdownMessageHalfClosesAfterWhatWasWritten) {
    auto conn = Established();

    conn->WriteData("before");
    conn->SendShutdown(5, SHUTDOWN_WRITE);
    const struct message &m = conn->Expect(MESSAGE_ANSWER);
    EXPECT_EQ(5u, m.as.answer.request);
    EXPECT_EQ(6u, m.as.answer.out);
    EXPECT_EQ("before", peer_->Read(6));
    EXPECT_EQ("", peer_->Read(1));
    EXPECT_EQ(0, peer_->last_code);
    ASSERT_TRUE(peer_->Write("after"));
    EXPECT_EQ("after", conn->ReadData(5));
    EXPECT_EQ(-1, send(conn->data, "x", 1, MSG_NOSIGNAL));
    conn->SendShutdown(6, SHUTDOWN_READ);
    EXPECT_EQ(6u, conn->Expect(MESSAGE_ANSWER).as.answer.request);
    EXPECT_EQ(unsigned{ENDING_LOCAL}, conn->Expect(MESSAGE_BYE).as.bye.how);
}

TEST_F(NurseryTest, CloseTakesInWhatWasWrittenAndWaitsForThePeersEnd) {
    auto conn = Established();
    std::string last = Noise(200000);

    std::thread reader([&] { EXPECT_TRUE(peer_->Read(last.size()) == last); });
    conn->WriteData(last);
    conn->SendClose(9, 20000);
    const struct message &m = conn->Expect(MESSAGE_ANSWER);
    EXPECT_EQ(9u, m.as.answer.request);
    EXPECT_EQ(unsigned{RESULT_OK}, m.as.answer.reason);
    EXPECT_EQ(last.size(), m.as.answer.out);
    reader.join();
    EXPECT_EQ("", peer_->Read(1));
    EXPECT_EQ(0, peer_->last_code);
    EXPECT_TRUE(conn->IsSilent(100));
    EXPECT_EQ(unsigned{WORKER_CLOSING}, StateOf(*conn));
    (void)peer_->Write("too late, and no reset");
    EXPECT_TRUE(conn->IsSilent(100));
    peer_->CloseTransport();
    EXPECT_EQ(unsigned{ENDING_LOCAL}, conn->Expect(MESSAGE_BYE).as.bye.how);
    conn->ExpectEnd();
    ExpectExited(*conn, 0);
}

TEST_F(NurseryTest, CloseWithoutLingerEndsAtOnce) {
    auto conn = Established();

    conn->SendClose(9, 0);
    conn->Expect(MESSAGE_ANSWER);
    EXPECT_EQ(unsigned{ENDING_LOCAL}, conn->Expect(MESSAGE_BYE).as.bye.how);
    conn->ExpectEnd();
    EXPECT_EQ("", peer_->Read(1));
    EXPECT_EQ(0, peer_->last_code);
}

/* What the kernel says of the peer's socket, once it has something to say. */
int ErrorOf(int fd) {
    char byte;

    EXPECT_TRUE(harness_wait_fd(fd, POLLIN, Soon()));
    return recv(fd, &byte, 1, MSG_DONTWAIT) < 0 ? errno : 0;
}

TEST_F(NurseryTest, CloseWithResetIsAResetForThePeer) {
    auto conn = Established();

    conn->SendClose(9, 20000, true);
    EXPECT_EQ(9u, conn->Expect(MESSAGE_ANSWER).as.answer.request);
    EXPECT_EQ(unsigned{ENDING_LOCAL}, conn->Expect(MESSAGE_BYE).as.bye.how);
    conn->ExpectEnd();
    EXPECT_EQ(ECONNRESET, ErrorOf(peer_->fd()));
}

TEST_F(NurseryTest, CloseWithResetEndsAHandshake) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    int pair[2];

    Context(1, ServerWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    SendGo(*conn);
    conn->SendClose(3, 0, true);
    conn->Expect(MESSAGE_ANSWER);
    EXPECT_EQ(unsigned{ENDING_LOCAL}, conn->Expect(MESSAGE_BYE).as.bye.how);
    EXPECT_EQ(ECONNRESET, ErrorOf(pair[1]));
    close(pair[1]);
}

TEST_F(NurseryTest, CloseWithResetEndsLingering) {
    auto conn = Established();

    conn->SendClose(1, 20000);
    conn->Expect(MESSAGE_ANSWER);
    EXPECT_EQ("", peer_->Read(1));
    conn->SendClose(2, 0, true);
    EXPECT_EQ(2u, conn->Expect(MESSAGE_ANSWER).as.answer.request);
    EXPECT_EQ(unsigned{ENDING_LOCAL}, conn->Expect(MESSAGE_BYE).as.bye.how);
    conn->ExpectEnd();
}

TEST_F(NurseryTest, OwnerThatGoesClosesTheConnection) {
    auto conn = Established();

    conn->WriteData("goodbye");
    fd_close(&conn->data);
    EXPECT_EQ("goodbye", peer_->Read(7));
    EXPECT_EQ("", peer_->Read(1));
    EXPECT_EQ(0, peer_->last_code);
    const struct message &m = conn->Expect(MESSAGE_BYE);
    EXPECT_EQ(unsigned{ENDING_OWNER_GONE}, m.as.bye.how);
    EXPECT_EQ(7u, m.as.bye.out);
}

TEST_F(NurseryTest, EndOfFileWithoutCloseNotifyIsTruncation) {
    auto conn = Established();

    ASSERT_TRUE(peer_->Write("half a sen"));
    peer_->CloseTransport();
    EXPECT_EQ("half a sen", conn->ReadData(10));
    EXPECT_EQ(unsigned{ENDING_TRUNCATED}, conn->Expect(MESSAGE_BYE).as.bye.how);
    conn->ExpectEnd();
}

TEST_F(NurseryTest, ResetIsATransportError) {
    auto conn = Established();
    struct linger now = {1, 0};

    ASSERT_EQ(0, setsockopt(peer_->fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now));
    peer_->CloseTransport();
    const struct message &m = conn->Expect(MESSAGE_BYE);
    EXPECT_EQ(unsigned{ENDING_TRANSPORT}, m.as.bye.how);
    EXPECT_EQ(unsigned{ECONNRESET}, m.as.bye.error);
}

TEST_F(NurseryTest, PeersFatalAlertEndsTheConnection) {
    auto conn = Established();

    ASSERT_TRUE(peer_->Write("data first"));
    ASSERT_EQ(0, gnutls_alert_send(peer_->tls, GNUTLS_AL_FATAL, GNUTLS_A_ACCESS_DENIED));
    EXPECT_EQ("data first", conn->ReadData(10));
    const struct message &m = conn->Expect(MESSAGE_BYE);
    EXPECT_EQ(unsigned{ENDING_ALERT}, m.as.bye.how);
    EXPECT_EQ(49u, m.as.bye.alert);
    EXPECT_EQ(1u, m.as.bye.by_peer);
    conn->ExpectEnd();
}

TEST_F(NurseryTest, BadRecordGetsAnAlertAndTimeToReadIt) {
    Go go;

    go.alert_timeout_ms = 300;
    auto conn = Established(go);
    ASSERT_TRUE(
        harness_write_all(peer_->fd(), "\x17\x03\x03\x00\x14xxxxxxxxxxxxxxxxxxxx", 25, Soon()));
    const struct message &m = conn->Expect(MESSAGE_BYE);
    int64_t told = clock_now_ms();
    EXPECT_EQ(unsigned{ENDING_ALERT}, m.as.bye.how);
    EXPECT_EQ(20u, m.as.bye.alert);
    EXPECT_EQ(0u, m.as.bye.by_peer);
    EXPECT_EQ(20, peer_->ReadAlert());
    EXPECT_EQ(unsigned{WORKER_ALERTED}, StateOf(*conn));
    conn->ExpectEnd();
    EXPECT_LE(told + 250, clock_now_ms());
}

TEST_F(NurseryTest, KeyUpdatesOfThePeer) {
    auto conn = Established(Go(), "NORMAL:-VERS-ALL:+VERS-TLS1.3");

    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(0, gnutls_session_key_update(peer_->tls, GNUTLS_KU_PEER));
        ASSERT_TRUE(peer_->Write("new keys"));
        EXPECT_EQ("new keys", conn->ReadData(8));
        conn->WriteData("yes");
        EXPECT_EQ("yes", peer_->Read(3));
    }
}

TEST_F(NurseryTest, RenegotiationIsRefusedAndTheConnectionGoesOn) {
    auto conn = Established(Go(), "NORMAL:-VERS-ALL:+VERS-TLS1.2");

    for (int code = GNUTLS_E_AGAIN; code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED;) {
        code = gnutls_handshake(peer_->tls);
        if (code != GNUTLS_E_AGAIN && code != GNUTLS_E_INTERRUPTED) {
            EXPECT_EQ(GNUTLS_E_WARNING_ALERT_RECEIVED, code);
            EXPECT_EQ(GNUTLS_A_NO_RENEGOTIATION, gnutls_alert_get(peer_->tls));
        }
    }
    ASSERT_TRUE(peer_->Write("anyway"));
    EXPECT_EQ("anyway", conn->ReadData(6));
    conn->WriteData("fine");
    EXPECT_EQ("fine", peer_->Read(4));
}

TEST_F(NurseryTest, RecordsThatBringNothingEndTheConnection) {
    auto conn = Established(Go(), "NORMAL:-VERS-ALL:+VERS-TLS1.2");

    for (int i = 0; i < 40; i++)
        (void)gnutls_alert_send(peer_->tls, GNUTLS_AL_WARNING, GNUTLS_A_USER_CANCELED);
    const struct message &m = conn->Expect(MESSAGE_BYE);
    EXPECT_EQ(unsigned{ENDING_ALERT}, m.as.bye.how);
    EXPECT_EQ(10u, m.as.bye.alert);
}

TEST_F(NurseryTest, DataInTheLastFlightOfTheHandshakeIsDelivered) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    int relay[2], pair[2];

    /* Finished and data in one segment: nothing more will make the socket readable. */
    Context(1, ServerWish());
    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, relay));
    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.Start();
    SendGo(*conn);
    Peer peer(false, relay[1], "NORMAL:-VERS-ALL:+VERS-TLS1.3:%DISABLE_TLS13_COMPAT_MODE");
    std::thread client([&] {
        EXPECT_EQ(0, peer.Handshake());
        EXPECT_TRUE(peer.Write("early bird"));
        EXPECT_EQ(0, shutdown(relay[1], SHUT_WR));
    });
    char bytes[65536];
    ssize_t size = recv(relay[0], bytes, sizeof bytes, 0);
    ASSERT_TRUE(harness_write_all(pair[1], bytes, static_cast<size_t>(size), Soon()));
    for (bool open = true; open;) {
        struct pollfd fds[2] = {{relay[0], POLLIN, 0}, {pair[1], POLLIN, 0}};

        ASSERT_LT(0, poll(fds, 2, kWaitMs));
        if (fds[1].revents != 0) {
            size = recv(pair[1], bytes, sizeof bytes, 0);
            ASSERT_LT(0, size);
            ASSERT_TRUE(harness_write_all(relay[0], bytes, static_cast<size_t>(size), Soon()));
        }
        if (fds[0].revents != 0) {
            std::string last;

            /* All that the client has to say, then in one piece. */
            while ((size = recv(relay[0], bytes, sizeof bytes, 0)) > 0)
                last.append(bytes, static_cast<size_t>(size));
            ASSERT_TRUE(harness_write_all(pair[1], last.data(), last.size(), Soon()));
            open = false;
        }
    }
    conn->Expect(MESSAGE_ESTABLISHED);
    GiveData(*conn);
    EXPECT_EQ("early bird", conn->ReadData(10));
    client.join();
    close(relay[0]);
    close(pair[1]);
}

struct Rest {
    const char *name;
    Go go;
    void (*bring)(Conn &conn, Peer &peer);
};

Go PassiveDescriptor() {
    Go go;

    go.active = 0;
    return go;
}

class NurseryRestTest : public NurseryTest, public testing::WithParamInterface<Rest> {};

/* A state in which there is nothing to do costs nothing. */
TEST_P(NurseryRestTest, DoesNotTurnInCircles) {
    auto conn = Established(GetParam().go);

    GetParam().bring(*conn, *peer_);
    long used = CpuOf(conn->pid);
    for (int64_t end = Soon(500);
         conn->mail.From(conn->mailbox, static_cast<enum route>(WORKER_TO_MANAGER), end) ==
         RESULT_OK;) {}
    EXPECT_GE(used + 5, CpuOf(conn->pid)); /* of 50 ticks */
}

INSTANTIATE_TEST_SUITE_P(
    All, NurseryRestTest,
    testing::Values(Rest{"Idle", Go(), [](Conn &, Peer &) {}},
                    Rest{"PeerEnded", Go(), [](Conn &, Peer &peer) { peer.Bye(); }},
                    Rest{"PeerEndedAndGone", Go(),
                         [](Conn &, Peer &peer) {
                             peer.Bye();
                             peer.CloseTransport();
                         }},
                    Rest{"OwnerEnded", Go(),
                         [](Conn &conn, Peer &) { (void)shutdown(conn.data, SHUT_WR); }},
                    Rest{"OwnerReadsNoMore", Go(),
                         [](Conn &conn, Peer &peer) {
                             (void)shutdown(conn.data, SHUT_RD);
                             EXPECT_TRUE(peer.Write("nobody reads it"));
                         }},
                    Rest{"PassiveWithData", PassiveDescriptor(),
                         [](Conn &, Peer &peer) { EXPECT_TRUE(peer.Write("waits")); }},
                    Rest{"PassiveAndPeerEnded", PassiveDescriptor(),
                         [](Conn &, Peer &peer) {
                             EXPECT_TRUE(peer.Write("waits"));
                             peer.Bye();
                         }},
                    Rest{"PassiveAndTruncated", PassiveDescriptor(),
                         [](Conn &, Peer &peer) {
                             EXPECT_TRUE(peer.Write("waits"));
                             peer.CloseTransport();
                         }},
                    Rest{"Closing", Go(), [](Conn &conn, Peer &) { conn.SendClose(1, 20000); }}),
    [](const testing::TestParamInfo<Rest> &info) { return std::string(info.param.name); });

TEST_F(NurseryTest, CloseDoesNotWaitForEverForAPeerThatDoesNotRead) {
    if (!harness_is_full())
        GTEST_SKIP() << "30 s";
    auto conn = Established();
    std::string block = Noise(65536);

    ASSERT_EQ(RESULT_OK, fd_set_nonblocking(conn->data));
    while (harness_wait_fd(conn->data, POLLOUT, Soon(500)))
        (void)!send(conn->data, block.data(), block.size(), MSG_NOSIGNAL);
    conn->SendClose(1, 0);
    EXPECT_FALSE(conn->IsSilent(40000));
    EXPECT_EQ(1u, conn->Expect(MESSAGE_ANSWER).as.answer.request);
    EXPECT_EQ(unsigned{ENDING_LOCAL}, conn->Expect(MESSAGE_BYE).as.bye.how);
}

/* --- delivery: messages ------------------------------------------------------------------------- */

std::string Frame(const std::string &bytes) {
    return std::string({static_cast<char>(bytes.size() >> 24),
                        static_cast<char>(bytes.size() >> 16), static_cast<char>(bytes.size() >> 8),
                        static_cast<char>(bytes.size())}) +
           bytes;
}

std::string ReadFrame(Conn &conn) {
    std::string header = conn.ReadData(4);
    size_t size = 0;

    for (char c : header)
        size = size << 8 | static_cast<unsigned char>(c);
    return conn.ReadData(size);
}

Go Passive() {
    Go go;

    go.delivery = DELIVERY_MESSAGES;
    go.active = 0;
    return go;
}

TEST_F(NurseryTest, EachFrameIsSentAndSaidSo) {
    auto conn = Established(Passive());

    conn->WriteData(Frame("one") + Frame("") + Frame(std::string(65536, 'x')));
    EXPECT_EQ("one" + std::string(65536, 'x'), peer_->Read(65539));
    for (int i = 0; i < 2; i++)
        conn->Expect(MESSAGE_SENT);
    EXPECT_EQ(65539u, conn->Expect(MESSAGE_SENT).as.sent.out);
}

TEST_F(NurseryTest, PassiveDeliversWhatIsAskedFor) {
    auto conn = Established(Passive());

    ASSERT_TRUE(peer_->Write("abcdefghij"));
    conn->SendReceive(1, 4);
    EXPECT_EQ(4u, conn->Expect(MESSAGE_RECEIVED).as.received.in);
    EXPECT_EQ("abcd", ReadFrame(*conn));
    conn->SendReceive(2, 0);
    EXPECT_EQ(2u, conn->Expect(MESSAGE_RECEIVED).as.received.request);
    EXPECT_EQ("efghij", ReadFrame(*conn));
    conn->SendReceive(3, 65536);
    EXPECT_TRUE(conn->IsSilent(100));
    std::string exact = Noise(65536);
    ASSERT_TRUE(peer_->Write(exact));
    EXPECT_TRUE(ReadFrame(*conn) == exact);
    EXPECT_EQ(3u, conn->Expect(MESSAGE_RECEIVED).as.received.request);
}

TEST_F(NurseryTest, CancelledReceiveLosesNothing) {
    auto conn = Established(Passive());
    struct message m;

    ASSERT_TRUE(peer_->Write("abc"));
    conn->SendReceive(1, 10);
    message_init(&m, MESSAGE_RECEIVE_CANCEL);
    m.as.receive_cancel.request = 1;
    conn->Send(m);
    const struct message &answer = conn->Expect(MESSAGE_RECEIVED);
    EXPECT_EQ(unsigned{RESULT_CANCELLED}, answer.as.received.reason);
    conn->SendReceive(2, 3);
    conn->Expect(MESSAGE_RECEIVED);
    EXPECT_EQ("abc", ReadFrame(*conn));
}

TEST_F(NurseryTest, CreditsAreDeliveries) {
    auto conn = Established(Passive());

    conn->SendActive(1, 2);
    conn->Expect(MESSAGE_ANSWER);
    ASSERT_TRUE(peer_->Write("first"));
    EXPECT_EQ("first", ReadFrame(*conn));
    ASSERT_TRUE(peer_->Write("second"));
    EXPECT_EQ("second", ReadFrame(*conn));
    ASSERT_TRUE(peer_->Write("third"));
    EXPECT_FALSE(harness_wait_fd(conn->data, POLLIN, Soon(100)));
    conn->SendActive(2, ACTIVE_ALWAYS);
    EXPECT_EQ(16u, conn->Expect(MESSAGE_ANSWER).as.answer.in);
    EXPECT_EQ("third", ReadFrame(*conn));
}

TEST_F(NurseryTest, PassiveOwnerGetsTheLastBytesBeforeTheVerdict) {
    auto conn = Established(Passive());

    ASSERT_TRUE(peer_->Write("testament"));
    peer_->CloseTransport();
    EXPECT_TRUE(conn->IsSilent(100));
    conn->SendReceive(1, 0);
    conn->Expect(MESSAGE_RECEIVED);
    EXPECT_EQ("testament", ReadFrame(*conn));
    EXPECT_EQ(unsigned{ENDING_TRUNCATED}, conn->Expect(MESSAGE_BYE).as.bye.how);
}

TEST_F(NurseryTest, ReceiveAfterThePeersEndIsClosed) {
    auto conn = Established(Passive());

    peer_->Bye();
    conn->Expect(MESSAGE_PEER_ENDED);
    conn->SendReceive(4, 0);
    const struct message &m = conn->Expect(MESSAGE_RECEIVED);
    EXPECT_EQ(unsigned{RESULT_CLOSED}, m.as.received.reason);
    EXPECT_EQ(4u, m.as.received.request);
}

TEST_F(NurseryTest, PeersCertificateComesInParts) {
    int pair[2];
    struct message ask;

    Context(1, ClientWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], nullptr);
    Peer peer(true, pair[1]);
    peer.Identity("server");
    SendGo(*conn);
    ASSERT_EQ(0, peer.Handshake()) << conn->Story();
    uint32_t total = conn->Expect(MESSAGE_ESTABLISHED).as.established.peer_certificate;
    std::string der;
    message_init(&ask, MESSAGE_CERTIFICATE_ASK);
    ask.as.certificate_ask.request = 2;
    conn->Send(ask);
    while (der.size() < total) {
        const struct message &m = conn->Expect(MESSAGE_CERTIFICATE_PART);

        ASSERT_EQ(total, m.as.certificate_part.total);
        ASSERT_EQ(der.size(), m.as.certificate_part.offset);
        ASSERT_LT(0u, m.as.certificate_part.part.size);
        der += Bytes(m.as.certificate_part.part);
    }
    EXPECT_EQ(total, der.size());
    EXPECT_EQ('\x30', der[0]);
}

/* --- deaths ------------------------------------------------------------------------------------- */

TEST_F(NurseryTest, KilledWorkerIsReportedAndItsStateIsOnTheBoard) {
    auto conn = Established();

    ASSERT_EQ(0, syscall(SYS_pidfd_send_signal, conn->pidfd, SIGKILL, nullptr, 0));
    ExpectExited(*conn, SIGKILL);
    conn->ExpectEnd();
    EXPECT_EQ(unsigned{WORKER_CONNECTION}, StateOf(*conn));
    EXPECT_EQ("", peer_->Read(1));
    EXPECT_EQ(GNUTLS_E_PREMATURE_TERMINATION, peer_->last_code);
}

TEST_F(NurseryTest, WorkerWithoutAManagerEnds) {
    auto conn = Established();

    fd_close(&conn->mailbox);
    ExpectExited(*conn, 11 << 8);
}

TEST_F(NurseryTest, WorkersLiveOnWhenTheNurseryRetires) {
    auto conn = Established();
    struct message m;
    int status;

    message_init(&m, MESSAGE_RETIRE);
    ASSERT_EQ(RESULT_OK, mailbox_send(manager_, &m));
    ASSERT_EQ(pid_, waitpid(pid_, &status, 0));
    pid_ = -1;
    EXPECT_EQ(0, status);
    ASSERT_TRUE(peer_->Write("alive"));
    EXPECT_EQ("alive", conn->ReadData(5));
}

TEST_F(NurseryTest, WorkerHoldsNothingOfItsSiblings) {
    Keeper keeper("ecdsa", ROLE_SERVER);
    struct descriptors d;
    int pair[2];

    Context(1, ServerWish());
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto first = Spawn(1, pair[0], nullptr);
    close(pair[1]);
    ASSERT_TRUE(harness_tcp_pair(pair));
    auto conn = Spawn(1, pair[0], &keeper);
    keeper.StartSilent();
    ASSERT_TRUE(process_descriptors(conn->pid, &d));
    EXPECT_EQ(6u, d.all); /* 0, 1, 2, peer, mailbox, keeper */
    EXPECT_EQ(1u, first->page + 1u);
    EXPECT_EQ(1u, conn->page);
    close(pair[1]);
}

/* With CORDON_FULL as many as the board has pages. */
TEST_F(NurseryTest, ForksAsManyAsItsBoardHasPages) {
    size_t count = harness_count(100, BOARD_PAGES);
    size_t first = 0;
    long before = 0;

    Context(1, ServerWish());
    for (size_t i = 0; i < count; i++) {
        int pair[2];

        ASSERT_TRUE(harness_tcp_pair(pair));
        auto conn = Spawn(1, pair[0], nullptr);
        close(pair[1]);
        ASSERT_EQ(i, conn->page);
        fd_close(&conn->mailbox);
        ExpectExited(*conn, 11 << 8);
        if (i == count / 10) {
            before = process_private_dirty_kib(pid_);
            first = DescriptorsOf(pid_);
        }
    }
#ifdef CORDON_SANITIZED
    (void)before;
#else
    EXPECT_GE(before * 105 / 100, process_private_dirty_kib(pid_));
#endif
    EXPECT_EQ(first, DescriptorsOf(pid_));
    if (!harness_is_full() || count < BOARD_PAGES)
        return;
    struct message m;
    int pair[2], mailbox[2];
    ASSERT_TRUE(harness_tcp_pair(pair));
    ASSERT_EQ(RESULT_OK, mailbox_pair(mailbox, MESSAGE_MAX));
    message_init(&m, MESSAGE_SPAWN);
    m.as.spawn.connection = 1;
    m.as.spawn.context = 1;
    m.as.spawn.handle = "c1.1";
    m.fds[0] = pair[0];
    m.fds[1] = mailbox[1];
    m.fd_count = 2;
    ASSERT_EQ(RESULT_OK, mailbox_send(manager_, &m));
    ASSERT_EQ(RESULT_OK, Next());
    EXPECT_EQ(MESSAGE_FORK_FAILED, mail_.m.type);
    for (int fd : {pair[0], pair[1], mailbox[0], mailbox[1]})
        close(fd);
}

TEST_F(NurseryTest, UnknownContextIsRefused) {
    struct message m;
    int pair[2], mailbox[2];

    ASSERT_TRUE(harness_tcp_pair(pair));
    ASSERT_EQ(RESULT_OK, mailbox_pair(mailbox, MESSAGE_MAX));
    message_init(&m, MESSAGE_SPAWN);
    m.as.spawn.connection = 1;
    m.as.spawn.context = 99;
    m.as.spawn.handle = "c1.1";
    m.fds[0] = pair[0];
    m.fds[1] = mailbox[1];
    m.fd_count = 2;
    ASSERT_EQ(RESULT_OK, mailbox_send(manager_, &m));
    ASSERT_EQ(RESULT_OK, Next());
    EXPECT_EQ(MESSAGE_FORK_FAILED, mail_.m.type);
    for (int fd : {pair[0], pair[1], mailbox[0], mailbox[1]})
        close(fd);
}

TEST_F(NurseryTest, WrongContextsAreRefusedByOption) {
    Wish no_identity, no_suite = ServerWish(), long_name = ServerWish(), trust = ClientWish();

    AskContext(1, no_identity);
    ASSERT_EQ(MESSAGE_CONTEXT_FAILED, mail_.m.type);
    EXPECT_STREQ("certfile", mail_.m.as.context_failed.option);
    no_suite.versions = TLS_1_3;
    no_suite.suites = "\xc0\x2c";
    AskContext(2, no_suite);
    ASSERT_EQ(MESSAGE_CONTEXT_FAILED, mail_.m.type);
    EXPECT_STREQ("ciphers", mail_.m.as.context_failed.option);
    long_name.alpn = std::string(1, 32) + std::string(32, 'x');
    AskContext(3, long_name);
    ASSERT_EQ(MESSAGE_CONTEXT_FAILED, mail_.m.type);
    EXPECT_STREQ("alpn_preferred_protocols", mail_.m.as.context_failed.option);
    trust.trust = harness_cert("broken.pem");
    AskContext(4, trust);
    ASSERT_EQ(MESSAGE_CONTEXT_FAILED, mail_.m.type);
    EXPECT_STREQ("cacertfile", mail_.m.as.context_failed.option);
}

/* --- OpenSSL ------------------------------------------------------------------------------------ */

TEST_F(NurseryTest, OpensslIsServed) {
    for (const char *version : {"-tls1_3", "-tls1_2"}) {
        Keeper keeper("server", ROLE_SERVER);
        Wish wish;
        uint16_t port;
        int listener = harness_listen_tcp(&port);

        SCOPED_TRACE(version);
        wish.identity = "server";
        Context(++context_, wish);
        struct harness_peer *openssl = harness_peer_run(
            "openssl s_client -connect 127.0.0.1:%d -CAfile %s -verify_return_error "
            "-servername localhost -quiet %s",
            port, harness_cert("ca.pem"), version);
        ASSERT_NE(nullptr, openssl);
        int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        ASSERT_LE(0, fd);
        auto conn = Spawn(context_, fd, &keeper);
        keeper.Start();
        SendGo(*conn);
        EXPECT_STREQ("localhost", conn->Expect(MESSAGE_ESTABLISHED).as.established.server_name);
        GiveData(*conn);
        conn->WriteData("hello openssl\n");
        EXPECT_TRUE(harness_peer_wait_output(openssl, "hello openssl", Soon()));
        ASSERT_TRUE(harness_peer_write(openssl, "hello worker\n", 13));
        EXPECT_EQ("hello worker\n", conn->ReadData(13));
        conn->SendClose(1, 5000);
        EXPECT_EQ(0, harness_peer_wait(openssl, Soon()));
        harness_peer_free(openssl);
        close(listener);
    }
}

TEST_F(NurseryTest, OpensslIsConnectedTo) {
    for (const char *version : {"-tls1_3", "-tls1_2"}) {
        uint16_t port;
        int listener = harness_listen_tcp(&port);
        Go go;

        SCOPED_TRACE(version);
        close(listener); /* the port is free again, for the one that follows */
        Context(++context_, ClientWish());
        struct harness_peer *openssl =
            harness_peer_run("openssl s_server -accept 127.0.0.1:%d -cert %s -key %s -rev %s", port,
                             harness_cert("ecdsa.pem"), harness_cert("ecdsa.key"), version);
        ASSERT_NE(nullptr, openssl);
        ASSERT_TRUE(harness_peer_wait_output(openssl, "ACCEPT", Soon()));
        int fd = harness_connect_tcp(port);
        ASSERT_LE(0, fd);
        auto conn = Spawn(context_, fd, nullptr);
        go.server_name = go.verify_name = "localhost";
        SendGo(*conn, go);
        EXPECT_EQ(1u, conn->Expect(MESSAGE_ESTABLISHED).as.established.verified);
        GiveData(*conn);
        conn->WriteData("abc\n");
        EXPECT_EQ("cba\n", conn->ReadData(4));
        conn->SendClose(1, 0);
        conn->Expect(MESSAGE_ANSWER);
        harness_peer_free(openssl);
    }
}

} // namespace
