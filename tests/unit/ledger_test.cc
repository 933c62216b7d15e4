/* manager/ledger: what a manager that is killed leaves behind. */
#include <gtest/gtest.h>

#include <fcntl.h>
#include <map>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "ipc/fd.h"
#include "manager/ledger.h"
}

namespace {

class LedgerTest : public ::testing::Test {
protected:
    void SetUp() override {
        memfd_ = memfd_create("ledger", MFD_CLOEXEC);
        ASSERT_LE(0, memfd_);
        ASSERT_EQ(RESULT_OK, Open(1));
    }

    void TearDown() override {
        ledger_close();
        fd_close(&memfd_);
    }

    enum result Open(uint32_t start) {
        return ledger_open(fcntl(memfd_, F_DUPFD_CLOEXEC, 3), start);
    }

    /* What a new manager does. */
    enum result Reopen(uint32_t start = 2) {
        ledger_close();
        return Open(start);
    }

    static void OnRecord(void *data, int slot, const struct ledger_record *record) {
        auto self = static_cast<LedgerTest *>(data);

        self->found_[slot] = *record;
    }

    size_t Read(enum ledger_kind kind) {
        found_.clear();
        return ledger_read(kind, OnRecord, this);
    }

    int Put(uint64_t number, int slot = LEDGER_NO_SLOT, enum ledger_kind kind = LEDGER_CONNECTION) {
        struct ledger_record record = {};

        record.number = number;
        record.owner = 100 + number;
        record.uid = 1000;
        record.deadline_ms = -1;
        record.peer_size = 16;
        memset(record.peer, static_cast<int>(number), sizeof(record.peer));
        EXPECT_EQ(RESULT_OK, ledger_put(kind, &slot, &record));
        return slot;
    }

    /* The offset of a record in the file, found by a number that is nowhere else. */
    off_t Find(uint64_t number, off_t from = 0) {
        uint64_t word;

        for (off_t at = from; at < (1 << 20); at += 8) {
            if (pread(memfd_, &word, sizeof(word), at) == sizeof(word) && word == number)
                return at;
        }
        return -1;
    }

    int memfd_ = -1;
    std::map<int, struct ledger_record> found_;
};

TEST_F(LedgerTest, ANewManagerFindsEveryRecordAsItWasWritten) {
    int first = Put(7), second = Put(8);

    ASSERT_EQ(RESULT_OK, Reopen());
    EXPECT_EQ(0u, Read(LEDGER_CONNECTION));
    ASSERT_EQ(2u, found_.size());
    EXPECT_EQ(7u, found_[first].number);
    EXPECT_EQ(108u, found_[second].owner);
    EXPECT_EQ(8, found_[second].peer[LEDGER_PEER_SIZE - 1]);
    Read(LEDGER_LISTENER);
    EXPECT_TRUE(found_.empty());
}

TEST_F(LedgerTest, TheLastWriteCounts) {
    int slot = Put(7);

    for (uint64_t number = 8; number < 20; number++)
        EXPECT_EQ(slot, Put(number, slot));
    ASSERT_EQ(RESULT_OK, Reopen());
    Read(LEDGER_CONNECTION);
    ASSERT_EQ(1u, found_.size());
    EXPECT_EQ(19u, found_[slot].number);
}

TEST_F(LedgerTest, AnErasedRecordIsGoneAndItsSlotIsUsedNext) {
    int first = Put(7), second = Put(8), slot = first;

    ledger_erase(LEDGER_CONNECTION, &slot);
    EXPECT_EQ(LEDGER_NO_SLOT, slot);
    ledger_erase(LEDGER_CONNECTION, &slot);
    Read(LEDGER_CONNECTION);
    ASSERT_EQ(1u, found_.size());
    EXPECT_EQ(8u, found_[second].number);
    EXPECT_EQ(first, Put(9));
}

TEST_F(LedgerTest, ATornWriteIsFoundAndTheStateBeforeItIsLeft) {
    const uint64_t before = 0x1111222233334444, after = 0x5555666677778888;
    int slot = Put(before);
    off_t at;

    Put(after, slot);
    at = Find(after);
    ASSERT_LE(0, at);
    /* The owner, one word behind the number: what a kill in the middle of the write leaves. */
    uint64_t rubbish = 0xdeadbeef;
    ASSERT_EQ(8, pwrite(memfd_, &rubbish, 8, at + 8));
    ASSERT_EQ(RESULT_OK, Reopen());
    EXPECT_EQ(1u, Read(LEDGER_CONNECTION));
    ASSERT_EQ(1u, found_.size());
    EXPECT_EQ(before, found_[slot].number);
    /* The next write takes the torn half, and nothing is torn any more. */
    Put(9, slot);
    EXPECT_EQ(0u, Read(LEDGER_CONNECTION));
    EXPECT_EQ(9u, found_[slot].number);
}

TEST_F(LedgerTest, ATornFirstWriteIsNoRecord) {
    const uint64_t number = 0x1111222233334444;
    uint64_t rubbish = 0xdeadbeef;
    off_t at;

    Put(number);
    at = Find(number);
    ASSERT_LE(0, at);
    ASSERT_EQ(8, pwrite(memfd_, &rubbish, 8, at + 8));
    EXPECT_EQ(1u, Read(LEDGER_CONNECTION));
    EXPECT_TRUE(found_.empty());
}

TEST_F(LedgerTest, ANewManagerUsesNoSlotThatIsInUse) {
    int first = Put(7), second = Put(8), third = Put(9), slot = second;

    ledger_erase(LEDGER_CONNECTION, &slot);
    ASSERT_EQ(RESULT_OK, Reopen());
    EXPECT_EQ(second, Put(10));
    slot = Put(11);
    EXPECT_NE(first, slot);
    EXPECT_NE(third, slot);
}

TEST_F(LedgerTest, AFullKindSaysSo) {
    struct ledger_record record = {};
    int slot;

    for (size_t i = 0; i < ledger_capacity(LEDGER_TOKEN); i++)
        Put(i + 1, LEDGER_NO_SLOT, LEDGER_TOKEN);
    slot = LEDGER_NO_SLOT;
    EXPECT_EQ(RESULT_LIMIT, ledger_put(LEDGER_TOKEN, &slot, &record));
    EXPECT_EQ(LEDGER_NO_SLOT, slot);
}

TEST_F(LedgerTest, AFileThatIsNoLedgerIsRefused) {
    ASSERT_EQ(7, pwrite(memfd_, "garbage", 7, 0));
    EXPECT_EQ(RESULT_MALFORMED, Reopen());
}

TEST_F(LedgerTest, AMemfdOfZerosIsANewLedger) {
    ledger_close();
    ASSERT_EQ(0, ftruncate(memfd_, 0));
    ASSERT_EQ(0, ftruncate(memfd_, 64 << 20));
    ASSERT_EQ(RESULT_OK, Open(1));
    Put(7);
    Read(LEDGER_CONNECTION);
    EXPECT_EQ(1u, found_.size());
}

} // namespace
