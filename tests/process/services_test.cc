/* Connections that Cordon itself serves: what a backend, a program and the peer see of each other. */
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "tests/harness/connection.h"

namespace {

using namespace harness;
using namespace std::string_literals;

constexpr int ALERT_INTERNAL_ERROR = 80;

/* A plain server of the test's own. */
class Backend {
public:
    Backend() : listener_(harness_listen_tcp(&port_)) {}
    explicit Backend(const std::string &path) : listener_(socket(AF_UNIX, SOCK_STREAM, 0)) {
        sockaddr_un address = {};
        address.sun_family = AF_UNIX;
        strcpy(address.sun_path, path.c_str());
        EXPECT_EQ(0, bind(listener_.get(), reinterpret_cast<sockaddr *>(&address), sizeof address));
        EXPECT_EQ(0, chmod(path.c_str(), 0666));
        EXPECT_EQ(0, listen(listener_.get(), 16));
    }
    uint16_t port() const { return port_; }
    std::string Address() const { return "127.0.0.1:" + std::to_string(port_); }
    Fd Accept() {
        EXPECT_TRUE(harness_wait_fd(listener_.get(), POLLIN, harness_deadline(HARNESS_WAIT_MS)));
        return Fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
    /* -1: nobody has called. */
    Fd AcceptNow() {
        if (!harness_wait_fd(listener_.get(), POLLIN, 0))
            return Fd();
        return Fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }

private:
    uint16_t port_ = 0;
    Fd listener_;
};

/* What read(2) says at last: 0 for a clean end, else errno. */
int EndOf(const Fd &fd) {
    char bytes[4096];

    for (;;) {
        if (!harness_wait_fd(fd.get(), POLLIN, harness_deadline(HARNESS_WAIT_MS)))
            return ETIMEDOUT;
        ssize_t got = recv(fd.get(), bytes, sizeof bytes, 0);
        if (got <= 0)
            return got == 0 ? 0 : errno;
    }
}

class ServicesTest : public ConnectionTest {
protected:
    Listener Serve(const std::string &deliver, const std::string &options = "") {
        return Listen(client(), Identity("ecdsa") + options, ", \"deliver\": " + deliver);
    }
    Listener ServeConnect(const std::string &address, const std::string &more = "") {
        return Serve("{\"connect\": \"" + address + "\"" + more + "}");
    }
    Tls Call(const Listener &listener, harness_tls_options options = {}) {
        Tls peer(harness_connect_tcp(listener.port), options);
        EXPECT_TRUE(peer.Handshake()) << harness_tls_error(peer.get());
        return peer;
    }
    std::string OnlyConnection() {
        std::string conn;

        EXPECT_TRUE(Eventually([&] {
            Line line = client().Must("cordon.connections", R"({"limit": 1000})");
            const json_t *row = json_array_get(line.At("result.connections"), 0);
            const char *state = json_string_value(json_object_get(row, "state"));
            if (state == nullptr || strcmp(state, "connection") != 0)
                return false;
            conn = json_string_value(json_object_get(row, "conn"));
            return true;
        }));
        return conn;
    }
    void ExpectAlert(Tls &peer, int alert) {
        EXPECT_FALSE(peer.ReadEnd());
        EXPECT_EQ(alert, harness_tls_received_alert(peer.get())) << harness_tls_error(peer.get());
    }
};

/* --- connect -------------------------------------------------------------------------------- */

TEST_F(ServicesTest, ABackendHearsThePeerAndIsHeard) {
    Backend backend;
    Tls peer = Call(ServeConnect(backend.Address()));
    Fd plain = backend.Accept();

    ASSERT_TRUE(peer.Write("question"));
    EXPECT_EQ("question", ReadPlain(plain, 8));
    ASSERT_TRUE(WritePlain(plain, "answer"));
    EXPECT_EQ("answer", peer.Read(6));
    ASSERT_TRUE(peer.Bye());
    EXPECT_EQ(0, EndOf(plain));
    plain.Reset();
    EXPECT_TRUE(peer.ReadEnd());
    peer.Close();
    EXPECT_TRUE(WaitLog("closed how=close_notify in=8 out=6"));
}

TEST_F(ServicesTest, AUnixBackendIsServedToo) {
    std::string path = std::string(harness_tree_folder(tree_)) + "/backend.sock";
    Backend backend(path);
    Tls peer = Call(ServeConnect(path));
    Fd plain = backend.Accept();

    ASSERT_TRUE(peer.Write("question"));
    EXPECT_EQ("question", ReadPlain(plain, 8));
    ASSERT_TRUE(WritePlain(plain, "answer"));
    EXPECT_EQ("answer", peer.Read(6));
    ASSERT_TRUE(peer.Bye());
    EXPECT_EQ(0, EndOf(plain));
    plain.Reset();
    EXPECT_TRUE(peer.ReadEnd());
    EXPECT_EQ(0, unlink(path.c_str()));
}

TEST_F(ServicesTest, ThePeersGoodbyeLeavesTheOtherDirectionOpen) {
    Backend backend;
    Tls peer = Call(ServeConnect(backend.Address()));
    Fd plain = backend.Accept();

    ASSERT_TRUE(peer.Bye());
    EXPECT_EQ(0, EndOf(plain));
    ASSERT_TRUE(WritePlain(plain, "still here"));
    EXPECT_EQ("still here", peer.Read(10));
    plain.Reset();
    EXPECT_TRUE(peer.ReadEnd());
}

TEST_F(ServicesTest, TheBackendsEndLeavesTheOtherDirectionOpen) {
    Backend backend;
    Tls peer = Call(ServeConnect(backend.Address()));
    Fd plain = backend.Accept();

    ASSERT_EQ(0, shutdown(plain.get(), SHUT_WR));
    EXPECT_TRUE(peer.ReadEnd());
    ASSERT_TRUE(peer.Write("still here"));
    EXPECT_EQ("still here", ReadPlain(plain, 10));
    ASSERT_TRUE(peer.Bye());
    EXPECT_EQ(0, EndOf(plain));
}

TEST_F(ServicesTest, AKilledWorkerResetsTheBackend) {
    Backend backend;
    Tls peer = Call(ServeConnect(backend.Address()));
    Fd plain = backend.Accept();

    ASSERT_TRUE(peer.Write("half"));
    EXPECT_EQ("half", ReadPlain(plain, 4));
    KillWorker(OnlyConnection());
    EXPECT_EQ(ECONNRESET, EndOf(plain));
    EXPECT_FALSE(peer.ReadEnd());
}

TEST_F(ServicesTest, ATruncatedStreamResetsTheBackend) {
    Backend backend;
    Tls peer = Call(ServeConnect(backend.Address()));
    Fd plain = backend.Accept();

    ASSERT_TRUE(peer.Write("half"));
    EXPECT_EQ("half", ReadPlain(plain, 4));
    peer.Close();
    EXPECT_EQ(ECONNRESET, EndOf(plain));
    EXPECT_TRUE(WaitLog("closed how=truncated in=4"));
}

/* They leave while the backend is called, more or less. */
TEST_F(ServicesTest, APeerThatLeavesAtOnceIsNoEmptyRequest) {
    Backend backend;
    Listener listener = ServeConnect(backend.Address());

    for (int i = 0; i < 50; i++)
        Call(listener).Close();
    EXPECT_TRUE(Eventually(
        [&] { return client().Must("cordon.status").Integer("result.connections") == 0; }));
    for (Fd plain; (plain = backend.AcceptNow()).get() >= 0;)
        EXPECT_EQ(ECONNRESET, EndOf(plain));
}

TEST_F(ServicesTest, ABackendThatResetsIsNoCleanEndForThePeer) {
    Backend backend;
    Tls peer = Call(ServeConnect(backend.Address()));
    Fd plain = backend.Accept();
    linger now = {1, 0};

    ASSERT_TRUE(WritePlain(plain, "half"));
    EXPECT_EQ("half", peer.Read(4));
    ASSERT_EQ(0, setsockopt(plain.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now));
    plain.Reset();
    ExpectAlert(peer, ALERT_INTERNAL_ERROR);
    EXPECT_TRUE(WaitLog("closed how=posix in=0 out=4"));
}

TEST_F(ServicesTest, ABackendThatIsNotThereIsAnAlertAndAHint) {
    uint16_t port;
    Fd(harness_listen_tcp(&port));
    client().Must("cordon.subscribe", R"({"types": ["connection_closed"]})");
    Tls peer = Call(ServeConnect("127.0.0.1:" + std::to_string(port)));

    ExpectAlert(peer, ALERT_INTERNAL_ERROR);
    EXPECT_TRUE(WaitLog("error .*backend cannot be reached listener=l.* backend=\"127.0.0.1:.*"
                        "error=econnrefused hint=\"nobody listens there"));
    Line event = client().Event("cordon.event");
    EXPECT_EQ("posix", event.String("params.reason")) << event.Text();
    EXPECT_EQ("econnrefused", event.String("params.posix"));
}

TEST_F(ServicesTest, ABackendThatDoesNotAcceptIsGivenUp) {
    std::string path = std::string(harness_tree_folder(tree_)) + "/full.sock";
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path.c_str());
    Fd full(socket(AF_UNIX, SOCK_STREAM, 0)), filler(socket(AF_UNIX, SOCK_STREAM, 0));
    auto *where = reinterpret_cast<sockaddr *>(&address);
    ASSERT_EQ(0, bind(full.get(), where, sizeof address));
    ASSERT_EQ(0, chmod(path.c_str(), 0666));
    ASSERT_EQ(0, listen(full.get(), 0));
    ASSERT_EQ(0, connect(filler.get(), where, sizeof address));
    Tls peer = Call(ServeConnect(path, ", \"connect_timeout\": 100"));

    ExpectAlert(peer, ALERT_INTERNAL_ERROR);
    EXPECT_TRUE(WaitLog("error=etimedout"));
    EXPECT_EQ(0, unlink(path.c_str()));
}

TEST_F(ServicesTest, APeerThatLeavesWhileTheBackendIsCalledLeavesNothingBehind) {
    std::string path = std::string(harness_tree_folder(tree_)) + "/full.sock";
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path.c_str());
    Fd full(socket(AF_UNIX, SOCK_STREAM, 0)), filler(socket(AF_UNIX, SOCK_STREAM, 0));
    auto *where = reinterpret_cast<sockaddr *>(&address);
    ASSERT_EQ(0, bind(full.get(), where, sizeof address));
    ASSERT_EQ(0, chmod(path.c_str(), 0666));
    ASSERT_EQ(0, listen(full.get(), 0));
    ASSERT_EQ(0, connect(filler.get(), where, sizeof address));
    Tls peer = Call(ServeConnect(path, ", \"connect_timeout\": 600000"));

    peer.Close();
    EXPECT_TRUE(WaitLog("closed how=truncated"));
    EXPECT_EQ(0, unlink(path.c_str()));
}

TEST_F(ServicesTest, ParallelListensKeepToListenersMax) {
    Restart(R"({"listeners_max": 3})");
    std::vector<int64_t> ids;
    size_t made = 0;

    for (int i = 0; i < 8; i++)
        ids.push_back(
            client().Request("ssl.listen", R"({"listen": {"address": "127.0.0.1", "port": 0}, )"
                                           R"("options": {)" +
                                               Identity("ecdsa") + "}}"));
    for (int64_t id : ids) {
        Line line = client().Reply(id);
        made += line.IsResult() ? 1 : 0;
        if (!line.IsResult()) {
            EXPECT_EQ("limit", line.Reason()) << line.Text();
        }
    }
    EXPECT_EQ(3U, made);
}

/* --- the PROXY header ----------------------------------------------------------------------- */

std::string Number(size_t number, size_t size) {
    std::string bytes;

    while (size-- > 0)
        bytes += static_cast<char>(number >> (8 * size));
    return bytes;
}

std::string Tlv(int type, const std::string &value) {
    return Number(static_cast<size_t>(type), 1) + Number(value.size(), 2) + value;
}

uint16_t LocalPort(int fd) {
    sockaddr_in in = {};
    socklen_t size = sizeof in;

    EXPECT_EQ(0, getsockname(fd, reinterpret_cast<sockaddr *>(&in), &size));
    return ntohs(in.sin_port);
}

/* The whole header for a TCP4 connection on the loopback. */
std::string Header(uint16_t from, uint16_t to, const std::string &tlvs) {
    std::string ip = Number(0x7f000001, 4);
    std::string rest = ip + ip + Number(from, 2) + Number(to, 2) + tlvs;

    return std::string("\r\n\r\n\0\r\nQUIT\n\x21\x11", 14) + Number(rest.size(), 2) + rest;
}

TEST_F(ServicesTest, TheHeaderSaysWhoThePeerIsAndWhatTlsAgreedOn) {
    Backend backend;
    harness_tls_options options = {};
    options.name = "localhost";
    options.alpn = "h2";
    options.identity = "client";
    options.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM";
    Listener listener =
        Serve("{\"connect\": \"" + backend.Address() + "\", \"proxy_protocol\": 2}",
              R"(, "alpn_preferred_protocols": ["h2"], "verify": "verify_peer", "cacertfile": )" +
                  CertFile("ca.pem"));
    Tls peer = Call(listener, options);
    uint16_t from = LocalPort(harness_tls_fd(peer.get()));
    ASSERT_TRUE(peer.Write("first byte"));
    Fd plain = backend.Accept();

    std::string ssl = Number(7, 1) + Number(0, 4) + Tlv(0x21, "TLSv1.2") + Tlv(0x22, "client") +
                      Tlv(0x23, "ECDHE-ECDSA-AES128-GCM-SHA256");
    std::string header =
        Header(from, listener.port,
               Tlv(1, "h2") + Tlv(2, "localhost") + Tlv(5, OnlyConnection()) + Tlv(0x20, ssl));
    EXPECT_EQ(header, ReadPlain(plain, header.size()));
    EXPECT_EQ("first byte", ReadPlain(plain, 10));
    ASSERT_TRUE(peer.Bye());
    plain.Reset();
    EXPECT_TRUE(peer.ReadEnd());
}

TEST_F(ServicesTest, TheHeaderOfAPeerThatSaysNothingOfItself) {
    Backend backend;
    Listener listener = ServeConnect(backend.Address(), ", \"proxy_protocol\": 2");
    harness_tls_options options = {};
    options.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM";
    Tls peer = Call(listener, options);
    uint16_t from = LocalPort(harness_tls_fd(peer.get()));
    Fd plain = backend.Accept();

    std::string ssl = Number(1, 1) + Number(1, 4) + Tlv(0x21, "TLSv1.3") +
                      Tlv(0x23, "TLS_AES_256_GCM_SHA384");
    std::string header = Header(from, listener.port, Tlv(5, OnlyConnection()) + Tlv(0x20, ssl));
    EXPECT_EQ(header, ReadPlain(plain, header.size()));
    ASSERT_TRUE(peer.Bye());
    EXPECT_EQ(0, EndOf(plain));
    plain.Reset();
    EXPECT_TRUE(peer.ReadEnd());
}

/* --- echo ----------------------------------------------------------------------------------- */

TEST_F(ServicesTest, AnEchoComesBackAndSoDoesTheGoodbye) {
    Tls peer = Call(Serve(R"({"echo": true})"));

    ASSERT_TRUE(peer.Write("hello"));
    EXPECT_EQ("hello", peer.Read(5));
    ASSERT_TRUE(peer.Write("again"));
    ASSERT_TRUE(peer.Bye());
    EXPECT_EQ("again", peer.Read(5));
    EXPECT_TRUE(peer.ReadEnd());
    peer.Close();
    EXPECT_TRUE(WaitLog("closed how=close_notify in=10 out=10"));
}

/* Nothing is read for as long as nothing is taken; then all of it comes, in order. */
TEST_F(ServicesTest, AnEchoWaitsForAPeerThatDoesNotRead) {
    Tls peer = Call(Serve(R"({"echo": true})"));
    std::string sent, chunk(16000, '\0');
    bool is_stuck = false;

    while (!is_stuck && sent.size() < (64U << 20)) {
        for (size_t i = 0; i < chunk.size(); i++)
            chunk[i] = static_cast<char>((sent.size() + i) * 7 >> 3);
        size_t size = chunk.size();
        if (harness_tls_write_step(peer.get(), chunk.data(), &size) == HARNESS_TLS_DONE)
            sent += chunk.substr(0, size);
        else
            is_stuck = !harness_wait_fd(harness_tls_fd(peer.get()), POLLOUT, harness_deadline(500));
    }
    ASSERT_TRUE(is_stuck) << "64 MiB were taken";
    std::string got = peer.Read(sent.size());
    EXPECT_TRUE(got == sent);
    peer.Close();
}

/* --- a proxy in front of us ----------------------------------------------------------------- */

class AcceptProxyTest : public ServicesTest {
protected:
    Listener Behind(const std::string &trusted, const std::string &rest = "") {
        return Listen(client(),
                      Identity("ecdsa") + ", \"accept_proxy\": true, \"trusted_proxies\": [" +
                          trusted + "]",
                      rest);
    }
    Fd Caller(const Listener &listener, const std::string &bytes) {
        Fd fd(harness_connect_tcp(listener.port));
        EXPECT_TRUE(WritePlain(fd, bytes));
        return fd;
    }
};

/* From 192.0.2.7:51022 to 198.51.100.1:443. */
const std::string PROXIED = std::string("\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c", 16) +
                            "\xc0\x00\x02\x07\xc6\x33\x64\x01\xc7\x4e\x01\xbb"s;

TEST_F(AcceptProxyTest, ThePeerIsTheOneThatTheProxySpeaksOf) {
    Listener listener = Behind("\"127.0.0.0/8\"");
    int64_t id = client().Request("ssl.accept", "{\"listener\": \"" + listener.handle + "\"}");
    Tls peer(Caller(listener, PROXIED).Take(), {});
    uint16_t from = LocalPort(harness_tls_fd(peer.get()));

    ASSERT_TRUE(peer.Handshake()) << harness_tls_error(peer.get());
    Owned owned = OwnedOf(client().Reply(id));
    EXPECT_EQ("192.0.2.7", owned.reply.String("result.info.peername.address"));
    EXPECT_EQ(51022, owned.reply.Integer("result.info.peername.port"));
    EXPECT_EQ("198.51.100.1", owned.reply.String("result.info.sockname.address"));
    EXPECT_EQ("127.0.0.1", owned.reply.String("result.info.proxied_by.address"));
    EXPECT_EQ(from, owned.reply.Integer("result.info.proxied_by.port"));
    ExpectEcho(owned, peer);
    client().Must("ssl.close", OnConn(owned.conn));
}

TEST_F(AcceptProxyTest, TransportAcceptAnswersWhenTheHeaderIsThere) {
    Listener listener = Behind("\"127.0.0.1\"");
    int64_t id =
        client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
    Fd peer = Caller(listener, PROXIED.substr(0, 20));
    Line nothing;
    EXPECT_TRUE(WritePlain(peer, PROXIED.substr(20)));
    Line line = client().Reply(id);
    EXPECT_EQ("192.0.2.7", line.String("result.peername.address")) << line.Text();
    client().Must("ssl.close", OnConn(line.String("result.conn")));
    EXPECT_EQ(0, EndOf(peer));
}

TEST_F(AcceptProxyTest, TheBackendHearsOfTheFirstPeer) {
    Backend backend;
    Listener listener = Behind("\"127.0.0.1\"", ", \"deliver\": {\"connect\": \"" +
                                                    backend.Address() +
                                                    "\", \"proxy_protocol\": 2}");
    Tls peer(Caller(listener, PROXIED).Take(), {});

    ASSERT_TRUE(peer.Handshake()) << harness_tls_error(peer.get());
    Fd plain = backend.Accept();
    std::string header = ReadPlain(plain, PROXIED.size());
    EXPECT_EQ(PROXIED.substr(0, 14), header.substr(0, 14));
    EXPECT_EQ(PROXIED.substr(16), header.substr(16));
    ASSERT_TRUE(peer.Bye());
    EXPECT_EQ(0, EndOf(plain));
    plain.Reset();
    EXPECT_TRUE(peer.ReadEnd());
}

TEST_F(AcceptProxyTest, AProxysOwnConnectionIsWhoItIs) {
    std::string local = PROXIED;
    local[12] = '\x20';
    Listener listener = Behind("\"127.0.0.1\", \"unix\"");
    int64_t id = client().Request("ssl.accept", "{\"listener\": \"" + listener.handle + "\"}");
    Tls peer(Caller(listener, local).Take(), {});

    ASSERT_TRUE(peer.Handshake()) << harness_tls_error(peer.get());
    Owned owned = OwnedOf(client().Reply(id));
    EXPECT_EQ("127.0.0.1", owned.reply.String("result.info.peername.address"));
    EXPECT_TRUE(json_is_null(owned.reply.At("result.info.proxied_by")));
    client().Must("ssl.close", OnConn(owned.conn));
}

TEST_F(AcceptProxyTest, NobodyElseIsLetIn) {
    Listener listener = Behind("\"192.0.2.0/24\", \"::1\"", R"(, "deliver": {"echo": true})");
    Fd peer = Caller(listener, PROXIED);

    EXPECT_EQ(ECONNRESET, EndOf(peer));
    EXPECT_TRUE(WaitLog("turned away peer=127.0.0.1:.* why=\"it is not one of trusted_proxies"));
}

TEST_F(AcceptProxyTest, WhatIsNoHeaderCostsNoProcess) {
    Listener listener = Behind("\"127.0.0.1\"", R"(, "deliver": {"echo": true})");
    Fd hello = Caller(listener, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    EXPECT_NE(ETIMEDOUT, EndOf(hello));
    EXPECT_TRUE(WaitLog("turned away .* why=\"it does not begin with the signature"));

    for (size_t i = 1; i < PROXIED.size(); i++) {
        Fd cut = Caller(listener, PROXIED.substr(0, i));
        shutdown(cut.get(), SHUT_WR);
        EXPECT_NE(ETIMEDOUT, EndOf(cut)) << i;
    }
    EXPECT_TRUE(WaitLog("turned away .* why=\"it ends before its PROXY header does"));

    Fd silent = Caller(listener, "\r");
    EXPECT_EQ(0, EndOf(silent));
    EXPECT_TRUE(WaitLog("turned away .* why=\"its PROXY header did not come within 5 s"));
    EXPECT_EQ(0U, json_array_size(client().Must("cordon.connections").At("result.connections")));
}

/* Whoever is still waiting ends with the listener. */
TEST_F(AcceptProxyTest, AListenerThatClosesTakesItsArrivalsAlong) {
    Listener listener = Behind("\"127.0.0.1\"", R"(, "deliver": {"echo": true})");
    Fd silent = Caller(listener, "\r");
    Tls peer(Caller(listener, PROXIED).Take(), {}); /* accepted after the silent one */

    ASSERT_TRUE(peer.Handshake());
    client().Must("ssl.close", "{\"listener\": \"" + listener.handle + "\"}");
    EXPECT_NE(ETIMEDOUT, EndOf(silent));
    ASSERT_TRUE(peer.Bye());
    EXPECT_TRUE(peer.ReadEnd());
}

/* --- plain in, TLS out ---------------------------------------------------------------------- */

class OutwardsTest : public ServicesTest {
protected:
    Listener Outwards(uint16_t port, const std::string &options) {
        Line line = client().Must(
            "ssl.listen",
            R"({"listen": {"address": "127.0.0.1", "port": 0}, "deliver": {"client": )"
            R"({"host": "localhost", "port": )" +
                std::to_string(port) + ", \"options\": {" + options + "}}}}");
        return {line.String("result.listener"), static_cast<uint16_t>(line.Integer("result.port"))};
    }
    Tls Server(Backend &backend, const char *identity) {
        harness_tls_options options = {};
        options.is_server = true;
        options.identity = identity;
        return Tls(backend.Accept().Take(), options);
    }
    std::string trust_ = "\"cacertfile\": " + CertFile("ca.pem");
};

TEST_F(OutwardsTest, APlainCallerReachesATlsServer) {
    Backend backend;
    Fd plain(harness_connect_tcp(Outwards(backend.port(), trust_).port));
    Tls server = Server(backend, "server");

    /* The server may speak first. */
    ASSERT_TRUE(server.Handshake()) << harness_tls_error(server.get());
    ASSERT_TRUE(server.Write("welcome"));
    EXPECT_EQ("welcome", ReadPlain(plain, 7));
    ASSERT_TRUE(WritePlain(plain, "question"));
    EXPECT_EQ("question", server.Read(8));
    ASSERT_EQ(0, shutdown(plain.get(), SHUT_WR));
    EXPECT_TRUE(server.ReadEnd());
    ASSERT_TRUE(server.Write("answer"));
    ASSERT_TRUE(server.Bye());
    EXPECT_EQ("answer", ReadPlain(plain, 6));
    EXPECT_EQ(0, EndOf(plain));
    EXPECT_TRUE(WaitLog("closed how=close_notify in=13 out=8"));
}

TEST_F(OutwardsTest, AServerThatIsNotTheOneResetsTheCaller) {
    Backend backend;
    Fd plain(harness_connect_tcp(Outwards(backend.port(), trust_).port));
    ASSERT_TRUE(WritePlain(plain, "secret"));
    Tls server = Server(backend, "wrong_host");

    server.Handshake();
    EXPECT_EQ(ECONNRESET, EndOf(plain));
    EXPECT_FALSE(server.ReadEnd());
    EXPECT_TRUE(WaitLog("hostname_mismatch"));
}

TEST_F(OutwardsTest, AServerThatBreaksOffResetsTheCaller) {
    Backend backend;
    Fd plain(harness_connect_tcp(Outwards(backend.port(), trust_).port));
    Tls server = Server(backend, "server");

    ASSERT_TRUE(server.Handshake());
    ASSERT_TRUE(server.Write("half"));
    EXPECT_EQ("half", ReadPlain(plain, 4));
    server.Close();
    EXPECT_EQ(ECONNRESET, EndOf(plain));
}

TEST_F(OutwardsTest, AServerThatIsNotThereResetsTheCaller) {
    uint16_t port;
    Fd(harness_listen_tcp(&port));
    Fd plain(harness_connect_tcp(Outwards(port, trust_).port));

    EXPECT_EQ(ECONNRESET, EndOf(plain));
    EXPECT_TRUE(WaitLog("connect failed host=\"localhost\""));
}

TEST_F(OutwardsTest, OptionsOfATlsServerHaveNoMeaning) {
    Line line = client().Call("ssl.listen",
                              R"({"listen": {"port": 0}, "options": {)" + Identity("server") +
                                  R"(}, "deliver": {"client": {"host": "localhost", "port": 1}}})");
    EXPECT_NE(std::string::npos, line.String("error.message").find("deliver.client.options"))
        << line.Text();
}

/* --- exec ----------------------------------------------------------------------------------- */

class ExecTest : public ServicesTest {
protected:
    Listener ServeExec(const std::string &words, const std::string &options = "") {
        return Serve("{\"exec\": [" + words + "]}", options);
    }
    Listener ServeShell(const std::string &script, const std::string &options = "") {
        return ServeExec("\"/bin/sh\", \"-c\", " + Quoted(script), options);
    }
    /* Everything until the goodbye. */
    std::string ReadAll(Tls &peer) {
        std::string all;
        char bytes[4096];

        for (int64_t deadline_ms = harness_deadline(HARNESS_WAIT_MS);;) {
            size_t size = sizeof bytes;
            harness_tls_step step = harness_tls_read_step(peer.get(), bytes, &size);

            if (step == HARNESS_TLS_DONE)
                all.append(bytes, size);
            else if (step == HARNESS_TLS_END)
                return all;
            else if (step != HARNESS_TLS_AGAIN ||
                     !harness_wait_fd(harness_tls_fd(peer.get()), POLLIN, deadline_ms))
                return all + "(no end)";
        }
    }
};

TEST_F(ExecTest, AProgramHasThePlaintextOnStdinAndStdout) {
    Tls peer = Call(ServeExec(R"("/usr/bin/tr", "a-z", "A-Z")"));

    ASSERT_TRUE(peer.Write("quiet"));
    ASSERT_TRUE(peer.Bye());
    EXPECT_EQ("QUIET", ReadAll(peer));
    EXPECT_TRUE(WaitLog("program ended exit_status=0"));
    EXPECT_TRUE(WaitLog("closed how=(close_notify|local) in=5 out=5"));
}

TEST_F(ExecTest, AProgramsEndIsTheGoodbye) {
    Tls peer = Call(ServeShell("echo hello; exit 3"));

    EXPECT_EQ("hello\n", ReadAll(peer));
    EXPECT_TRUE(WaitLog("program ended exit_status=3"));
}

TEST_F(ExecTest, AProgramMayEndBeforeItIsReadFrom) {
    Tls peer = Call(ServeExec("\"/bin/true\""));

    EXPECT_EQ("", ReadAll(peer));
}

/* stdin and stdout are one socket: closing one of them says nothing, shutdown(2) does. */
TEST_F(ExecTest, AProgramThatEndsItsOutputGoesOnReading) {
    Tls peer = Call(ServeExec("\"/usr/bin/python3\", \"-c\", " +
                              Quoted("import os, socket\n"
                                     "socket.socket(fileno=os.dup(1)).shutdown(socket.SHUT_WR)\n"
                                     "os._exit(7 if os.read(0, 10) == b'b' else 8)")));

    EXPECT_EQ("", ReadAll(peer));
    ASSERT_TRUE(peer.Write("b"));
    EXPECT_TRUE(WaitLog("program ended exit_status=7"));
}

TEST_F(ExecTest, AProgramKnowsWhoCallsAndHow) {
    harness_tls_options options = {};
    options.name = "localhost";
    options.alpn = "x-test";
    options.identity = "client";
    options.priority = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM";
    Listener listener = ServeExec(
        "\"/usr/bin/env\"",
        R"(, "alpn_preferred_protocols": ["x-test"], "verify": "verify_peer", "cacertfile": )" +
            CertFile("ca.pem"));
    Tls peer = Call(listener, options);
    std::string from = std::to_string(LocalPort(harness_tls_fd(peer.get())));
    std::string to = std::to_string(listener.port);
    std::string got = "\n" + ReadAll(peer);

    for (const std::string &line :
         {"PROTO=SSL"s, "TCPREMOTEIP=127.0.0.1"s, "TCPREMOTEPORT=" + from, "TCPLOCALIP=127.0.0.1"s,
          "TCPLOCALPORT=" + to, "SSLREMOTEIP=127.0.0.1"s, "SSLREMOTEPORT=" + from,
          "SSLLOCALIP=127.0.0.1"s, "SSLLOCALPORT=" + to, "SSL_PROTOCOL=TLSv1.3"s,
          "SSL_CIPHER=TLS_AES_256_GCM_SHA384"s, "SSL_TLS_SNI_SERVERNAME=localhost"s,
          "SSL_ALPN=x-test"s, "SSL_PEER_CERT_SUBJECT=CN=client"s,
          "SSL_PEER_CERT_SUBJECT_CN=client"s, "SSL_PEER_CERT_VERIFIED=1"s,
          "PATH=/usr/local/bin:/usr/bin:/bin"s})
        EXPECT_NE(std::string::npos, got.find("\n" + line + "\n")) << line << " in" << got;
    EXPECT_NE(std::string::npos, got.find("\nCORDON_CONN=c")) << got;
    EXPECT_EQ(std::string::npos, got.find("CORDON_SOCKET")) << got;
}

TEST_F(ExecTest, AProgramHasNothingOfOurs) {
    Tls peer = Call(ServeShell("id -un; umask; ulimit -c; ls /proc/self/fd | tr '\\n' ' '; echo; "
                               "grep -E '^(SigBlk|SigIgn|NoNewPrivs|CapEff)' /proc/self/status"));
    std::string got = ReadAll(peer);
    std::string user = geteuid() == 0 ? "cordon-exec" : "";

    EXPECT_EQ(0U, got.find(user)) << got;
    /* 3 is ls' own. */
    EXPECT_NE(std::string::npos, got.find("\n0022\n0\n0 1 2 3 \n")) << got;
    EXPECT_NE(std::string::npos, got.find("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000"))
        << got;
    EXPECT_NE(std::string::npos, got.find("CapEff:\t0000000000000000\nNoNewPrivs:\t1")) << got;
}

/* "end of file" would be written into a file that the test reads, if it had been seen. */
TEST_F(ExecTest, AProgramIsKilledBeforeItTakesABrokenStreamForItsEnd) {
    for (bool is_killed : {true, false}) {
        size_t from = harness_tree_log_size(tree_);
        Tls peer = Call(ServeShell("read a; echo got; read b; exit 9"));

        ASSERT_TRUE(peer.Write("a\n"));
        EXPECT_EQ("got\n", peer.Read(4));
        if (is_killed)
            KillWorker(OnlyConnection());
        else
            peer.Close();
        EXPECT_TRUE(WaitLog("program ended ", from));
        EXPECT_TRUE(WaitLog("program ended signal=SIGKILL", from));
    }
}

TEST_F(ExecTest, AProgramThatStaysAfterTheGoodbyesIsToldToEnd) {
    Tls peer = Call(ServeExec("\"/usr/bin/python3\", \"-c\", " +
                              Quoted("import os, socket, time\n"
                                     "os.read(0, 1)\n"
                                     "socket.socket(fileno=os.dup(1)).shutdown(socket.SHUT_WR)\n"
                                     "time.sleep(600)")));

    ASSERT_TRUE(peer.Bye());
    EXPECT_TRUE(peer.ReadEnd());
    peer.Close();
    EXPECT_TRUE(WaitLog("program is told to end signal=SIGHUP"));
    EXPECT_TRUE(WaitLog("program ended signal=SIGHUP"));
}

TEST_F(ExecTest, AProgramThatIsNotThereIsAnAlert) {
    Tls peer = Call(ServeExec("\"/nonexistent/program\""));

    ExpectAlert(peer, ALERT_INTERNAL_ERROR);
    EXPECT_TRUE(
        WaitLog("backend cannot be reached .*backend=\"/nonexistent/program\" error=enoent"));
}

TEST_F(ExecTest, AUserWhoIsNotAllowedIsRefusedWithTheFlag) {
    Line line = client().Call("ssl.listen",
                              R"({"listen": {"port": 0}, "options": {)" + Identity("ecdsa") +
                                  R"(}, "deliver": {"exec": ["/bin/true"], "user": "root"}})");
    EXPECT_NE(std::string::npos, line.String("error.message").find("--exec-user root"))
        << line.Text();
}

} // namespace
