/* One connection through the real processes: opened, used and ended in every way there is. */
#include "tests/harness/connection.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

namespace {

using namespace harness;

constexpr int ALERT_UNKNOWN_CA = 48;
constexpr int ALERT_INTERNAL_ERROR = 80;

class ConnectionProcessTest : public ConnectionTest {
protected:
    void EndPeer(harness_peer *peer) {
        if (HasFailure() && peer != nullptr)
            std::cerr << "--- the peer\n" << harness_peer_output(peer) << "---\n";
        harness_peer_free(peer);
    }

    /* What an established connection's last event says, and that there is only this one. */
    void ExpectClosed(const std::string &conn, const std::string &how, int64_t in, int64_t out) {
        Line event = client().Event("ssl_closed", conn);

        EXPECT_EQ(how, event.String("params.how")) << event.Text();
        EXPECT_EQ(in, event.Integer("params.in")) << event.Text();
        EXPECT_EQ(out, event.Integer("params.out")) << event.Text();
        EXPECT_FALSE(client().HasEvent("ssl_closed", conn));
        EXPECT_FALSE(client().HasEvent("ssl_error", conn));
    }
};

/* --- Real peers ----------------------------------------------------------------------------- */

struct RealClient {
    const char *name;
    const char *command; /* %u: the port, %s: the CA file */
    const char *protocol;
};

class RealClientTest : public ConnectionProcessTest,
                       public testing::WithParamInterface<RealClient> {};

TEST_P(RealClientTest, IsAcceptedEchoedAndSaysGoodbye) {
    const RealClient &p = GetParam();
    Listener listener = Listen(client(), Identity("server"));
    int64_t id = client().Request("ssl.accept", "{\"listener\": \"" + listener.handle + "\"}");
    std::string command = p.command;
    command.replace(command.find("%u"), 2, std::to_string(listener.port));
    command.replace(command.find("%s"), 2, harness_cert("ca.pem"));
    harness_peer *peer = harness_peer_run("%s", command.c_str());
    ASSERT_NE(nullptr, peer);

    Owned owned = OwnedOf(client().Reply(id));
    EXPECT_EQ(p.protocol, owned.reply.String("result.info.protocol")) << owned.reply.Text();
    EXPECT_EQ("server", owned.reply.String("result.info.role"));
    EXPECT_TRUE(harness_peer_write(peer, "hello from outside\n", 19));
    EXPECT_EQ("hello from outside\n", ReadPlain(owned.data, 19));
    EXPECT_TRUE(WritePlain(owned.data, "hello from the owner\n"));
    EXPECT_TRUE(
        harness_peer_wait_output(peer, "^hello from the owner", harness_deadline(HARNESS_WAIT_MS)));

    harness_peer_close_input(peer);
    EXPECT_TRUE(harness_read_end(owned.data.get(), harness_deadline(HARNESS_WAIT_MS)));
    owned.data.Reset();
    ExpectClosed(owned.conn, "close_notify", 19, 21);
    EndPeer(peer);
}

/* clang-format off */
INSTANTIATE_TEST_SUITE_P(, RealClientTest, testing::Values(
    RealClient{"OpensslTls13", "openssl s_client -quiet -no_ign_eof -connect 127.0.0.1:%u -tls1_3 "
               "-verify_return_error -servername localhost -CAfile %s", "tlsv1.3"},
    RealClient{"OpensslTls12", "openssl s_client -quiet -no_ign_eof -connect 127.0.0.1:%u -tls1_2 "
               "-verify_return_error -servername localhost -CAfile %s", "tlsv1.2"},
    RealClient{"GnutlsTls13", "gnutls-cli --logfile=/dev/null -p %u --x509cafile %s "
               "--priority NORMAL:-VERS-ALL:+VERS-TLS1.3 localhost", "tlsv1.3"},
    RealClient{"GnutlsTls12", "gnutls-cli --logfile=/dev/null -p %u --x509cafile %s "
               "--priority NORMAL:-VERS-ALL:+VERS-TLS1.2 localhost", "tlsv1.2"}),
    [](const auto &info) { return info.param.name; });
/* clang-format on */

TEST_F(ConnectionProcessTest, CurlGetsAPageFromAnOwner) {
    Listener listener =
        Listen(client(), Identity("ecdsa") + R"(, "alpn_preferred_protocols": ["http/1.1"])");
    int64_t id = client().Request("ssl.accept", "{\"listener\": \"" + listener.handle + "\"}");
    harness_peer *peer =
        harness_peer_run("curl -sS --max-time 20 --cacert %s https://localhost:%u/",
                         harness_cert("ca.pem"), listener.port);
    ASSERT_NE(nullptr, peer);

    Owned owned = OwnedOf(client().Reply(id));
    EXPECT_EQ("localhost", owned.reply.String("result.info.sni_hostname"));
    EXPECT_EQ("http/1.1", owned.reply.String("result.info.alpn"));
    EXPECT_EQ("GET / HTTP/1.1\r\n", ReadPlain(owned.data, 16));
    EXPECT_TRUE(WritePlain(owned.data, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na page\n"));
    EXPECT_EQ(0, shutdown(owned.data.get(), SHUT_WR));
    EXPECT_EQ(0, harness_peer_wait(peer, harness_deadline(HARNESS_WAIT_MS)))
        << harness_peer_output(peer);
    EXPECT_STREQ("a page\n", harness_peer_output(peer));
    owned.data.Reset();
    client().Must("ssl.close", OnConn(owned.conn));
    EndPeer(peer);
}

TEST_F(ConnectionProcessTest, ConnectsToOpensslSServerAndVerifiesItsName) {
    harness_peer *peer =
        harness_peer_run("openssl s_server -accept 127.0.0.1:0 -naccept 1 -cert %s -key %s",
                         harness_cert("server.pem"), harness_cert("server.key"));
    ASSERT_NE(nullptr, peer);
    ASSERT_TRUE(harness_peer_wait_output(peer, "^ACCEPT 127", harness_deadline(HARNESS_WAIT_MS)));
    const char *colon = strrchr(harness_peer_output(peer), ':');
    ASSERT_NE(nullptr, colon);

    Owned owned = OwnedOf(client().Must(
        "ssl.connect", "{\"host\": \"localhost\", \"port\": " + std::to_string(atoi(colon + 1)) +
                           R"(, "options": {"cacertfile": )" + CertFile("ca.pem") + "}}"));
    EXPECT_EQ("client", owned.reply.String("result.info.role"));
    EXPECT_TRUE(json_is_true(owned.reply.At("result.info.peer_certificate.verified")))
        << owned.reply.Text();
    EXPECT_TRUE(WritePlain(owned.data, "to the server\n"));
    EXPECT_TRUE(
        harness_peer_wait_output(peer, "^to the server", harness_deadline(HARNESS_WAIT_MS)));
    EXPECT_TRUE(harness_peer_write(peer, "to the owner\n", 13));
    EXPECT_EQ("to the owner\n", ReadPlain(owned.data, 13));
    client().Must("ssl.close", OnConn(owned.conn));
    EndPeer(peer);
}

TEST_F(ConnectionProcessTest, ConnectsToPythonsSslServer) {
    static const char program[] = "import socket,ssl,sys\n"
                                  "c=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
                                  "c.load_cert_chain(sys.argv[1])\n"
                                  "l=socket.create_server(('127.0.0.1',0))\n"
                                  "print('port',l.getsockname()[1],flush=True)\n"
                                  "s=c.wrap_socket(l.accept()[0],server_side=True)\n"
                                  "s.sendall(s.recv(100).upper())\n"
                                  "s.unwrap()\n";
    const char *argv[] = {"python3", "-c", program, harness_cert("ed25519.both.pem"), nullptr};
    harness_peer *peer = harness_peer_start(argv);
    ASSERT_NE(nullptr, peer);
    ASSERT_TRUE(harness_peer_wait_output(peer, "^port [0-9]+$", harness_deadline(HARNESS_WAIT_MS)));

    Owned owned = OwnedOf(client().Must(
        "ssl.connect", "{\"host\": \"127.0.0.1\", \"port\": " +
                           std::to_string(atoi(harness_peer_output(peer) + 5)) +
                           R"(, "options": {"cacertfile": )" + CertFile("ca.pem") + "}}"));
    EXPECT_EQ("ed25519", owned.reply.String("result.info.peer_certificate.key"))
        << owned.reply.Text();
    EXPECT_TRUE(WritePlain(owned.data, "quiet"));
    EXPECT_EQ("QUIET", ReadPlain(owned.data, 5));
    EXPECT_TRUE(harness_read_end(owned.data.get(), harness_deadline(HARNESS_WAIT_MS)));
    owned.data.Reset();
    ExpectClosed(owned.conn, "close_notify", 5, 5);
    EndPeer(peer);
}

/* --- Keys ----------------------------------------------------------------------------------- */

struct KeyCase {
    const char *name;
    const char *options; /* file names after @ */
    const char *priority;
};

class KeyTest : public ConnectionProcessTest, public testing::WithParamInterface<KeyCase> {};

static std::string WithFiles(std::string options) {
    for (size_t at; (at = options.find('@')) != std::string::npos;) {
        size_t end = options.find_first_of(",} ", at);

        end = std::min(end, options.size());
        options.replace(at, end - at, CertFile(options.substr(at + 1, end - at - 1)));
    }
    return options;
}

TEST_P(KeyTest, SignsAHandshake) {
    harness_tls_options peer_options = {};
    peer_options.trust = harness_cert("ca.pem");
    peer_options.name = "localhost";
    peer_options.priority = GetParam().priority;
    Listener listener = Listen(client(), WithFiles(GetParam().options));
    auto [owned, peer] = Accept(listener, peer_options);
    ExpectEcho(owned, peer);
}

/* clang-format off */
constexpr const char *TLS13 = "NORMAL:-VERS-ALL:+VERS-TLS1.3";
constexpr const char *TLS12 = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
#define ENCRYPTED_PASSWORD "\"password\": \"" HARNESS_PASSWORD "\""
INSTANTIATE_TEST_SUITE_P(, KeyTest, testing::Values(
    KeyCase{"RsaTls13", "\"certfile\": @server.pem, \"keyfile\": @server.key", TLS13},
    KeyCase{"RsaTls12", "\"certfile\": @server.pem, \"keyfile\": @server.key", TLS12},
    KeyCase{"RsaPkcs1", "\"certfile\": @server.pem, \"keyfile\": @server.pkcs1.key", TLS13},
    KeyCase{"EcdsaTls13", "\"certfile\": @ecdsa.pem, \"keyfile\": @ecdsa.key", TLS13},
    KeyCase{"EcdsaTls12", "\"certfile\": @ecdsa.pem, \"keyfile\": @ecdsa.key", TLS12},
    KeyCase{"Ed25519Tls13", "\"certfile\": @ed25519.pem, \"keyfile\": @ed25519.key", TLS13},
    KeyCase{"Ed25519Tls12", "\"certfile\": @ed25519.pem, \"keyfile\": @ed25519.key", TLS12},
    KeyCase{"OneFile", "\"certfile\": @server.both.pem", TLS13},
    KeyCase{"Encrypted", "\"certfile\": @server.pem, \"keyfile\": @server.encrypted.key, " ENCRYPTED_PASSWORD, TLS13},
    KeyCase{"EncryptedInOneFile", "\"certfile\": @server.encrypted.both.pem, " ENCRYPTED_PASSWORD, TLS12}),
    [](const auto &info) { return info.param.name; });
/* clang-format on */

/* --- Accept and handshake ------------------------------------------------------------------- */

TEST_F(ConnectionProcessTest, TransportAcceptThenHandshake) {
    Listener listener = Listen(client(), Identity("server"));
    int64_t id =
        client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
    Fd socket(harness_connect_tcp(listener.port));
    Tls peer(socket.Take(), {});
    harness_tls_say_hello(peer.get()); /* the hello is out */
    Line accepted = client().Reply(id);
    std::string conn = accepted.String("result.conn");
    EXPECT_EQ("127.0.0.1", accepted.String("result.peername.address")) << accepted.Text();
    EXPECT_EQ("waiting", StateOf(conn));
    EXPECT_EQ("bad_state", client().Call("ssl.connection_information", OnConn(conn)).Reason());

    id = client().Request("ssl.handshake", OnConn(conn, "\"timeout\": 10000"));
    EXPECT_TRUE(peer.Handshake());
    Owned owned = OwnedOf(client().Reply(id), conn);
    EXPECT_EQ("connection", StateOf(conn));
    EXPECT_EQ("bad_state", client().Call("ssl.handshake", OnConn(conn)).Reason());
    ExpectEcho(owned, peer);
    Line info = client().Must("ssl.connection_information", OnConn(conn));
    EXPECT_EQ(13, info.Integer("result.info.bytes.in")) << info.Text();
    EXPECT_EQ(14, info.Integer("result.info.bytes.out")) << info.Text();
    EXPECT_EQ("awake", info.String("result.info.hibernation"));
}

TEST_F(ConnectionProcessTest, AcceptAutoDeliversEachConnection) {
    Listener listener = Listen(client(), Identity("ecdsa"), R"(, "accept": "auto")");
    for (int i = 0; i < 3; i++) {
        Tls peer(harness_connect_tcp(listener.port), {});
        EXPECT_TRUE(peer.Handshake());
        Line event = client().Event("ssl_accepted");
        EXPECT_EQ(listener.handle, event.String("params.listener")) << event.Text();
        Fd data = event.TakeFd();
        EXPECT_TRUE(peer.Write("ping"));
        EXPECT_EQ("ping", ReadPlain(data, 4));
    }
}

TEST_F(ConnectionProcessTest, ASilentPeerMeetsTheHandshakeTimeout) {
    Fd pair[2];
    int sockets[2];
    ASSERT_TRUE(harness_tcp_pair(sockets));
    pair[0].Reset(sockets[0]);
    pair[1].Reset(sockets[1]);
    int64_t started_ms = harness_now_ms();
    Line line = client().Call("ssl.upgrade",
                              R"({"fd_index": 0, "role": "server", "timeout": 300, "options": {)" +
                                  Identity("server") + "}}",
                              {pair[0].get()});
    EXPECT_EQ("timeout", line.Reason()) << line.Text();
    EXPECT_GE(harness_now_ms() - started_ms, 300);
}

/* --- Upgrade -------------------------------------------------------------------------------- */

struct UpgradeCase {
    const char *name;
    bool is_server, is_unix;
};

class UpgradeTest : public ConnectionProcessTest, public testing::WithParamInterface<UpgradeCase> {
protected:
    void MakePair(Fd pair[2]) {
        int sockets[2] = {-1, -1};

        if (GetParam().is_unix) {
            ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
        } else {
            ASSERT_TRUE(harness_tcp_pair(sockets));
        }
        pair[0].Reset(sockets[0]);
        pair[1].Reset(sockets[1]);
    }
    std::string Params(const std::string &more = "") {
        return std::string(R"({"fd_index": 0, "role": ")") +
               (GetParam().is_server ? "server" : "client") + R"(", "options": {)" +
               (GetParam().is_server
                    ? Identity("server")
                    : R"("verify_hostname": "localhost", "cacertfile": )" + CertFile("ca.pem")) +
               more + "}}";
    }
    harness_tls_options PeerOptions() {
        harness_tls_options options = {};

        options.is_server = !GetParam().is_server;
        if (options.is_server)
            options.identity = "server";
        return options;
    }
};

TEST_P(UpgradeTest, GoesOnWithTlsOnASocketOfTheOwner) {
    Fd pair[2];
    MakePair(pair);
    int64_t id = client().Request("ssl.upgrade", Params(), {pair[0].get()});
    pair[0].Reset();
    Tls peer(pair[1].Take(), PeerOptions());
    EXPECT_TRUE(peer.Handshake());
    Owned owned = OwnedOf(client().Reply(id));
    ASSERT_GE(owned.data.get(), 0) << owned.reply.Text();
    ExpectEcho(owned, peer);
    EXPECT_TRUE(peer.Bye());
    EXPECT_TRUE(harness_read_end(owned.data.get(), harness_deadline(HARNESS_WAIT_MS)));
    owned.data.Reset();
    EXPECT_TRUE(peer.ReadEnd());
    ExpectClosed(owned.conn, "close_notify", 13, 14);
}

TEST_P(UpgradeTest, GoesOnWithMessages) {
    Fd pair[2];
    MakePair(pair);
    int64_t id =
        client().Request("ssl.upgrade", Params(R"(, "delivery": "messages")"), {pair[0].get()});
    pair[0].Reset();
    Tls peer(pair[1].Take(), PeerOptions());
    EXPECT_TRUE(peer.Handshake());
    Owned owned = OwnedOf(client().Reply(id));
    EXPECT_EQ(0U, owned.reply.FdCount()) << owned.reply.Text();
    EXPECT_TRUE(peer.Write("a message"));
    Line event = client().Event("ssl", owned.conn);
    EXPECT_EQ("a message", Unbase64(event.String("params.data")));
    EXPECT_EQ(9, event.Integer("params.in"));
    EXPECT_EQ(9, client()
                     .Must("ssl.send", OnConn(owned.conn, R"("text": "an answer")"))
                     .Integer("result.out"));
    EXPECT_EQ("an answer", peer.Read(9));
    client().Must("ssl.close", OnConn(owned.conn));
    EXPECT_TRUE(peer.ReadEnd());
}

INSTANTIATE_TEST_SUITE_P(, UpgradeTest,
                         testing::Values(UpgradeCase{"ServerTcp", true, false},
                                         UpgradeCase{"ServerUnix", true, true},
                                         UpgradeCase{"ClientTcp", false, false},
                                         UpgradeCase{"ClientUnix", false, true}),
                         [](const auto &info) { return info.param.name; });

TEST_F(ConnectionProcessTest, UpgradeTakesBytesThatWereReadBefore) {
    int sockets[2];
    ASSERT_TRUE(harness_tcp_pair(sockets));
    Fd ours(sockets[0]);
    Tls peer(sockets[1], {});
    harness_tls_say_hello(peer.get());
    char hello[4096];
    ASSERT_TRUE(harness_wait_fd(ours.get(), POLLIN, harness_deadline(HARNESS_WAIT_MS)));
    ssize_t got = read(ours.get(), hello, sizeof(hello));
    ASSERT_GT(got, 0);

    int64_t id = client().Request("ssl.upgrade",
                                  R"({"fd_index": 0, "role": "server", "already_read": ")" +
                                      Base64(std::string(hello, static_cast<size_t>(got))) +
                                      R"(", "options": {)" + Identity("server") + "}}",
                                  {ours.get()});
    EXPECT_TRUE(peer.Handshake());
    Owned owned = OwnedOf(client().Reply(id));
    ASSERT_GE(owned.data.get(), 0) << owned.reply.Text();
    ExpectEcho(owned, peer);
}

/* --- Messages ------------------------------------------------------------------------------- */

TEST_F(ConnectionProcessTest, RecvGivesExactlyWhatIsAskedForAndATimeoutLosesNothing) {
    Listener listener =
        Listen(client(), Identity("server") + R"(, "delivery": "messages", "active": false)");
    auto [owned, peer] = Accept(listener);
    const std::string &conn = owned.conn;

    ASSERT_TRUE(peer.Write("0123456789"));
    EXPECT_EQ(
        "0123",
        Unbase64(client().Must("ssl.recv", OnConn(conn, R"("length": 4)")).String("result.data")));
    EXPECT_EQ("timeout",
              client().Call("ssl.recv", OnConn(conn, R"("length": 7, "timeout": 100)")).Reason());
    EXPECT_FALSE(client().HasEvent("ssl", conn));
    ASSERT_TRUE(peer.Write("a"));
    Line line = client().Must("ssl.recv", OnConn(conn, R"("length": 7)"));
    EXPECT_EQ("456789a", Unbase64(line.String("result.data")));
    EXPECT_EQ(11, line.Integer("result.in"));

    int64_t id = client().Request("ssl.recv", OnConn(conn));
    EXPECT_EQ("bad_state", client().Call("ssl.recv", OnConn(conn)).Reason());
    client().Must("cordon.cancel", "{\"id\": " + std::to_string(id) + "}");
    EXPECT_EQ("cancelled", client().Reply(id).Reason());

    client().Must("ssl.setopts", OnConn(conn, R"("options": {"active": true})"));
    EXPECT_EQ("posix", client().Call("ssl.recv", OnConn(conn)).Reason());
    ASSERT_TRUE(peer.Write("now unasked"));
    EXPECT_EQ("now unasked", Unbase64(client().Event("ssl", conn).String("params.data")));
    EXPECT_TRUE(peer.Bye());
    ExpectClosed(conn, "close_notify", 22, 0);
}

TEST_F(ConnectionProcessTest, ListModeGivesIntegers) {
    Listener listener =
        Listen(client(), Identity("server") + R"(, "delivery": "messages", "mode": "list")");
    auto [owned, peer] = Accept(listener);
    ASSERT_TRUE(peer.Write("AB"));
    EXPECT_EQ("[65, 66]", Dump(client().Event("ssl", owned.conn).At("params.data")));
    client().Must("ssl.send", OnConn(owned.conn, R"("bytes": [0, 255])"));
    EXPECT_EQ(std::string("\0\xff", 2), peer.Read(2));
}

TEST_F(ConnectionProcessTest, PassiveDescriptorDeliversOnlyAfterSetopts) {
    Listener listener = Listen(client(), Identity("server") + R"(, "active": false)");
    auto [owned, peer] = Accept(listener);
    ASSERT_TRUE(peer.Write("early"));
    client().Must("ssl.connection_information", OnConn(owned.conn));
    EXPECT_FALSE(harness_wait_fd(owned.data.get(), POLLIN, harness_deadline(200)));
    client().Must("ssl.setopts", OnConn(owned.conn, R"("options": {"active": true})"));
    EXPECT_EQ("early", ReadPlain(owned.data, 5));
}

/* --- Half-close, both ways ------------------------------------------------------------------ */

TEST_F(ConnectionProcessTest, TheOwnerEndsItsHalfAndGoesOnReading) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    ASSERT_TRUE(WritePlain(owned.data, "last words"));
    ASSERT_EQ(0, shutdown(owned.data.get(), SHUT_WR));
    EXPECT_EQ("last words", peer.Read(10));
    EXPECT_TRUE(peer.ReadEnd()) << "no close_notify";
    ASSERT_TRUE(peer.Write("still talking"));
    EXPECT_EQ("still talking", ReadPlain(owned.data, 13));
    ASSERT_TRUE(peer.Bye());
    EXPECT_TRUE(harness_read_end(owned.data.get(), harness_deadline(HARNESS_WAIT_MS)));
    ExpectClosed(owned.conn, "close_notify", 13, 10);
}

TEST_F(ConnectionProcessTest, ThePeerEndsItsHalfAndTheOwnerGoesOnWriting) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    ASSERT_TRUE(peer.Write("last words"));
    ASSERT_TRUE(peer.Bye());
    EXPECT_EQ("last words", ReadPlain(owned.data, 10));
    EXPECT_TRUE(harness_read_end(owned.data.get(), harness_deadline(HARNESS_WAIT_MS)));
    ASSERT_TRUE(WritePlain(owned.data, "still talking"));
    EXPECT_EQ("still talking", peer.Read(13));
    owned.data.Reset();
    EXPECT_TRUE(peer.ReadEnd());
    ExpectClosed(owned.conn, "close_notify", 10, 13);
}

TEST_F(ConnectionProcessTest, SslShutdownWriteSendsWhatWasWrittenAndThenCloseNotify) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    ASSERT_TRUE(WritePlain(owned.data, "before"));
    client().Must("ssl.shutdown", OnConn(owned.conn, R"("how": "write")"));
    EXPECT_EQ("before", peer.Read(6));
    EXPECT_TRUE(peer.ReadEnd());
    ASSERT_TRUE(peer.Write("after"));
    EXPECT_EQ("after", ReadPlain(owned.data, 5));
}

TEST_F(ConnectionProcessTest, ClosingTheDescriptorClosesTheConnection) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    ASSERT_TRUE(WritePlain(owned.data, "bye"));
    owned.data.Reset();
    EXPECT_EQ("bye", peer.Read(3));
    EXPECT_TRUE(peer.ReadEnd());
    peer.Close();
    ExpectClosed(owned.conn, "local", 0, 3);
    Line line = client().Call("ssl.connection_information", OnConn(owned.conn));
    EXPECT_EQ("closed", line.Reason()) << line.Text();
    EXPECT_EQ("local", line.String("error.data.ending.how")) << line.Text();
    client().Must("ssl.close", OnConn(owned.conn));
    EXPECT_EQ("not_found",
              client().Call("ssl.connection_information", OnConn(owned.conn)).Reason());
}

TEST_F(ConnectionProcessTest, SslCloseSendsWhatWasWrittenBefore) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    std::string text(100000, 'x');
    ASSERT_TRUE(WritePlain(owned.data, text));
    client().Must("ssl.close", OnConn(owned.conn));
    EXPECT_EQ(text, peer.Read(text.size()));
    EXPECT_TRUE(peer.ReadEnd());
}

TEST_F(ConnectionProcessTest,
       TheEndOfTheClientEndsItsConnectionsUnlessTheirLifetimeIsTheDescriptors) {
    Client other(tree_);
    Listener listener = Listen(client(), Identity("server"));
    Line line =
        other.Must("ssl.listen", R"({"listen": {"address": "127.0.0.1", "port": 0}, "options": {)" +
                                     Identity("server") + R"(, "lifetime": "descriptor"}})");
    int64_t id =
        other.Request("ssl.accept", "{\"listener\": \"" + line.String("result.listener") + "\"}");
    Tls long_peer(harness_connect_tcp(static_cast<uint16_t>(line.Integer("result.port"))), {});
    ASSERT_TRUE(long_peer.Handshake());
    Owned long_lived = OwnedOf(other.Reply(id));
    auto [owned, peer] = Accept(listener);

    other.Close();
    client_.reset();
    EXPECT_TRUE(peer.ReadEnd()) << "lifetime control outlived its client";
    ExpectEcho(long_lived, long_peer);
    long_lived.data.Reset();
    EXPECT_TRUE(long_peer.ReadEnd());
}

/* --- Endings that are not clean ------------------------------------------------------------- */

TEST_F(ConnectionProcessTest, AFinWithoutCloseNotifyIsATruncation) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    ASSERT_TRUE(peer.Write("half a sent"));
    EXPECT_EQ("half a sent", ReadPlain(owned.data, 11));
    peer.Close();
    ExpectClosed(owned.conn, "truncated", 11, 0);
}

TEST_F(ConnectionProcessTest, AResetIsAnErrorWithItsErrno) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    struct linger reset = {1, 0};
    ASSERT_EQ(0,
              setsockopt(harness_tls_fd(peer.get()), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)));
    peer.Close();
    Line event = client().Event("ssl_error", owned.conn);
    EXPECT_EQ("posix", event.String("params.reason")) << event.Text();
    EXPECT_EQ("econnreset", event.String("params.posix")) << event.Text();
    EXPECT_FALSE(client().HasEvent("ssl_closed", owned.conn));
}

TEST_F(ConnectionProcessTest, APeersFatalAlertIsAnErrorWithItsName) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    ASSERT_TRUE(harness_tls_send_alert(peer.get(), ALERT_INTERNAL_ERROR));
    Line event = client().Event("ssl_error", owned.conn);
    EXPECT_EQ("tls_alert", event.String("params.reason")) << event.Text();
    EXPECT_EQ("internal_error", event.String("params.alert")) << event.Text();
    EXPECT_EQ("peer", event.String("params.sent_by")) << event.Text();
}

TEST_F(ConnectionProcessTest, AClientThatDoesNotTrustUsSaysSo) {
    Listener listener = Listen(client(), Identity("server"));
    std::string conn;
    int64_t id =
        client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
    harness_tls_options options = {};
    options.trust = harness_cert("other_ca.pem");
    options.name = "localhost";
    Tls peer(harness_connect_tcp(listener.port), options);
    harness_tls_say_hello(peer.get());
    conn = client().Reply(id).String("result.conn");
    id = client().Request("ssl.handshake", OnConn(conn));
    EXPECT_FALSE(peer.Handshake());
    Line line = client().Reply(id);
    EXPECT_EQ("tls_alert", line.Reason()) << line.Text();
    EXPECT_EQ("peer", line.String("error.data.sent_by")) << line.Text();
    EXPECT_EQ("server", line.String("error.data.role")) << line.Text();
    EXPECT_FALSE(line.String("error.data.state").empty()) << line.Text();
    EXPECT_FALSE(client().HasEvent("ssl_error", conn)) << "the error was it";
}

TEST_F(ConnectionProcessTest, OurAlertStaysReadableForAlertTimeout) {
    Restart(R"({"alert_timeout": 700})");
    harness_tls_options server = {};
    server.identity = "server";
    int64_t started_ms = harness_now_ms();
    auto [line, peer] = Connect(R"("cacertfile": )" + CertFile("other_ca.pem"), server);
    EXPECT_EQ("tls_alert", line.Reason()) << line.Text();
    EXPECT_EQ("unknown_ca", line.String("error.data.alert")) << line.Text();
    EXPECT_EQ(ALERT_UNKNOWN_CA, line.Integer("error.data.alert_code")) << line.Text();
    EXPECT_EQ("local", line.String("error.data.sent_by")) << line.Text();
    EXPECT_EQ("client", line.String("error.data.role")) << line.Text();

    char byte;
    size_t size = 1;
    while (harness_tls_read_step(peer.get(), &byte, &size) == HARNESS_TLS_AGAIN &&
           harness_wait_fd(harness_tls_fd(peer.get()), POLLIN, harness_deadline(HARNESS_WAIT_MS)))
        size = 1;
    EXPECT_EQ(ALERT_UNKNOWN_CA, harness_tls_received_alert(peer.get()));
    EXPECT_TRUE(harness_read_end(harness_tls_fd(peer.get()), harness_deadline(HARNESS_WAIT_MS)));
    EXPECT_GE(harness_now_ms() - started_ms, 650);
    EXPECT_LE(harness_now_ms() - started_ms, 5000);
}

TEST_F(ConnectionProcessTest, ACertificateForAnotherNameIsRefused) {
    harness_tls_options server = {};
    server.identity = "wrong_host";
    auto [line, peer] = Connect(R"("cacertfile": )" + CertFile("ca.pem"), server);
    EXPECT_EQ("tls_alert", line.Reason()) << line.Text();
    EXPECT_EQ("hostname_mismatch", line.String("error.data.cause.reason")) << line.Text();
}

TEST_F(ConnectionProcessTest, VerifyHostnameCanNameAnother) {
    harness_tls_options server = {};
    server.identity = "wrong_host";
    auto [line, peer] = Connect(
        R"("verify_hostname": "elsewhere.example", "cacertfile": )" + CertFile("ca.pem"), server);
    EXPECT_TRUE(line.IsResult()) << line.Text();
}

TEST_F(ConnectionProcessTest, AnExpiredCertificateIsRefused) {
    harness_tls_options server = {};
    server.identity = "expired";
    auto [line, peer] = Connect(R"("cacertfile": )" + CertFile("ca.pem"), server);
    EXPECT_EQ("tls_alert", line.Reason()) << line.Text();
    EXPECT_EQ("certificate_expired", line.String("error.data.alert")) << line.Text();
}

TEST_F(ConnectionProcessTest, VerifyNoneTakesAnyCertificateAndSaysThatNobodyLooked) {
    harness_tls_options server = {};
    server.identity = "expired";
    auto [line, peer] = Connect(R"("verify": "verify_none")", server);
    EXPECT_TRUE(json_is_false(line.At("result.info.peer_certificate.verified"))) << line.Text();
}

TEST_F(ConnectionProcessTest, NobodyListensIsPosix) {
    uint16_t port = 0;
    Fd listener(harness_listen_tcp(&port));
    listener.Reset();
    Line line =
        client().Call("ssl.connect", "{\"host\": \"127.0.0.1\", \"port\": " + std::to_string(port) +
                                         R"(, "options": {"verify": "verify_none"}})");
    EXPECT_EQ("posix", line.Reason()) << line.Text();
    EXPECT_EQ("econnrefused", line.String("error.data.posix")) << line.Text();
}

/* --- ALPN, SNI ------------------------------------------------------------------------------ */

TEST_F(ConnectionProcessTest, AlpnTakesTheServersFirstChoice) {
    Listener listener =
        Listen(client(), Identity("server") + R"(, "alpn_preferred_protocols": ["b", "a"])");
    harness_tls_options options = {};
    options.alpn = "a,b";
    auto [owned, peer] = Accept(listener, options);
    EXPECT_STREQ("b", harness_tls_alpn(peer.get()));
    EXPECT_EQ(
        "b",
        client().Must("ssl.negotiated_protocol", OnConn(owned.conn)).String("result.protocol"));
}

TEST_F(ConnectionProcessTest, WithoutACommonProtocolTheHandshakeFails) {
    Listener listener =
        Listen(client(), Identity("server") + R"(, "alpn_preferred_protocols": ["b"])");
    int64_t id =
        client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
    harness_tls_options options = {};
    options.alpn = "a";
    Tls peer(harness_connect_tcp(listener.port), options);
    harness_tls_say_hello(peer.get());
    std::string conn = client().Reply(id).String("result.conn");
    id = client().Request("ssl.handshake", OnConn(conn));
    EXPECT_FALSE(peer.Handshake());
    Line line = client().Reply(id);
    EXPECT_EQ("no_application_protocol", line.String("error.data.alert")) << line.Text();
}

TEST_F(ConnectionProcessTest, WithoutAlpnThereIsNoNegotiatedProtocol) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    EXPECT_EQ("protocol_not_negotiated",
              client().Call("ssl.negotiated_protocol", OnConn(owned.conn)).Reason());
    EXPECT_EQ("no_peercert", client().Call("ssl.peercert", OnConn(owned.conn)).Reason());
}

TEST_F(ConnectionProcessTest, AClientAdvertisesAlpnAndTheNameItWants) {
    harness_tls_options server = {};
    server.identity = "server";
    server.alpn = "spdy,http/1.1";
    auto [line, peer] =
        Connect(R"("alpn_advertised_protocols": ["http/1.1"], "cacertfile": )" + CertFile("ca.pem"),
                server);
    EXPECT_EQ("http/1.1", line.String("result.info.alpn")) << line.Text();
    EXPECT_EQ("localhost", line.String("result.info.sni_hostname")) << line.Text();
}

/* --- Client certificates -------------------------------------------------------------------- */

class ClientCertificateTest : public ConnectionProcessTest {
protected:
    /* The reply to ssl.handshake for a peer with this identity (NULL: none). */
    Line HandshakeWith(const char *identity, bool is_required, Fd *data = nullptr) {
        Listener listener =
            Listen(client(), Identity("server") + R"(, "verify": "verify_peer", "cacertfile": )" +
                                 CertFile("ca.pem") +
                                 ", \"fail_if_no_peer_cert\": " + (is_required ? "true" : "false"));
        int64_t id =
            client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
        harness_tls_options options = {};
        options.identity = identity;
        Tls peer(harness_connect_tcp(listener.port), options);
        harness_tls_handshake_step(peer.get());
        conn_ = client().Reply(id).String("result.conn");
        id = client().Request("ssl.handshake", OnConn(conn_));
        peer.Handshake();
        Line line = client().Reply(id);
        if (line.IsResult() && data != nullptr)
            *data = line.TakeFd();
        if (line.IsResult()) {
            certificate_ = client().Call("ssl.peercert", OnConn(conn_));
            client().Must("ssl.close", OnConn(conn_));
        }
        return line;
    }

    std::string conn_;
    Line certificate_;
};

TEST_F(ClientCertificateTest, AValidOneIsReported) {
    Line line = HandshakeWith("client", true);
    EXPECT_TRUE(json_is_true(line.At("result.info.peer_certificate.verified"))) << line.Text();
    EXPECT_EQ("CN=client", line.String("result.info.peer_certificate.subject")) << line.Text();
    size_t size = 0;
    char *pem = harness_read_file(harness_cert("client.pem"), &size);
    EXPECT_EQ(Unbase64(std::string(pem).substr(27, std::string(pem).find("-----END") - 27)),
              Unbase64(certificate_.String("result.der")));
    free(pem);
}

TEST_F(ClientCertificateTest, OneOfAnotherAuthorityIsRefused) {
    Line line = HandshakeWith("intruder", true);
    EXPECT_EQ("unknown_ca", line.String("error.data.alert")) << line.Text();
    EXPECT_EQ("local", line.String("error.data.sent_by")) << line.Text();
}

TEST_F(ClientCertificateTest, NoneIsRefusedWhenOneIsRequired) {
    Line line = HandshakeWith(nullptr, true);
    EXPECT_EQ("tls_alert", line.Reason()) << line.Text();
    EXPECT_EQ("certificate_required", line.String("error.data.alert")) << line.Text();
}

TEST_F(ClientCertificateTest, NoneIsFineWhenNoneIsRequired) {
    Line line = HandshakeWith(nullptr, false);
    EXPECT_TRUE(json_is_null(line.At("result.info.peer_certificate"))) << line.Text();
}

TEST_F(ConnectionProcessTest, AClientSignsWithItsOwnCertificate) {
    for (const char *priority : {TLS13, TLS12}) {
        harness_tls_options server = {};
        server.identity = "server";
        server.trust = harness_cert("ca.pem");
        server.request_client_certificate = true;
        server.priority = priority;
        auto [line, peer] =
            Connect(Identity("client") + R"(, "cacertfile": )" + CertFile("ca.pem"), server);
        EXPECT_TRUE(line.IsResult()) << priority << line.Text();
    }
}

/* --- Deaths --------------------------------------------------------------------------------- */

/* What it takes to get a worker into a state. */
class WorkerDeathTest : public ConnectionProcessTest {
protected:
    void SetUp() override {
        ConnectionProcessTest::SetUp();
        /* Somebody else, who must not notice. */
        bystander_listener_ = Listen(client(), Identity("ecdsa"));
        bystander_ = std::make_unique<std::pair<Owned, Tls>>(Accept(bystander_listener_));
    }
    void TearDown() override {
        if (bystander_ != nullptr)
            ExpectEcho(bystander_->first, bystander_->second);
        bystander_.reset();
        ConnectionProcessTest::TearDown();
    }

    void ExpectDied(const Line &line, const std::string &data, const std::string &state) {
        EXPECT_EQ("worker_died", line.String(data + ".reason")) << line.Text();
        EXPECT_EQ("SIGKILL", line.String(data + ".signal")) << line.Text();
        EXPECT_EQ(state, line.String(data + ".state")) << line.Text();
    }

    /* The next thing the peer sees is no goodbye. */
    void ExpectNoGoodbye(Tls &peer) {
        char byte;
        size_t size = 1;
        harness_tls_step step;

        while (
            (step = harness_tls_read_step(peer.get(), &byte, &size)) == HARNESS_TLS_AGAIN &&
            harness_wait_fd(harness_tls_fd(peer.get()), POLLIN, harness_deadline(HARNESS_WAIT_MS)))
            size = 1;
        EXPECT_EQ(HARNESS_TLS_FAILED, step);
    }

    /* A server connection whose peer has sent nothing yet; the handshake is asked for. */
    int64_t HandshakeWithSilentPeer(Fd *peer, std::string *conn, const std::string &options = "") {
        int sockets[2];

        EXPECT_TRUE(harness_tcp_pair(sockets));
        peer->Reset(sockets[1]);
        Fd ours(sockets[0]);
        int64_t id = client().Request("ssl.upgrade",
                                      R"({"fd_index": 0, "role": "server", "options": {)" +
                                          Identity("server") + options + "}}",
                                      {ours.get()});
        EXPECT_TRUE(Eventually([&] {
            Line line = client().Must("cordon.connections", R"({"state": "hello"})");
            const json_t *row = json_array_get(line.At("result.connections"), 0);

            if (row == nullptr || json_integer_value(json_object_get(row, "pid")) == 0)
                return false;
            *conn = json_string_value(json_object_get(row, "conn"));
            return true;
        }));
        return id;
    }

    Listener bystander_listener_;
    std::unique_ptr<std::pair<Owned, Tls>> bystander_;
};

TEST_F(WorkerDeathTest, WhileItWaitsForTheHello) {
    Fd peer;
    std::string conn;
    int64_t id = HandshakeWithSilentPeer(&peer, &conn);
    pid_t pid = WorkerOf(conn);
    ASSERT_GT(pid, 0);
    /* The board says hello once the worker waits; before, it would be spawned. */
    ASSERT_TRUE(harness_tree_signal(tree_, pid, SIGKILL));
    Line line = client().Reply(id);
    EXPECT_EQ("worker_died", line.Reason()) << line.Text();
    EXPECT_EQ("SIGKILL", line.String("error.data.signal")) << line.Text();
    std::string state = line.String("error.data.state");
    EXPECT_TRUE(state == "hello" || state == "spawned") << line.Text();
}

TEST_F(WorkerDeathTest, WhileItWaitsForThePeersFinished) {
    Fd socket;
    std::string conn;
    int64_t id = HandshakeWithSilentPeer(&socket, &conn);
    pid_t pid = WorkerOf(conn);
    Tls peer(socket.Take(), {});
    harness_tls_say_hello(peer.get());
    /* The server's whole flight is there: now it waits for ours. */
    ASSERT_TRUE(
        harness_wait_fd(harness_tls_fd(peer.get()), POLLIN, harness_deadline(HARNESS_WAIT_MS)));
    ASSERT_TRUE(harness_tree_signal(tree_, pid, SIGKILL));
    Line line = client().Reply(id);
    ExpectDied(line, "error.data", "cipher");
}

TEST_F(WorkerDeathTest, WhileItWaitsForAClientCertificate) {
    Fd socket;
    std::string conn;
    int64_t id = HandshakeWithSilentPeer(
        &socket, &conn, R"(, "verify": "verify_peer", "cacertfile": )" + CertFile("ca.pem"));
    pid_t pid = WorkerOf(conn);
    Tls peer(socket.Take(), {});
    harness_tls_say_hello(peer.get());
    ASSERT_TRUE(
        harness_wait_fd(harness_tls_fd(peer.get()), POLLIN, harness_deadline(HARNESS_WAIT_MS)));
    ASSERT_TRUE(harness_tree_signal(tree_, pid, SIGKILL));
    Line line = client().Reply(id);
    ExpectDied(line, "error.data", "certify");
}

TEST_F(WorkerDeathTest, InConnection) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    ExpectEcho(owned, peer);
    /* The worker answers between two turns of its pump: what has moved is on its page then. */
    client().Must("ssl.connection_information", OnConn(owned.conn));
    KillWorker(owned.conn);
    Line event = client().Event("ssl_error", owned.conn);
    ExpectDied(event, "params", "connection");
    EXPECT_FALSE(client().HasEvent("ssl_closed", owned.conn));
    EXPECT_EQ(13, event.Integer("params.in")) << event.Text();
    EXPECT_EQ(14, event.Integer("params.out")) << event.Text();
    ExpectNoGoodbye(peer);
    Line line = client().Call("ssl.connection_information", OnConn(owned.conn));
    EXPECT_EQ("closed", line.Reason());
    EXPECT_EQ("worker_died", line.String("error.data.ending.reason")) << line.Text();
}

TEST_F(WorkerDeathTest, InConnectionWithMessages) {
    Listener listener =
        Listen(client(), Identity("server") + R"(, "delivery": "messages", "active": false)");
    auto [owned, peer] = Accept(listener);
    int64_t id = client().Request("ssl.recv", OnConn(owned.conn));
    KillWorker(owned.conn);
    EXPECT_EQ("closed", client().Reply(id).Reason());
    ExpectDied(client().Event("ssl_error", owned.conn), "params", "connection");
    ExpectNoGoodbye(peer);
}

TEST_F(WorkerDeathTest, WhileItClosesAndThePeerDoesNot) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    pid_t pid = WorkerOf(owned.conn);
    owned.data.Reset();
    EXPECT_TRUE(peer.ReadEnd()) << "no close_notify";
    ASSERT_TRUE(harness_tree_signal(tree_, pid, SIGKILL));
    ASSERT_TRUE(process_wait_end(pid, harness_deadline(HARNESS_WAIT_MS)));
    /* Both goodbyes were said or not: either way there is one last event, and only one. */
    ASSERT_TRUE(Eventually([&, conn = owned.conn] {
        return client().HasEvent("ssl_error", conn) || client().HasEvent("ssl_closed", conn);
    }));
    EXPECT_NE(client().HasEvent("ssl_error", owned.conn),
              client().HasEvent("ssl_closed", owned.conn));
}

TEST_F(WorkerDeathTest, AfterItHasSentAFatalAlert) {
    harness_tls_options server = {};
    server.identity = "server";
    auto [line, peer] = Connect(R"("cacertfile": )" + CertFile("other_ca.pem"), server);
    EXPECT_EQ("unknown_ca", line.String("error.data.alert")) << line.Text();
    std::vector<process> found(64);
    size_t count = processes_below(harness_tree_pid(tree_), found.data(), found.size());
    pid_t bystander = WorkerOf(bystander_->first.conn);
    for (size_t i = 0; i < count; i++) {
        if (Census::KindOf(found[i], i == 0) == "cordon worker" && found[i].pid != bystander) {
            EXPECT_TRUE(harness_tree_signal(tree_, found[i].pid, SIGKILL));
            EXPECT_TRUE(process_wait_end(found[i].pid, harness_deadline(HARNESS_WAIT_MS)));
        }
    }
}

TEST_F(WorkerDeathTest, NewConnectionsGoOnAtOnce) {
    Listener listener = Listen(client(), Identity("server"));
    for (int i = 0; i < 5; i++) {
        auto [owned, peer] = Accept(listener);
        KillWorker(owned.conn);
        client().Event("ssl_error", owned.conn);
    }
    auto [owned, peer] = Accept(listener);
    ExpectEcho(owned, peer);
}

TEST_F(WorkerDeathTest, AStoppedWorkerDelaysNobodyElse) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    pid_t pid = WorkerOf(owned.conn);
    ASSERT_TRUE(harness_tree_signal(tree_, pid, SIGSTOP));
    /* A question it cannot answer, and data it cannot take. */
    int64_t asked = client().Request("ssl.connection_information", OnConn(owned.conn));
    ASSERT_TRUE(peer.Write("nobody reads this"));

    int64_t started_ms = harness_now_ms();
    client().Must("cordon.status");
    ExpectEcho(bystander_->first, bystander_->second);
    {
        auto [other, other_peer] = Accept(listener);
        ExpectEcho(other, other_peer);
        client().Must("ssl.close", OnConn(other.conn));
    }
    EXPECT_LT(harness_now_ms() - started_ms, 5000);

    client().Must("cordon.kill", OnConn(owned.conn, R"("how": "reset")"));
    client().Reply(asked);
    EXPECT_TRUE(process_wait_end(pid, harness_deadline(HARNESS_WAIT_MS)));
}

TEST_F(WorkerDeathTest, AWorkerThatReadsNoMailIsEndedAndNobodyWaitsForIt) {
    Listener listener = Listen(client(), Identity("server"));
    auto [owned, peer] = Accept(listener);
    pid_t pid = WorkerOf(owned.conn);
    ASSERT_TRUE(harness_tree_signal(tree_, pid, SIGSTOP));
    std::vector<int64_t> asked;
    for (int i = 0; i < 300; i++)
        asked.push_back(client().Request("ssl.connection_information", OnConn(owned.conn)));
    client().Must("cordon.status");
    EXPECT_TRUE(process_wait_end(pid, harness_deadline(HARNESS_WAIT_MS)));
    for (int64_t id : asked)
        client().Reply(id);
}

} /* namespace */
