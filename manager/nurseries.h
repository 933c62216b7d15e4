/*
 * Nurseries in generations: one forks the workers, one more is kept warm.
 *
 * A nursery is retired for a fresh one when a worker of it ended unannounced (siblings share its
 * address layout), after 10,000 forks and after 10 minutes.  Nobody is forked from a tainted one:
 * who needs a worker waits for a clean one, but not for long.
 */
#ifndef CORDON_MANAGER_NURSERIES_H
#define CORDON_MANAGER_NURSERIES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "manager/contexts.h"

struct nursery;
struct worker;

/* Somebody who wants a worker; part of a connection. */
struct spawn_want {
    TAILQ_ENTRY(spawn_want) entry;
    int64_t deadline_ms;
    bool is_waiting;
    /* A clean nursery is there: nursery_spawn comes next, in this call.  NULL: there was none in time. */
    void (*on_nursery)(void *owner, struct nursery *n);
    void *owner;
};

/* What a worker's life tells the connection it was forked for.  With all but on_forked, w is gone. */
struct worker_events {
    void (*on_forked)(void *owner, struct worker *w);
    void (*on_fork_failed)(void *owner, int error);
    /* The nursery died before it said forked: perhaps there is a worker, perhaps not. */
    void (*on_lost)(void *owner);
    /* The worker was waited for. */
    void (*on_exited)(void *owner, int status);
};

/* Starts the first two. */
void nurseries_open(void);

/* All connections have ended: workers that stay all the same are killed. */
void nurseries_stop(void);

/* To all that fork, or will. */
void nurseries_tell(const struct message *m);

/* Why there is none: WALLS in *f, when nurseries_missing_walls() says so. */
void nurseries_refuse(struct failure *f);

/* Calls on_nursery, at once if it can. */
void nurseries_want(struct spawn_want *want);
void nurseries_want_forget(struct spawn_want *want); /* fine if it does not wait */

/* Sends spawn; borrows the message's descriptors.  Gives the worker, which is not forked yet. */
struct worker *nursery_spawn(struct nursery *n, uint64_t connection, const struct message *spawn,
                             const struct worker_events *events, void *owner);

/* The owner is gone, or does not care any more.  NULL is fine. */
void worker_forget(struct worker *w);
/* Asks cordond to end it.  Does nothing before it is forked. */
void worker_kill(struct worker *w);
uint32_t worker_pid(const struct worker *w); /* 0: not forked yet */
/* From its page of the board, to be read after its death: "certify". */
const char *worker_last_state(const struct worker *w);
/* And the plaintext bytes moved so far, also while it lives. */
void worker_last_bytes(const struct worker *w, uint64_t *in, uint64_t *out);
uint32_t worker_walls(const struct worker *w); /* mask of enum wall: those that stand around it */
uint64_t nursery_generation(const struct nursery *n);
/* A worker of it ended without a goodbye: it is retired. */
void nurseries_taint(uint64_t generation);

/* A worker that a dead nursery left behind has ended. */
void nurseries_orphan_ended(uint32_t pid, int status);

/* --- for contexts.c --- */
void nurseries_add_context(struct context *c);
void nurseries_drop_context(uint64_t number);

#endif
