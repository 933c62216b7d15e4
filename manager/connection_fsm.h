/*
 * The life of a connection: its states, what happens to it, and which move follows.
 */
#ifndef CORDON_MANAGER_CONNECTION_FSM_H
#define CORDON_MANAGER_CONNECTION_FSM_H

enum connection_state {
    CONNECTION_NEW,
    CONNECTION_WAITING,    /* accepted; nobody has asked for a handshake */
    CONNECTION_LOADING,    /* its options become a context */
    CONNECTION_DIALLING,   /* its peer is looked up and called */
    CONNECTION_SPAWNING,   /* a worker is asked for; until it says hello */
    CONNECTION_RESPAWNING, /* the nursery died in between; until the mailbox hangs up */
    CONNECTION_HANDSHAKING,
    CONNECTION_READY,      /* handshake done; its owner has not asked yet */
    CONNECTION_DELIVERING, /* the line with its descriptor is on its way */
    CONNECTION_OPEN,
    CONNECTION_CLOSING, /* asked to close, or has said goodbye; until the mailbox hangs up */
    CONNECTION_DYING,   /* hung up without goodbye; how the process ended is waited for */
    CONNECTION_ENDED,
    CONNECTION_STATE_COUNT
};

enum connection_event {
    CONNECTION_EVENT_NONE,
    CONNECTION_EVENT_WAIT,
    CONNECTION_EVENT_LOAD,
    CONNECTION_EVENT_DIAL,
    CONNECTION_EVENT_SPAWN,
    CONNECTION_EVENT_HELLO,
    CONNECTION_EVENT_NURSERY_LOST,
    CONNECTION_EVENT_ESTABLISHED,
    CONNECTION_EVENT_WANTED,    /* an owner asks for it */
    CONNECTION_EVENT_DELIVERED, /* the owner has its line */
    CONNECTION_EVENT_GOODBYE,   /* the worker has said failed or bye */
    CONNECTION_EVENT_CLOSE,     /* we want it to end */
    CONNECTION_EVENT_HUNG_UP,   /* the mailbox ended without goodbye */
    CONNECTION_EVENT_GONE,      /* the mailbox ended as it should, or there was none */
    CONNECTION_EVENT_STATUS,    /* how the process ended is known, or will not be */
    CONNECTION_EVENT_COUNT
};

/* CONNECTION_STATE_COUNT: that move is not written. */
enum connection_state connection_next_state(enum connection_state state,
                                            enum connection_event event);

const char *connection_state_name(enum connection_state state); /* "handshaking" */
const char *connection_event_name(enum connection_event event); /* "hung_up" */

#endif
