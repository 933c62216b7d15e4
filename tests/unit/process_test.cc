extern "C" {
#include "ipc/process.h"
}

#include <cstring>
#include <string>

#include <gtest/gtest.h>

namespace {

/* Static: a title is for ever. */
char area[] = "0123456789012345678901234567890\0behind it";

TEST(ProcessTitleTest, IsWrittenOverArgvAndCutWhereThatEnds) {
    char *argv[] = {area, nullptr};
    size_t size = strlen(area) + 1;

    process_title_init(1, argv);
    process_title("worker %s", "c1.2");
    EXPECT_EQ(std::string("worker c1.2") + std::string(size - 11, '\0'), std::string(area, size))
        << "nothing of the old one is left";
    process_title_append("connection", "TLS1.3");
    EXPECT_STREQ("worker c1.2 connection TLS1.3", area);
    process_title_append("closing", nullptr);
    EXPECT_EQ(std::string("worker c1.2 closing") + std::string(size - 19, '\0'),
              std::string(area, size));
    process_title_append("a word that is far too long for it", "TLS1.3");
    EXPECT_STREQ("worker c1.2 TLS1.3", area) << "whole words";
    process_title("%s", std::string(100, 'x').c_str());
    EXPECT_EQ(std::string(size - 1, 'x'), area);
    process_title_append("connection", nullptr);
    EXPECT_EQ(std::string(size - 1, 'x'), area);
    EXPECT_STREQ("behind it", area + size) << "not a byte further";
}

} /* namespace */
