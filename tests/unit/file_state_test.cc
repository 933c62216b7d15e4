/* ipc/file_state: whether a file is still what it was. */
#include <gtest/gtest.h>

#include <cerrno>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

extern "C" {
#include "ipc/file_state.h"
}

namespace {

class FileStateTest : public ::testing::Test {
protected:
    void SetUp() override {
        int fd = mkstemp(path_);

        ASSERT_GE(fd, 0);
        ASSERT_EQ(3, write(fd, "one", 3));
        close(fd);
    }
    void TearDown() override { unlink(path_); }

    /* As it is once a tick has gone by. */
    file_state Old() {
        file_state state;

        file_state_of_path(path_, &state);
        file_state_settle(&state);
        return state;
    }

    char path_[32] = "/tmp/cordon-state-XXXXXX";
};

TEST_F(FileStateTest, IsEqualUntilItIsWritten) {
    file_state before = Old(), same = Old();
    EXPECT_TRUE(file_state_is_equal(&before, &same));
    int fd = open(path_, O_WRONLY | O_APPEND | O_CLOEXEC);
    EXPECT_EQ(3, write(fd, "two", 3));
    close(fd);
    file_state after = Old();
    EXPECT_FALSE(file_state_is_equal(&before, &after));
}

TEST_F(FileStateTest, ADescriptorSaysTheSameAsThePath) {
    file_state by_path = Old(), by_fd;
    int fd = open(path_, O_RDONLY | O_CLOEXEC);

    file_state_of_fd(fd, &by_fd);
    file_state_settle(&by_fd);
    close(fd);
    EXPECT_TRUE(file_state_is_equal(&by_path, &by_fd));
}

/* As an installer replaces it: the same size and the same times. */
TEST_F(FileStateTest, AnotherFileOfTheSameNameIsNotEqual) {
    file_state before = Old();
    std::string other = std::string(path_) + ".new";
    int fd = open(other.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct timespec times[2] = {{before.modified_s, before.modified_ns},
                                {before.modified_s, before.modified_ns}};

    EXPECT_EQ(3, write(fd, "two", 3));
    EXPECT_EQ(0, futimens(fd, times));
    close(fd);
    ASSERT_EQ(0, rename(other.c_str(), path_));
    file_state after = Old();
    EXPECT_FALSE(file_state_is_equal(&before, &after));
}

TEST_F(FileStateTest, WhatWasWrittenJustNowIsEqualToNothing) {
    file_state one, two;

    file_state_of_path(path_, &one);
    file_state_of_path(path_, &two);
    /* Unless the machine was busy for longer than a tick. */
    EXPECT_EQ(one.unsure == 0 && two.unsure == 0, file_state_is_equal(&one, &two));
}

TEST_F(FileStateTest, AMissingFileAndNoFileAreStatesToo) {
    file_state there = Old(), missing, none;

    unlink(path_);
    file_state_of_path(path_, &missing);
    file_state_of_path(nullptr, &none);
    EXPECT_EQ((uint64_t)ENOENT, missing.error);
    EXPECT_FALSE(file_state_is_equal(&there, &missing));
    EXPECT_FALSE(file_state_is_equal(&none, &missing));
}

} // namespace
