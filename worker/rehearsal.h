/*
 * A worker's work, done once inside the walls before there is a peer: a child of the nursery takes
 * a message with a memfd, shakes hands with itself in TLS 1.3 and in 1.2 over sockets, moves
 * plaintext, says goodbye.  A system call that the filter lacks so refuses to start, and does not
 * punish an honest peer later.
 */
#ifndef CORDON_WORKER_REHEARSAL_H
#define CORDON_WORKER_REHEARSAL_H

#include <stdbool.h>
#include <stdint.h>

#include <gnutls/gnutls.h>

#include "ipc/result.h"
#include "worker/credentials.h"

enum { REHEARSAL_STAGES = 2, REHEARSAL_FDS = 2 * REHEARSAL_STAGES + 1 };

struct rehearsal {
    struct credentials servers[REHEARSAL_STAGES], clients[REHEARSAL_STAGES];
    int manager;            /* owned; our end of mailbox */
    int fds[REHEARSAL_FDS]; /* owned; those of the child, the mailbox, then pairs of peers */
};

/* Everything that the walls will not let happen.  Borrows credentials until rehearsal_fini.  POSIX,
 * TLS_BROKEN: *why says what is wrong. */
MUST_CHECK enum result rehearsal_init(struct rehearsal *r,
                                      gnutls_certificate_credentials_t credentials,
                                      const char **why);

/* In the child.  Ends it. */
_Noreturn void rehearsal_play(struct rehearsal *r);

/* What the child's end means, status as from waitpid.  false: *why is a constant text. */
bool rehearsal_went_well(int status, const char **why);

/* The walls that the child has tried: enum wall. */
uint32_t rehearsal_walls(int status);

void rehearsal_fini(struct rehearsal *r);

#endif
