/*
 * The worker's side of its mailbox.  Without a manager there is no worker: it
 * ends as soon as the mailbox does, wherever it is.
 */
#ifndef CORDON_WORKER_POST_H
#define CORDON_WORKER_POST_H

#include <stdint.h>

#include "ipc/message.h"
#include "ipc/result.h"

/* How a worker ends; the manager reads it as advice. */
enum worker_exit {
    WORKER_EXIT_DONE = 0,
    WORKER_EXIT_NO_MEMORY = 10,
    WORKER_EXIT_ORPHANED = 11, /* the manager closed the mailbox */
    WORKER_EXIT_PROTOCOL = 12, /* the manager sent what it may not */
};

/* Sends m; the manager never waits, so it will be read. */
void post_send(int mailbox, const struct message *m);

/* Plaintext moved so far, which most messages carry. */
struct post_bytes {
    uint64_t in, out;
};

void post_answer(int mailbox, uint32_t request, enum result reason, struct post_bytes bytes);
void post_received(int mailbox, uint32_t request, enum result reason, uint64_t in);
void post_sent(int mailbox, uint64_t out);
void post_peer_ended(int mailbox, uint64_t in);

/* Receives one message, if there is one: OK, or WOULD_BLOCK.  buffer has MESSAGE_MAX + 1 bytes. */
MUST_CHECK enum result post_receive(int mailbox, char *buffer, struct message *m);

/* Answers what cannot be done with reason. */
void post_refuse(int mailbox, const struct message *m, enum result reason, struct post_bytes bytes);

#endif
