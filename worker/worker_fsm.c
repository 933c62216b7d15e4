#include "worker/worker_fsm.h"

/* A state plus one; 0: the move is not written. */
#define TO(state) (WORKER_##state + 1)

static const unsigned char next_state[WORKER_STATE_COUNT][WORKER_EVENT_COUNT] = {
    [WORKER_SPAWNED] = {
        [EVENT_GO] = TO(HELLO),
        [EVENT_ENDED] = TO(CLOSED),
    },
    [WORKER_HELLO] = {
        [EVENT_HELLO_DONE] = TO(CERTIFY),
        [EVENT_CLOSE_SENT] = TO(CLOSING),
        [EVENT_ALERT_SENT] = TO(ALERTED),
        [EVENT_ENDED] = TO(CLOSED),
    },
    [WORKER_CERTIFY] = {
        [EVENT_KEYS_DONE] = TO(CIPHER),
        [EVENT_CLOSE_SENT] = TO(CLOSING),
        [EVENT_ALERT_SENT] = TO(ALERTED),
        [EVENT_ENDED] = TO(CLOSED),
    },
    [WORKER_CIPHER] = {
        [EVENT_TLS_AGREED] = TO(CONNECTION),
        [EVENT_CLOSE_SENT] = TO(CLOSING),
        [EVENT_ALERT_SENT] = TO(ALERTED),
        [EVENT_ENDED] = TO(CLOSED),
    },
    [WORKER_CONNECTION] = {
        [EVENT_CLOSE_SENT] = TO(CLOSING),
        [EVENT_ALERT_SENT] = TO(ALERTED),
        [EVENT_ENDED] = TO(CLOSED),
    },
    [WORKER_CLOSING] = {
        [EVENT_ENDED] = TO(CLOSED),
    },
    [WORKER_ALERTED] = {
        [EVENT_ENDED] = TO(CLOSED),
    },
};

enum worker_state
worker_next_state(enum worker_state state, enum worker_event event)
{
    unsigned next = next_state[state][event];

    return next == 0 ? WORKER_STATE_COUNT : (enum worker_state)(next - 1);
}

const char *
worker_event_name(enum worker_event event)
{
    static const char *const names[WORKER_EVENT_COUNT] = {
        [EVENT_NONE] = "none",
        [EVENT_GO] = "go",
        [EVENT_HELLO_DONE] = "hello_done",
        [EVENT_KEYS_DONE] = "keys_done",
        [EVENT_TLS_AGREED] = "tls_agreed",
        [EVENT_CLOSE_SENT] = "close_sent",
        [EVENT_ALERT_SENT] = "alert_sent",
        [EVENT_ENDED] = "ended",
    };

    return names[event];
}
