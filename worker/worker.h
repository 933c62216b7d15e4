/*
 * A worker: one TLS connection in a process of its own.
 *
 * It says `hello` and waits for `go`.  The handshake is straight-line code: it
 * has a deadline, and the mailbox is served while it waits.  Afterwards there is
 * one poll loop over the peer, the owner's data and the mailbox.  Its state is
 * on its page of the board, at every moment.
 */
#ifndef CORDON_WORKER_WORKER_H
#define CORDON_WORKER_WORKER_H

#include <stdint.h>

#include "ipc/board.h"
#include "worker/credentials.h"

struct worker_start {
    uint64_t connection;
    char handle[41];                       /* "c3.42" */
    char peer_name[81];                    /* "192.0.2.7:51022"; for display */
    const struct credentials *credentials; /* borrowed */
    struct board_page *page;               /* borrowed; its own page of the board */
    int peer;
    int mailbox;
    int keeper; /* -1: no own key */
};

/* Takes the descriptors.  Leaves by _exit: what was inherited is not torn down. */
_Noreturn void worker_run(const struct worker_start *start);

#endif
