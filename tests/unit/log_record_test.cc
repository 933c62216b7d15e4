/*
 * One log line as data: what a format says, what a hostile value cannot, and both forms of it.
 */
extern "C" {
#include "ipc/log_record.h"
}

#include <cstdarg>
#include <cstring>
#include <random>
#include <string>

#include <gtest/gtest.h>
#include <jansson.h>

namespace {

class LogRecordTest : public testing::Test {
protected:
    void Format(const char *format, ...) __attribute__((format(printf, 2, 3))) {
        va_list arguments;

        va_start(arguments, format);
        log_record_format(&record_, format, arguments);
        va_end(arguments);
    }
    std::string Text(size_t size = 4000) {
        std::string out(size, '#');

        log_record_text(&record_, out.data(), size);
        return out.c_str();
    }
    std::string Raw(size_t size = 4000) {
        std::string out(size, '#');

        log_record_json(&record_, "2026-11-23T14:23:25.123Z", "info", "manager", out.data(), size);
        return out.c_str();
    }
    /* A value of the JSON form, as JSON; "invalid" if a strict reader refuses the line. */
    std::string Json(const char *key, size_t size = 4000) {
        std::string raw = Raw(size);
        json_error_t error;
        json_t *line = json_loads(raw.c_str(), JSON_REJECT_DUPLICATES, &error);

        if (line == nullptr)
            return "invalid: " + std::string(error.text) + " in " + raw;
        json_t *value = json_object_get(line, key);
        char *text = value != nullptr ? json_dumps(value, JSON_ENCODE_ANY) : nullptr;
        std::string copy = text != nullptr ? text : "(none)";
        free(text);
        json_decref(line);
        return copy;
    }

    log_record record_;
};

TEST_F(LogRecordTest, AFormatGivesFieldsAndAMessage) {
    Format("conn=%s tls agreed version=%s took_ms=%u", "c1.2", "tlsv1.3", 41U);
    EXPECT_EQ("conn=c1.2 tls agreed version=tlsv1.3 took_ms=41", Text());
    EXPECT_EQ(
        "{\"time\":\"2026-11-23T14:23:25.123Z\",\"level\":\"info\",\"process\":\"manager\","
        "\"conn\":\"c1.2\",\"message\":\"tls agreed\",\"version\":\"tlsv1.3\",\"took_ms\":41}",
        Raw());
}

TEST_F(LogRecordTest, EveryConversionInUseIsKnown) {
    Format("n d=%d ld=%ld lld=%lld u=%u lu=%lu llu=%llu z=%zu x=0x%04x s=%.3s p=%.*s c=%c %%", -1,
           -2L, -3LL, 4U, 5UL, 6ULL, (size_t)7, 0x1fU, "abcdef", 2, "xyz", '!');
    EXPECT_EQ("n % d=-1 ld=-2 lld=-3 u=4 lu=5 llu=6 z=7 x=0x001f s=abc p=xy c=!", Text());
    EXPECT_EQ("-3", Json("lld"));
    EXPECT_EQ("\"0x001f\"", Json("x"));
}

TEST_F(LogRecordTest, ATextThatLooksLikeANumberStaysAText) {
    Format("seen serial=%s count=%u", "12", 12U);
    EXPECT_EQ("\"12\"", Json("serial"));
    EXPECT_EQ("12", Json("count"));
    EXPECT_EQ("seen serial=\"12\" count=12", Text());
}

TEST_F(LogRecordTest, AValueCannotBeginAFieldOrALine) {
    Format("conn=%s failed sni=\"%s\" why=%s", "c1.2", "a\" alert=none b=\"\n<3>x", "two words=1");
    EXPECT_EQ("conn=c1.2 failed sni=\"a\\x22 alert=none b=\\x22\\x0a<3>x\" why=\"two words=1\"",
              Text());
    EXPECT_EQ("(none)", Json("alert"));
    EXPECT_EQ("\"two words=1\"", Json("why"));
}

TEST_F(LogRecordTest, AMessageCannotBeginAField) {
    Format("it says: %s", "conn=c9.9 ok");
    EXPECT_EQ("it says: conn\\x3dc9.9 ok", Text());
    EXPECT_EQ("(none)", Json("conn"));
}

TEST_F(LogRecordTest, WhatIsEscapedAlreadyIsNotEscapedTwice) {
    Format("x subject=\"%s\"", "CN=M\\xc3\\xbcller\\, \\");
    EXPECT_EQ("x subject=\"CN=M\\xc3\\xbcller\\x5c, \\x5c\"", Text());
}

TEST_F(LogRecordTest, AnEmptyValueIsNoField) {
    Format("x sni=\"%s\" alpn=%s n=%u", "", "", 0U);
    EXPECT_EQ("x n=0", Text());
}

TEST_F(LogRecordTest, OfTwoWithOneKeyTheFirstCounts) {
    Format("conn=%s x conn=%s", "c1.2", "c9.9");
    EXPECT_EQ("\"c1.2\"", Json("conn"));
    log_record_parse(&record_,
                     "conn=c1.2 x level=error time=0 process=manager message=y conn=c9.9");
    EXPECT_EQ("conn=c1.2 x", Text());
}

TEST_F(LogRecordTest, ALineThatIsReadIsWrittenTheSame) {
    for (const char *line : {"conn=c1.2 tls agreed version=tlsv1.3 took_ms=41",
                             "x why=\"two words\" n=-5 serial=\"12\" m=0", "only words", "a=b c=d",
                             "x bad=007", "x huge=18446744073709551615", ""}) {
        log_record_parse(&record_, line);
        EXPECT_EQ(line, Text());
        EXPECT_NE(0U, Json("message").find("invalid"));
    }
}

TEST_F(LogRecordTest, NothingThatIsReadBreaksTheForm) {
    std::mt19937 random(20261123);
    const char alphabet[] = "ab=\" \\x01\n%s\x7f\xff{}:,";

    for (int i = 0; i < 20000; i++) {
        std::string line(random() % 60, ' ');

        for (char &c : line)
            c = alphabet[random() % (sizeof(alphabet) - 1)];
        log_record_parse(&record_, line.c_str());
        std::string text = Text();
        for (char c : text)
            ASSERT_TRUE(c >= 0x20 && c < 0x7f) << text;
        ASSERT_NE(0U, Json("message").find("invalid")) << line;
        log_record_parse(&record_, text.c_str());
        ASSERT_EQ(text, Text()) << line;
    }
}

TEST_F(LogRecordTest, WhatDoesNotFitIsLeftOutAndSaid) {
    std::string large(3000, 'v'), quotes(1000, '"');

    Format("x first=%u large=%s last=%u", 1U, large.c_str(), 2U);
    EXPECT_EQ("x first=1 last=2 cut=1", Text());
    EXPECT_EQ("1", Json("cut"));
    Format("said %s key=%s", quotes.c_str(), quotes.c_str());
    for (size_t size = 120; size < 4000; size += 7) {
        EXPECT_NE(0U, Json("message", size).find("invalid"));
        EXPECT_LT(Text(size).size(), size);
    }
    log_record_parse(&record_, "x cut=1");
    EXPECT_EQ("x cut=1", Text());
}

TEST_F(LogRecordTest, MoreFieldsThanThereIsRoomForAreCut) {
    std::string line = "x";

    for (int i = 0; i < 100; i++)
        line += " k" + std::to_string(i) + "=1";
    log_record_parse(&record_, line.c_str());
    EXPECT_EQ(static_cast<size_t>(LOG_FIELDS_MAX), record_.field_count);
    EXPECT_EQ("1", Json("cut"));
}

} /* namespace */
