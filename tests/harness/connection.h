/*
 * Connections through a real tree, for tests: a listener, a TLS connection
 * accepted or made by Cordon, its other end in this process.
 */
#ifndef CORDON_TESTS_HARNESS_CONNECTION_H
#define CORDON_TESTS_HARNESS_CONNECTION_H

#include <poll.h>

#include "tests/harness/fixture.h"

namespace harness
{

/* Text as a JSON string. */
inline std::string
Quoted(const std::string &text)
{
    Json json(json_stringn(text.data(), text.size()));

    return Dump(json.get());
}

inline std::string
CertFile(const std::string &name)
{
    return Quoted(harness_cert(name.c_str()));
}

/* "certfile": ..., of an identity of certs.h, for options. */
inline std::string
Identity(const std::string &name)
{
    return "\"certfile\": " + CertFile(name + ".pem") + ", \"keyfile\": " + CertFile(name + ".key");
}

inline std::string
Base64(const std::string &bytes)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;

    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t three = 0;

        for (size_t j = 0; j < 3; j++)
            three = three << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0);
        for (size_t j = 0; j < 4; j++)
            text += i + j > bytes.size() ? '=' : letters[three >> (18 - 6 * j) & 63];
    }
    return text;
}

inline std::string
Unbase64(const std::string &text)
{
    std::string bytes;
    uint32_t bits = 0;
    int count = 0;

    for (char c : text) {
        int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                    : c >= 'a' && c <= 'z' ? c - 'a' + 26
                    : c >= '0' && c <= '9' ? c - '0' + 52
                    : c == '+'             ? 62
                    : c == '/'             ? 63
                                           : -1;

        if (value < 0)
            continue;
        bits = bits << 6 | static_cast<uint32_t>(value);
        count += 6;
        if (count >= 8) {
            count -= 8;
            bytes += static_cast<char>(bits >> count & 255);
        }
    }
    return bytes;
}

struct Listener {
    std::string handle;
    uint16_t port = 0;
};

inline Listener
Listen(Client &client, const std::string &options, const std::string &rest = "")
{
    Line line = client.Must("ssl.listen", R"({"listen": {"address": "127.0.0.1", "port": 0}, )"
                                          R"("options": {)" +
                                              options + "}" + rest + "}");

    return { line.String("result.listener"), static_cast<uint16_t>(line.Integer("result.port")) };
}

/* A connection as its owner has it. */
struct Owned {
    std::string conn;
    Fd data; /* delivery descriptor */
    Line reply;
};

inline Owned
OwnedOf(Line line, const std::string &conn = "")
{
    Owned owned;

    owned.conn = conn.empty() ? line.String("result.conn") : conn;
    if (line.At("result.data") != nullptr)
        owned.data = line.TakeFd(static_cast<size_t>(line.Integer("result.data.fd_index")));
    owned.reply = std::move(line);
    return owned;
}

inline std::string
OnConn(const std::string &conn, const std::string &rest = "")
{
    return "{\"conn\": \"" + conn + "\"" + (rest.empty() ? "" : ", " + rest) + "}";
}

/* A fixture with a client, and what is needed to get both ends of a connection. */
class ConnectionTest : public TreeTest
{
  protected:
    void
    SetUp() override
    {
        TreeTest::SetUp();
        client_ = std::make_unique<Client>(tree_);
    }
    void
    TearDown() override
    {
        client_.reset();
        TreeTest::TearDown();
    }

    /* Another configuration from here on. */
    void
    Restart(const std::string &config)
    {
        harness_tree_options options = {};

        client_.reset();
        ASSERT_EQ(0, harness_tree_stop(tree_));
        options.config = config.c_str();
        ASSERT_NO_FATAL_FAILURE(Start(&options));
        client_ = std::make_unique<Client>(tree_);
    }

    /* What is made for the first listener and connection stays, so it is there before the count. */
    void
    CountBefore() override
    {
        ASSERT_NE(nullptr, tree_);
        client_ = std::make_unique<Client>(tree_);
        {
            auto [owned, peer] = Accept(Listen(client(), Identity("ecdsa")));
            owned.data.Reset();
            EXPECT_TRUE(peer.ReadEnd());
        }
        client_.reset();
        before_ = Settled();
    }

    Client &
    client()
    {
        return *client_;
    }

    /* TCP to the listener, accepted: the state is waiting. */
    std::string
    TransportAccept(const Listener &listener, Fd *peer)
    {
        int64_t id =
            client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");

        peer->Reset(harness_connect_tcp(listener.port));
        EXPECT_GE(peer->get(), 0);
        /* TCP_DEFER_ACCEPT: a silent connection comes out of the kernel only after a while. */
        return client().Reply(id).String("result.conn");
    }

    /* Both ends of an accepted connection. */
    std::pair<Owned, Tls>
    Accept(const Listener &listener, harness_tls_options peer_options = {})
    {
        int64_t id = client().Request("ssl.accept", "{\"listener\": \"" + listener.handle + "\"}");
        Tls peer(harness_connect_tcp(listener.port), peer_options);

        EXPECT_TRUE(peer.Handshake()) << harness_tls_error(peer.get());
        Line line = client().Reply(id);
        EXPECT_TRUE(line.IsResult()) << line.Text();
        return { OwnedOf(std::move(line)), std::move(peer) };
    }

    /* Both ends of a connection that Cordon makes; the reply may be an error. */
    std::pair<Line, Tls>
    Connect(const std::string &options, harness_tls_options peer_options,
            const std::string &host = "localhost")
    {
        uint16_t port = 0;
        Fd listener(harness_listen_tcp(&port));
        int64_t id = client().Request("ssl.connect", "{\"host\": \"" + host +
                                                         "\", \"port\": " + std::to_string(port) +
                                                         ", \"options\": {" + options + "}}");

        EXPECT_TRUE(harness_wait_fd(listener.get(), POLLIN, harness_deadline(HARNESS_WAIT_MS)));
        peer_options.is_server = true;
        Tls peer(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), peer_options);
        peer.Handshake();
        return { client().Reply(id), std::move(peer) };
    }

    /* The pid of its worker. */
    pid_t
    WorkerOf(const std::string &conn)
    {
        Line line = client().Must("cordon.connections", R"({"limit": 1000})");
        const json_t *rows = line.At("result.connections");

        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i);

            if (conn == json_string_value(json_object_get(row, "conn")))
                return static_cast<pid_t>(json_integer_value(json_object_get(row, "pid")));
        }
        return 0;
    }
    std::string
    StateOf(const std::string &conn)
    {
        Line line = client().Must("cordon.connections", R"({"limit": 1000})");
        const json_t *rows = line.At("result.connections");

        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i);

            if (conn == json_string_value(json_object_get(row, "conn")))
                return json_string_value(json_object_get(row, "state"));
        }
        return "";
    }

    void
    KillWorker(const std::string &conn)
    {
        pid_t pid = WorkerOf(conn);

        ASSERT_GT(pid, 0) << "no worker of " << conn;
        ASSERT_TRUE(harness_tree_signal(tree_, pid, SIGKILL));
    }

    /* Waits until a condition on the API's or the kernel's side holds. */
    template <typename Condition>
    bool
    Eventually(Condition condition)
    {
        return harness_wait_until(
            [](void *context) { return (*static_cast<Condition *>(context))(); }, &condition,
            harness_deadline(HARNESS_WAIT_MS));
    }

    /* There and back, both ways. */
    void
    ExpectEcho(Owned &owned, Tls &peer)
    {
        ASSERT_TRUE(peer.Write("from the peer"));
        EXPECT_EQ("from the peer", ReadPlain(owned.data, 13));
        ASSERT_TRUE(WritePlain(owned.data, "from the owner"));
        EXPECT_EQ("from the owner", peer.Read(14));
    }

    std::unique_ptr<Client> client_;
};

} /* namespace harness */

#endif
