/* ipc/message: what one process writes, the other reads; what no process writes is refused. */
#include <gtest/gtest.h>

#include <fcntl.h>
#include <string>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ipc/message.h"
}

namespace {

class MessageTest : public ::testing::Test {
protected:
    void TearDown() override { message_fini(&m_); }

    enum result Decode(const std::string &text, enum route route = MANAGER_TO_NURSERY,
                       const std::vector<int> &fds = {}) {
        buffer_.assign(text.begin(), text.end());
        buffer_.push_back('\0');
        why_ = "";
        return message_decode(&m_, route, buffer_.data(), text.size(), fds.data(), fds.size(),
                              &why_);
    }

    std::string Encode(const struct message &m) {
        char bytes[MESSAGE_MAX];
        size_t size = sizeof bytes;

        EXPECT_EQ(RESULT_OK, message_encode(&m, bytes, &size));
        return std::string(bytes, size);
    }

    std::vector<int> Fds(size_t count) {
        std::vector<int> fds;

        for (size_t i = 0; i < count; i++)
            fds.push_back(open("/dev/null", O_RDONLY | O_CLOEXEC));
        return fds;
    }

    static bool IsOpen(int fd) { return fcntl(fd, F_GETFD) >= 0; }

    struct message m_ = {};
    std::vector<char> buffer_;
    const char *why_ = "";
};

const char kSpawn[] = R"({"type":"spawn","connection":3,"context":1,"handle":"c1.3"})";

TEST_F(MessageTest, WhatIsWrittenIsRead) {
    struct message out;
    const uint8_t bytes[] = {0, 1, 254, 255};

    message_init(&out, MESSAGE_ESTABLISHED);
    out.as.established.version = TLS_1_3;
    out.as.established.suite = 0x1301;
    out.as.established.server_name = "a \"quoted\" \\ \x01 na\xc3\xafve name";
    out.as.established.alpn = {bytes, sizeof bytes};
    out.as.established.not_before = -5;
    ASSERT_EQ(RESULT_OK, Decode(Encode(out), WORKER_TO_MANAGER)) << why_;
    EXPECT_EQ(MESSAGE_ESTABLISHED, m_.type);
    EXPECT_EQ(0x1301u, m_.as.established.suite);
    EXPECT_STREQ(out.as.established.server_name, m_.as.established.server_name);
    EXPECT_EQ(std::string((const char *)bytes, sizeof bytes),
              std::string((const char *)m_.as.established.alpn.data, m_.as.established.alpn.size));
    EXPECT_EQ(-5, m_.as.established.not_before);
    EXPECT_FALSE(m_.as.established.has_not_after);
    EXPECT_EQ(nullptr, m_.as.established.subject);
}

TEST_F(MessageTest, TakenFdBelongsToTheCaller) {
    std::vector<int> fds = Fds(3);

    ASSERT_EQ(RESULT_OK, Decode(kSpawn, MANAGER_TO_NURSERY, fds));
    int fd = message_take_fd(&m_, 1);
    EXPECT_EQ(-1, message_take_fd(&m_, 1));
    EXPECT_EQ(-1, message_take_fd(&m_, 3));
    message_fini(&m_);
    EXPECT_FALSE(IsOpen(fds[0]));
    EXPECT_FALSE(IsOpen(fds[2]));
    EXPECT_EQ(0, close(fd));
}

TEST_F(MessageTest, ARefusedMessageClosesItsDescriptors) {
    std::vector<int> fds = Fds(2);

    EXPECT_EQ(RESULT_MESSAGE_MALFORMED, Decode("{}", MANAGER_TO_NURSERY, fds));
    EXPECT_FALSE(IsOpen(fds[0]));
    EXPECT_FALSE(IsOpen(fds[1]));
}

TEST_F(MessageTest, OnlyTheRouteOfAMessageCarriesIt) {
    EXPECT_EQ(RESULT_MESSAGE_UNEXPECTED, Decode(kSpawn, WORKER_TO_MANAGER, Fds(3)));
    EXPECT_EQ(RESULT_OK, Decode(R"({"type":"log","level":1,"line":"x"})", WORKER_TO_MANAGER));
    EXPECT_EQ(RESULT_OK, Decode(R"({"type":"log","level":1,"line":"x"})", KEEPER_TO_MANAGER));
    EXPECT_EQ(RESULT_MESSAGE_UNEXPECTED,
              Decode(R"({"type":"log","level":1,"line":"x"})", MANAGER_TO_KEEPER));
}

TEST_F(MessageTest, TheNumberOfDescriptorsIsChecked) {
    EXPECT_EQ(RESULT_MESSAGE_DESCRIPTORS, Decode(kSpawn, MANAGER_TO_NURSERY, Fds(1)));
    EXPECT_EQ(RESULT_MESSAGE_DESCRIPTORS, Decode(kSpawn, MANAGER_TO_NURSERY, Fds(4)));
    EXPECT_EQ(RESULT_MESSAGE_DESCRIPTORS, Decode(R"({"type":"hello"})", WORKER_TO_MANAGER, Fds(1)));
}

TEST_F(MessageTest, AnIndexNamesADescriptorThatCame) {
    const char text[] = R"({"type":"context","context":1,"role":0,"versions":12,"verify":0,)"
                        R"("depth":10,"certificate_index":1})";

    EXPECT_EQ(RESULT_MESSAGE_DESCRIPTORS, Decode(text, MANAGER_TO_NURSERY, Fds(1)));
    EXPECT_EQ(RESULT_OK, Decode(text, MANAGER_TO_NURSERY, Fds(2)));
}

TEST_F(MessageTest, SecretsAreNotDescribed) {
    struct message m;
    char line[200];

    message_init(&m, MESSAGE_DECODE);
    m.as.decode.pem = {(const uint8_t *)"-----BEGIN", 10};
    message_describe(&m, line, sizeof line);
    EXPECT_STREQ("decode pem=***", line);
}

TEST_F(MessageTest, EveryPrefixOfAMessageIsRefused) {
    std::string whole = kSpawn;

    for (size_t size = 0; size < whole.size(); size++)
        EXPECT_EQ(RESULT_MESSAGE_MALFORMED, Decode(whole.substr(0, size))) << size;
}

TEST_F(MessageTest, OurOwnMistakesAreNotSent) {
    struct message m;
    char bytes[MESSAGE_MAX];
    size_t size = sizeof bytes;
    std::string long_text(2000, 'x');

    message_init(&m, MESSAGE_LOG);
    m.as.log.level = 1;
    EXPECT_EQ(RESULT_MESSAGE_MALFORMED, message_encode(&m, bytes, &size));
    m.as.log.line = long_text.c_str();
    EXPECT_EQ(RESULT_MESSAGE_MALFORMED, message_encode(&m, bytes, &size));
    m.as.log.line = "short";
    size = 20;
    EXPECT_EQ(RESULT_MESSAGE_TOO_LONG, message_encode(&m, bytes, &size));
    m.fd_count = 1;
    size = sizeof bytes;
    EXPECT_EQ(RESULT_MESSAGE_DESCRIPTORS, message_encode(&m, bytes, &size));
}

struct Refused {
    const char *name;
    const char *text;
    const char *why;
};

class RefusedMessage : public MessageTest, public ::testing::WithParamInterface<Refused> {};

TEST_P(RefusedMessage, SaysWhy) {
    EXPECT_EQ(RESULT_MESSAGE_MALFORMED, Decode(GetParam().text, KEEPER_TO_MANAGER));
    EXPECT_STREQ(GetParam().why, why_);
}

const Refused kRefused[] = {
    {"Empty", "", "not one flat JSON object"},
    {"NoObject", "[1]", "not one flat JSON object"},
    {"NoType", R"({"level":1})", "the first field is not type"},
    {"TypeNotFirst", R"({"level":1,"type":"log","line":"x"})", "the first field is not type"},
    {"UnknownType", R"({"type":"logg"})", "the type is unknown"},
    {"UnknownField", R"({"type":"log","level":1,"line":"x","y":2})", "a field is unknown"},
    {"FieldTwice", R"({"type":"log","level":1,"level":1,"line":"x"})", "a field stands twice"},
    {"FieldMissing", R"({"type":"log","level":1})", "a field is missing"},
    {"Trailing", R"({"type":"log","level":1,"line":"x"} )", "something follows the object"},
    {"TwoObjects", R"({"type":"log","level":1,"line":"x"}{})", "something follows the object"},
    {"OverBound", R"({"type":"log","level":4,"line":"x"})", "a number is over its bound"},
    {"Negative", R"({"type":"log","level":-1,"line":"x"})", "a number is missing"},
    {"LeadingZero", R"({"type":"log","level":01,"line":"x"})", "a number begins with 0"},
    {"Fraction", R"({"type":"log","level":1.0,"line":"x"})", "not one flat JSON object"},
    {"TextForNumber", R"({"type":"log","level":"1","line":"x"})", "a number is missing"},
    {"NumberForText", R"({"type":"log","level":1,"line":1})", "not one flat JSON object"},
    {"Nested", R"({"type":"log","level":1,"line":{"a":1}})", "not one flat JSON object"},
    {"Overflow", R"({"type":"misuse","channel":18446744073709551616,"connection":0,"why":"x"})",
     "a number is too large"},
    {"ControlCharacter", "{\"type\":\"log\",\"level\":1,\"line\":\"a\nb\"}",
     "a control character in a string"},
    {"EscapedNul", R"({"type":"log","level":1,"line":"a\u0000b"})",
     "an escape stands for no character"},
    {"Surrogate", R"({"type":"log","level":1,"line":"\ud800"})",
     "an escape stands for no character"},
    {"UnknownEscape", R"({"type":"log","level":1,"line":"\x41"})", "an escape is unknown"},
    {"Utf8CutOff", "{\"type\":\"log\",\"level\":1,\"line\":\"\xc3\"}", "a text is not UTF-8"},
    {"Utf8Overlong", "{\"type\":\"log\",\"level\":1,\"line\":\"\xc0\xaf\"}", "a text is not UTF-8"},
    {"Utf8Surrogate", "{\"type\":\"log\",\"level\":1,\"line\":\"\xed\xa0\x80\"}",
     "a text is not UTF-8"},
};

INSTANTIATE_TEST_SUITE_P(Table, RefusedMessage, ::testing::ValuesIn(kRefused),
                         [](const auto &row) { return row.param.name; });

TEST_F(MessageTest, BytesThatNobodyCanHaveMovedAreRefused) {
    for (const char *in : {"9223372036854775808", "18446744073709551615"}) {
        EXPECT_EQ(
            RESULT_MESSAGE_MALFORMED,
            Decode(std::string(R"({"type":"peer_ended","in":)") + in + "}", WORKER_TO_MANAGER));
        EXPECT_STREQ("a number is over its bound", why_);
        EXPECT_EQ(RESULT_MESSAGE_MALFORMED,
                  Decode(std::string(R"({"type":"bye","how":0,"in":0,"out":)") + in + "}",
                         WORKER_TO_MANAGER));
    }
    EXPECT_EQ(RESULT_OK,
              Decode(R"({"type":"peer_ended","in":9223372036854775807})", WORKER_TO_MANAGER));
}

TEST_F(MessageTest, ATextOverItsBoundIsRefused) {
    std::string text = R"({"type":"log","level":1,"line":")" + std::string(1001, 'x') + R"("})";

    EXPECT_EQ(RESULT_MESSAGE_MALFORMED, Decode(text, KEEPER_TO_MANAGER));
    EXPECT_STREQ("a text is over its bound", why_);
}

TEST_F(MessageTest, BytesThatAreNotBase64AreRefused) {
    const char *const cases[] = {"a", "ab", "abc", "ab=c", "a===", "!!!!", "QUJD="};

    for (const char *base64 : cases) {
        std::string text = std::string(R"({"type":"signature","value":")") + base64 + R"("})";
        EXPECT_EQ(RESULT_MESSAGE_MALFORMED, Decode(text, KEEPER_TO_WORKER)) << base64;
    }
    EXPECT_EQ(RESULT_OK, Decode(R"({"type":"signature","value":"QUJD"})", KEEPER_TO_WORKER));
    EXPECT_EQ(3u, m_.as.signature.value.size);
}

} // namespace
