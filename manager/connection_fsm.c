#include "manager/connection_fsm.h"

#include <assert.h>
#include <stddef.h>

/* clang-format off */
#define EVENT(name) [CONNECTION_EVENT_##name]
/* NEW is nobody's next state, so it stands for a move that is not written. */
static const enum connection_state next[CONNECTION_STATE_COUNT][CONNECTION_EVENT_COUNT] = {
    [CONNECTION_NEW] = {
        EVENT(WAIT)         = CONNECTION_WAITING,
        EVENT(LOAD)         = CONNECTION_LOADING,
        EVENT(DIAL)         = CONNECTION_DIALLING,
        EVENT(SPAWN)        = CONNECTION_SPAWNING,
    },
    [CONNECTION_WAITING] = {
        EVENT(LOAD)         = CONNECTION_LOADING,
        EVENT(SPAWN)        = CONNECTION_SPAWNING,
        EVENT(CLOSE)        = CONNECTION_ENDED,
    },
    [CONNECTION_LOADING] = {
        EVENT(DIAL)         = CONNECTION_DIALLING,
        EVENT(SPAWN)        = CONNECTION_SPAWNING,
        EVENT(CLOSE)        = CONNECTION_ENDED,
    },
    [CONNECTION_DIALLING] = {
        EVENT(SPAWN)        = CONNECTION_SPAWNING,
        EVENT(CLOSE)        = CONNECTION_ENDED,
    },
    [CONNECTION_SPAWNING] = {
        EVENT(HELLO)        = CONNECTION_HANDSHAKING,
        EVENT(NURSERY_LOST) = CONNECTION_RESPAWNING,
        EVENT(CLOSE)        = CONNECTION_ENDED,
        EVENT(HUNG_UP)      = CONNECTION_DYING,
    },
    [CONNECTION_RESPAWNING] = {
        EVENT(HUNG_UP)      = CONNECTION_SPAWNING,
        EVENT(CLOSE)        = CONNECTION_ENDED,
    },
    [CONNECTION_HANDSHAKING] = {
        EVENT(ESTABLISHED)  = CONNECTION_READY,
        EVENT(GOODBYE)      = CONNECTION_CLOSING,
        EVENT(CLOSE)        = CONNECTION_CLOSING,
        EVENT(HUNG_UP)      = CONNECTION_DYING,
    },
    [CONNECTION_READY] = {
        EVENT(WANTED)       = CONNECTION_DELIVERING,
        EVENT(GOODBYE)      = CONNECTION_CLOSING,
        EVENT(CLOSE)        = CONNECTION_CLOSING,
        EVENT(HUNG_UP)      = CONNECTION_DYING,
    },
    [CONNECTION_DELIVERING] = {
        EVENT(DELIVERED)    = CONNECTION_OPEN,
        EVENT(GOODBYE)      = CONNECTION_CLOSING,
        EVENT(CLOSE)        = CONNECTION_CLOSING,
        EVENT(HUNG_UP)      = CONNECTION_DYING,
    },
    [CONNECTION_OPEN] = {
        EVENT(GOODBYE)      = CONNECTION_CLOSING,
        EVENT(CLOSE)        = CONNECTION_CLOSING,
        EVENT(HUNG_UP)      = CONNECTION_DYING,
    },
    [CONNECTION_CLOSING] = {
        EVENT(GONE)         = CONNECTION_ENDED,
        EVENT(HUNG_UP)      = CONNECTION_DYING,
    },
    [CONNECTION_DYING] = {
        EVENT(STATUS)       = CONNECTION_ENDED,
    },
};

static const char *const state_names[CONNECTION_STATE_COUNT] = {
    [CONNECTION_NEW]         = "new",
    [CONNECTION_WAITING]     = "waiting",
    [CONNECTION_LOADING]     = "loading",
    [CONNECTION_DIALLING]    = "dialling",
    [CONNECTION_SPAWNING]    = "spawning",
    [CONNECTION_RESPAWNING]  = "respawning",
    [CONNECTION_HANDSHAKING] = "handshaking",
    [CONNECTION_READY]       = "ready",
    [CONNECTION_DELIVERING]  = "delivering",
    [CONNECTION_OPEN]        = "open",
    [CONNECTION_CLOSING]     = "closing",
    [CONNECTION_DYING]       = "dying",
    [CONNECTION_ENDED]       = "ended",
};

static const char *const event_names[CONNECTION_EVENT_COUNT] = {
    EVENT(NONE)         = "none",
    EVENT(WAIT)         = "wait",
    EVENT(LOAD)         = "load",
    EVENT(DIAL)         = "dial",
    EVENT(SPAWN)        = "spawn",
    EVENT(HELLO)        = "hello",
    EVENT(NURSERY_LOST) = "nursery_lost",
    EVENT(ESTABLISHED)  = "established",
    EVENT(WANTED)       = "wanted",
    EVENT(DELIVERED)    = "delivered",
    EVENT(GOODBYE)      = "goodbye",
    EVENT(CLOSE)        = "close",
    EVENT(HUNG_UP)      = "hung_up",
    EVENT(GONE)         = "gone",
    EVENT(STATUS)       = "status",
};
/* clang-format on */

enum connection_state
connection_next_state(enum connection_state state, enum connection_event event)
{
    assert(state < CONNECTION_STATE_COUNT && event < CONNECTION_EVENT_COUNT);
    return next[state][event] != CONNECTION_NEW ? next[state][event] : CONNECTION_STATE_COUNT;
}

const char *
connection_state_name(enum connection_state state)
{
    return state < CONNECTION_STATE_COUNT ? state_names[state] : "none";
}

const char *
connection_event_name(enum connection_event event)
{
    return event < CONNECTION_EVENT_COUNT ? event_names[event] : "none";
}
