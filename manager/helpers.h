/*
 * One-shot helpers: a process for one job, one question, one answer.  At most 64 of a kind are there at
 * a time, also of those whose answer nobody wants any more; other questions wait.
 */
#ifndef CORDON_MANAGER_HELPERS_H
#define CORDON_MANAGER_HELPERS_H

#include "ipc/message.h"

struct helper;

struct helper_events {
    /* The answer, which is finished after the call.  One of the two is called, once; the helper is gone
     * with it. */
    void (*on_answer)(void *owner, struct message *answer);
    /* TIMEOUT, CHANNEL_CLOSED (it died), or why its answer is none. */
    void (*on_failed)(void *owner, enum result result, const char *why);
};

/* On a busy machine; of processor time it has 5 s. */
enum { HELPER_TIMEOUT_MS = 15000 };

/* kind: PROCESS_CHECKER or PROCESS_RESOLVER.  Borrows question with its descriptors.  The callbacks
 * come from the loop, never from this call. */
struct helper *helper_ask(enum process_kind kind, const struct message *question,
                          int64_t timeout_ms, const struct helper_events *events, void *owner);

/* Nobody wants the answer any more; no callback comes.  NULL is fine. */
void helper_cancel(struct helper *h);

/* A process of this kind has ended, or there is a new question: starts those that there is room for. */
void helpers_start(enum process_kind kind);

/* Starts a key decoder; gives the other end of its channel, for the keeper.  POSIX. */
MUST_CHECK enum result helper_key_decoder(int *channel);

#endif
