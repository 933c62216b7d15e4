/* manager/config: the configuration file. */
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <unistd.h>

extern "C" {
#include "ipc/walls.h"
#include "manager/config.h"
#include "manager/description.h"

extern const char cordon_api_json[];
extern const size_t cordon_api_json_size;
}

/* A service of the file has no request. */
extern "C" int request_take_fd(struct request *, size_t) {
    return -1;
}
extern "C" struct client *request_client(const struct request *) {
    return nullptr;
}
extern "C" bool client_is_operator(const struct client *) {
    return false;
}
extern "C" bool client_is_administrator(const struct client *) {
    return false;
}

namespace {

class ConfigTest : public ::testing::Test {
protected:
    void SetUp() override {
        char why[256];

        ASSERT_TRUE(description_open(cordon_api_json, cordon_api_json_size, why, sizeof(why)))
            << why;
        config_set_defaults(&c_);
    }
    void TearDown() override {
        json_decref(services_);
        description_close();
    }

    bool Parse(const std::string &text) {
        return config_parse(&c_, &level_, &services_, name_.c_str(), text.data(), text.size(), why_,
                            sizeof(why_));
    }

    struct config c_ = {};
    enum log_level level_ = LOG_INFO;
    json_t *services_ = nullptr;
    std::string name_ = "f.json";
    char why_[1024] = "";
};

TEST_F(ConfigTest, Defaults) {
    EXPECT_EQ(5000U, c_.alert_timeout_ms);
    EXPECT_EQ(10U, c_.restart_intensity);
    EXPECT_EQ(3600U, c_.restart_period_s);
    EXPECT_EQ(4096U, c_.clients_max);
    EXPECT_EQ(1024U, c_.requests_max);
    EXPECT_EQ(120000U, c_.pem_cache_clean_ms);
    EXPECT_EQ((gid_t)-1, c_.admin_group);
    EXPECT_STREQ("/etc/ssl/certs/ca-certificates.crt", c_.system_trust_file);
    EXPECT_EQ(walls_required(), c_.walls);
}

TEST_F(ConfigTest, AWallThatThereIsNotIsRefusedWithThoseThereAre) {
    EXPECT_FALSE(Parse(R"({"walls":["moat"]})"));
    EXPECT_NE(std::string::npos, std::string(why_).find("seccomp, no_new_privs, limits")) << why_;
    EXPECT_FALSE(Parse(R"({"walls":"seccomp"})"));
    EXPECT_TRUE(Parse(R"({"walls":[]})")) << why_;
    EXPECT_EQ(0U, c_.walls);
}

TEST_F(ConfigTest, AnEmptyObjectChangesNothing) {
    EXPECT_TRUE(Parse("{}")) << why_;
    EXPECT_EQ(5000U, c_.alert_timeout_ms);
    EXPECT_EQ(LOG_INFO, level_);
}

TEST_F(ConfigTest, EveryKeyIsRead) {
    ASSERT_TRUE(Parse(R"({"alert_timeout":1,"restart_intensity":2,"restart_period":3,
        "connections_max":4,"listeners_max":5,"clients_max":6,"requests_max":7,"contexts_max":8,
        "nursery_forks_max":9,"nursery_age_max":10,
        "ssl_pem_cache_clean":0,"log_level":"debug","log_format":"json","admin_group":10,
        "system_trust_file":"/t","walls":["network","uid"]})"))
        << why_;
    EXPECT_EQ(1U, c_.alert_timeout_ms);
    EXPECT_EQ(2U, c_.restart_intensity);
    EXPECT_EQ(3U, c_.restart_period_s);
    EXPECT_EQ(4U, c_.connections_max);
    EXPECT_EQ(5U, c_.listeners_max);
    EXPECT_EQ(6U, c_.clients_max);
    EXPECT_EQ(7U, c_.requests_max);
    EXPECT_EQ(8U, c_.contexts_max);
    EXPECT_EQ(9U, c_.nursery_forks_max);
    EXPECT_EQ(10U, c_.nursery_age_max_s);
    EXPECT_EQ(0U, c_.pem_cache_clean_ms);
    EXPECT_EQ(10U, c_.admin_group);
    EXPECT_EQ(LOG_DEBUG, level_);
    EXPECT_EQ(LOG_JSON, c_.log_format);
    EXPECT_STREQ("/t", c_.system_trust_file);
    EXPECT_EQ(WALL_BIT(WALL_NETWORK) | WALL_BIT(WALL_UID), c_.walls);
}

TEST_F(ConfigTest, AGroupByName) {
    ASSERT_TRUE(Parse(R"({"admin_group":"root"})")) << why_;
    EXPECT_EQ(0U, c_.admin_group);
}

TEST_F(ConfigTest, AWrongFileChangesNothing) {
    EXPECT_FALSE(Parse(R"({"alert_timeout":1,"log_level":"debug","clients_max":0})"));
    EXPECT_EQ(5000U, c_.alert_timeout_ms);
    EXPECT_EQ(LOG_INFO, level_);
}

struct Wrong {
    const char *name;
    const char *text;
    const char *why;
};

class WrongConfigTest : public ConfigTest, public ::testing::WithParamInterface<Wrong> {};

TEST_P(WrongConfigTest, NamesFileKeyAndWhatIsAllowed) {
    EXPECT_FALSE(Parse(GetParam().text));
    EXPECT_EQ(why_, strstr(why_, "f.json: ")) << why_;
    EXPECT_NE(nullptr, strstr(why_, GetParam().why)) << why_;
}

const Wrong kWrong[] = {
    {"Unknown", R"({"conections_max":1})",
     "there is no key conections_max; there are alert_timeout"},
    {"UnknownListsAll", R"({"x":1})",
     "admin_group, log_format, log_level, services, system_trust_file"},
    {"NotJson", "alert_timeout = 5", "not one JSON object: not an object, at byte 0"},
    {"Empty", "", "not one JSON object"},
    {"Array", "[]", "not one JSON object"},
    {"Twice", R"({"clients_max":1,"clients_max":2})", "a key is there twice"},
    {"Text", R"({"clients_max":"1"})", "clients_max must be an integer from 1 to 65536"},
    {"TooSmall", R"({"clients_max":0})", "clients_max must be an integer from 1 to 65536"},
    {"TooLarge", R"({"restart_intensity":1000001})", "restart_intensity must be an integer from 0"},
    {"Null", R"({"alert_timeout":null})", "alert_timeout must be an integer"},
    {"Level", R"({"log_level":"loud"})", "log_level must be one of error, warn, info, debug"},
    {"LevelNumber", R"({"log_level":3})", "log_level must be one of"},
    {"Format", R"({"log_format":"xml"})", "log_format must be one of text, json"},
    {"Group", R"({"admin_group":"no such group"})", "admin_group: there is no group"},
    {"GroupNegative", R"({"admin_group":-1})", "admin_group must be the name"},
    {"GroupNobody", R"({"admin_group":4294967295})", "admin_group must be the name"},
    {"RelativePath", R"({"system_trust_file":"ca.pem"})", "system_trust_file must be an absolute"},
};

INSTANTIATE_TEST_SUITE_P(Table, WrongConfigTest, ::testing::ValuesIn(kWrong),
                         [](const auto &info) { return std::string(info.param.name); });

TEST_F(ConfigTest, FromAFile) {
    char path[] = "/tmp/cordon-config-XXXXXX";
    int fd = mkstemp(path);

    ASSERT_GE(fd, 0);
    close(fd);
    std::ofstream(path) << "{\n  \"clients_max\": 12\n}\n";
    EXPECT_TRUE(config_read(&c_, &level_, &services_, path, false, why_, sizeof(why_))) << why_;
    EXPECT_EQ(12U, c_.clients_max);
    unlink(path);
    EXPECT_TRUE(config_read(&c_, &level_, &services_, path, true, why_, sizeof(why_)));
    EXPECT_FALSE(config_read(&c_, &level_, &services_, path, false, why_, sizeof(why_)));
    EXPECT_NE(nullptr, strstr(why_, "No such file")) << why_;
    EXPECT_FALSE(config_read(&c_, &level_, &services_, "/", false, why_, sizeof(why_)));
    EXPECT_NE(nullptr, strstr(why_, "Is a directory")) << why_;
}

TEST_F(ConfigTest, AnEmptyFileIsNoConfiguration) {
    c_.clients_max = 12;
    EXPECT_TRUE(config_read(&c_, &level_, &services_, "/dev/null", false, why_, sizeof(why_)))
        << why_;
    EXPECT_EQ(12U, c_.clients_max);
}

/* --- Services --------------------------------------------------------------------------------- */

#define WEB(options, deliver)                                                    \
    R"({"services":{"web":{"listen":{"port":443},"options":{)" options R"(},)" \
    R"("deliver":{)" deliver "}}}}"

class ServicesConfigTest : public ConfigTest {
protected:
    void SetUp() override {
        ConfigTest::SetUp();
        name_ = "/etc/cordon/f.json";
    }
    std::string At(const char *service, const char *part, const char *name) {
        const json_t *params = json_object_get(services_, service);
        const char *text = json_string_value(json_object_get(json_object_get(params, part), name));

        return text != nullptr ? text : "";
    }
};

TEST_F(ServicesConfigTest, PathsAreFromTheFile) {
    ASSERT_TRUE(Parse(WEB(R"("certfile":"web.pem","keyfile":"/k/web.key","cacertfile":"../ca.pem")",
                          R"("echo":true)")))
        << why_;
    EXPECT_EQ("/etc/cordon/web.pem", At("web", "options", "certfile"));
    EXPECT_EQ("/k/web.key", At("web", "options", "keyfile"));
    EXPECT_EQ("/etc/cordon/../ca.pem", At("web", "options", "cacertfile"));
}

TEST_F(ServicesConfigTest, DefaultsArePutIn) {
    ASSERT_TRUE(Parse(WEB(R"("certfile":"web.pem")", R"("connect":"127.0.0.1:80")"))) << why_;
    EXPECT_EQ("verify_none", At("web", "options", "verify"));
}

TEST_F(ServicesConfigTest, AWrongServiceGivesNone) {
    EXPECT_FALSE(Parse(R"({"services":{
        "good":{"listen":{"port":1},"options":{"certfile":"c"},"deliver":{"echo":true}},
        "bad":{"listen":{"port":1},"options":{},"deliver":{"echo":true}}}})"));
    EXPECT_EQ(nullptr, services_);
    ASSERT_TRUE(Parse(R"({"services":{}})")) << why_;
    EXPECT_EQ(0U, json_object_size(services_));
}

class WrongServicesTest : public ServicesConfigTest, public ::testing::WithParamInterface<Wrong> {};

TEST_P(WrongServicesTest, NamesFilePathAndWhy) {
    EXPECT_FALSE(Parse(GetParam().text));
    EXPECT_EQ(why_, strstr(why_, "/etc/cordon/f.json: services")) << why_;
    EXPECT_NE(nullptr, strstr(why_, GetParam().why)) << why_;
}

const Wrong kWrongServices[] = {
    {"NoObject", R"({"services":[]})", "services must be an object"},
    {"ServiceNoObject", R"({"services":{"web":1}})", "services.web.listen: is missing"},
    {"NameEmpty", R"({"services":{"":{}}})", "a service's name has 1 to 64"},
    {"NameWithSpace", R"({"services":{"a b":{}}})", "a service's name has 1 to 64"},
    {"NameWithDot", R"({"services":{".a":{}}})", "a service's name has 1 to 64"},
    {"UnknownKey", R"({"services":{"web":{"listn":{"port":1}}}})",
     "services.web.listn: is not known here"},
    {"OnlyInRequests",
     R"({"services":{"web":{"listen":{"port":1},"replace":true,"deliver":{"echo":true}}}})",
     "services.web.replace: is not known here"},
    {"NoListen", R"({"services":{"web":{"deliver":{"echo":true}}}})",
     "services.web.listen: is missing"},
    {"NoDeliver", R"({"services":{"web":{"listen":{"port":1}}}})",
     "services.web.deliver: is missing"},
    {"Port", R"({"services":{"web":{"listen":{"port":70000},"deliver":{"echo":true}}}})",
     "services.web.listen.port: must be from 0 to 65535"},
    {"NoCertfile", WEB("", R"("echo":true)"),
     "services.web.options.certfile: a server needs a certificate"},
    {"UnknownOption", WEB(R"("certfil":"c")", R"("echo":true)"),
     "services.web.options.certfil: is not known here"},
    {"WrongOption", WEB(R"("certfile":"c","depth":"1")", R"("echo":true)"),
     "services.web.options.depth: must be an integer"},
    {"CrossRule", WEB(R"("certfile":"c","verify":"verify_peer")", R"("echo":true)"),
     "services.web.options.cacertfile: verify_peer needs"},
    {"Descriptor", WEB(R"("certfile":{"fd_index":0})", R"("echo":true)"),
     "services.web.options.certfile: "},
    {"WrongDeliver", WEB(R"("certfile":"c")", R"("connect":"nowhere")"),
     "services.web.deliver.connect: must be HOST:PORT"},
    {"UnknownDeliver", WEB(R"("certfile":"c")", R"("conect":"a:1")"),
     "services.web.deliver.conect: is not known here"},
    {"TwoDeliver", WEB(R"("certfile":"c")", R"("connect":"a:1","echo":true)"),
     "services.web.deliver: needs exactly one of"},
};

INSTANTIATE_TEST_SUITE_P(Table, WrongServicesTest, ::testing::ValuesIn(kWrongServices),
                         [](const auto &info) { return std::string(info.param.name); });

} // namespace
