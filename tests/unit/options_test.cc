/* manager/options: from checked JSON to a struct.  The request and its client are played here. */
#include <gtest/gtest.h>

#include <cstring>
#include <fcntl.h>
#include <string>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ipc/suites.h"
#include "manager/options.h"
}

namespace {

/* What the request that is being read brought. */
std::vector<int> request_fds;
bool from_operator = true;
/* Somebody's: nobody looks into it. */
struct request *const kRequest = reinterpret_cast<struct request *>(1);

} // namespace

extern "C" int request_take_fd(struct request *, size_t index) {
    int fd = -1;

    if (index < request_fds.size())
        std::swap(fd, request_fds[index]);
    return fd;
}

extern "C" struct client *request_client(const struct request *) {
    return nullptr;
}

extern "C" bool client_is_operator(const struct client *) {
    return from_operator;
}

namespace {

class OptionsTest : public ::testing::Test {
protected:
    void SetUp() override {
        from_operator = true;
        request_fds.clear();
    }
    void TearDown() override {
        if (is_read_)
            options_fini(&o_);
        failure_fini(&f_);
        for (int fd : request_fds) {
            if (fd >= 0)
                close(fd);
        }
    }

    enum result Read(enum tls_role role, const std::string &text,
                     const struct options *base = nullptr) {
        json_error_t error;
        json_t *json = json_loads(text.c_str(), 0, &error);
        EXPECT_NE(nullptr, json) << error.text;

        if (is_read_)
            options_fini(&o_);
        failure_fini(&f_);
        enum result result = options_read(&o_, role, base, json, kRequest, &f_);
        is_read_ = result == RESULT_OK;
        json_decref(json);
        if (!is_read_) {
            EXPECT_EQ(nullptr, o_.certfile.path);
            EXPECT_EQ(-1, o_.certfile.fd);
        }
        return result;
    }
    std::string Field(const char *name) {
        const char *text = json_string_value(json_object_get(f_.fields, name));

        return text != nullptr ? text : "";
    }
    void ExpectOption(const char *option, enum tls_role role, const std::string &json) {
        EXPECT_EQ(RESULT_OPTIONS, Read(role, json)) << json;
        EXPECT_EQ(option, Field("option")) << json;
        EXPECT_NE("", Field("why"));
    }

    bool is_read_ = false;
    struct options o_ = {};
    struct failure f_ = {};
};

TEST_F(OptionsTest, AClientVerifiesByDefault) {
    ASSERT_EQ(RESULT_OK, Read(ROLE_CLIENT, "{}"));
    EXPECT_TRUE(o_.verify);
    EXPECT_EQ((unsigned)(TLS_1_2 | TLS_1_3), o_.versions);
    EXPECT_EQ(10U, o_.depth);
    EXPECT_EQ(nullptr, o_.verify_hostname);
    EXPECT_TRUE(o_.active);
    EXPECT_TRUE(o_.nodelay);
    EXPECT_EQ(DELIVERY_DESCRIPTOR, o_.delivery);
    EXPECT_EQ(0U, o_.suite_count);
    EXPECT_EQ(-1, o_.password_fd);
}

TEST_F(OptionsTest, AServerDoesNot) {
    ASSERT_EQ(RESULT_OK, Read(ROLE_SERVER, R"({"certfile":"/c"})"));
    EXPECT_FALSE(o_.verify);
    EXPECT_STREQ("/c", o_.certfile.path);
    EXPECT_EQ(1024, o_.backlog);
    EXPECT_EQ(96U << 20, o_.data_limit);
    EXPECT_EQ(21600U, o_.cpu_limit_s);
}

TEST_F(OptionsTest, EverythingIsRead) {
    ASSERT_EQ(RESULT_OK, Read(ROLE_SERVER,
                              R"({"certfile":"/c","keyfile":"/k","password":"p","cacertfile":"/ca",
                   "verify":"verify_peer","fail_if_no_peer_cert":true,"depth":3,"worker_limits":{"data":67108864,"cpu":5},
                   "versions":["tlsv1.2"],"honor_cipher_order":true,"log_alert":false,
                   "alpn_preferred_protocols":["h2","x"],"active":false,"delivery":"messages",
                   "mode":"list","nodelay":false,"backlog":7,"reuseaddr":false})"));
    EXPECT_STREQ("/k", o_.keyfile.path);
    EXPECT_STREQ("p", o_.password);
    EXPECT_STREQ("/ca", o_.cacertfile.path);
    EXPECT_TRUE(o_.verify && o_.fail_if_no_peer_cert && o_.honor_cipher_order && o_.mode_list);
    EXPECT_FALSE(o_.log_alert || o_.active || o_.nodelay || o_.reuseaddr);
    EXPECT_EQ(3U, o_.depth);
    EXPECT_EQ(67108864U, o_.data_limit);
    EXPECT_EQ(5U, o_.cpu_limit_s);
    EXPECT_EQ(7, o_.backlog);
    EXPECT_EQ((unsigned)TLS_1_2, o_.versions);
    EXPECT_EQ(DELIVERY_MESSAGES, o_.delivery);
    EXPECT_EQ(5U, o_.alpn_size);
    EXPECT_EQ(0, memcmp("\x02h2\x01x", o_.alpn, 5));
}

TEST_F(OptionsTest, DescriptorsAreTaken) {
    request_fds = {open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY)};
    ASSERT_EQ(RESULT_OK,
              Read(ROLE_CLIENT, R"({"certfile":{"fd_index":1},"password":{"fd_index":0}})"));
    EXPECT_EQ(-1, request_fds[0]);
    EXPECT_EQ(-1, request_fds[1]);
    int fd = o_.certfile.fd;
    EXPECT_GE(o_.password_fd, 0);
    options_fini(&o_);
    EXPECT_EQ(-1, fcntl(fd, F_GETFD));
    EXPECT_EQ(-1, o_.certfile.fd);
}

TEST_F(OptionsTest, DescriptorsOfWrongOptionsAreClosed) {
    int fd = open("/dev/null", O_RDONLY);

    request_fds = {fd};
    EXPECT_EQ(RESULT_OPTIONS, Read(ROLE_CLIENT, R"({"certfile":{"fd_index":0},"ciphers":["x"]})"));
    EXPECT_EQ(-1, fcntl(fd, F_GETFD));
}

TEST_F(OptionsTest, DisableIsAnEmptyName) {
    ASSERT_EQ(RESULT_OK, Read(ROLE_CLIENT, R"({"verify_hostname":"disable",)"
                                           R"("server_name_indication":"example.org"})"));
    EXPECT_STREQ("", o_.verify_hostname);
    EXPECT_STREQ("example.org", o_.server_name);
}

TEST_F(OptionsTest, SuitesByEitherNameInOrder) {
    ASSERT_EQ(RESULT_OK, Read(ROLE_CLIENT, R"({"ciphers":["ECDHE-RSA-AES256-GCM-SHA384",
                   "TLS_AES_128_GCM_SHA256","TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]})"));
    ASSERT_EQ(2U, o_.suite_count);
    EXPECT_EQ(0xc030, o_.suites[0]);
    EXPECT_EQ(0x1301, o_.suites[1]);
}

TEST_F(OptionsTest, OnTopOfTheListenersOptions) {
    struct options base;

    ASSERT_EQ(RESULT_OK, Read(ROLE_SERVER, R"({"certfile":"/c","keyfile":"/k","password":"p",
                              "depth":2,"alpn_preferred_protocols":["h2"],"active":false})"));
    base = o_;
    is_read_ = false;
    ASSERT_EQ(RESULT_OK, Read(ROLE_SERVER, R"({"depth":5})", &base));
    EXPECT_EQ(5U, o_.depth);
    EXPECT_FALSE(o_.active);
    EXPECT_STREQ("/c", o_.certfile.path);
    EXPECT_NE(base.certfile.path, o_.certfile.path);
    EXPECT_STREQ("p", o_.password);
    EXPECT_EQ(3U, o_.alpn_size);
    /* Another certificate does not go with the listener's key. */
    ASSERT_EQ(RESULT_OK, Read(ROLE_SERVER, R"({"certfile":"/d"})", &base));
    EXPECT_STREQ("/d", o_.certfile.path);
    EXPECT_EQ(nullptr, o_.keyfile.path);
    EXPECT_EQ(nullptr, o_.password);
    options_fini(&base);
}

TEST_F(OptionsTest, AListenersDescriptorStillCountsAsGiven) {
    struct options base;

    request_fds = {open("/dev/null", O_RDONLY), open("/dev/null", O_RDONLY)};
    ASSERT_EQ(RESULT_OK,
              Read(ROLE_SERVER, R"({"certfile":{"fd_index":0},"cacertfile":{"fd_index":1}})"));
    base = o_;
    is_read_ = false;
    ASSERT_EQ(RESULT_OK, Read(ROLE_SERVER, R"({"verify":"verify_peer"})", &base));
    EXPECT_EQ(-1, o_.certfile.fd);
    EXPECT_TRUE(o_.has_certfile && o_.has_cacertfile);
    options_fini(&base);
}

/* --- rules that cross from one option to another ------------------------------------------- */

TEST_F(OptionsTest, AServerNeedsACertificate) {
    ExpectOption("certfile", ROLE_SERVER, "{}");
}

TEST_F(OptionsTest, AServerThatVerifiesNeedsItsCas) {
    ExpectOption("cacertfile", ROLE_SERVER, R"({"certfile":"/c","verify":"verify_peer"})");
}

TEST_F(OptionsTest, FailIfNoPeerCertNeedsVerifyPeer) {
    ExpectOption("fail_if_no_peer_cert", ROLE_SERVER,
                 R"({"certfile":"/c","fail_if_no_peer_cert":true})");
}

TEST_F(OptionsTest, AKeyNeedsItsCertificate) {
    ExpectOption("keyfile", ROLE_CLIENT, R"({"keyfile":"/k"})");
    ExpectOption("password", ROLE_CLIENT, R"({"password":"p"})");
    EXPECT_TRUE(json_is_null(json_object_get(f_.fields, "value")));
}

TEST_F(OptionsTest, OldVersionsAreForClientsWithoutCertificate) {
    ASSERT_EQ(RESULT_OK, Read(ROLE_CLIENT, R"({"versions":["tlsv1","tlsv1.1"]})"));
    EXPECT_EQ((unsigned)(TLS_1_0 | TLS_1_1), o_.versions);
    ExpectOption("versions", ROLE_CLIENT, R"({"versions":["tlsv1"],"certfile":"/c"})");
    EXPECT_EQ(RESULT_NOT_SUPPORTED,
              Read(ROLE_SERVER, R"({"versions":["tlsv1.2","tlsv1.1"],"certfile":"/c"})"));
    EXPECT_EQ("options.versions", Field("what"));
    EXPECT_NE("", Field("instead"));
}

TEST_F(OptionsTest, LifetimeDescriptorNeedsADescriptor) {
    ExpectOption("lifetime", ROLE_CLIENT, R"({"lifetime":"descriptor","delivery":"messages"})");
    EXPECT_EQ(RESULT_OK, Read(ROLE_CLIENT, R"({"lifetime":"descriptor"})"));
}

TEST_F(OptionsTest, SuitesMustBeKnownAndUsable) {
    ExpectOption("ciphers", ROLE_CLIENT, R"({"ciphers":["TLS_AES_128_GCM_SHA256","NO-SUCH"]})");
    EXPECT_EQ("NO-SUCH", Field("value"));
    ExpectOption("ciphers", ROLE_CLIENT,
                 R"({"versions":["tlsv1.2"],"ciphers":["TLS_AES_128_GCM_SHA256"]})");
    EXPECT_EQ("TLS_AES_128_GCM_SHA256", Field("value"));
}

TEST_F(OptionsTest, AClientsProtocolNamesFitTheLibrary) {
    std::string most(31, 'a'), more(32, 'a');
    std::string eight = R"("1","2","3","4","5","6","7","8")";

    EXPECT_EQ(RESULT_OK, Read(ROLE_CLIENT, "{\"alpn_advertised_protocols\":[\"" + most + "\"]}"));
    ExpectOption("alpn_advertised_protocols", ROLE_CLIENT,
                 "{\"alpn_advertised_protocols\":[\"" + more + "\"]}");
    EXPECT_EQ(RESULT_OK, Read(ROLE_CLIENT, "{\"alpn_advertised_protocols\":[" + eight + "]}"));
    ExpectOption("alpn_advertised_protocols", ROLE_CLIENT,
                 "{\"alpn_advertised_protocols\":[" + eight + ",\"9\"]}");
}

TEST_F(OptionsTest, AServersProtocolNamesFitTheMessage) {
    std::string name(255, 'a');
    std::string list = "\"" + name + "\"";

    for (int i = 1; i < 8; i++)
        list += ",\"" + name + "\"";
    EXPECT_EQ(RESULT_OK, Read(ROLE_SERVER,
                              "{\"certfile\":\"/c\",\"alpn_preferred_protocols\":[" + list + "]}"));
    EXPECT_EQ(2048U, o_.alpn_size);
    ExpectOption("alpn_preferred_protocols", ROLE_SERVER,
                 "{\"certfile\":\"/c\",\"alpn_preferred_protocols\":[" + list + ",\"b\"]}");
}

TEST_F(OptionsTest, AnotherUsersClientHasNeitherPathsNorDescriptors) {
    from_operator = false;
    EXPECT_EQ(RESULT_NOT_SUPPORTED,
              Read(ROLE_CLIENT, R"({"delivery":"messages","certfile":"/c"})"));
    EXPECT_EQ("certfile", Field("what"));
    EXPECT_EQ(RESULT_NOT_SUPPORTED, Read(ROLE_CLIENT, "{}"));
    EXPECT_EQ("options.delivery", Field("what"));
    EXPECT_EQ(RESULT_OK, Read(ROLE_CLIENT, R"({"delivery":"messages"})"));
}

/* What ssl.handshake says on top of its listener's. */
struct Again {
    const char *name, *base, *json;
    const char *option; /* NULL: it is fine */
};

class KeyAgainTest : public OptionsTest, public ::testing::WithParamInterface<Again> {};

TEST_P(KeyAgainTest, NeedsEveryFileThatCameAsADescriptor) {
    int fds[] = {open("/dev/null", O_RDONLY | O_CLOEXEC), open("/dev/null", O_RDONLY | O_CLOEXEC)};
    struct options base;

    request_fds.assign(fds, fds + 2);
    ASSERT_EQ(RESULT_OK, Read(ROLE_SERVER, GetParam().base));
    base = o_;
    is_read_ = false;
    options_forget_secrets(&base); /* as a listener has them */
    for (int &fd : request_fds) {
        if (fd < 0)
            fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    enum result result = Read(ROLE_SERVER, GetParam().json, &base);
    if (GetParam().option == nullptr) {
        EXPECT_EQ(RESULT_OK, result) << f_.message;
    } else {
        EXPECT_EQ(RESULT_OPTIONS, result);
        EXPECT_EQ(GetParam().option, Field("option"));
    }
    options_fini(&base);
}

#define BY_FD      R"({"certfile":{"fd_index":0}})"
#define KEY_BY_FD  R"({"certfile":"/c","keyfile":{"fd_index":0}})"
#define BY_PATH    R"({"certfile":"/c","keyfile":"/k","password":"p"})"
INSTANTIATE_TEST_SUITE_P(
    Table, KeyAgainTest,
    ::testing::Values(
        Again{"KeyfileToADescriptor", BY_FD, R"({"keyfile":"/k"})", "keyfile"},
        Again{"PasswordToADescriptor", BY_FD, R"({"password":"p"})", "password"},
        Again{"PasswordToAKeyDescriptor", KEY_BY_FD, R"({"password":"p"})", "password"},
        Again{"KeyfileInsteadOfADescriptor", KEY_BY_FD, R"({"keyfile":"/k"})", nullptr},
        Again{"KeyfileToAPath", BY_PATH, R"({"keyfile":"/l"})", nullptr},
        Again{"PasswordToAPath", BY_PATH, R"({"password":"q"})", nullptr},
        Again{"Everything", BY_FD, R"({"certfile":"/c","keyfile":{"fd_index":0}})", nullptr},
        Again{"SomethingElse", BY_FD, R"({"depth":3})", nullptr}),
    [](const auto &info) { return std::string(info.param.name); });

TEST_F(OptionsTest, ANewCertificateDoesNotInheritThePassword) {
    struct options base;

    ASSERT_EQ(RESULT_OK, Read(ROLE_SERVER, BY_PATH));
    base = o_;
    is_read_ = false;
    EXPECT_TRUE(base.has_password && base.has_keyfile);
    ASSERT_EQ(RESULT_OK, Read(ROLE_SERVER, R"({"keyfile":"/l"})", &base));
    EXPECT_TRUE(o_.has_password && o_.has_keyfile);
    ASSERT_EQ(RESULT_OK, Read(ROLE_SERVER, R"({"certfile":"/d"})", &base));
    EXPECT_FALSE(o_.has_password || o_.has_keyfile);
    options_fini(&base);
}

} // namespace
