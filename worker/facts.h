/*
 * The facts of an agreed session, for `established`: once and for all.
 */
#ifndef CORDON_WORKER_FACTS_H
#define CORDON_WORKER_FACTS_H

#include <stddef.h>

#include "ipc/message.h"
#include "worker/session.h"

/* What the texts of `established` point into. */
struct facts {
    char server_name[256];
    char subject[501];
    char common_name[257];
    char issuer[501];
    char serial[81];
    char sha256[65];
    char public_key[41];
};

/* Fills m, except took_ms, out of an established session.  m then borrows from facts and session. */
void facts_fill(struct facts *facts, const struct session *s, struct message *m);

/* The peer's certificate, DER; size 0: it sent none (or none that `established` could speak of). */
struct bytes facts_peer_certificate(const struct session *s);

#endif
