/* What `deliver` may say, and what it means. */
#include <gtest/gtest.h>

#include <string>

extern "C" {
#include "manager/deliver.h"
}

namespace {

constexpr deliver_rights ALL = {true, true};
constexpr deliver_rights NONE = {false, false};

/* The sentence for people; "" when it was read. */
std::string Refusal(const std::string &text, deliver **out, deliver_rights rights = ALL) {
    json_t *json = json_loads(text.c_str(), 0, nullptr);
    struct failure f;
    std::string why;

    EXPECT_NE(nullptr, json) << text;
    *out = nullptr;
    if (deliver_parse(out, json, rights, &f) != RESULT_OK) {
        why = f.message;
        failure_fini(&f);
    }
    json_decref(json);
    return why;
}

struct Wrong {
    const char *name, *deliver, *why;
};

class WrongDeliverTest : public testing::TestWithParam<Wrong> {};

TEST_P(WrongDeliverTest, IsRefusedByName) {
    deliver *d;

    EXPECT_NE(std::string::npos, Refusal(GetParam().deliver, &d).find(GetParam().why));
    EXPECT_EQ(nullptr, d);
}

/* clang-format off */
INSTANTIATE_TEST_SUITE_P(, WrongDeliverTest, testing::Values(
    Wrong{"Nothing", "{}", "needs exactly one of"},
    Wrong{"Two", R"({"connect": "127.0.0.1:1", "echo": true})", "needs exactly one of"},
    Wrong{"NoPort", R"({"connect": "127.0.0.1"})", "must be HOST:PORT"},
    Wrong{"EmptyPort", R"({"connect": "127.0.0.1:"})", "must be HOST:PORT"},
    Wrong{"PortZero", R"({"connect": "127.0.0.1:0"})", "must be HOST:PORT"},
    Wrong{"PortTooHigh", R"({"connect": "127.0.0.1:65536"})", "must be HOST:PORT"},
    Wrong{"PortIsAWord", R"({"connect": "127.0.0.1:http"})", "must be HOST:PORT"},
    Wrong{"PortWithSign", R"({"connect": "127.0.0.1:+80"})", "must be HOST:PORT"},
    Wrong{"BareIpv6", R"({"connect": "::1:80"})", "must be HOST:PORT"},
    Wrong{"HalfABracket", R"({"connect": "[::1:80"})", "must be HOST:PORT"},
    Wrong{"EmptyBrackets", R"({"connect": "[]:80"})", "must be HOST:PORT"},
    Wrong{"NoHost", R"({"connect": ":80"})", "must be HOST:PORT"},
    Wrong{"RelativePath", R"({"connect": "app.sock"})", "must be HOST:PORT"},
    Wrong{"TimeoutWithoutConnect", R"({"echo": true, "connect_timeout": 5})", "only with connect"},
    Wrong{"ProxyWithoutConnect", R"({"echo": true, "proxy_protocol": 2})", "only with connect"}),
    [](const auto &info) { return info.param.name; });
/* clang-format on */

TEST(DeliverTest, AHostNameAndAPort) {
    deliver *d;

    ASSERT_EQ("", Refusal(R"({"connect": "backend.example:8080", "proxy_protocol": 2})", &d));
    EXPECT_EQ(DELIVER_CONNECT, d->kind);
    EXPECT_STREQ("backend.example", d->host);
    EXPECT_EQ(8080, d->port);
    EXPECT_TRUE(d->proxy_header);
    EXPECT_EQ(5000U, d->connect_timeout_ms);
    deliver_release(d);
}

TEST(DeliverTest, AnIpv6AddressStandsInBrackets) {
    deliver *d;

    ASSERT_EQ("", Refusal(R"({"connect": "[::1]:80", "connect_timeout": 7})", &d, NONE));
    EXPECT_STREQ("::1", d->host);
    EXPECT_EQ(80, d->port);
    EXPECT_EQ(7U, d->connect_timeout_ms);
    deliver_release(d);
}

TEST(DeliverTest, APathIsForThoseWhoMayNameOne) {
    deliver *d;

    ASSERT_EQ("", Refusal(R"({"connect": "/run/app.sock"})", &d));
    EXPECT_STREQ("/run/app.sock", d->path);
    deliver_release(d);
    EXPECT_NE(std::string::npos,
              Refusal(R"({"connect": "/run/app.sock"})", &d, NONE).find("not supported"));
    EXPECT_NE(std::string::npos,
              Refusal("{\"connect\": \"/" + std::string(107, 'x') + "\"}", &d).find("too long"));
}

TEST(DeliverTest, AProgramNeedsAPathAUserAndTheRight) {
    deliver *d;

    EXPECT_NE(std::string::npos,
              Refusal(R"({"exec": ["/bin/true"]})", &d).find("start cordond with --exec-user"));
    deliver_allow_user("one");
    deliver_allow_user("two");
    ASSERT_EQ("", Refusal(R"({"exec": ["/bin/true", "x"]})", &d));
    EXPECT_EQ(0U, d->user);
    deliver_release(d);
    ASSERT_EQ("", Refusal(R"({"exec": ["/bin/true"], "user": "two"})", &d));
    EXPECT_EQ(1U, d->user);
    json_t *row = deliver_row(d);
    EXPECT_STREQ("two", json_string_value(json_object_get(row, "user")));
    json_decref(row);
    deliver_release(d);
    EXPECT_NE(std::string::npos, Refusal(R"({"exec": ["/bin/true"], "user": "three"})", &d)
                                     .find("start cordond with --exec-user three"));
    EXPECT_NE(std::string::npos,
              Refusal(R"({"exec": ["true"]})", &d).find("must be an absolute path"));
    EXPECT_NE(std::string::npos,
              Refusal(R"({"exec": ["/bin/true"]})", &d, NONE).find("for administrators"));
}

TEST(DeliverTest, AClientHasAHostAndAPort) {
    deliver *d;

    ASSERT_EQ("", Refusal(R"({"client": {"host": "a.example", "port": 443}, "connect_timeout": 9})",
                          &d, NONE));
    EXPECT_EQ(DELIVER_CLIENT, d->kind);
    EXPECT_STREQ("a.example", d->host);
    EXPECT_EQ(443, d->port);
    EXPECT_EQ(9U, d->connect_timeout_ms);
    deliver_release(d);
}

TEST(DeliverTest, ARowIsWhatWasSaid) {
    deliver *d;

    ASSERT_EQ("", Refusal(R"({"connect": "a:1", "proxy_protocol": 2})", &d));
    json_t *row = deliver_row(d);
    EXPECT_STREQ("a:1", json_string_value(json_object_get(row, "connect")));
    EXPECT_EQ(2, json_integer_value(json_object_get(row, "proxy_protocol")));
    json_decref(row);
    deliver_release(d);
}

} // namespace
