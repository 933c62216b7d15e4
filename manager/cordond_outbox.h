/*
 * What cordond has to say to the manager and the mailbox has no room for yet.
 * Nothing is lost and nobody waits: a thousand workers may end while the manager
 * is busy.
 */
#ifndef CORDON_MANAGER_CORDOND_OUTBOX_H
#define CORDON_MANAGER_CORDOND_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/message.h"

struct outbox_entry;

struct outbox {
    int mailbox; /* borrowed; -1: the manager is gone, everything is thrown away */
    int64_t retry_ms; /* monotonic: not before this; -1: once the mailbox has room */
    struct outbox_entry *first, **last;
    size_t count;
};

void outbox_init(struct outbox *o, int mailbox);
void outbox_fini(struct outbox *o);

/*
 * Sends m now, or later, after what waits already.  Takes the descriptors of m, also on failure; m
 * has no text and no bytes.  CHANNEL_CLOSED, CHANNEL_FAILED (errno), NO_MEMORY.
 */
MUST_CHECK enum result outbox_send(struct outbox *o, struct message *m);

/* The mailbox has room, or it is time to try again: sends what waits.  CHANNEL_CLOSED, CHANNEL_FAILED (errno). */
MUST_CHECK enum result outbox_flush(struct outbox *o);

bool outbox_is_empty(const struct outbox *o);

#endif
