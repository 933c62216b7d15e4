#include "manager/cordond_outbox.h"

#include <stdlib.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/mailbox.h"

struct outbox_entry {
    struct outbox_entry *next;
    struct message message; /* its descriptors are owned */
};

void
outbox_init(struct outbox *o, int mailbox)
{
    *o = (struct outbox){ .mailbox = mailbox, .retry_ms = -1 };
    o->last = &o->first;
}

static void
drop_first(struct outbox *o)
{
    struct outbox_entry *entry = o->first;

    o->first = entry->next;
    if (o->first == NULL)
        o->last = &o->first;
    o->count--;
    message_fini(&entry->message);
    free(entry);
}

void
outbox_fini(struct outbox *o)
{
    while (o->first != NULL)
        drop_first(o);
}

static enum result
append(struct outbox *o, struct message *m)
{
    struct outbox_entry *entry = malloc(sizeof(*entry));

    if (entry == NULL) {
        message_fini(m);
        return RESULT_NO_MEMORY;
    }
    entry->next = NULL;
    entry->message = *m;
    *o->last = entry;
    o->last = &entry->next;
    o->count++;
    return RESULT_OK;
}

/* WOULD_BLOCK also when it is not the mailbox that has no room. */
static enum result
send_now(struct outbox *o, const struct message *m)
{
    enum result result = mailbox_send(o->mailbox, m);

    o->retry_ms = -1;
    if (result != RESULT_CHANNEL_BUSY)
        return result;
    o->retry_ms = clock_now_ms() + FD_BUSY_RETRY_MS;
    return RESULT_WOULD_BLOCK;
}

enum result
outbox_send(struct outbox *o, struct message *m)
{
    enum result result = RESULT_WOULD_BLOCK;

    if (o->mailbox >= 0 && o->first == NULL)
        result = send_now(o, m);
    if (o->mailbox >= 0 && result == RESULT_WOULD_BLOCK)
        return append(o, m);
    message_fini(m);
    return o->mailbox >= 0 ? result : RESULT_CHANNEL_CLOSED;
}

enum result
outbox_flush(struct outbox *o)
{
    while (o->first != NULL) {
        enum result result = send_now(o, &o->first->message);

        if (result == RESULT_WOULD_BLOCK)
            return RESULT_OK;
        if (result != RESULT_OK)
            return result;
        drop_first(o);
    }
    return RESULT_OK;
}

bool
outbox_is_empty(const struct outbox *o)
{
    return o->first == NULL;
}
