/*
 * What the log of the real processes says: whole and valid lines whoever speaks, one line when a
 * connection opens and one when it closes, one for each handshake that fails.
 */
#include "tests/harness/connection.h"

#include <fcntl.h>
#include <netinet/in.h>

namespace {

using namespace harness;

/* One line of the JSON form. */
class LogLine {
public:
    explicit LogLine(const std::string &text)
        : text_(text), json_(json_loads(text.c_str(), JSON_REJECT_DUPLICATES, nullptr)) {}

    bool IsValid() const {
        return json_is_object(json_.get()) && !Text("time").empty() && !Text("level").empty() &&
               !Text("process").empty() && json_is_string(json_object_get(json_.get(), "message"));
    }
    std::string Text(const char *key) const {
        const char *text = json_string_value(json_object_get(json_.get(), key));

        return text != nullptr ? text : "";
    }
    int64_t Number(const char *key) const {
        const json_t *value = json_object_get(json_.get(), key);

        return json_is_integer(value) ? json_integer_value(value) : -1;
    }
    const std::string &Raw() const { return text_; }

private:
    std::string text_;
    Json json_;
};

class LogsTest : public ConnectionTest {
protected:
    void SetUp() override {
        ConnectionTest::SetUp();
        harness_tree_options options = {};
        client_.reset();
        ASSERT_EQ(0, harness_tree_stop(tree_));
        options.log_format = "json";
        ASSERT_NO_FATAL_FAILURE(Start(&options));
        client_ = std::make_unique<Client>(tree_);
    }

    /* The whole lines so far; each must be valid. */
    std::vector<LogLine> Lines() {
        char *log = harness_tree_log(tree_);
        std::string text = log != nullptr ? log : "";
        std::vector<LogLine> lines;

        free(log);
        for (size_t at; (at = text.find('\n')) != std::string::npos; text.erase(0, at + 1))
            lines.emplace_back(text.substr(0, at));
        return lines;
    }
    void ExpectAllValid() {
        for (const LogLine &line : Lines())
            EXPECT_TRUE(line.IsValid()) << line.Raw();
    }
    /* Lines of a connection with this message. */
    std::vector<LogLine> Of(const std::string &conn, const std::string &message) {
        std::vector<LogLine> found;

        for (LogLine &line : Lines()) {
            if (line.Text("conn") == conn && line.Text("message") == message)
                found.push_back(std::move(line));
        }
        return found;
    }
    LogLine Only(const std::string &conn, const std::string &message) {
        EXPECT_TRUE(Eventually([&] { return !Of(conn, message).empty(); })) << conn << message;
        std::vector<LogLine> found = Of(conn, message);
        EXPECT_EQ(1U, found.size()) << conn << " " << message;
        return found.empty() ? LogLine("") : std::move(found[0]);
    }
    /* The connection that comes next is closed with one line, which says so. */
    void ExpectOneEach(const Owned &owned, const char *how, const char *by, const char *level) {
        SCOPED_TRACE(how);
        LogLine closed = Only(owned.conn, "closed"), opened = Only(owned.conn, "opened");

        EXPECT_EQ(how, closed.Text("how")) << closed.Raw();
        EXPECT_EQ(by, closed.Text("by")) << closed.Raw();
        EXPECT_EQ(level, closed.Text("level")) << closed.Raw();
        for (const LogLine *line : {&opened, &closed}) {
            EXPECT_EQ(0U, line->Text("peer").find("127.0.0.1:")) << line->Raw();
            EXPECT_EQ("server", line->Text("role"));
            EXPECT_EQ('l', line->Text("listener")[0]);
            EXPECT_EQ("localhost", line->Text("sni"));
            EXPECT_EQ("h2", line->Text("alpn"));
            EXPECT_EQ("tlsv1.3", line->Text("version"));
            EXPECT_EQ(0U, line->Text("cipher").find("TLS_"));
            EXPECT_NE(std::string::npos, line->Text("subject").find("CN=")) << line->Raw();
            EXPECT_GT(line->Number("pid"), 0);
        }
        EXPECT_GE(closed.Number("lasted_ms"), 0);
        /* One that is killed writes its counts down in time, or not. */
        EXPECT_EQ(13, closed.Number("in")) << closed.Raw();
        if (strcmp(how, "worker_died") != 0) {
            EXPECT_EQ(14, closed.Number("out")) << closed.Raw();
        }
        EXPECT_TRUE(Of(owned.conn, "handshake failed").empty());
    }
};

TEST_F(LogsTest, AConnectionHasOneLineWhenItOpensAndOneWhenItCloses) {
    Listener listener = Listen(client(), Identity("ecdsa") +
                                             R"(, "alpn_preferred_protocols": ["h2"], )"
                                             R"("verify": "verify_peer", "cacertfile": )" +
                                             CertFile("ca.pem"));
    harness_tls_options options = {};
    options.identity = "client";
    options.name = "localhost";
    options.alpn = "x,h2";
    auto open = [&] {
        auto both = Accept(listener, options);

        ExpectEcho(both.first, both.second);
        return both;
    };

    {
        auto [owned, peer] = open();
        EXPECT_TRUE(peer.Bye());
        owned.data.Reset();
        ExpectOneEach(owned, "close_notify", "peer", "info");
    }
    {
        auto [owned, peer] = open();
        client().Must("ssl.close", OnConn(owned.conn));
        ExpectOneEach(owned, "local", "owner", "info");
    }
    {
        auto [owned, peer] = open();
        peer.Close();
        ExpectOneEach(owned, "truncated", "peer", "info");
    }
    {
        auto [owned, peer] = open();
        EXPECT_TRUE(harness_tls_send_alert(peer.get(), 80));
        ExpectOneEach(owned, "tls_alert", "peer", "info");
        LogLine closed = Only(owned.conn, "closed");
        EXPECT_EQ("internal_error", closed.Text("alert"));
        EXPECT_FALSE(closed.Text("hint").empty());
    }
    {
        auto [owned, peer] = open();
        KillWorker(owned.conn);
        ExpectOneEach(owned, "worker_died", "worker", "warn");
        LogLine closed = Only(owned.conn, "closed");
        EXPECT_EQ("SIGKILL", closed.Text("signal"));
        EXPECT_FALSE(closed.Text("hint").empty());
    }
    ExpectAllValid();
}

TEST_F(LogsTest, WhatAPeerCallsItselfStaysOneValue) {
    Listener listener =
        Listen(client(), Identity("ecdsa") + R"(, "alpn_preferred_protocols": ["\n\"}{\\ x=y"])");
    harness_tls_options options = {};
    options.alpn = "\n\"}{\\ x=y";
    auto [owned, peer] = Accept(listener, options);
    EXPECT_TRUE(peer.Bye());
    owned.data.Reset();
    LogLine closed = Only(owned.conn, "closed");
    EXPECT_EQ("\\x0a\\x22}{\\x5c x=y", closed.Text("alpn")) << closed.Raw();
    /* GnuTLS refuses such a name; the line about that has it. */
    listener = Listen(client(), Identity("ecdsa"));
    options.name = "a\"}\\ conn=c9.9";
    int64_t id =
        client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
    Tls rude(harness_connect_tcp(listener.port), options);
    harness_tls_say_hello(rude.get());
    std::string conn = client().Reply(id).String("result.conn");
    EXPECT_EQ("tls_alert", client().Call("ssl.handshake", OnConn(conn)).Reason());
    LogLine failed = Only(conn, "handshake failed");
    EXPECT_EQ("a\\x22}\\x5c conn=c9.9", failed.Text("sni")) << failed.Raw();
    EXPECT_TRUE(Of("c9.9", "handshake failed").empty());
    ExpectAllValid();
}

/* --- handshakes that fail --- */

struct Failing {
    const char *name;
    const char *options;  /* of the listener, besides its identity */
    const char *bytes;    /* of the peer; NULL: it is a TLS client with: */
    const char *identity, *trust, *priority, *alpn;
    const char *by, *alert, *cause; /* "": no alert */
    const char *detail, *hint;      /* are in it */
};

class FailingHandshakeTest : public LogsTest {};

/* clang-format off */
const Failing failing[] = {
    {"Http", "", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", nullptr, nullptr, nullptr, nullptr,
     "local", "unexpected_message", "not_tls", "speaks HTTP, not TLS", "https://"},
    {"Ssh", "", "SSH-2.0-OpenSSH_9.2\r\n", nullptr, nullptr, nullptr, nullptr,
     "local", "", "not_tls", "speaks SSH, not TLS", "right port"},
    {"TheClientDoesNotTrustUs", "", nullptr, nullptr, "other_ca.pem", nullptr, nullptr,
     "peer", "bad_certificate", "bad_certificate", "", "does not accept our certificate"},
    {"NoSharedVersion", R"(, "versions": ["tlsv1.3"])", nullptr, nullptr, nullptr,
     "NORMAL:-VERS-ALL:+VERS-TLS1.2", nullptr,
     "local", "protocol_version", "no_shared_version", "tlsv1.2; here are tlsv1.3", "option versions"},
    {"NoSharedCipher", R"(, "versions": ["tlsv1.2"])", nullptr, nullptr, nullptr,
     "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-RSA", nullptr,
     "local", "insufficient_security", "no_shared_cipher", "TLS_ECDHE_RSA_WITH_", "option ciphers"},
    {"NoSharedProtocol", R"(, "alpn_preferred_protocols": ["h2"])", nullptr, nullptr, nullptr, nullptr, "http/1.0,ftp",
     "local", "no_application_protocol", "no_application_protocol", "", "option alpn"},
    {"NoClientCertificate", R"(, "verify": "verify_peer", "fail_if_no_peer_cert": true)", nullptr, nullptr, nullptr, nullptr, nullptr,
     "local", "certificate_required", "no_certificate", "", "fail_if_no_peer_cert"},
    {"IntrudersCertificate", R"(, "verify": "verify_peer")", nullptr, "intruder", nullptr, nullptr, nullptr,
     "local", "unknown_ca", "unknown_ca", "issued by CN=", "cacertfile"},
};
/* clang-format on */

TEST_F(FailingHandshakeTest, IsOneLineWithAHint) {
    for (const Failing &p : failing) {
        SCOPED_TRACE(p.name);
        Listener listener = Listen(
            client(), Identity("ecdsa") + ", \"cacertfile\": " + CertFile("ca.pem") + p.options);
        int64_t id =
            client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
        Fd raw(harness_connect_tcp(listener.port));
        std::unique_ptr<Tls> tls;
        if (p.bytes != nullptr) {
            harness_write_all(raw.get(), p.bytes, strlen(p.bytes),
                              harness_deadline(HARNESS_WAIT_MS));
        } else {
            harness_tls_options options = {};
            options.identity = p.identity;
            options.trust = p.trust != nullptr ? harness_cert(p.trust) : nullptr;
            options.name = "localhost";
            options.priority = p.priority;
            options.alpn = p.alpn;
            tls = std::make_unique<Tls>(raw.Take(), options);
            harness_tls_say_hello(tls->get());
        }
        std::string conn = client().Reply(id).String("result.conn");
        id = client().Request("ssl.handshake", OnConn(conn));
        if (tls != nullptr)
            tls->Handshake();
        Line reply = client().Reply(id);
        EXPECT_EQ("tls_alert", reply.Reason()) << reply.Text();

        LogLine line = Only(conn, "handshake failed");
        EXPECT_EQ("tls_alert", line.Text("reason")) << line.Raw();
        EXPECT_EQ(p.by, line.Text("by")) << line.Raw();
        EXPECT_NE(std::string::npos, line.Text("alert").find(p.alert)) << line.Raw();
        EXPECT_NE(std::string::npos, line.Text("cause").find(p.cause)) << line.Raw();
        EXPECT_NE(std::string::npos, line.Text("detail").find(p.detail)) << line.Raw();
        EXPECT_FALSE(line.Text("hint").empty()) << line.Raw();
        EXPECT_NE(std::string::npos, line.Text("hint").find(p.hint)) << line.Raw();
        EXPECT_EQ(line.Text("hint"), reply.String("error.data.hint")) << "the API says the same";
        EXPECT_FALSE(line.Text("state").empty()) << line.Raw();
        EXPECT_EQ(0U, line.Text("peer").find("127.0.0.1:")) << line.Raw();
        if (p.bytes == nullptr) {
            EXPECT_EQ("localhost", line.Text("sni")) << line.Raw();
        }
        if (p.alpn != nullptr) {
            EXPECT_EQ(p.alpn, line.Text("alpn")) << line.Raw();
        }
        EXPECT_TRUE(Of(conn, "closed").empty());
        client().Must("ssl.close", "{\"listener\": \"" + listener.handle + "\"}");
    }
    ExpectAllValid();
}

TEST_F(FailingHandshakeTest, AServersCertificateForAnotherNameIsListed) {
    harness_tls_options server = {};
    server.identity = "wrong_host";
    auto [reply, peer] = Connect(R"("cacertfile": )" + CertFile("ca.pem"), server);
    std::string text = reply.String("error.data.cause.text");
    EXPECT_NE(std::string::npos, text.find("is for elsewhere.example, not for localhost"))
        << reply.Text();
    EXPECT_FALSE(reply.String("error.data.hint").empty());
}

TEST_F(FailingHandshakeTest, AServersExpiredCertificateHasItsDate) {
    harness_tls_options server = {};
    server.identity = "expired";
    auto [reply, peer] = Connect(R"("cacertfile": )" + CertFile("ca.pem"), server);
    std::string text = reply.String("error.data.cause.text");
    EXPECT_NE(std::string::npos, text.find(" expired on 20")) << reply.Text();
}

TEST_F(FailingHandshakeTest, ASilentOrLeavingPeerIsOneLineToo) {
    Listener listener = Listen(client(), Identity("ecdsa"));
    for (const char *reason : {"timeout", "closed"}) {
        SCOPED_TRACE(reason);
        int64_t id =
            client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
        Fd raw(harness_connect_tcp(listener.port));
        /* The beginning of a record, so that the kernel gives it to us. */
        ASSERT_TRUE(
            harness_write_all(raw.get(), "\x16\x03\x01", 3, harness_deadline(HARNESS_WAIT_MS)));
        std::string conn = client().Reply(id).String("result.conn");
        id = client().Request("ssl.handshake", OnConn(conn, "\"timeout\": 300"));
        if (strcmp(reason, "closed") == 0)
            raw.Reset();
        EXPECT_EQ(reason, client().Reply(id).Reason());
        LogLine line = Only(conn, "handshake failed");
        EXPECT_EQ(reason, line.Text("reason")) << line.Raw();
        EXPECT_EQ("peer", line.Text("by")) << line.Raw();
        EXPECT_FALSE(line.Text("hint").empty()) << line.Raw();
    }
}

TEST_F(FailingHandshakeTest, LogAlertFalseKeepsItQuiet) {
    Listener listener = Listen(client(), Identity("ecdsa") + R"(, "log_alert": false)");
    int64_t id =
        client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
    Fd raw(harness_connect_tcp(listener.port));
    ASSERT_TRUE(harness_write_all(raw.get(), "GET / HTTP/1.1\r\n\r\n", 18,
                                  harness_deadline(HARNESS_WAIT_MS)));
    std::string conn = client().Reply(id).String("result.conn");
    EXPECT_EQ("tls_alert", client().Call("ssl.handshake", OnConn(conn)).Reason());
    raw.Reset();
    client().Must("cordon.log_level", R"({"level": "info"})"); /* a line that comes after it */
    EXPECT_TRUE(Eventually([&] {
        for (const LogLine &line : Lines()) {
            if (line.Text("log_level") == "info")
                return true;
        }
        return false;
    }));
    EXPECT_TRUE(Of(conn, "handshake failed").empty());
}

/* --- levels, formats and a stuck stderr --- */

TEST_F(LogsTest, TheLevelReachesKeeperNurseryAndTheWorkersToCome) {
    Listener listener = Listen(client(), Identity("ecdsa"));
    auto has_worker_debug = [&](const std::string &conn) {
        for (const LogLine &line : Lines()) {
            if (line.Text("conn") == conn && line.Text("process") == "worker")
                return true;
        }
        return false;
    };

    client().Must("cordon.log_level", R"({"level": "info"})");
    {
        auto [owned, peer] = Accept(listener);
        owned.data.Reset();
        EXPECT_TRUE(peer.ReadEnd());
        Only(owned.conn, "closed");
        EXPECT_FALSE(has_worker_debug(owned.conn));
    }
    client().Must("cordon.log_level", R"({"level": "debug"})");
    auto [owned, peer] = Accept(listener);
    EXPECT_TRUE(Eventually([&, conn = owned.conn] { return has_worker_debug(conn); }));
}

/* --- process titles --- */

class TitleTest : public ConnectionTest {
protected:
    static std::string TitleOf(pid_t pid) {
        char *text =
            harness_read_file(("/proc/" + std::to_string(pid) + "/cmdline").c_str(), nullptr);
        std::string title = text != nullptr ? text : "";

        free(text);
        return title;
    }
    void ExpectTitle(const std::string &conn, const std::string &title) {
        std::string last;
        pid_t pid = 0;

        EXPECT_TRUE(Eventually([&] {
            pid = pid > 0 ? pid : WorkerOf(conn);
            last = pid > 0 ? TitleOf(pid) : "";
            return last == "cordon worker " + conn + title;
        })) << last
            << "\ninstead of " << title;
    }
    static std::string AddressOf(int fd) {
        struct sockaddr_in name = {};
        socklen_t size = sizeof(name);

        EXPECT_EQ(0, getsockname(fd, reinterpret_cast<struct sockaddr *>(&name), &size));
        return "127.0.0.1:" + std::to_string(ntohs(name.sin_port));
    }
};

TEST_F(TitleTest, SaysWhoseConnectionItIsAndHowFar) {
    Listener listener = Listen(client(), Identity("ecdsa"));
    int64_t id =
        client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
    Fd raw(harness_connect_tcp(listener.port));
    std::string us = " server " + AddressOf(raw.get());
    ASSERT_TRUE(harness_write_all(raw.get(), "\x16\x03\x01", 3, harness_deadline(HARNESS_WAIT_MS)));
    std::string conn = client().Reply(id).String("result.conn");
    id = client().Request("ssl.handshake", OnConn(conn));
    ExpectTitle(conn, us + " hello");
    raw.Reset();
    EXPECT_EQ("closed", client().Reply(id).Reason());

    id = client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
    harness_tls_options options = {};
    options.name = "not.in.the.title";
    Tls peer(harness_connect_tcp(listener.port), options);
    us = " server " + AddressOf(harness_tls_fd(peer.get()));
    EXPECT_EQ(HARNESS_TLS_AGAIN, harness_tls_say_hello(peer.get()));
    conn = client().Reply(id).String("result.conn");
    id = client().Request("ssl.handshake", OnConn(conn));
    ExpectTitle(conn, us + " cipher TLS1.3");
    EXPECT_TRUE(peer.Handshake());
    Owned owned = OwnedOf(client().Reply(id), conn);
    ExpectTitle(conn, us + " connection TLS1.3");
    pid_t worker = WorkerOf(conn);
    owned.data.Reset();
    EXPECT_TRUE(peer.ReadEnd());
    EXPECT_TRUE(Eventually([&] {
        return TitleOf(worker) == "cordon worker " + conn + us + " closing TLS1.3";
    })) << TitleOf(worker);
    peer.Close();
}

TEST_F(TitleTest, NurseriesSayWhichForks) {
    EXPECT_TRUE(
        Eventually([&] { return Pid("cordon nursery 1") > 0 && Pid("cordon nursery 2") > 0; }));
    EXPECT_TRUE(Eventually([&] {
        std::string first = TitleOf(Pid("cordon nursery 1")),
                    second = TitleOf(Pid("cordon nursery 2"));

        return (first == "cordon nursery 1") != (second == "cordon nursery 2") &&
               (first == "cordon nursery 1 (spare)") != (second == "cordon nursery 2 (spare)");
    })) << TitleOf(Pid("cordon nursery 1"))
        << ", " << TitleOf(Pid("cordon nursery 2"));
    EXPECT_EQ("cordon keeper", TitleOf(Pid("cordon keeper")));
    EXPECT_EQ("cordon manager", TitleOf(Pid("cordon manager")));
}

class StderrTest : public testing::Test {
protected:
    std::string Drain() {
        std::string text;
        char bytes[65536];
        ssize_t got;

        while ((got = read(ends_[0], bytes, sizeof(bytes))) > 0)
            text.append(bytes, static_cast<size_t>(got));
        return text;
    }

    int ends_[2] = {-1, -1};
};

TEST_F(StderrTest, APipeThatNobodyReadsStopsNothingAndTheLossIsTold) {
    ASSERT_EQ(0, pipe2(ends_, O_CLOEXEC | O_NONBLOCK));
    ASSERT_LE(0, fcntl(ends_[1], F_SETPIPE_SZ, 4096));
    harness_tree_options options = {};
    options.log_fd = ends_[1];
    options.config = R"({"log_format": "json"})";
    harness_tree *tree = harness_tree_start(&options);
    ASSERT_NE(nullptr, tree);
    {
        Client client(tree);
        for (int i = 0; i < 200; i++)
            client.Must("cordon.log_level", R"({"level": "debug"})");
        std::string text = Drain();
        client.Must("cordon.log_level", R"({"level": "info"})");
        text += Drain();
        EXPECT_NE(std::string::npos, text.find("log lines were lost")) << text;
        while (!text.empty()) {
            LogLine line(text.substr(0, text.find('\n')));
            /* Before the manager has read its configuration, text is written. */
            EXPECT_TRUE(line.IsValid() || line.Raw().find("Z debug cordond ") != std::string::npos)
                << line.Raw();
            text.erase(0, text.find('\n') + 1);
        }
    }
    int status = harness_tree_stop(tree);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT_TRUE(harness_tree_nothing_left(tree, harness_deadline(HARNESS_WAIT_MS)));
    harness_tree_free(tree);
    close(ends_[0]);
    close(ends_[1]);
}

} /* namespace */
