/* Services that Cordon has by its configuration file, and by cordon.service_add. */
#include "tests/harness/connection.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace {

using namespace harness;

constexpr const char *RSA = "RSA";
constexpr const char *ECDSA = "EC/ECDSA";

/* A port that nobody has, for the moment. */
uint16_t FreePort() {
    uint16_t port = 0;
    Fd listener(harness_listen_tcp(&port));

    return port;
}

class ServiceConfigTest : public ConnectionTest {
protected:
    void SetUp() override {
        ConnectionTest::SetUp();
        port_ = FreePort();
        other_port_ = FreePort();
    }

    /* Without its services the tree is as it was. */
    void TearDown() override {
        if (!tree_ends_itself_ && !starts_with_services_) {
            Configure("");
            Reload();
        }
        ConnectionTest::TearDown();
    }

    /* Files of the test's own, beside the configuration. */
    std::string Path(const std::string &name) {
        return std::string(harness_tree_folder(tree_)) + "/" + name;
    }
    void Write(const std::string &name, const std::string &text) {
        ASSERT_TRUE(harness_write_file(Path(name).c_str(), text.data(), text.size(), 0644));
    }
    void PutCertificate(const std::string &identity, const std::string &name = "web.pem") {
        size_t size = 0;
        char *bytes = harness_read_file(harness_cert((identity + ".both.pem").c_str()), &size);

        Write(name, std::string(bytes, size));
        free(bytes);
    }

    static std::string Service(const std::string &name, uint16_t port,
                               const std::string &options = "\"certfile\": \"web.pem\"",
                               const std::string &deliver = "\"echo\": true") {
        return "\"" + name + R"(": {"listen": {"address": "127.0.0.1", "port": )" +
               std::to_string(port) + "}, \"options\": {" + options + "}, \"deliver\": {" +
               deliver + "}}";
    }
    static std::string Config(const std::string &services) {
        return "{\"services\": {" + services + "}}";
    }
    void Configure(const std::string &services) { Write("cordon.json", Config(services)); }

    /* A tree whose configuration has these services; their certificate is there before it starts. */
    void Begin(const std::string &services) {
        Restart("{}");
        PutCertificate("ecdsa");
        Configure(services);
        Reload();
    }
    Line Reload() { return client().Must("cordon.reload"); }
    static std::string Counts(const Line &line) {
        return std::to_string(line.Integer("result.reloaded.services_added")) + " added, " +
               std::to_string(line.Integer("result.reloaded.services_removed")) + " removed, " +
               std::to_string(line.Integer("result.reloaded.services_changed")) + " changed";
    }

    Tls Call(uint16_t port) {
        Tls peer(harness_connect_tcp(port), {});
        EXPECT_TRUE(peer.Handshake()) << harness_tls_error(peer.get());
        return peer;
    }
    void ExpectEchoed(Tls &peer) {
        ASSERT_TRUE(peer.Write("and back"));
        EXPECT_EQ("and back", peer.Read(8));
    }
    std::string Shown(uint16_t port) {
        Tls peer = Call(port);
        const char *name = harness_tls_peer_key(peer.get());

        ExpectEchoed(peer);
        EXPECT_TRUE(peer.Bye());
        EXPECT_TRUE(peer.ReadEnd());
        return name != nullptr ? name : "(none)";
    }
    bool IsOpen(uint16_t port) {
        Fd fd(harness_connect_tcp(port));

        return fd.get() >= 0;
    }
    /* A field of a service's row; "": there is no such service. */
    std::string Row(const std::string &name, const std::string &field) {
        Line line = client().Must("cordon.services");
        const json_t *rows = line.At("result.services");

        for (size_t i = 0; i < json_array_size(rows); i++) {
            const json_t *row = json_array_get(rows, i);

            if (name == json_string_value(json_object_get(row, "service")))
                return Dump(json_object_get(row, field.c_str()));
        }
        return "";
    }

    uint16_t port_ = 0, other_port_ = 0;
    bool starts_with_services_ = false;
};

/* --- The start -------------------------------------------------------------------------------- */

TEST_F(ServiceConfigTest, IsThereWhenTheControlSocketIs) {
    std::string config = Config(Service("web", port_, Identity("ecdsa")));
    starts_with_services_ = true;
    Restart(config);
    EXPECT_EQ(ECDSA, Shown(port_));
    EXPECT_EQ("\"configuration\"", Row("web", "source"));
    EXPECT_EQ("null", Row("web", "owner"));
    EXPECT_EQ("\"auto\"", Row("web", "accept"));
    Line line = client().Must("cordon.listeners");
    const json_t *row = json_array_get(line.At("result.listeners"), 0);
    EXPECT_STREQ("web", json_string_value(json_object_get(row, "service"))) << line.Text();
    /* It belongs to nobody who could close it. */
    line = client().Call("ssl.close",
                         "{\"listener\": " + Dump(json_object_get(row, "listener")) + "}");
    EXPECT_EQ("not_owner", line.Reason()) << line.Text();
}

struct BadStart {
    const char *name, *options, *deliver, *why;
};

class BadStartTest : public ServiceConfigTest, public testing::WithParamInterface<BadStart> {};

TEST_P(BadStartTest, EndsWithASentence) {
    std::string config = Config(Service("web", port_, GetParam().options, GetParam().deliver));
    harness_tree_options options = {};
    options.config = config.c_str();
    options.expect_failure = true;
    client_.reset();
    ASSERT_EQ(0, harness_tree_stop(tree_));
    harness_tree_free(tree_);
    tree_ = harness_tree_start(&options);
    ASSERT_NE(nullptr, tree_);
    int status = harness_tree_wait(tree_, harness_deadline(HARNESS_WAIT_MS));
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
    EXPECT_TRUE(WaitLog("error manager the manager cannot start: [^ ]*cordon.json: " +
                            std::string(GetParam().why),
                        0, 0));
    tree_ends_itself_ = true;
}

/* clang-format off */
INSTANTIATE_TEST_SUITE_P(, BadStartTest, testing::Values(
    BadStart{"NoCertificate", "\"certfile\": \"web.pem\"", "\"echo\": true",
             "services.web.options.certfile: .*/web.pem: there is no such file"},
    BadStart{"NoOption", "", "\"echo\": true", "services.web.options.certfile: a server needs"},
    BadStart{"NoDeliver", "\"certfile\": \"web.pem\"", "", "services.web.deliver: needs exactly one"}),
    [](const auto &info) { return info.param.name; });
/* clang-format on */

TEST_F(ServiceConfigTest, APortThatIsTakenIsNamed) {
    Begin(Service("web", port_));
    Configure(Service("web", port_) + "," + Service("two", port_));
    Line line = client().Call("cordon.reload");
    EXPECT_EQ("posix", line.Reason()) << line.Text();
    EXPECT_EQ("eaddrinuse", line.String("error.data.posix"));
    EXPECT_NE(std::string::npos,
              line.String("error.message")
                  .find("services.two: bind to 127.0.0.1 port " + std::to_string(port_)))
        << line.Text();
    EXPECT_EQ(ECDSA, Shown(port_));
}

/* --- Reload ----------------------------------------------------------------------------------- */

TEST_F(ServiceConfigTest, AnUnchangedOneReadsItsFilesAgain) {
    Begin(Service("web", port_));
    std::string listener = Row("web", "listener");
    Tls peer = Call(port_);
    ExpectEchoed(peer);
    Line rows = client().Must("cordon.connections");
    const json_t *row = json_array_get(rows.At("result.connections"), 0);
    EXPECT_STREQ("web", json_string_value(json_object_get(row, "service"))) << rows.Text();
    EXPECT_TRUE(json_is_null(json_object_get(row, "owner")));
    PutCertificate("server");
    Line line = Reload();
    EXPECT_EQ("0 added, 0 removed, 0 changed", Counts(line));
    EXPECT_EQ(1, line.Integer("result.reloaded.listeners")) << line.Text();
    EXPECT_EQ(RSA, Shown(port_));
    EXPECT_EQ(listener, Row("web", "listener"));
    ExpectEchoed(peer);
    EXPECT_EQ(0, Reload().Integer("result.reloaded.listeners"));
}

TEST_F(ServiceConfigTest, OthersAreAddedAndRemovedAndConnectionsLiveOn) {
    Begin(Service("web", port_));
    Tls peer = Call(port_);
    ExpectEchoed(peer);
    Configure(Service("other", other_port_));
    EXPECT_EQ("1 added, 1 removed, 0 changed", Counts(Reload()));
    EXPECT_FALSE(IsOpen(port_));
    EXPECT_EQ(ECDSA, Shown(other_port_));
    ExpectEchoed(peer);
    Configure("");
    EXPECT_EQ("0 added, 1 removed, 0 changed", Counts(Reload()));
    EXPECT_FALSE(IsOpen(other_port_));
    ExpectEchoed(peer);
    EXPECT_TRUE(peer.Bye());
    EXPECT_TRUE(peer.ReadEnd());
}

TEST_F(ServiceConfigTest, OtherOptionsKeepTheSocket) {
    Begin(Service("web", port_));
    std::string listener = Row("web", "listener");
    Tls peer = Call(port_);
    Configure(Service("web", port_, R"("certfile": "web.pem", "versions": ["tlsv1.2"])"));
    EXPECT_EQ("0 added, 0 removed, 1 changed", Counts(Reload()));
    EXPECT_EQ(listener, Row("web", "listener"));
    Tls next = Call(port_);
    EXPECT_STREQ("TLS1.2", harness_tls_version(next.get()));
    EXPECT_STREQ("TLS1.3", harness_tls_version(peer.get()));
    ExpectEchoed(peer);
}

TEST_F(ServiceConfigTest, AnotherBackendIsForTheNextConnection) {
    uint16_t backend_port = 0;
    Fd backend(harness_listen_tcp(&backend_port));
    Begin(Service("web", port_));
    Tls peer = Call(port_);
    ExpectEchoed(peer);
    Configure(Service("web", port_, R"("certfile": "web.pem")",
                      "\"connect\": \"127.0.0.1:" + std::to_string(backend_port) + "\""));
    EXPECT_EQ("0 added, 0 removed, 1 changed", Counts(Reload()));
    Tls next = Call(port_);
    ASSERT_TRUE(harness_wait_fd(backend.get(), POLLIN, harness_deadline(HARNESS_WAIT_MS)));
    Fd plain(accept4(backend.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(next.Write("question"));
    EXPECT_EQ("question", ReadPlain(plain, 8));
    ExpectEchoed(peer);
}

TEST_F(ServiceConfigTest, AnotherAddressIsAnotherSocket) {
    Begin(Service("web", port_));
    Tls peer = Call(port_);
    ExpectEchoed(peer);
    Configure(Service("web", other_port_));
    EXPECT_EQ("0 added, 0 removed, 1 changed", Counts(Reload()));
    EXPECT_FALSE(IsOpen(port_));
    EXPECT_EQ(ECDSA, Shown(other_port_));
    ExpectEchoed(peer);
}

/* Two services change places, a third takes another's name: no socket is closed. */
TEST_F(ServiceConfigTest, ASocketFollowsItsAddressNotItsName) {
    Begin(Service("one", port_) + "," + Service("two", other_port_));
    std::string one = Row("one", "listener"), two = Row("two", "listener");
    Configure(Service("one", other_port_) + "," + Service("two", port_));
    EXPECT_EQ("0 added, 0 removed, 2 changed", Counts(Reload()));
    EXPECT_EQ(two, Row("one", "listener"));
    EXPECT_EQ(one, Row("two", "listener"));
    Configure(Service("three", other_port_) + "," + Service("two", port_));
    EXPECT_EQ("1 added, 1 removed, 0 changed", Counts(Reload()));
    EXPECT_EQ(two, Row("three", "listener"));
    EXPECT_EQ("", Row("one", "listener"));
    EXPECT_EQ(ECDSA, Shown(port_));
    EXPECT_EQ(ECDSA, Shown(other_port_));
}

TEST_F(ServiceConfigTest, OneWrongServiceChangesNone) {
    Begin(Service("web", port_));
    PutCertificate("server");
    Configure(Service("web", port_) + "," +
              Service("bad", other_port_, R"("certfile": "none.pem")"));
    Line line = client().Call("cordon.reload");
    EXPECT_EQ("options", line.Reason()) << line.Text();
    EXPECT_EQ("services.bad.options.certfile", line.String("error.data.option")) << line.Text();
    EXPECT_EQ(Path("none.pem"), line.String("error.data.value")) << line.Text();
    EXPECT_NE(std::string::npos, line.String("error.message").find("cordon.json: services.bad."));
    EXPECT_EQ(ECDSA, Shown(port_));
    EXPECT_FALSE(IsOpen(other_port_));
    Configure(Service("web", port_) + ", \"bad\": {\"listen\": 3}");
    line = client().Call("cordon.reload");
    EXPECT_EQ("config", line.String("error.data.option")) << line.Text();
    EXPECT_NE(std::string::npos,
              line.String("error.data.why").find("services.bad.listen: must be an object"))
        << line.Text();
    EXPECT_EQ(ECDSA, Shown(port_));
}

TEST_F(ServiceConfigTest, TheLimitOfListenersHolds) {
    Begin(Service("web", port_));
    Write("cordon.json", "{\"listeners_max\": 1, \"services\": {" + Service("web", port_) + "," +
                             Service("two", other_port_) + "}}");
    Line line = client().Call("cordon.reload");
    EXPECT_EQ("limit", line.Reason()) << line.Text();
    EXPECT_EQ("listeners_max", line.String("error.data.which"));
    EXPECT_EQ(ECDSA, Shown(port_));
}

TEST_F(ServiceConfigTest, ChangedFilesAreTakenUpByThemselves) {
    Restart("{}");
    PutCertificate("ecdsa");
    Write("cordon.json",
          "{\"ssl_pem_cache_clean\": 30, \"services\": {" + Service("web", port_) + "}}");
    Reload();
    PutCertificate("server");
    EXPECT_TRUE(Eventually([this] { return Shown(port_) == RSA; }));
}

/* The file has the password, so nobody needs to remember it. */
TEST_F(ServiceConfigTest, APasswordInTheFileCounts) {
    auto options = [](const std::string &password) {
        return R"("certfile": "web.pem", "password": ")" + password + "\"";
    };
    auto encrypt = [this](const std::string &identity, const std::string &password) {
        const char *cert = harness_cert((identity + ".pem").c_str());
        const char *key = harness_cert((identity + ".key").c_str());
        std::string command = "{ cat " + std::string(cert) + "; openssl pkcs8 -topk8 -in " + key +
                              " -passout pass:" + password + "; } > " + Path("web.pem");

        ASSERT_EQ(0, system(command.c_str()));
        ASSERT_EQ(0, chmod(Path("web.pem").c_str(), 0644));
    };
    Restart("{}");
    encrypt("ecdsa", "one");
    Configure(Service("web", port_, options("one")));
    Reload();
    EXPECT_EQ(ECDSA, Shown(port_));
    encrypt("server", "two");
    Line line = client().Call("cordon.reload");
    EXPECT_EQ("services.web.options.password", line.String("error.data.option")) << line.Text();
    EXPECT_EQ("null", Dump(line.At("error.data.value")));
    EXPECT_EQ(ECDSA, Shown(port_));
    Configure(Service("web", port_, options("two")));
    EXPECT_EQ(1, Reload().Integer("result.reloaded.listeners"));
    EXPECT_EQ(RSA, Shown(port_));

    /* It comes back after a keeper that took it along. */
    size_t from = harness_tree_log_size(tree_);
    ASSERT_TRUE(harness_tree_signal(tree_, Pid("cordon keeper"), SIGKILL));
    ASSERT_TRUE(WaitLog("has no private key any more", from));
    EXPECT_TRUE(Eventually([this] { return client().Call("cordon.reload").IsResult(); }));
    EXPECT_EQ(RSA, Shown(port_));
}

/* --- cordon.service_add ----------------------------------------------------------------------- */

class ServiceAddTest : public ServiceConfigTest {
protected:
    /* With its certificate as descriptor 0. */
    Line Add(const std::string &name, uint16_t port, const std::string &identity,
             const std::string &rest = "") {
        Fd cert(open(harness_cert((identity + ".both.pem").c_str()), O_RDONLY | O_CLOEXEC));

        return client().Call("cordon.service_add",
                             "{\"name\": \"" + name +
                                 R"(", "listen": {"address": "127.0.0.1", "port": )" +
                                 std::to_string(port) +
                                 R"(}, "options": {"certfile": {"fd_index": 0}}, )"
                                 R"("deliver": {"echo": true})" +
                                 rest + "}",
                             {cert.get()});
    }
};

TEST_F(ServiceAddTest, OutlivesWhoeverAddedIt) {
    {
        Client other(tree_);
        other.Must("cordon.service_add",
                   R"({"name": "web", "listen": {"address": "127.0.0.1", "port": )" +
                       std::to_string(port_) + "}, \"options\": {" + Identity("ecdsa") +
                       R"(}, "deliver": {"echo": true}})");
    }
    EXPECT_EQ(ECDSA, Shown(port_));
    EXPECT_EQ("\"request\"", Row("web", "source"));
    client().Must("cordon.service_remove", R"({"name": "web"})");
    EXPECT_FALSE(IsOpen(port_));
    EXPECT_EQ("not_found", client().Call("cordon.service_remove", R"({"name": "web"})").Reason());
}

TEST_F(ServiceAddTest, IsReplacedOnlyWhenAskedTo) {
    Line line = Add("web", 0, "ecdsa");
    ASSERT_TRUE(line.IsResult()) << line.Text();
    uint16_t port = static_cast<uint16_t>(line.Integer("result.port"));
    Tls peer = Call(port);
    EXPECT_EQ("invalid_params", Add("web", 0, "server").Reason());
    EXPECT_EQ(ECDSA, Shown(port));

    std::string listener = line.String("result.listener");
    line = Add("web", 0, "server", ", \"replace\": true");
    ASSERT_TRUE(line.IsResult()) << line.Text();
    EXPECT_EQ(listener, line.String("result.listener"));
    EXPECT_EQ(port, line.Integer("result.port"));
    EXPECT_EQ(RSA, Shown(port));
    ExpectEchoed(peer);

    line = Add("web", other_port_, "server", ", \"replace\": true");
    ASSERT_TRUE(line.IsResult()) << line.Text();
    EXPECT_FALSE(IsOpen(port));
    EXPECT_EQ(RSA, Shown(other_port_));
    ExpectEchoed(peer);
    client().Must("cordon.service_remove", R"({"name": "web"})");
}

TEST_F(ServiceAddTest, AWrongReplacementKeepsTheOld) {
    Line line = Add("web", 0, "ecdsa");
    uint16_t port = static_cast<uint16_t>(line.Integer("result.port"));
    Fd broken(open(harness_cert("broken.pem"), O_RDONLY | O_CLOEXEC));
    line = client().Call(
        "cordon.service_add",
        R"({"name": "web", "listen": {"address": "127.0.0.1", "port": 0}, "replace": true,
            "options": {"certfile": {"fd_index": 0}}, "deliver": {"echo": true}})",
        {broken.get()});
    EXPECT_EQ("options", line.Reason()) << line.Text();
    EXPECT_EQ("certfile", line.String("error.data.option"));
    EXPECT_EQ(0U, line.String("error.message").find("service web: ")) << line.Text();
    EXPECT_EQ(ECDSA, Shown(port));
    EXPECT_EQ("invalid_params", Add("w b", 0, "ecdsa").Reason());
    client().Must("cordon.service_remove", R"({"name": "web"})");
}

TEST_F(ServiceAddTest, AReloadLeavesItAlone) {
    Begin(Service("web", port_));
    ASSERT_TRUE(Add("own", other_port_, "ecdsa").IsResult());
    Configure("");
    EXPECT_EQ("0 added, 1 removed, 0 changed", Counts(Reload()));
    EXPECT_EQ(ECDSA, Shown(other_port_));
    /* Until the file has one of this name. */
    PutCertificate("server");
    Configure(Service("own", other_port_));
    EXPECT_EQ("0 added, 0 removed, 1 changed", Counts(Reload()));
    EXPECT_EQ(RSA, Shown(other_port_));
    EXPECT_EQ("\"configuration\"", Row("own", "source"));
    Configure("");
    Reload();
    EXPECT_FALSE(IsOpen(other_port_));
}

TEST_F(ServiceAddTest, ManyChangesAtOnceAreMadeOneAfterTheOther) {
    Begin(Service("web", port_));
    std::vector<int64_t> ids;
    const std::string add =
        R"({"name": "own", "replace": true, "listen": {"address": "127.0.0.1", "port": )" +
        std::to_string(other_port_) + "}, \"options\": {" + Identity("ecdsa") +
        R"(}, "deliver": {"echo": true}})";

    for (int i = 0; i < 5; i++) {
        ids.push_back(client().Request("cordon.service_add", add));
        ids.push_back(client().Request("cordon.reload"));
        ids.push_back(client().Request("cordon.service_remove", R"({"name": "own"})"));
    }
    for (int64_t id : ids)
        EXPECT_TRUE(client().Reply(id).IsResult());
    EXPECT_FALSE(IsOpen(other_port_));
    EXPECT_EQ(ECDSA, Shown(port_));
}

TEST_F(ServiceAddTest, ListsAreGivenInPages) {
    for (const char *name : {"a", "b", "c"})
        ASSERT_TRUE(Add(name, 0, "ecdsa").IsResult());
    Line line = client().Must("cordon.services", R"({"limit": 2})");
    EXPECT_EQ(2U, json_array_size(line.At("result.services"))) << line.Text();
    EXPECT_EQ("b", line.String("result.next"));
    line = client().Must("cordon.services", R"({"after": "b"})");
    EXPECT_EQ(1U, json_array_size(line.At("result.services"))) << line.Text();
    for (const char *name : {"a", "b", "c"})
        client().Must("cordon.service_remove", "{\"name\": \"" + std::string(name) + "\"}");
}

} // namespace
