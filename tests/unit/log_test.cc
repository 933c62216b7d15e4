/*
 * Log lines on stderr: both formats, the journal's priorities, and a reader that does not read.
 */
extern "C" {
#include "ipc/clock.h"
#include "ipc/log.h"
}

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <regex>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <jansson.h>

namespace {

class LogTest : public testing::Test {
protected:
    void SetUp() override {
        kept_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
        ASSERT_EQ(0, pipe2(ends_, O_CLOEXEC));
        Become(false);
    }
    void TearDown() override {
        dup2(kept_, STDERR_FILENO);
        for (int fd : {kept_, ends_[0], ends_[1]})
            close(fd);
        unsetenv("JOURNAL_STREAM");
        log_open("test");
        log_set_format(LOG_TEXT);
        log_set_level(LOG_INFO);
    }
    /* stderr is ends_[1] from here on; with_journal: and that is what $JOURNAL_STREAM names. */
    void Become(bool with_journal) {
        struct stat is;

        ASSERT_LE(0, dup2(ends_[1], STDERR_FILENO));
        ASSERT_EQ(0, fstat(STDERR_FILENO, &is));
        std::string stream = std::to_string(is.st_dev) + ":" + std::to_string(is.st_ino);
        setenv("JOURNAL_STREAM", with_journal ? stream.c_str() : "1:2", 1);
        log_open("manager");
    }
    std::vector<std::string> Lines() {
        std::string text;
        std::vector<std::string> lines;
        char bytes[4096];
        ssize_t got;

        fcntl(ends_[0], F_SETFL, O_NONBLOCK);
        while ((got = read(ends_[0], bytes, sizeof(bytes))) > 0)
            text.append(bytes, (size_t)got);
        for (size_t at; (at = text.find('\n')) != std::string::npos; text.erase(0, at + 1))
            lines.push_back(text.substr(0, at));
        EXPECT_EQ("", text) << "a line without its end";
        return lines;
    }
    std::string Line() {
        std::vector<std::string> lines = Lines();

        EXPECT_EQ(1U, lines.size());
        return lines.empty() ? "" : lines[0];
    }

    int kept_ = -1, ends_[2] = {-1, -1};
};

TEST_F(LogTest, ATextLineHasTimeLevelAndProcess) {
    log_info("conn=%s opened took_ms=%d", "c1.2", 41);
    std::string line = Line();
    EXPECT_TRUE(std::regex_match(
        line, std::regex("20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
                         "info manager conn=c1\\.2 opened took_ms=41")))
        << line;
}

TEST_F(LogTest, AJsonLineIsOneObject) {
    log_set_format(LOG_JSON);
    log_warn("conn=%s odd sni=\"%s\"", "c1.2", "\"\\\n\xff");
    std::string line = Line();
    json_t *json = json_loads(line.c_str(), JSON_REJECT_DUPLICATES, nullptr);
    ASSERT_NE(nullptr, json) << line;
    EXPECT_STREQ("warn", json_string_value(json_object_get(json, "level")));
    EXPECT_STREQ("manager", json_string_value(json_object_get(json, "process")));
    EXPECT_STREQ("c1.2", json_string_value(json_object_get(json, "conn")));
    EXPECT_STREQ("odd", json_string_value(json_object_get(json, "message")));
    EXPECT_STREQ("\\x22\\x5c\\x0a\\xff", json_string_value(json_object_get(json, "sni")));
    json_decref(json);
}

TEST_F(LogTest, TheJournalGetsPrioritiesAndNoTime) {
    Become(true);
    log_set_level(LOG_DEBUG);
    log_error("a");
    log_warn("b");
    log_info("c");
    log_debug("d");
    EXPECT_EQ((std::vector<std::string>{"<3>error manager a", "<4>warn manager b",
                                        "<6>info manager c", "<7>debug manager d"}),
              Lines());
}

TEST_F(LogTest, AJsonLineForTheJournalHasItsPriorityInFront) {
    Become(true);
    log_set_format(LOG_JSON);
    log_error("a");
    std::string line = Line();
    EXPECT_EQ(0U, line.find("<3>{\"time\":\"")) << line;
    EXPECT_EQ('}', line.back());
}

TEST_F(LogTest, AStderrThatWasRedirectedIsNotTheJournal) {
    log_error("a");
    EXPECT_EQ(0U, Line().find("20"));
}

/* Whatever the descriptor is: nothing waits, nothing is half a line, and the count is right. */
void ExpectLossToBeCounted(const std::vector<std::string> &before,
                           const std::vector<std::string> &after, size_t written) {
    ASSERT_EQ(2U, after.size());
    EXPECT_LT(before.size(), written);
    EXPECT_TRUE(
        std::regex_search(after[0], std::regex("warn manager log lines were lost count=" +
                                               std::to_string(written - before.size()) + "$")))
        << after[0];
    EXPECT_NE(std::string::npos, after[1].find("readable again"));
}

TEST_F(LogTest, APipeThatNobodyReadsLosesLinesAndCountsThem) {
    for (int i = 0; i < 3000; i++)
        log_info("line number=%d padding=%050d", i, 0);
    std::vector<std::string> before = Lines();
    log_info("readable again");
    ExpectLossToBeCounted(before, Lines(), 3000);
}

TEST_F(LogTest, ASocketThatNobodyReadsLosesLinesAndCountsThem) {
    int pair[2];

    ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    ASSERT_EQ(ends_[0], dup3(pair[0], ends_[0], O_CLOEXEC));
    ASSERT_EQ(ends_[1], dup3(pair[1], ends_[1], O_CLOEXEC));
    close(pair[0]);
    close(pair[1]);
    Become(false);
    for (int i = 0; i < 10000; i++)
        log_info("line number=%d padding=%050d", i, 0);
    std::vector<std::string> before = Lines();
    log_info("readable again");
    ExpectLossToBeCounted(before, Lines(), 10000);
}

TEST_F(LogTest, ALineIsNeverLongerThanAPipeTakesWhole) {
    std::string large(900, '\\');

    log_set_format(LOG_JSON);
    log_info("%s a=%s b=%s c=%s d=%s", large.c_str(), large.c_str(), large.c_str(), large.c_str(),
             large.c_str());
    std::string line = Line();
    EXPECT_LT(line.size(), 4096U);
    json_t *json = json_loads(line.c_str(), 0, nullptr);
    EXPECT_NE(nullptr, json) << line;
    json_decref(json);
}

TEST_F(LogTest, AForwardedLineHasItsProcess) {
    log_forward(LOG_WARN, "worker", "conn=c1.1 odd\nerror manager forged level=error");
    EXPECT_NE(std::string::npos,
              Line().find("Z warn worker conn=c1.1 odd\\x0aerror manager forged"));
    log_set_level(LOG_ERROR);
    log_forward(LOG_WARN, "worker", "x");
    EXPECT_TRUE(Lines().empty());
}

TEST(ClockTest, TheTimeOfDayIsRfc3339) {
    char text[CLOCK_UTC_SIZE];

    for (const auto &[ms, expected] : std::vector<std::pair<int64_t, const char *>>{
             {0, "1970-01-01T00:00:00.000Z"},
             {951782400000 + 86399999, "2000-02-29T23:59:59.999Z"},
             {1709164800000 + 1, "2024-02-29T00:00:00.001Z"},
             {1795443805123, "2026-11-23T14:23:25.123Z"},
             {4107542400000, "2100-03-01T00:00:00.000Z"},
             {-5, "1970-01-01T00:00:00.000Z"}}) {
        clock_utc_text_of(ms, text);
        EXPECT_STREQ(expected, text);
    }
    clock_utc_text(text);
    EXPECT_EQ(24U, std::string(text).size());
}

} /* namespace */
