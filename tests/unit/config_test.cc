/* manager/config: the configuration file. */
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <unistd.h>

extern "C" {
#include "manager/config.h"
}

namespace {

class ConfigTest : public ::testing::Test {
protected:
    void SetUp() override { config_set_defaults(&c_); }

    bool Parse(const std::string &text) {
        return config_parse(&c_, &level_, "f.json", text.data(), text.size(), why_, sizeof(why_));
    }

    struct config c_ = {};
    enum log_level level_ = LOG_INFO;
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
        "system_trust_file":"/t"})"))
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
    {"UnknownListsAll", R"({"x":1})", "admin_group, log_format, log_level, system_trust_file"},
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
    EXPECT_TRUE(config_read(&c_, &level_, path, false, why_, sizeof(why_))) << why_;
    EXPECT_EQ(12U, c_.clients_max);
    unlink(path);
    EXPECT_TRUE(config_read(&c_, &level_, path, true, why_, sizeof(why_)));
    EXPECT_FALSE(config_read(&c_, &level_, path, false, why_, sizeof(why_)));
    EXPECT_NE(nullptr, strstr(why_, "No such file")) << why_;
    EXPECT_FALSE(config_read(&c_, &level_, "/", false, why_, sizeof(why_)));
    EXPECT_NE(nullptr, strstr(why_, "Is a directory")) << why_;
}

TEST_F(ConfigTest, AnEmptyFileIsNoConfiguration) {
    c_.clients_max = 12;
    EXPECT_TRUE(config_read(&c_, &level_, "/dev/null", false, why_, sizeof(why_))) << why_;
    EXPECT_EQ(12U, c_.clients_max);
}

} // namespace
