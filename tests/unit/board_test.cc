extern "C" {
#include "ipc/board.h"
}

#include <sys/mman.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace {

class BoardTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(RESULT_OK, board_new(&board_)); }
    void TearDown() override { close(board_); }

    /* What a worker leaves on page 1. */
    void Write(uint32_t state, uint64_t in, uint64_t out) {
        struct board_page page = {};

        page.state = state;
        page.in = in;
        page.out = out;
        ASSERT_EQ(static_cast<ssize_t>(sizeof(page)),
                  pwrite(board_, &page, sizeof(page), BOARD_PAGE_SIZE));
    }
    void ExpectBytes(uint64_t in, uint64_t out) {
        uint64_t read_in = 1, read_out = 1;

        board_read_bytes(board_, 1, &read_in, &read_out);
        EXPECT_EQ(in, read_in);
        EXPECT_EQ(out, read_out);
    }

    int board_ = -1;
};

TEST_F(BoardTest, IsReadAsItWasWritten) {
    Write(WORKER_CONNECTION, 7, INT64_MAX);
    EXPECT_EQ(static_cast<uint32_t>(WORKER_CONNECTION), board_read_state(board_, 1));
    ExpectBytes(7, INT64_MAX);
}

TEST_F(BoardTest, WhatCannotBeIsNotBelieved) {
    Write(WORKER_STATE_COUNT + 5, static_cast<uint64_t>(INT64_MAX) + 1, 7);
    EXPECT_EQ(static_cast<uint32_t>(WORKER_STATE_COUNT), board_read_state(board_, 1));
    ExpectBytes(0, 0);
    Write(WORKER_CONNECTION, 7, UINT64_MAX);
    ExpectBytes(0, 0);
}

} /* namespace */
