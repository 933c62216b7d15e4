/* manager/failure: what the client is told. */
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <string>

extern "C" {
#include "manager/failure.h"
}

namespace {

class FailureTest : public ::testing::Test {
protected:
    void TearDown() override { failure_fini(&f_); }

    /* The whole error object, keys sorted. */
    std::string Json() {
        json_t *json = failure_json(&f_);
        char *text = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENSURE_ASCII);
        std::string copy = text;

        free(text);
        json_decref(json);
        return copy;
    }

    struct failure f_ = {};
};

TEST_F(FailureTest, WithoutMessageTheReasonsOwnSentence) {
    failure_set(&f_, RESULT_TIMEOUT, nullptr, nullptr);
    EXPECT_EQ(R"({"code":-32000,"data":{"reason":"timeout"},"message":"the time given was over"})",
              Json());
}

TEST_F(FailureTest, FieldsStandBesideTheReason) {
    failure_set(&f_, RESULT_RESOLVE, "no", "{s:s, s:s}", "host", "h", "why", "w");
    EXPECT_EQ(R"({"code":-32000,"data":{"host":"h","reason":"resolve","why":"w"},"message":"no"})",
              Json());
}

TEST_F(FailureTest, PosixHasTheReferencesWord) {
    failure_posix(&f_, ECONNREFUSED, "connect");
    EXPECT_EQ(R"({"code":-32000,"data":{"posix":"econnrefused","reason":"posix","what":"connect"},)"
              R"("message":"connect: Connection refused"})",
              Json());
}

TEST_F(FailureTest, AnOptionsValueOutlivesItsRequest) {
    json_t *value = json_pack("[s, i]", "a", 1);

    failure_option(&f_, "ciphers", value, "is wrong");
    json_array_clear(value);
    json_decref(value);
    EXPECT_EQ(R"({"code":-32000,"data":{"option":"ciphers","reason":"options","value":["a",1],)"
              R"("why":"is wrong"},"message":"option ciphers: is wrong"})",
              Json());
}

TEST_F(FailureTest, ASecretOptionShowsNull) {
    failure_option(&f_, "password", nullptr, "is wrong");
    EXPECT_NE(std::string::npos, Json().find(R"("value":null)"));
}

TEST_F(FailureTest, ParametersHaveJsonRpcsCode) {
    failure_param(&f_, "listen.port", "is missing");
    EXPECT_EQ(R"({"code":-32602,"data":{"param":"listen.port","reason":"invalid_params",)"
              R"("why":"is missing"},"message":"listen.port: is missing"})",
              Json());
}

TEST_F(FailureTest, DescriptorsHaveTheirOwnCode) {
    failure_set(&f_, RESULT_DESCRIPTORS, nullptr, "{s:s}", "why", "w");
    EXPECT_NE(std::string::npos, Json().find("-32050"));
}

TEST_F(FailureTest, BadStateListsWhatIsAllowed) {
    failure_bad_state(&f_, "waiting", "connection", "closing", nullptr);
    EXPECT_EQ(R"({"code":-32000,"data":{"allowed":["connection","closing"],"reason":"bad_state",)"
              R"("state":"waiting"},"message":"the state is waiting, it would have to be)"
              R"( connection or closing"})",
              Json());
}

TEST_F(FailureTest, LimitSaysWhichAndHowMany) {
    failure_limit(&f_, "clients", 4096);
    EXPECT_NE(std::string::npos, Json().find(R"("max":4096,"reason":"limit","which":"clients")"));
}

TEST_F(FailureTest, NotSupportedWithoutAnAlternative) {
    failure_not_supported(&f_, "x", "because", nullptr);
    EXPECT_EQ(std::string::npos, Json().find("instead"));
    failure_fini(&f_);
    failure_not_supported(&f_, "x", "because", "y");
    EXPECT_NE(std::string::npos, Json().find(R"("instead":"y")"));
}

TEST_F(FailureTest, AMessageCutInsideACharacterIsStillShown) {
    std::string text = std::string(510, 'a') + "\xc3\xa4";

    failure_set(&f_, RESULT_INTERNAL, text.c_str(), nullptr);
    EXPECT_NE(std::string::npos, Json().find("aaaa"));
}

TEST_F(FailureTest, FiniMayComeTwice) {
    failure_limit(&f_, "x", 1);
    failure_fini(&f_);
    failure_fini(&f_);
    EXPECT_EQ(nullptr, f_.fields);
}

} // namespace
