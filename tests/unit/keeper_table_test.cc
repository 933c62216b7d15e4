extern "C" {
#include "manager/keeper_table.h"
}

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

namespace {

class KeeperTable : public testing::Test {
protected:
    ~KeeperTable() override { free(table_.buckets); }

    keeper_table table_ = {};
};

TEST_F(KeeperTable, FindsEachOfManyByItsNumber) {
    std::vector<keeper_node> nodes(5000);

    for (size_t i = 0; i < nodes.size(); i++) {
        nodes[i].number = 7 * i;
        ASSERT_EQ(RESULT_OK, keeper_table_add(&table_, &nodes[i]));
    }
    EXPECT_EQ(nodes.size(), table_.count);
    for (keeper_node &node : nodes)
        EXPECT_EQ(&node, keeper_table_find(&table_, node.number));
    EXPECT_EQ(nullptr, keeper_table_find(&table_, 1));
}

TEST_F(KeeperTable, ARemovedNodeIsNotFound) {
    std::vector<keeper_node> nodes(200);

    for (size_t i = 0; i < nodes.size(); i++) {
        nodes[i].number = i;
        ASSERT_EQ(RESULT_OK, keeper_table_add(&table_, &nodes[i]));
    }
    for (size_t i = 0; i < nodes.size(); i += 2)
        EXPECT_EQ(&nodes[i], keeper_table_remove(&table_, i));
    for (size_t i = 0; i < nodes.size(); i++)
        EXPECT_EQ(i % 2 ? &nodes[i] : nullptr, keeper_table_find(&table_, i));
    EXPECT_EQ(nullptr, keeper_table_remove(&table_, 0));
    EXPECT_EQ(nodes.size() / 2, table_.count);
}

TEST_F(KeeperTable, NumbersAreThereOnce) {
    keeper_node first = {}, second = {};

    ASSERT_EQ(RESULT_OK, keeper_table_add(&table_, &first));
    EXPECT_EQ(RESULT_BAD_STATE, keeper_table_add(&table_, &second));
    EXPECT_EQ(&first, keeper_table_find(&table_, 0));
}

TEST_F(KeeperTable, AnEmptyTableHasNothing) {
    EXPECT_EQ(nullptr, keeper_table_find(&table_, 0));
    EXPECT_EQ(nullptr, keeper_table_remove(&table_, 0));
}

} // namespace
