/*
 * The states of a connection and the moves between them, and nothing else.
 * The states' names are the reference's (ipc/board.h).
 */
#ifndef CORDON_WORKER_WORKER_FSM_H
#define CORDON_WORKER_WORKER_FSM_H

#include "ipc/board.h"

/* The numbers are written to the board's events: append only. */
enum worker_event {
    EVENT_NONE,
    EVENT_GO,         /* the manager wants the handshake */
    EVENT_HELLO_DONE, /* version and suite are agreed on */
    EVENT_KEYS_DONE,  /* certificates and key exchange are through */
    EVENT_TLS_AGREED, /* the handshake is complete */
    EVENT_CLOSE_SENT, /* our close_notify is with the kernel, for good */
    EVENT_ALERT_SENT, /* our fatal alert is with the kernel */
    EVENT_ENDED,      /* there is nothing left to wait for */
    WORKER_EVENT_COUNT
};

/* The state after it; WORKER_STATE_COUNT: the move is not expected. */
enum worker_state worker_next_state(enum worker_state state, enum worker_event event);

/* "tls_agreed". */
const char *worker_event_name(enum worker_event event);

#endif
