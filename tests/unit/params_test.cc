/* manager/params: the checker, on the real description and on shapes of its own. */
#include <gtest/gtest.h>

#include <cstring>
#include <fcntl.h>
#include <memory>
#include <string>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ipc/fd.h"
#include "manager/description.h"
#include "manager/params.h"

extern const char cordon_api_json[];
extern const size_t cordon_api_json_size;
}

namespace {

class ParamsTest : public ::testing::Test {
protected:
    void SetUp() override {
        char why[256];

        ASSERT_TRUE(description_open(cordon_api_json, cordon_api_json_size, why, sizeof(why)))
            << why;
    }
    void TearDown() override {
        failure_fini(&f_);
        json_decref(params_);
        for (int fd : fds_)
            close(fd);
        description_close();
    }

    const char *folder_ = nullptr;

    enum result Check(const char *method, const std::string &text) {
        struct params_source source = {fds_.data(), fds_.size(), is_operator_, folder_};
        const struct method *m = description_method(method);
        json_error_t error;

        failure_fini(&f_);
        json_decref(params_);
        params_ = json_loads(text.c_str(), 0, &error);
        if (m == nullptr || params_ == nullptr) {
            ADD_FAILURE() << method << " " << text << ": " << error.text;
            return RESULT_INTERNAL;
        }
        enum result result = params_check(m, params_, &source, &f_);
        if (result != RESULT_OK) {
            EXPECT_EQ(result, f_.reason);
        }
        return result;
    }
    std::string Field(const char *name) {
        const char *text = json_string_value(json_object_get(f_.fields, name));

        return text != nullptr ? text : "";
    }
    /* A member of the checked parameters by its dotted path. */
    std::string At(const std::string &path) {
        json_t *at = params_;
        size_t from = 0;

        while (from <= path.size()) {
            size_t dot = std::min(path.find('.', from), path.size());

            at = json_object_get(at, path.substr(from, dot - from).c_str());
            from = dot + 1;
        }
        char *text = at != nullptr ? json_dumps(at, JSON_ENCODE_ANY | JSON_COMPACT) : nullptr;
        std::string copy = text != nullptr ? text : "absent";

        free(text);
        return copy;
    }

    bool is_operator_ = true;
    std::vector<int> fds_;
    json_t *params_ = nullptr;
    struct failure f_ = {};
};

TEST_F(ParamsTest, DefaultsArePutIn) {
    ASSERT_EQ(RESULT_OK, Check("ssl.connect", R"({"host":"h","port":443})"));
    EXPECT_EQ("60000", At("timeout"));
    EXPECT_EQ("\"verify_peer\"", At("options.verify"));
    EXPECT_EQ("[\"tlsv1.3\",\"tlsv1.2\"]", At("options.versions"));
    EXPECT_EQ("\"descriptor\"", At("options.delivery"));
    EXPECT_EQ("true", At("options.nodelay"));
    EXPECT_EQ("absent", At("options.certfile"));
}

TEST_F(ParamsTest, DefaultsDoNotReplaceWhatIsGiven) {
    ASSERT_EQ(RESULT_OK,
              Check("ssl.connect", R"({"host":"h","port":1,"options":{"verify":"verify_none"}})"));
    EXPECT_EQ("\"verify_none\"", At("options.verify"));
    EXPECT_EQ("10", At("options.depth"));
}

TEST_F(ParamsTest, WithDefaultsFalseAbsentMeansAsItWas) {
    ASSERT_EQ(RESULT_OK, Check("ssl.handshake", R"({"conn":"c1.1","options":{"depth":1}})"));
    EXPECT_EQ("1", At("options.depth"));
    EXPECT_EQ("absent", At("options.verify"));
    EXPECT_EQ("30000", At("timeout"));
}

TEST_F(ParamsTest, NullMeansAbsent) {
    ASSERT_EQ(RESULT_OK, Check("ssl.connect", R"({"host":"h","port":1,"timeout":null,)"
                                              R"("options":{"verify":null,"certfile":null}})"));
    EXPECT_EQ("60000", At("timeout"));
    EXPECT_EQ("\"verify_peer\"", At("options.verify"));
    EXPECT_EQ("absent", At("options.certfile"));
    EXPECT_EQ(RESULT_INVALID_PARAMS, Check("ssl.connect", R"({"host":null,"port":1})"));
    EXPECT_EQ("is missing", Field("why"));
}

TEST_F(ParamsTest, TheSwitchChoosesTheOptions) {
    int pair[2];

    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    fds_ = {pair[0], pair[1]};
    fds_.pop_back();
    EXPECT_EQ(RESULT_OK, Check("ssl.upgrade", R"({"fd_index":0,"role":"client",)"
                                              R"("options":{"verify_hostname":"h"}})"));
    EXPECT_EQ(RESULT_OPTIONS, Check("ssl.upgrade", R"({"fd_index":0,"role":"server",)"
                                                   R"("options":{"verify_hostname":"h"}})"));
    EXPECT_EQ("verify_hostname", Field("option"));
    close(pair[1]);
}

TEST_F(ParamsTest, TheListOfOneOfTakesTheFirstShapeThatFits) {
    EXPECT_EQ(RESULT_OK, Check("ssl.format_error", R"({"reason":"timeout"})"));
    EXPECT_EQ(RESULT_OK, Check("ssl.format_error", R"({"reason":{"reason":"posix","x":[1]}})"));
    EXPECT_EQ(RESULT_INVALID_PARAMS, Check("ssl.format_error", R"({"reason":7})"));
    EXPECT_EQ("must be one of: string or object", Field("why"));
}

TEST_F(ParamsTest, AnOptionsValueIsShownAndASecretIsNot) {
    EXPECT_EQ(RESULT_OPTIONS,
              Check("ssl.connect", R"({"host":"h","port":1,"options":{"depth":256}})"));
    EXPECT_EQ(256, json_integer_value(json_object_get(f_.fields, "value")));
    EXPECT_EQ(RESULT_OPTIONS,
              Check("ssl.connect", R"({"host":"h","port":1,"options":{"password":["hunter2"]}})"));
    EXPECT_TRUE(json_is_null(json_object_get(f_.fields, "value")));
    EXPECT_EQ(std::string::npos, std::string(f_.message).find("hunter2"));
}

TEST_F(ParamsTest, NamesFromOutsideAreEscapedAndCut) {
    std::string name(1000, 'n');

    EXPECT_EQ(RESULT_INVALID_PARAMS, Check("ssl.versions", "{\"a\\n\\u001b[1m\":1}"));
    EXPECT_EQ(std::string::npos, Field("param").find('\n'));
    EXPECT_EQ(RESULT_INVALID_PARAMS, Check("ssl.versions", "{\"" + name + "\":1}"));
    EXPECT_LT(Field("param").size(), 200U);
}

TEST_F(ParamsTest, AnotherUsersClientNamesNoPaths) {
    is_operator_ = false;
    EXPECT_EQ(RESULT_NOT_SUPPORTED,
              Check("ssl.connect", R"({"host":"h","port":1,"options":{"cacertfile":"/x"}})"));
    EXPECT_EQ("options.cacertfile", Field("what"));
}

/* --- wrong parameters, one by one ---------------------------------------------------------- */

struct Wrong {
    const char *name;
    const char *method;
    const char *params;
    enum result reason;
    const char *where; /* param, or option */
    const char *why;
};

class WrongParamsTest : public ParamsTest, public ::testing::WithParamInterface<Wrong> {};

TEST_P(WrongParamsTest, IsRefusedByName) {
    const Wrong &w = GetParam();

    EXPECT_EQ(w.reason, Check(w.method, w.params));
    EXPECT_EQ(w.where, Field(w.reason == RESULT_OPTIONS ? "option" : "param"));
    EXPECT_NE(std::string::npos, Field("why").find(w.why)) << Field("why");
    EXPECT_NE(std::string::npos, std::string(f_.message).find(w.where)) << f_.message;
}

#define PARAM  RESULT_INVALID_PARAMS
#define OPTION RESULT_OPTIONS

/* clang-format off */
const Wrong kWrong[] = {
    {"Unknown", "ssl.versions", R"({"x":1})", PARAM, "x", "is not known"},
    {"UnknownInside", "ssl.listen", R"({"listen":{"port":0,"x":1}})", PARAM, "listen.x", "is not known"},
    {"Missing", "ssl.connect", R"({"host":"h"})", PARAM, "port", "is missing"},
    {"MissingInside", "ssl.listen", R"({"listen":{}})", PARAM, "listen.port", "is missing"},
    {"IntegerIsText", "ssl.connect", R"({"host":"h","port":"1"})", PARAM, "port", "an integer"},
    {"IntegerIsReal", "ssl.connect", R"({"host":"h","port":1.0})", PARAM, "port", "an integer"},
    {"IntegerIsTrue", "ssl.connect", R"({"host":"h","port":true})", PARAM, "port", "an integer"},
    {"TooSmall", "ssl.connect", R"({"host":"h","port":0})", PARAM, "port", "from 1 to 65535"},
    {"TooLarge", "ssl.connect", R"({"host":"h","port":65536})", PARAM, "port", "from 1 to 65535"},
    {"Negative", "ssl.recv", R"({"conn":"c1.1","length":-1})", PARAM, "length", "from 0"},
    {"TextIsNumber", "ssl.connect", R"({"host":1,"port":1})", PARAM, "host", "a string"},
    {"TextEmpty", "ssl.connect", R"({"host":"","port":1})", PARAM, "host", "too short"},
    {"EnumWrong", "ssl.shutdown", R"({"conn":"c1.1","how":"both"})", PARAM, "how", "read, write, read_write"},
    {"EnumIsNumber", "ssl.shutdown", R"({"conn":"c1.1","how":1})", PARAM, "how", "a string"},
    {"TimeoutZero", "ssl.accept", R"({"listener":"l1.1","timeout":0})", PARAM, "timeout", "at least 1"},
    {"TimeoutWord", "ssl.accept", R"({"listener":"l1.1","timeout":"never"})", PARAM, "timeout", "infinity"},
    {"TimeoutReal", "ssl.accept", R"({"listener":"l1.1","timeout":1.5})", PARAM, "timeout", "an integer"},
    {"HandleOfAnother", "ssl.accept", R"({"listener":"c1.1"})", PARAM, "listener", "handle of a listener"},
    {"HandleEmpty", "ssl.peercert", R"({"conn":""})", PARAM, "conn", "handle"},
    {"HandleWithoutDot", "ssl.peercert", R"({"conn":"c11"})", PARAM, "conn", "handle"},
    {"HandleZero", "ssl.peercert", R"({"conn":"c1.0"})", PARAM, "conn", "handle"},
    {"HandleLeadingZero", "ssl.peercert", R"({"conn":"c01.1"})", PARAM, "conn", "handle"},
    {"HandleTrailing", "ssl.peercert", R"({"conn":"c1.1 "})", PARAM, "conn", "handle"},
    {"HandleTooLong", "ssl.peercert", R"({"conn":"c1.11111111111111111111111"})", PARAM, "conn", "handle"},
    {"HandleIsNumber", "ssl.peercert", R"({"conn":1})", PARAM, "conn", "handle"},
    {"Base64Letters", "ssl.send", R"({"conn":"c1.1","data":"!!!!"})", PARAM, "data", "base64"},
    {"Base64NoPadding", "ssl.send", R"({"conn":"c1.1","data":"QQ"})", PARAM, "data", "base64"},
    {"Base64Loose", "ssl.send", R"({"conn":"c1.1","data":"QR=="})", PARAM, "data", "base64"},
    {"Base64Url", "ssl.send", R"({"conn":"c1.1","data":"-_-_"})", PARAM, "data", "base64"},
    {"Base64PaddingInside", "ssl.send", R"({"conn":"c1.1","data":"Q===QUFB"})", PARAM, "data", "base64"},
    {"BytesTooLarge", "ssl.send", R"({"conn":"c1.1","bytes":[0,256]})", PARAM, "bytes[1]", "from 0 to 255"},
    {"BytesText", "ssl.send", R"({"conn":"c1.1","bytes":["a"]})", PARAM, "bytes[0]", "from 0 to 255"},
    {"BytesNoArray", "ssl.send", R"({"conn":"c1.1","bytes":1})", PARAM, "bytes", "an array"},
    {"ArrayEmpty", "cordon.subscribe", R"({"types":[]})", PARAM, "types", "too few"},
    {"ArrayItem", "cordon.subscribe", R"({"types":["log","x"]})", PARAM, "types[1]", "must be one of"},
    {"ArrayIsText", "cordon.subscribe", R"({"types":"log"})", PARAM, "types", "an array"},
    {"ObjectIsArray", "ssl.listen", R"({"listen":[]})", PARAM, "listen", "an object"},
    {"OptionsIsText", "ssl.connect", R"({"host":"h","port":1,"options":"x"})", PARAM, "options", "an object"},
    {"NeitherOfTwo", "ssl.close", R"({})", PARAM, "conn", "exactly one"},
    {"BothOfTwo", "ssl.close", R"({"conn":"c1.1","listener":"l1.1"})", PARAM, "listener", "exactly one"},
    {"OptionUnknown", "ssl.connect", R"({"host":"h","port":1,"options":{"x":1}})", OPTION, "x", "is not known"},
    {"OptionOfServers", "ssl.connect", R"({"host":"h","port":1,"options":{"honor_cipher_order":true}})", OPTION, "honor_cipher_order", "is not known"},
    {"OptionEnum", "ssl.connect", R"({"host":"h","port":1,"options":{"verify":"yes"}})", OPTION, "verify", "verify_none, verify_peer"},
    {"OptionItem", "ssl.connect", R"({"host":"h","port":1,"options":{"versions":["tlsv1.2","sslv3"]}})", OPTION, "versions", "must be one of"},
    {"OptionBoolean", "ssl.connect", R"({"host":"h","port":1,"options":{"log_alert":1}})", OPTION, "log_alert", "true or false"},
    {"FileRelative", "ssl.connect", R"({"host":"h","port":1,"options":{"certfile":"a.pem"}})", OPTION, "certfile", "absolute"},
    {"FileNumber", "ssl.connect", R"({"host":"h","port":1,"options":{"certfile":1}})", OPTION, "certfile", "absolute path or"},
    {"FileObject", "ssl.connect", R"({"host":"h","port":1,"options":{"certfile":{"path":"/x"}}})", OPTION, "certfile", "fd_index"},
    {"FileObjectMore", "ssl.connect", R"({"host":"h","port":1,"options":{"certfile":{"fd_index":0,"x":1}}})", OPTION, "certfile", "fd_index"},
    {"SecretNumber", "ssl.connect", R"({"host":"h","port":1,"options":{"password":1}})", OPTION, "password", "a text or"},
    {"SetUnknown", "ssl.setopts", R"({"conn":"c1.1","options":{"packet":4}})", OPTION, "packet", "is not known"},
    {"SetMissing", "ssl.setopts", R"({"conn":"c1.1"})", PARAM, "options", "is missing"},
    {"LimitTooLarge", "cordon.clients", R"({"limit":1001})", PARAM, "limit", "from 1 to 1000"},
    {"CancelReal", "cordon.cancel", R"({"id":1.5})", PARAM, "id", "integer or string"},
};
/* clang-format on */

INSTANTIATE_TEST_SUITE_P(Table, WrongParamsTest, ::testing::ValuesIn(kWrong),
                         [](const auto &info) { return std::string(info.param.name); });

TEST_F(ParamsTest, SizesAreCountedInBytes) {
    std::string most(255, 'a'), more(256, 'a');

    EXPECT_EQ(RESULT_OK, Check("ssl.connect", "{\"host\":\"" + most + "\",\"port\":1}"));
    EXPECT_EQ(RESULT_INVALID_PARAMS,
              Check("ssl.connect", "{\"host\":\"" + more + "\",\"port\":1}"));
    EXPECT_EQ("is too long: at most 255 bytes", Field("why"));
    EXPECT_EQ(RESULT_INVALID_PARAMS,
              Check("ssl.connect", "{\"host\":\"" + most.substr(1) + "\xc3\xa4\",\"port\":1}"));
}

TEST_F(ParamsTest, Base64IsLimitedByWhatItStandsFor) {
    std::string most, more;

    for (int i = 0; i < 32768 / 3; i++)
        most += "AAAA";
    EXPECT_EQ(RESULT_OK, Check("ssl.send", "{\"conn\":\"c1.1\",\"data\":\"" + most + "AAA=\"}"));
    EXPECT_EQ(RESULT_INVALID_PARAMS,
              Check("ssl.send", "{\"conn\":\"c1.1\",\"data\":\"" + most + "AAAA\"}"));
    EXPECT_EQ("is too long: at most 32768 bytes", Field("why"));
}

/* --- descriptors --------------------------------------------------------------------------- */

TEST_F(ParamsTest, ADescriptorThatNoParameterNames) {
    fds_ = {open("/dev/null", O_RDONLY)};
    EXPECT_EQ(RESULT_DESCRIPTORS, Check("ssl.connect", R"({"host":"h","port":1})"));
    EXPECT_NE(nullptr, strstr(f_.message, "descriptor 0")) << f_.message;
}

TEST_F(ParamsTest, ADescriptorThatDidNotCome) {
    EXPECT_EQ(RESULT_DESCRIPTORS, Check("ssl.listen", R"({"fd_index":0})"));
    EXPECT_EQ("fd_index", Field("param"));
    EXPECT_EQ(
        RESULT_DESCRIPTORS,
        Check("ssl.connect", R"({"host":"h","port":1,"options":{"certfile":{"fd_index":3}}})"));
    EXPECT_EQ("options.certfile", Field("param"));
}

TEST_F(ParamsTest, ADescriptorThatIsNamedTwice) {
    fds_ = {open("/proc/self/exe", O_RDONLY)};
    EXPECT_EQ(RESULT_DESCRIPTORS,
              Check("ssl.connect", R"({"host":"h","port":1,"options":{"certfile":{"fd_index":0},)"
                                   R"("cacertfile":{"fd_index":0}}})"));
    EXPECT_EQ("this descriptor is named twice", Field("why"));
}

int ListeningSocket() {
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr address = {};

    address.sa_family = AF_UNIX;
    bind(fd, &address, sizeof(address.sa_family)); /* a name that the kernel chooses */
    listen(fd, 1);
    return fd;
}

int ConnectedSocket() {
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        return -1;
    close(pair[1]);
    return pair[0];
}

int PipeEnd() {
    int ends[2];

    if (pipe(ends) != 0)
        return -1;
    close(ends[1]);
    return ends[0];
}

/* What a descriptor is, and which kinds of parameter take it. */
struct Kind {
    const char *name;
    int (*make)();
    const char *says;
    bool is_connected, is_listening, is_file, is_secret;
};

/* clang-format off */
const Kind kKinds[] = {
    {"File", [] { return open("/proc/self/exe", O_RDONLY); }, "a regular file", false, false, true, true},
    {"Memfd", [] { return memfd_create("x", 0); }, "a regular file", false, false, true, true},
    {"Directory", [] { return open("/", O_RDONLY); }, "a directory", false, false, false, false},
    {"Pipe", PipeEnd, "a pipe", false, false, false, true},
    {"Device", [] { return open("/dev/null", O_RDONLY); }, "a character device", false, false, false, false},
    {"Terminal", [] { return posix_openpt(O_RDWR | O_NOCTTY); }, "terminal", false, false, false, false},
    {"Epoll", [] { return epoll_create1(0); }, "an object of the kernel", false, false, false, false},
    {"Eventfd", [] { return eventfd(0, 0); }, "an object of the kernel", false, false, false, false},
    {"Datagram", [] { return socket(AF_INET, SOCK_DGRAM, 0); }, "a datagram socket", false, false, false, false},
    {"Seqpacket", [] { return socket(AF_UNIX, SOCK_SEQPACKET, 0); }, "a seqpacket socket", false, false, false, false},
    {"Unconnected", [] { return socket(AF_INET, SOCK_STREAM, 0); }, "neither connected nor listening", false, false, false, false},
    {"Connected", ConnectedSocket, "a connected stream socket", true, false, false, false},
    {"Listening", ListeningSocket, "a listening socket", false, true, false, false},
};
/* clang-format on */

class FdKindTest : public ParamsTest, public ::testing::WithParamInterface<Kind> {
protected:
    void Expect(bool is_right, const char *method, const char *params, const char *where) {
        enum result result = Check(method, params);

        if (is_right) {
            EXPECT_EQ(RESULT_OK, result) << f_.message;
            return;
        }
        EXPECT_EQ(RESULT_DESCRIPTORS, result);
        EXPECT_EQ(where, Field("param"));
        EXPECT_NE(std::string::npos, Field("why").find(GetParam().says)) << Field("why");
    }
};

TEST_P(FdKindTest, IsTakenWhereItBelongs) {
    const Kind &k = GetParam();

    fds_ = {k.make()};
    ASSERT_GE(fds_[0], 0);
    Expect(k.is_connected, "ssl.upgrade", R"({"fd_index":0,"role":"client"})", "fd_index");
    Expect(k.is_listening, "ssl.listen", R"({"fd_index":0})", "fd_index");
    Expect(k.is_file, "ssl.connect",
           R"({"host":"h","port":1,"options":{"cacertfile":{"fd_index":0}}})",
           "options.cacertfile");
    Expect(k.is_secret, "ssl.connect",
           R"({"host":"h","port":1,"options":{"password":{"fd_index":0}}})", "options.password");
}

INSTANTIATE_TEST_SUITE_P(Kinds, FdKindTest, ::testing::ValuesIn(kKinds),
                         [](const auto &info) { return std::string(info.param.name); });

TEST_F(ParamsTest, WhatHasNoMeaningBesideAGivenSocket) {
    fds_ = {ListeningSocket()};
    EXPECT_EQ(RESULT_OK, Check("ssl.listen", R"({"fd_index":0,"options":{"nodelay":false}})"));
    EXPECT_EQ(RESULT_OPTIONS, Check("ssl.listen", R"({"fd_index":0,"options":{"backlog":5}})"));
    EXPECT_EQ("backlog", Field("option"));
    EXPECT_EQ("has no meaning together with fd_index", Field("why"));
}

TEST_F(ParamsTest, RelativePathsAreFromAFolderWhereThereIsOne) {
    const char *listen = R"({"listen":{"port":0},"options":{"certfile":"web.pem","depth":1}})";

    EXPECT_EQ(RESULT_OPTIONS, Check("ssl.listen", listen));
    EXPECT_EQ("certfile", Field("option"));
    folder_ = "/etc/cordon";
    ASSERT_EQ(RESULT_OK, Check("ssl.listen", listen)) << f_.message;
    EXPECT_STREQ("/etc/cordon/web.pem", json_string_value(json_object_get(
                                            json_object_get(params_, "options"), "certfile")));
    EXPECT_EQ(RESULT_OPTIONS,
              Check("ssl.listen", R"({"listen":{"port":0},"options":{"certfile":""}})"));
}

} // namespace
