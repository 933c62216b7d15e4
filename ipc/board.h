/*
 * A nursery generation's board: a memfd of BOARD_PAGES pages, sealed against
 * shrinking and growing, one page a worker.  The worker writes its state there;
 * the manager reads it with pread, the state once, after the worker's death, how
 * much has moved also for lists, and range-checks what it reads: a hostile
 * worker may write anything.
 */
#ifndef CORDON_IPC_BOARD_H
#define CORDON_IPC_BOARD_H

#include <stdint.h>

#include "ipc/result.h"

enum { BOARD_PAGE_SIZE = 4096, BOARD_EVENTS = 64 };

/* The states of a worker, named as in the reference (ssl 7.1, ssl_connection). */
enum worker_state {
    WORKER_SPAWNED, /* forked, waiting for go */
    WORKER_HELLO,   /* waiting for the peer's hello */
    WORKER_CERTIFY, /* certificates and their proofs */
    WORKER_CIPHER,  /* Finished */
    WORKER_CONNECTION,
    WORKER_CLOSING, /* close_notify is out, waiting for the peer's end */
    WORKER_ALERTED, /* a fatal alert is out: alert_timeout */
    WORKER_CLOSED,
    WORKER_STATE_COUNT
};

struct board_event {
    int64_t at_ms;  /* monotonic */
    uint32_t state; /* enum worker_state */
    uint32_t event; /* the worker's own number for it */
    uint64_t size;  /* bytes, where there are any */
};

struct board_page {
    uint32_t state;       /* enum worker_state; written last */
    uint32_t event_count; /* all ever; the last BOARD_EVENTS are kept */
    uint64_t in, out;     /* plaintext bytes */
    struct board_event events[BOARD_EVENTS];
};

/* "certify".  "unknown" for a number out of range. */
const char *worker_state_name(uint32_t state);

/* Borrows board. Reads the state on a page; WORKER_STATE_COUNT if it cannot be read or is no state. */
uint32_t board_read_state(int board, uint32_t page);

/* How much had moved, as the worker says; 0 and 0 if it cannot be read, or says more than
 * there can be. */
void board_read_bytes(int board, uint32_t page, uint64_t *in, uint64_t *out);

/* A board for BOARD_PAGES workers, sealed.  Gives *fd. */
MUST_CHECK enum result board_new(int *fd);

#endif
