/*
 * A mailbox in the manager's loop: reads messages as they come, and keeps what cannot be sent yet in
 * a bounded queue, so that nobody here ever waits for another process.
 */
#ifndef CORDON_MANAGER_CHANNEL_H
#define CORDON_MANAGER_CHANNEL_H

#include <stddef.h>

#include "ipc/message.h"

struct channel;

struct channel_kind {
    const char *name; /* for logs */
    enum route receives;
    size_t message_max; /* MESSAGE_MAX or MESSAGE_MAX_LARGE */
    size_t queue_max;   /* messages that may wait here, behind what waits in the kernel */
    /* The channel is the owner's to close; the message is finished after the call. */
    void (*on_message)(void *owner, struct message *m);
    /* It is of no use any more, and reads no more; the owner closes it now or later.
     * CHANNEL_CLOSED: end of file.  LIMIT: the other end does not read.  Else: it broke the protocol,
     * and why is a constant text. */
    void (*on_end)(void *owner, enum result result, const char *why);
};

/* Takes mailbox; borrows kind and owner. */
struct channel *channel_open(int mailbox, const struct channel_kind *kind, void *owner);

/* Never waits and never fails: a channel that cannot take it ends (on_end comes later, from the
 * loop).  Borrows m's descriptors. */
void channel_send(struct channel *c, const struct message *m);

/* Calls once when nothing waits here any more, at once if nothing does; never if it has ended. */
void channel_when_sent(struct channel *c, void (*on_sent)(void));

/* Says end of file to the other end, and goes on reading. */
void channel_finish(struct channel *c);

/* Shuts the mailbox down (others hold copies of it), closes it and forgets what waits.  NULL is fine. */
void channel_close(struct channel *c);

#endif
