extern "C" {
#include "worker/worker_fsm.h"
}

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <tuple>

namespace {

using Move = std::tuple<worker_state, worker_event, worker_state>;

const std::set<Move> kMoves = {
    {WORKER_SPAWNED, EVENT_GO, WORKER_HELLO},
    {WORKER_SPAWNED, EVENT_ENDED, WORKER_CLOSED},
    {WORKER_HELLO, EVENT_HELLO_DONE, WORKER_CERTIFY},
    {WORKER_HELLO, EVENT_CLOSE_SENT, WORKER_CLOSING},
    {WORKER_HELLO, EVENT_ALERT_SENT, WORKER_ALERTED},
    {WORKER_HELLO, EVENT_ENDED, WORKER_CLOSED},
    {WORKER_CERTIFY, EVENT_KEYS_DONE, WORKER_CIPHER},
    {WORKER_CERTIFY, EVENT_CLOSE_SENT, WORKER_CLOSING},
    {WORKER_CERTIFY, EVENT_ALERT_SENT, WORKER_ALERTED},
    {WORKER_CERTIFY, EVENT_ENDED, WORKER_CLOSED},
    {WORKER_CIPHER, EVENT_TLS_AGREED, WORKER_CONNECTION},
    {WORKER_CIPHER, EVENT_CLOSE_SENT, WORKER_CLOSING},
    {WORKER_CIPHER, EVENT_ALERT_SENT, WORKER_ALERTED},
    {WORKER_CIPHER, EVENT_ENDED, WORKER_CLOSED},
    {WORKER_CONNECTION, EVENT_CLOSE_SENT, WORKER_CLOSING},
    {WORKER_CONNECTION, EVENT_ALERT_SENT, WORKER_ALERTED},
    {WORKER_CONNECTION, EVENT_ENDED, WORKER_CLOSED},
    {WORKER_CLOSING, EVENT_ENDED, WORKER_CLOSED},
    {WORKER_ALERTED, EVENT_ENDED, WORKER_CLOSED},
};

TEST(WorkerFsmTest, HasTheseMovesAndNoOther) {
    for (int s = 0; s < WORKER_STATE_COUNT; s++) {
        for (int e = 0; e < WORKER_EVENT_COUNT; e++) {
            auto state = static_cast<worker_state>(s);
            auto event = static_cast<worker_event>(e);
            worker_state next = worker_next_state(state, event);

            EXPECT_EQ(next != WORKER_STATE_COUNT, kMoves.count({state, event, next}) == 1)
                << worker_state_name(state) << " " << worker_event_name(event) << " "
                << worker_state_name(next);
        }
    }
}

TEST(WorkerFsmTest, EveryMoveIsThere) {
    for (const auto &[state, event, next] : kMoves)
        EXPECT_EQ(next, worker_next_state(state, event));
}

TEST(WorkerFsmTest, EventsHaveNamesOfTheirOwn) {
    std::set<std::string> names;

    for (int e = 0; e < WORKER_EVENT_COUNT; e++)
        EXPECT_TRUE(names.insert(worker_event_name(static_cast<worker_event>(e))).second);
}

} // namespace
