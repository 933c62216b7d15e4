/* manager/turns: one at a time. */
#include <gtest/gtest.h>

#include <string>
#include <vector>

extern "C" {
#include "manager/turns.h"
}

namespace {

std::string began;

struct One {
    char name;
    bool is_short; /* it is over as soon as it begins */
    struct turn turn = {};

    explicit One(char n, bool s = false) : name(n), is_short(s) {}
    bool Take() {
        return turn_take(
            &turn,
            [](void *owner) {
                One *one = static_cast<One *>(owner);

                began += one->name;
                if (one->is_short)
                    turn_over(&one->turn);
            },
            this);
    }
    void Over() { turn_over(&turn); }
};

TEST(TurnsTest, TheyComeOneAfterTheOther) {
    One a('a'), b('b'), c('c');

    began = "";
    EXPECT_TRUE(a.Take() && b.Take() && c.Take());
    EXPECT_EQ("a", began);
    a.Over();
    EXPECT_EQ("ab", began);
    b.Over();
    c.Over();
    EXPECT_EQ("abc", began);
}

TEST(TurnsTest, WhoeverGivesUpWaitingIsLeftOut) {
    One a('a'), b('b'), c('c'), never('n');

    began = "";
    EXPECT_TRUE(a.Take() && b.Take() && c.Take());
    b.Over();
    never.Over();
    EXPECT_EQ("a", began);
    a.Over();
    EXPECT_EQ("ac", began);
    c.Over();
}

TEST(TurnsTest, AShortOneHoldsNobodyUp) {
    One a('a'), b('b', true), c('c', true), d('d');

    began = "";
    EXPECT_TRUE(a.Take() && b.Take() && c.Take() && d.Take());
    a.Over();
    EXPECT_EQ("abcd", began);
    d.Over();
}

TEST(TurnsTest, OnlySoManyWait) {
    One running('r'), late('l');
    std::vector<One> waiting(TURNS_MAX, One('w', true));

    began = "";
    EXPECT_TRUE(running.Take());
    for (One &one : waiting)
        EXPECT_TRUE(one.Take());
    EXPECT_FALSE(late.Take());
    running.Over();
    EXPECT_EQ("r" + std::string(TURNS_MAX, 'w'), began);
    EXPECT_TRUE(late.Take());
    late.Over();
}

} // namespace
