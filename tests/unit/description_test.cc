/* manager/description: the embedded description, and what is wrong with others. */
#include <gtest/gtest.h>

#include <cstring>
#include <string>

extern "C" {
#include "ipc/result.h"
#include "manager/description.h"
#include "manager/failure.h"

extern const char cordon_api_json[];
extern const size_t cordon_api_json_size;
}

namespace {

class DescriptionTest : public ::testing::Test {
protected:
    void TearDown() override { description_close(); }

    bool Open(const std::string &text) {
        return description_open(text.data(), text.size(), why_, sizeof(why_));
    }
    bool OpenOurs() {
        return description_open(cordon_api_json, cordon_api_json_size, why_, sizeof(why_));
    }

    char why_[256] = "";
};

TEST_F(DescriptionTest, OursIsRight) {
    ASSERT_TRUE(OpenOurs()) << why_;
    EXPECT_EQ(38U, description_method_count());
}

TEST_F(DescriptionTest, MethodsAreFoundByNameAndAlias) {
    ASSERT_TRUE(OpenOurs()) << why_;
    const struct method *m = description_method("ssl.handshake");
    ASSERT_NE(nullptr, m);
    EXPECT_EQ(m, description_method("ssl.ssl_accept"));
    EXPECT_STREQ("ssl.handshake", m->name);
    EXPECT_EQ(ROLE_OWNER, m->role);
    EXPECT_EQ(4U, m->fds_max);
    EXPECT_EQ(m, description_method_at(m->number));
    EXPECT_EQ(nullptr, description_method("ssl.nothing"));
    EXPECT_EQ(nullptr, description_method(""));
    EXPECT_EQ(ROLE_ADMINISTRATOR, description_method("cordon.stop")->role);
}

TEST_F(DescriptionTest, ATypeHasTheFieldsItIncludes) {
    ASSERT_TRUE(OpenOurs()) << why_;
    const json_t *fields = description_type_fields("listen_options");
    for (const char *name : {"certfile", "active", "nodelay", "backlog"})
        EXPECT_NE(nullptr, json_object_get(fields, name)) << name;
    EXPECT_EQ(nullptr, json_object_get(fields, "verify_hostname"));
    EXPECT_TRUE(description_type_is_options("listen_options"));
    EXPECT_FALSE(description_type_is_options("listen_address"));
}

/* Every reason that a method may answer has the code that failure_json gives it. */
TEST_F(DescriptionTest, CodesAndTextsAreThoseOfFailure) {
    ASSERT_TRUE(OpenOurs()) << why_;
    json_t *errors = json_object_get(description_whole(), "errors");
    const char *name;
    json_t *error;
    size_t found = 0;

    json_object_foreach (errors, name, error) {
        for (unsigned i = 0; i < RESULT_COUNT; i++) {
            struct failure f;

            if (strcmp(result_name((enum result)i), name) != 0)
                continue;
            found++;
            failure_set(&f, (enum result)i, nullptr, nullptr);
            json_t *json = failure_json(&f);
            EXPECT_EQ(json_integer_value(json_object_get(error, "code")),
                      json_integer_value(json_object_get(json, "code")))
                << name;
            EXPECT_STREQ(json_string_value(json_object_get(error, "text")),
                         result_text((enum result)i))
                << name;
            json_decref(json);
            failure_fini(&f);
        }
    }
    EXPECT_EQ(json_object_size(errors), found);
}

struct Wrong {
    const char *name;
    const char *text;
    const char *why;
};

class WrongDescriptionTest : public DescriptionTest, public ::testing::WithParamInterface<Wrong> {};

TEST_P(WrongDescriptionTest, IsRefused) {
    EXPECT_FALSE(Open(GetParam().text));
    EXPECT_NE(nullptr, strstr(why_, GetParam().why)) << why_;
    EXPECT_EQ(0U, description_method_count());
}

const Wrong kWrong[] = {
    {"NotJson", "{", "line 1"},
    {"UnknownShape", R"({"types":{"t":{"fields":{"a":{"type":"nothing"}}}},"methods":{}})", "t.a"},
    {"UnknownInclude", R"({"types":{"t":{"fields":{},"includes":["u"]}},"methods":{}})", "types.t"},
    {"NestedInclude",
     R"({"types":{"u":{"fields":{},"includes":[]},"t":{"fields":{},"includes":["u"]}},"methods":{}})",
     "types.t"},
    {"UnknownOf", R"({"types":{"t":{"fields":{"a":{"type":"object","of":"x"}}}},"methods":{}})",
     "t.a"},
    {"SwitchWithoutName",
     R"({"types":{"t":{"fields":{"a":{"type":"object","of":{"x":"t"}}}}},"methods":{}})", "t.a"},
    {"UnknownRole",
     R"({"types":{},"methods":{"m":{"role":"king","params":{},"fds_in":{"max":0}}}})",
     "m: no role"},
    {"NoFdsIn", R"({"types":{},"methods":{"m":{"role":"any","params":{}}}})", "m: no fds_in"},
    {"BadItem",
     R"({"types":{},"methods":{"m":{"role":"any","fds_in":{"max":0},"params":{"a":{"type":"array","items":{"type":"x"}}}}}})",
     "m.a"},
};

INSTANTIATE_TEST_SUITE_P(Table, WrongDescriptionTest, ::testing::ValuesIn(kWrong),
                         [](const auto &info) { return std::string(info.param.name); });

} // namespace
