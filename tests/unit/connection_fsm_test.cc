/* manager/connection_fsm: which moves there are, and which must never be. */
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

extern "C" {
#include "manager/connection_fsm.h"
}

namespace {

const auto kNoMove = CONNECTION_STATE_COUNT;

enum connection_state State(int i) {
    return static_cast<enum connection_state>(i);
}
enum connection_event Event(int i) {
    return static_cast<enum connection_event>(i);
}

/* Where a sequence of events leads; kNoMove if one of them is not expected. */
enum connection_state Walk(const std::vector<enum connection_event> &events) {
    enum connection_state state = CONNECTION_NEW;

    for (auto event : events) {
        state = connection_next_state(state, event);
        if (state == kNoMove)
            break;
    }
    return state;
}

TEST(ConnectionFsmTest, AnAcceptedConnectionLivesFromWaitingToEnded) {
    EXPECT_EQ(CONNECTION_ENDED,
              Walk({CONNECTION_EVENT_WAIT, CONNECTION_EVENT_SPAWN, CONNECTION_EVENT_HELLO,
                    CONNECTION_EVENT_ESTABLISHED, CONNECTION_EVENT_WANTED,
                    CONNECTION_EVENT_DELIVERED, CONNECTION_EVENT_GOODBYE, CONNECTION_EVENT_GONE}));
}

TEST(ConnectionFsmTest, AConnectionOutLoadsDialsAndSpawns) {
    EXPECT_EQ(CONNECTION_HANDSHAKING, Walk({CONNECTION_EVENT_LOAD, CONNECTION_EVENT_DIAL,
                                            CONNECTION_EVENT_SPAWN, CONNECTION_EVENT_HELLO}));
}

TEST(ConnectionFsmTest, ADeadNurseryMeansToWaitForTheMailboxAndSpawnAgain) {
    EXPECT_EQ(CONNECTION_RESPAWNING, Walk({CONNECTION_EVENT_SPAWN, CONNECTION_EVENT_NURSERY_LOST}));
    EXPECT_EQ(CONNECTION_SPAWNING, Walk({CONNECTION_EVENT_SPAWN, CONNECTION_EVENT_NURSERY_LOST,
                                         CONNECTION_EVENT_HUNG_UP}));
}

TEST(ConnectionFsmTest, AWorkerOfADeadNurseryIsNotToldToGo) {
    EXPECT_EQ(kNoMove, connection_next_state(CONNECTION_RESPAWNING, CONNECTION_EVENT_HELLO));
}

TEST(ConnectionFsmTest, NothingIsDeliveredBeforeTheHandshakeIsDone) {
    for (int state = 0; state < CONNECTION_STATE_COUNT; state++) {
        if (State(state) != CONNECTION_READY) {
            EXPECT_EQ(kNoMove, connection_next_state(State(state), CONNECTION_EVENT_WANTED))
                << connection_state_name(State(state));
        }
    }
}

TEST(ConnectionFsmTest, AWorkerThatHangsUpWithoutGoodbyeDies) {
    for (auto state : {CONNECTION_SPAWNING, CONNECTION_HANDSHAKING, CONNECTION_READY,
                       CONNECTION_DELIVERING, CONNECTION_OPEN, CONNECTION_CLOSING}) {
        EXPECT_EQ(CONNECTION_DYING, connection_next_state(state, CONNECTION_EVENT_HUNG_UP))
            << connection_state_name(state);
    }
}

TEST(ConnectionFsmTest, EverythingCanBeClosedExceptWhatIsEndingAlready) {
    const std::set<enum connection_state> ending = {CONNECTION_NEW, CONNECTION_CLOSING,
                                                    CONNECTION_DYING, CONNECTION_ENDED};

    for (int state = 0; state < CONNECTION_STATE_COUNT; state++) {
        EXPECT_EQ(ending.count(State(state)) == 1,
                  connection_next_state(State(state), CONNECTION_EVENT_CLOSE) == kNoMove)
            << connection_state_name(State(state));
    }
}

TEST(ConnectionFsmTest, NothingFollowsTheEnd) {
    for (int event = 0; event < CONNECTION_EVENT_COUNT; event++)
        EXPECT_EQ(kNoMove, connection_next_state(CONNECTION_ENDED, Event(event)));
}

TEST(ConnectionFsmTest, EveryStateLeadsToTheEnd) {
    std::set<int> ends = {CONNECTION_ENDED};
    size_t before = 0;

    while (before != ends.size()) {
        before = ends.size();
        for (int state = 0; state < CONNECTION_STATE_COUNT; state++) {
            for (int event = 0; event < CONNECTION_EVENT_COUNT; event++) {
                if (ends.count(connection_next_state(State(state), Event(event))))
                    ends.insert(state);
            }
        }
    }
    EXPECT_EQ(static_cast<size_t>(CONNECTION_STATE_COUNT), ends.size());
}

TEST(ConnectionFsmTest, NamesAreAllDifferent) {
    std::set<std::string> names;

    for (int state = 0; state < CONNECTION_STATE_COUNT; state++)
        names.insert(connection_state_name(State(state)));
    EXPECT_EQ(static_cast<size_t>(CONNECTION_STATE_COUNT), names.size());
    names.clear();
    for (int event = 0; event < CONNECTION_EVENT_COUNT; event++)
        names.insert(connection_event_name(Event(event)));
    EXPECT_EQ(static_cast<size_t>(CONNECTION_EVENT_COUNT), names.size());
    EXPECT_STREQ("none", connection_state_name(kNoMove));
}

} // namespace
