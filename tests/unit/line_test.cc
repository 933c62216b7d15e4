/* manager/line: lines, their descriptors, and what a line may hold. */
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "manager/line.h"
}

namespace {

class LineTest : public ::testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair_));
        line_reader_init(&reader_);
    }
    void TearDown() override {
        line_reader_fini(&reader_);
        fd_close(&pair_[0]);
        fd_close(&pair_[1]);
    }

    void Write(const std::string &bytes, size_t fd_count = 0) {
        std::vector<int> fds(fd_count, pair_[0]);

        for (size_t at = 0; at < bytes.size();) {
            size_t size = bytes.size() - at;

            ASSERT_EQ(RESULT_OK,
                      fd_send(pair_[0], bytes.data() + at, &size, fds.data(), fd_count, 0));
            at += size;
            fd_count = 0;
        }
    }
    enum result Receive() { return line_reader_receive(&reader_, pair_[1]); }
    enum result Next(std::string *text) {
        char *line;
        size_t size;
        enum result result = line_reader_next(&reader_, &line, &size);

        if (result == RESULT_OK)
            text->assign(line, size);
        return result;
    }
    /* All lines that can be had, until something else than a line comes. */
    enum result ReadAll(std::vector<std::string> *lines) {
        for (;;) {
            std::string line;
            enum result result = Next(&line);

            if (result == RESULT_OK) {
                lines->push_back(line);
                continue;
            }
            if (result != RESULT_WOULD_BLOCK)
                return result;
            result = Receive();
            if (result != RESULT_OK)
                return result;
        }
    }

    int pair_[2] = {-1, -1};
    struct line_reader reader_;
};

TEST_F(LineTest, LinesOfOneWriteComeOneByOne) {
    std::vector<std::string> lines;

    Write("a\n\nbc\nrest");
    EXPECT_EQ(RESULT_WOULD_BLOCK, ReadAll(&lines));
    EXPECT_EQ((std::vector<std::string>{"a", "", "bc"}), lines);
}

TEST_F(LineTest, SplitAtEveryByte) {
    const std::string text = "{\"a\": 1}\nx\n";

    for (size_t split = 0; split <= text.size(); split++) {
        std::vector<std::string> lines;

        if (split > 0)
            Write(text.substr(0, split));
        EXPECT_EQ(RESULT_WOULD_BLOCK, ReadAll(&lines));
        if (split < text.size())
            Write(text.substr(split));
        EXPECT_EQ(RESULT_WOULD_BLOCK, ReadAll(&lines));
        EXPECT_EQ((std::vector<std::string>{"{\"a\": 1}", "x"}), lines) << split;
    }
}

TEST_F(LineTest, ByteByByte) {
    std::vector<std::string> lines;

    for (char c : std::string("hello\nworld\n")) {
        Write(std::string(1, c));
        EXPECT_EQ(RESULT_WOULD_BLOCK, ReadAll(&lines));
    }
    EXPECT_EQ((std::vector<std::string>{"hello", "world"}), lines);
}

TEST_F(LineTest, TheLongestLineFits) {
    std::vector<std::string> lines;
    std::string longest(LINE_SIZE_MAX, 'x');

    Write("a\n" + longest + "\nb\n");
    EXPECT_EQ(RESULT_WOULD_BLOCK, ReadAll(&lines));
    EXPECT_EQ((std::vector<std::string>{"a", longest, "b"}), lines);
}

TEST_F(LineTest, OneByteMoreIsTooLong) {
    std::vector<std::string> lines;

    Write("a\n" + std::string(LINE_SIZE_MAX + 1, 'x') + "\n");
    EXPECT_EQ(RESULT_LINE_TOO_LONG, ReadAll(&lines));
    EXPECT_EQ(1U, lines.size());
}

TEST_F(LineTest, EndOfFileIsSaidOnceTheLinesAreRead) {
    std::vector<std::string> lines;

    Write("a\n");
    shutdown(pair_[0], SHUT_WR);
    EXPECT_EQ(RESULT_CHANNEL_CLOSED, ReadAll(&lines));
    EXPECT_EQ(1U, lines.size());
}

TEST_F(LineTest, AnIdleReaderHoldsNoBuffer) {
    std::vector<std::string> lines;

    Write("a\n");
    EXPECT_EQ(RESULT_WOULD_BLOCK, ReadAll(&lines));
    EXPECT_EQ(nullptr, reader_.bytes);
}

TEST_F(LineTest, WhatWasReadIsWiped) {
    std::string line;

    Write("secret\nnot yet a line");
    ASSERT_EQ(RESULT_OK, Receive());
    ASSERT_EQ(RESULT_OK, Next(&line));
    EXPECT_EQ("secret", line);
    EXPECT_EQ(RESULT_WOULD_BLOCK, Next(&line));
    EXPECT_EQ(nullptr, memmem(reader_.bytes, reader_.room, "secret", 6));
    EXPECT_NE(nullptr, memmem(reader_.bytes, reader_.room, "not yet", 7));
}

TEST_F(LineTest, DescriptorsAreAQueueAcrossMergedLines) {
    std::vector<std::string> lines;
    int fds[3];

    Write("one\n");
    Write("two\n", 2);
    Write("three\n", 1);
    EXPECT_EQ(RESULT_WOULD_BLOCK, ReadAll(&lines));
    EXPECT_EQ(3U, lines.size());
    EXPECT_EQ(3U, reader_.fd_count);
    ASSERT_TRUE(line_reader_claim(&reader_, fds, 2));
    EXPECT_TRUE(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
    EXPECT_FALSE(line_reader_claim(&reader_, fds + 2, 2));
    ASSERT_TRUE(line_reader_claim(&reader_, fds + 2, 1));
    for (int fd : fds)
        EXPECT_EQ(0, close(fd));
}

TEST_F(LineTest, SixtyFourMayWaitAndNotOneMore) {
    std::vector<std::string> lines;

    Write("x", 64);
    EXPECT_EQ(RESULT_WOULD_BLOCK, ReadAll(&lines));
    Write("y", 1);
    EXPECT_EQ(RESULT_DESCRIPTORS, ReadAll(&lines));
}

TEST_F(LineTest, ALineTakesItsDescriptorsBeforeTheyAreCounted) {
    std::string line;
    int fds[64];

    Write("a", 60);
    ASSERT_EQ(RESULT_OK, Receive());
    EXPECT_EQ(RESULT_WOULD_BLOCK, Next(&line));
    Write("\nb\n", 64);
    ASSERT_EQ(RESULT_OK, Receive());
    ASSERT_EQ(RESULT_OK, Next(&line));
    ASSERT_TRUE(line_reader_claim(&reader_, fds, 60));
    for (int i = 0; i < 60; i++)
        close(fds[i]);
    EXPECT_EQ(RESULT_OK, Next(&line));
    EXPECT_EQ(RESULT_WOULD_BLOCK, Next(&line));
}

TEST_F(LineTest, FiniClosesWhatNobodyTook) {
    std::vector<std::string> lines;

    Write("a\n", 253);
    EXPECT_EQ(RESULT_DESCRIPTORS, ReadAll(&lines));
    std::vector<int> fds(reader_.fds, reader_.fds + reader_.fd_count);
    EXPECT_EQ(253U, fds.size());
    line_reader_fini(&reader_);
    for (int fd : fds)
        EXPECT_EQ(-1, fcntl(fd, F_GETFD));
}

/* --- line_parse ---------------------------------------------------------------------------- */

struct Parse {
    const char *name;
    std::string text;
    const char *why; /* nullptr: it is right */
    int position;
};

class LineParseTest : public ::testing::TestWithParam<Parse> {};

TEST_P(LineParseTest, Says) {
    const Parse &p = GetParam();
    struct failure f = {};
    json_t *json = line_parse(p.text.data(), p.text.size(), LINE_VALUES_MAX, &f);

    if (p.why == nullptr) {
        EXPECT_NE(nullptr, json) << f.message;
        json_decref(json);
        return;
    }
    ASSERT_EQ(nullptr, json);
    EXPECT_EQ(RESULT_PARSE_ERROR, f.reason);
    EXPECT_STREQ(p.why, json_string_value(json_object_get(f.fields, "why")));
    if (p.position >= 0) {
        EXPECT_EQ(p.position, json_integer_value(json_object_get(f.fields, "position")));
    }
    failure_fini(&f);
}

std::string Repeat(const std::string &text, int count) {
    std::string all;

    for (int i = 0; i < count; i++)
        all += text;
    return all;
}

/* {"a": ...} with arrays inside, depth in all. */
std::string Deep(int depth) {
    return "{\"a\":" + Repeat("[", depth - 1) + Repeat("]", depth - 1) + "}";
}

const Parse kParse[] = {
    {"Empty", "", "the line is empty", 0},
    {"Blank", " \t\r", "the line is empty", 0},
    {"Object", "{}", nullptr, 0},
    {"BlanksAround", " { } \r", nullptr, 0},
    {"Array", " []", "an array; there are no batches, each line is one object", 1},
    {"Number", "1", "not an object", 0},
    {"String", "\"{}\"", "not an object", 0},
    {"Word", "nothing", "not an object", 0},
    {"ByteOrderMark", "\xef\xbb\xbf{}", "not an object", 0},
    {"Nul", std::string("{\0}", 3), "a NUL byte", 1},
    {"EscapedNul", R"({"a":"\u0000"})", "NUL in a string", -1},
    {"Trailing", "{}x", "something follows the object", 3},
    {"TwoObjects", "{}{}", "something follows the object", 3},
    {"DuplicateKey", R"({"a":1,"b":2,"a":3})", "a key is there twice in one object", -1},
    {"DuplicateKeyInside", R"({"a":{"b":1,"b":1}})", "a key is there twice in one object", -1},
    {"NotUtf8", "{\"a\":\"\xff\"}", "not UTF-8", -1},
    {"TooEarly", R"({"a":)", "the JSON ends too early", -1},
    {"HugeNumber", R"({"a":1e999})", "a number is too large", -1},
    {"HugeInteger", R"({"a":99999999999999999999})", "a number is too large", -1},
    {"DepthThirtyTwo", Deep(32), nullptr, 0},
    {"DepthThirtyThree", Deep(33), "nested deeper than 32", 36},
    {"DepthInStringsIsNone", "{\"a\":\"" + std::string(100, '[') + "\"}", nullptr, 0},
    {"BracketsInEscapes", R"({"a":"\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["})", nullptr, 0},
    {"WideIsNotDeep", "{\"a\":[" + Repeat("[],", 99) + "[]]}", nullptr, 0},
    {"ManyValues", "{\"a\":[" + Repeat("1,", 9997) + "1]}", nullptr, 0},
    {"OneValueTooMany", "{\"a\":[" + Repeat("1,", 9999) + "1]}", "too many values", -1},
    {"EmptyObjectsCount", "{\"a\":[" + Repeat("{},", 9999) + "{}]}", "too many values", -1},
    {"Unquoted", "{a:1}", "not JSON", -1},
};

INSTANTIATE_TEST_SUITE_P(Table, LineParseTest, ::testing::ValuesIn(kParse),
                         [](const auto &info) { return std::string(info.param.name); });

} // namespace
