/* Certificates, keys, CAs and configuration that change while Cordon runs. */
#include "tests/harness/connection.h"

#include <fcntl.h>
#include <regex>

namespace {

using namespace harness;

constexpr const char *RSA = "RSA";
constexpr const char *ECDSA = "EC/ECDSA";

/* With files of the test's own, which it may change. */
class ReloadTest : public ConnectionTest {
protected:
    void SetUp() override {
        folder_ = harness_make_folder();
        Put("ecdsa.pem", "cert.pem");
        Put("ecdsa.key", "key.pem");
        ConnectionTest::SetUp();
    }
    void TearDown() override {
        ConnectionTest::TearDown();
        harness_remove_folder(folder_);
    }

    std::string Path(const std::string &name) { return std::string(folder_) + "/" + name; }
    void Write(const std::string &name, const std::string &text) {
        ASSERT_TRUE(harness_write_file(Path(name).c_str(), text.data(), text.size(), 0644));
    }
    static std::string Content(const std::string &path) {
        size_t size = 0;
        char *bytes = harness_read_file(path.c_str(), &size);
        std::string text(bytes != nullptr ? bytes : "", size);

        free(bytes);
        return text;
    }
    /* A file of certs.h under a name of the test's. */
    void Put(const std::string &cert, const std::string &name) {
        Write(name, Content(harness_cert(cert.c_str())));
    }
    /* The same, as an installer does it: never half a file. */
    void Rename(const std::string &cert, const std::string &name) {
        Put(cert, name + ".new");
        ASSERT_EQ(0, rename(Path(name + ".new").c_str(), Path(name).c_str()));
    }
    void PutIdentity(const std::string &identity) {
        Put(identity + ".pem", "cert.pem");
        Put(identity + ".key", "key.pem");
    }

    std::string Files() {
        return "\"certfile\": " + Quoted(Path("cert.pem")) +
               ", \"keyfile\": " + Quoted(Path("key.pem"));
    }
    /* The kind of key that the next handshake shows. */
    std::string Shown(const Listener &listener) {
        auto [owned, peer] = Accept(listener);
        const char *name = harness_tls_peer_key(peer.get());

        return name != nullptr ? name : "(none)";
    }
    std::string Log() {
        char *log = harness_tree_log(tree_);
        std::string text(log != nullptr ? log : "");

        free(log);
        return text;
    }
    size_t CountInLog(const std::string &pattern) {
        std::string log = Log();
        std::regex regex(pattern);

        return static_cast<size_t>(
            std::distance(std::sregex_iterator(log.begin(), log.end(), regex), {}));
    }
    void Reload() {
        Line line = client().Must("cordon.reload");
        EXPECT_EQ(0U, json_array_size(line.At("result.needs_restart"))) << line.Text();
    }

    char *folder_ = nullptr;
};

TEST_F(ReloadTest, TheNextHandshakeShowsTheNewCertificateAndConnectionsGoOn) {
    Listener listener = Listen(client(), Files());
    auto [owned, peer] = Accept(listener);
    Fd waiting;
    EXPECT_STREQ(ECDSA, harness_tls_peer_key(peer.get()));
    ExpectEcho(owned, peer);

    PutIdentity("server");
    Line line = client().Must("cordon.reload");
    EXPECT_EQ(1, line.Integer("result.reloaded.listeners")) << line.Text();
    ExpectEcho(owned, peer);
    EXPECT_EQ(RSA, Shown(listener));
    ExpectEcho(owned, peer);
    owned.data.Reset();
    EXPECT_TRUE(peer.ReadEnd());
}

TEST_F(ReloadTest, AConnectionThatHasBegunKeepsItsCertificate) {
    Listener listener = Listen(client(), Files());
    int64_t id =
        client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
    Tls peer(harness_connect_tcp(listener.port), {});
    harness_tls_say_hello(peer.get());
    std::string conn = client().Reply(id).String("result.conn");

    PutIdentity("server");
    Reload();
    id = client().Request("ssl.handshake", OnConn(conn));
    ASSERT_TRUE(peer.Handshake()) << harness_tls_error(peer.get());
    EXPECT_STREQ(ECDSA, harness_tls_peer_key(peer.get()));
    Owned owned = OwnedOf(client().Reply(id), conn);
    ExpectEcho(owned, peer);
}

TEST_F(ReloadTest, EqualFilesKeepTheContext) {
    Listener listener = Listen(client(), Files());
    Line line = client().Must("cordon.reload");
    EXPECT_EQ(0, line.Integer("result.reloaded.listeners")) << line.Text();
    Rename("ecdsa.pem", "cert.pem");
    line = client().Must("cordon.reload");
    EXPECT_EQ(0, line.Integer("result.reloaded.listeners")) << line.Text();
    EXPECT_EQ(ECDSA, Shown(listener));
}

TEST_F(ReloadTest, DescriptorsStayAsTheyAre) {
    Fd cert(open(Path("cert.pem").c_str(), O_RDONLY | O_CLOEXEC));
    Fd key(open(Path("key.pem").c_str(), O_RDONLY | O_CLOEXEC));
    Line line = client().Must(
        "ssl.listen",
        R"({"listen": {"address": "127.0.0.1", "port": 0}, "options": {"certfile": {"fd_index": 0},
            "keyfile": {"fd_index": 1}}})",
        {cert.get(), key.get()});
    Listener listener = {line.String("result.listener"),
                         static_cast<uint16_t>(line.Integer("result.port"))};
    PutIdentity("server");
    line = client().Must("cordon.reload");
    EXPECT_EQ(0, line.Integer("result.reloaded.listeners")) << line.Text();
    EXPECT_EQ(ECDSA, Shown(listener));
}

TEST_F(ReloadTest, ACertificateThatCameAsADescriptorCannotGetAnotherKey) {
    Fd cert(open(harness_cert("ecdsa.both.pem"), O_RDONLY | O_CLOEXEC));
    Line line = client().Must(
        "ssl.listen",
        R"({"listen": {"address": "127.0.0.1", "port": 0}, "options": {"certfile": {"fd_index": 0}}})",
        {cert.get()});
    Listener listener = {line.String("result.listener"),
                         static_cast<uint16_t>(line.Integer("result.port"))};
    int64_t id =
        client().Request("ssl.transport_accept", "{\"listener\": \"" + listener.handle + "\"}");
    Tls peer(harness_connect_tcp(listener.port), {});
    harness_tls_say_hello(peer.get());
    std::string conn = client().Reply(id).String("result.conn");

    for (const char *option : {"keyfile", "password"}) {
        line = client().Call("ssl.handshake", OnConn(conn, std::string("\"options\": {\"") +
                                                               option + "\": \"/x\"}"));
        EXPECT_EQ("options", line.Reason()) << line.Text();
        EXPECT_EQ(option, line.String("error.data.option"));
    }
    id = client().Request("ssl.handshake", OnConn(conn));
    EXPECT_TRUE(peer.Handshake()) << harness_tls_error(peer.get());
    EXPECT_TRUE(client().Reply(id).IsResult());
}

/* --- What is wrong ---------------------------------------------------------------------------- */

struct Broken {
    const char *name;
    const char *cert, *key, *ca; /* of certs.h; "": removed; NULL: as it was */
    const char *option, *file, *why;
};

class BrokenTest : public ReloadTest, public testing::WithParamInterface<Broken> {
protected:
    void Apply(const char *cert, const std::string &name) {
        if (cert != nullptr && cert[0] == '\0') {
            unlink(Path(name).c_str());
        } else if (cert != nullptr) {
            Put(cert, name);
        }
    }
};

TEST_P(BrokenTest, KeepsTheOldAndNamesIt) {
    const Broken &p = GetParam();
    Put("ecdsa.both.pem", "good.pem");
    Put("ca.pem", "ca.pem");
    Listener good = Listen(client(), "\"certfile\": " + Quoted(Path("good.pem")));
    Listener listener = Listen(client(), Files() +
                                             ", \"verify\": \"verify_peer\", "
                                             "\"cacertfile\": " +
                                             Quoted(Path("ca.pem")));
    Put("server.both.pem", "good.pem");
    Apply(p.cert, "cert.pem");
    Apply(p.key, "key.pem");
    Apply(p.ca, "ca.pem");

    Line line = client().Call("cordon.reload");
    EXPECT_EQ("options", line.Reason()) << line.Text();
    EXPECT_EQ(p.option, line.String("error.data.option")) << line.Text();
    EXPECT_EQ(Path(p.file), line.String("error.data.value")) << line.Text();
    EXPECT_EQ(listener.handle, line.String("error.data.listener")) << line.Text();
    EXPECT_NE(std::string::npos, line.String("error.data.why").find(p.why)) << line.Text();
    EXPECT_NE(std::string::npos, line.String("error.message").find(listener.handle));
    EXPECT_TRUE(WaitLog(std::string("error .*reload failed.*") + p.option));
    EXPECT_EQ(ECDSA, Shown(good));
    EXPECT_EQ(ECDSA, Shown(listener));

    PutIdentity("server");
    Put("ca.pem", "ca.pem");
    line = client().Must("cordon.reload");
    EXPECT_EQ(2, line.Integer("result.reloaded.listeners")) << line.Text();
    EXPECT_EQ(RSA, Shown(good));
    EXPECT_EQ(RSA, Shown(listener));
}

/* clang-format off */
INSTANTIATE_TEST_SUITE_P(, BrokenTest, testing::Values(
    Broken{"NoCertificate", "", nullptr, nullptr, "certfile", "cert.pem", "no such file"},
    Broken{"BrokenCertificate", "broken.pem", nullptr, nullptr, "certfile", "cert.pem", ""},
    Broken{"NoKey", nullptr, "", nullptr, "keyfile", "key.pem", "no such file"},
    Broken{"CertificateAsKey", nullptr, "server.pem", nullptr, "keyfile", "key.pem", "no private key"},
    Broken{"Mismatch", "server.pem", nullptr, nullptr, "keyfile", "key.pem", ""},
    Broken{"NoCa", nullptr, nullptr, "", "cacertfile", "ca.pem", "No such file"},
    Broken{"BrokenCa", nullptr, nullptr, "broken.pem", "cacertfile", "ca.pem", ""}),
    [](const auto &info) { return info.param.name; });
/* clang-format on */

/* --- Passwords -------------------------------------------------------------------------------- */

class PasswordTest : public ReloadTest {
protected:
    void PutEncrypted(const std::string &identity, const std::string &password) {
        std::string command = "openssl pkcs8 -topk8 -in " +
                              std::string(harness_cert((identity + ".key").c_str())) +
                              " -passout 'pass:" + password + "' -out " + Path("key.pem");

        Put(identity + ".pem", "cert.pem");
        ASSERT_EQ(0, system(command.c_str()));
        ASSERT_EQ(0, chmod(Path("key.pem").c_str(), 0644));
    }
};

TEST_F(PasswordTest, TheKeeperRemembersThePassword) {
    PutEncrypted("ecdsa", HARNESS_PASSWORD);
    Listener listener = Listen(client(), Files() + ", \"password\": \"" HARNESS_PASSWORD "\"");
    for (int i = 0; i < 2; i++) {
        PutEncrypted("server", HARNESS_PASSWORD);
        Reload();
        EXPECT_EQ(RSA, Shown(listener));
        PutEncrypted("ecdsa", HARNESS_PASSWORD);
        Reload();
        EXPECT_EQ(ECDSA, Shown(listener));
    }
#ifndef CORDON_SANITIZED /* whose shadow memory is too large to be read */
    EXPECT_EQ(
        0, process_memory_count(Pid("cordon manager"), HARNESS_PASSWORD, strlen(HARNESS_PASSWORD)));
#endif

    PutEncrypted("server", "another");
    Line line = client().Call("cordon.reload");
    EXPECT_EQ("password", line.String("error.data.option")) << line.Text();
    EXPECT_EQ(ECDSA, Shown(listener));
    PutIdentity("server");
    Reload();
    EXPECT_EQ(RSA, Shown(listener));
}

/* Two listeners whose files are equal but for their passwords are one context. */
TEST_F(PasswordTest, EachListenerHasItsOwn) {
    PutEncrypted("ecdsa", "one");
    Listener one = Listen(client(), Files() + ", \"password\": \"one\"");
    ASSERT_EQ(0, rename(Path("key.pem").c_str(), Path("one.pem").c_str()));
    PutEncrypted("ecdsa", "two");
    Listener two = Listen(client(), Files() + ", \"password\": \"two\"");
    PutEncrypted("server", "one");
    client().Must("ssl.close", "{\"listener\": \"" + two.handle + "\"}");
    Reload();
    EXPECT_EQ(RSA, Shown(one));
}

TEST_F(PasswordTest, WentWithTheKeeperAndDoesNotHoldUpTheOthers) {
    Put("ecdsa.both.pem", "good.pem");
    Listener good = Listen(client(), "\"certfile\": " + Quoted(Path("good.pem")));
    PutEncrypted("ecdsa", "one");
    Listener listener = Listen(client(), Files() + ", \"password\": \"one\"");
    size_t from = harness_tree_log_size(tree_);
    ASSERT_TRUE(harness_tree_signal(tree_, Pid("cordon keeper"), SIGKILL));
    ASSERT_TRUE(WaitLog("private key loaded again", from));
    Put("server.both.pem", "good.pem");
    Line line = client().Must("cordon.reload");
    EXPECT_EQ(1, line.Integer("result.reloaded.listeners")) << line.Text();
    EXPECT_TRUE(WaitLog("listener=" + listener.handle + " is not reloaded", from));
    EXPECT_EQ(RSA, Shown(good));
    client_.reset();
    before_ = Settled();
}

/* --- The configuration, and SIGHUP ------------------------------------------------------------ */

class ReloadConfigTest : public ReloadTest {
protected:
    void Configure(const std::string &text) {
        std::string path = std::string(harness_tree_folder(tree_)) + "/cordon.json";

        ASSERT_TRUE(harness_write_file(path.c_str(), text.data(), text.size(), 0644));
    }
};

TEST_F(ReloadConfigTest, ItsKeysCountFromNowOn) {
    Restart(R"({"listeners_max": 1})");
    Listener listener = Listen(client(), Files());
    const std::string another = R"({"listen": {"port": 0}, "options": {)" + Files() + "}}";
    EXPECT_EQ("limit", client().Call("ssl.listen", another).Reason());
    Configure(R"({"listeners_max": 2})");
    Reload();
    client().Must("ssl.listen", another);
    Configure(R"({"listeners_max": 2, "restart_intensity": 3, "admin_group": 0})");
    Line line = client().Must("cordon.reload");
    EXPECT_EQ(R"(["restart_intensity","admin_group"])",
              std::regex_replace(Dump(line.At("result.needs_restart")), std::regex(" "), ""));
    /* It is still not the one that runs. */
    line = client().Must("cordon.reload");
    EXPECT_EQ(2U, json_array_size(line.At("result.needs_restart"))) << line.Text();
}

TEST_F(ReloadConfigTest, AWrongOneKeepsTheOldCertificatesToo) {
    Restart(R"({"listeners_max": 1})");
    Listener listener = Listen(client(), Files());
    PutIdentity("server");
    Configure(R"({"listeners_max": 0})");
    Line line = client().Call("cordon.reload");
    EXPECT_EQ("options", line.Reason()) << line.Text();
    EXPECT_EQ("config", line.String("error.data.option")) << line.Text();
    EXPECT_NE(
        std::string::npos,
        line.String("error.data.why").find("cordon.json: listeners_max must be an integer from 1"))
        << line.Text();
    EXPECT_EQ(ECDSA, Shown(listener));
}

TEST_F(ReloadTest, SighupReloads) {
    Listener listener = Listen(client(), Files());
    size_t from = harness_tree_log_size(tree_);
    PutIdentity("server");
    ASSERT_TRUE(harness_tree_signal(tree_, harness_tree_pid(tree_), SIGHUP));
    EXPECT_TRUE(WaitLog("info .*reloaded by=SIGHUP listeners=1 ", from));
    EXPECT_EQ(RSA, Shown(listener));

    from = harness_tree_log_size(tree_);
    Put("broken.pem", "cert.pem");
    ASSERT_TRUE(harness_tree_signal(tree_, harness_tree_pid(tree_), SIGHUP));
    EXPECT_TRUE(
        WaitLog("error .*reload failed.*by=SIGHUP.*certfile.*" + std::string(folder_), from));
    EXPECT_EQ(RSA, Shown(listener));
}

/* --- By themselves ---------------------------------------------------------------------------- */

class PemWatchTest : public ReloadTest {
protected:
    void Look(const char *config = R"({"ssl_pem_cache_clean": 30})") {
        Restart(config);
        listener_ = Listen(client(), Files());
    }
    Listener listener_;
};

TEST_F(PemWatchTest, ARenamedFileIsTakenUp) {
    Put("ecdsa.both.pem", "both.pem");
    Restart(R"({"ssl_pem_cache_clean": 30})");
    Listener listener = Listen(client(), "\"certfile\": " + Quoted(Path("both.pem")));
    size_t from = harness_tree_log_size(tree_);
    Rename("server.both.pem", "both.pem");
    EXPECT_TRUE(WaitLog("listener=" + listener.handle + " takes up changed files", from));
    EXPECT_EQ(RSA, Shown(listener));
}

TEST_F(PemWatchTest, AFileWrittenInPlaceIsTakenUp) {
    Look();
    PutIdentity("server");
    EXPECT_TRUE(Eventually([this] { return Shown(listener_) == RSA; }));
    PutIdentity("ecdsa");
    EXPECT_TRUE(Eventually([this] { return Shown(listener_) == ECDSA; }));
}

TEST_F(PemWatchTest, ACaFileIsTakenUp) {
    harness_tls_options peer_options = {};
    Put("other_ca.pem", "ca.pem");
    Restart(R"({"ssl_pem_cache_clean": 30})");
    Listener listener = Listen(
        client(), Identity("ecdsa") +
                      ", \"verify\": \"verify_peer\", \"cacertfile\": " + Quoted(Path("ca.pem")));
    size_t from = harness_tree_log_size(tree_);
    Rename("ca.pem", "ca.pem");
    EXPECT_TRUE(WaitLog("listener=" + listener.handle + " takes up changed files", from));
    peer_options.identity = "client";
    auto [owned, peer] = Accept(listener, peer_options);
    EXPECT_TRUE(json_is_true(owned.reply.At("result.info.peer_certificate.verified")))
        << owned.reply.Text();
}

TEST_F(PemWatchTest, ABrokenFileIsOneWarningAndTheNextGoodOneIsTakenUp) {
    const std::string warning = "warn [^\n]*changed files are not taken up[^\n]*cert.pem";
    Put("ecdsa.both.pem", "cert.pem");
    Restart(R"({"ssl_pem_cache_clean": 30})");
    std::string options = "\"certfile\": " + Quoted(Path("cert.pem"));
    Listener listener = Listen(client(), options);
    Listener other = Listen(client(), options + ", \"depth\": 3");
    size_t from = harness_tree_log_size(tree_);
    Rename("broken.pem", "cert.pem");
    ASSERT_TRUE(WaitLog(warning, from));
    /* Several more rounds go over it. */
    for (int i = 0; i < 5; i++) {
        Line line = client().Must("ssl.clear_pem_cache");
        EXPECT_EQ(2, line.Integer("result.refused")) << line.Text();
        EXPECT_EQ(0, line.Integer("result.reloaded")) << line.Text();
    }
    EXPECT_EQ(1U, CountInLog(warning));
    EXPECT_EQ(ECDSA, Shown(listener));
    Rename("server.pem", "cert.pem");
    EXPECT_TRUE(Eventually([&] { return CountInLog(warning) == 2; }));
    Rename("server.both.pem", "cert.pem");
    EXPECT_TRUE(WaitLog("listener=" + other.handle + " takes up changed files", from));
    EXPECT_EQ(RSA, Shown(listener));
    EXPECT_EQ(RSA, Shown(other));
}

TEST_F(PemWatchTest, ClearPemCacheLooksAtOnce) {
    Look(R"({"ssl_pem_cache_clean": 0})");
    Line line = client().Must("ssl.clear_pem_cache");
    EXPECT_EQ(0, line.Integer("result.refused")) << line.Text();
    PutIdentity("server");
    line = client().Must("ssl.clear_pem_cache");
    EXPECT_EQ(1, line.Integer("result.reloaded")) << line.Text();
    EXPECT_EQ(RSA, Shown(listener_));
}

/* --- Many ------------------------------------------------------------------------------------- */

TEST_F(ReloadTest, ReloadsWaitForEachOther) {
    Listener listener = Listen(client(), Files());
    std::vector<int64_t> ids;

    for (int i = 0; i < 10; i++) {
        ids.push_back(client().Request("cordon.reload"));
        ids.push_back(client().Request("ssl.clear_pem_cache"));
    }
    PutIdentity("server");
    ids.push_back(client().Request("cordon.reload"));
    for (int64_t id : ids) {
        Line line = client().Reply(id);
        /* Between the two files it may have met a certificate without its key. */
        EXPECT_TRUE(line.IsResult() || line.Reason() == "options") << line.Text();
    }
    EXPECT_EQ(RSA, Shown(listener));
}

TEST_F(ReloadTest, WhoeverGoesAwayDoesNotHoldUpTheNext) {
    Listener listener = Listen(client(), Files());
    for (int i = 0; i < 10; i++) {
        Client other(tree_);
        other.Request("cordon.reload");
        other.Request("ssl.clear_pem_cache");
        if (i % 2 == 0) {
            Line line = other.Call("cordon.cancel", R"({"id": 1})");
            EXPECT_TRUE(line.IsResult() || line.Reason() == "not_found") << line.Text();
        }
    }
    PutIdentity("server");
    Reload();
    EXPECT_EQ(RSA, Shown(listener));
}

TEST_F(ReloadTest, AListenerThatIsClosedMeanwhileIsLeftOut) {
    for (int i = 0; i < 10; i++) {
        Listener listener = Listen(client(), Files());
        int64_t reload = client().Request("cordon.reload");
        int64_t close =
            client().Request("ssl.close", "{\"listener\": \"" + listener.handle + "\"}");
        EXPECT_TRUE(client().Reply(reload).IsResult());
        EXPECT_TRUE(client().Reply(close).IsResult());
    }
}

TEST_F(ReloadTest, ManyReloadsLeaveNothingBehind) {
    const size_t count = harness_count(20, 1000);
    const char *const names[] = {"cordon keeper", "cordon manager", "cordon nursery"};
    std::map<std::string, long> before;
    Listener listener = Listen(client(), Files());
    auto swap = [&](size_t i) {
        PutIdentity(i % 2 == 0 ? "server" : "ecdsa");
        Reload();
    };

    for (size_t i = 0; i < 10; i++)
        swap(i);
    for (const char *name : names)
        before[name] = process_rss_anon_kib(Pid(name));
    for (size_t i = 0; i < count; i++)
        swap(i);
    EXPECT_EQ(ECDSA, Shown(listener));
#ifndef CORDON_SANITIZED /* they keep what was freed */
    for (const char *name : names) {
        EXPECT_LT(process_rss_anon_kib(Pid(name)), before[name] + 1024) << name;
    }
#endif
}

} // namespace
