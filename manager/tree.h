/*
 * The manager's side of the channel to cordond: mailbox pairs made ahead, processes started on our
 * behalf, copies of descriptors kept and dropped, signals sent.  (manager.h has what the control
 * side uses of it.)
 */
#ifndef CORDON_MANAGER_TREE_H
#define CORDON_MANAGER_TREE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "ipc/message.h"

/* A mailbox of which cordond keeps a copy of our end: shutdown(2) before close(2), then tree_drop. */
struct pair {
    uint64_t number;
    int ours, theirs; /* owned */
};

/* Somebody who waits for a pair; part of what needs it. */
struct pair_want {
    STAILQ_ENTRY(pair_want) entry;
    /* The callee owns the pair. */
    void (*on_pair)(void *owner, struct pair pair);
    void *owner;
    bool is_waiting;
};

/* Calls on_pair, at once if a pair is there. */
void tree_pair(struct pair_want *want);
/* Waits no more; fine if it does not wait. */
void tree_pair_forget(struct pair_want *want);

struct child_events {
    /* Takes board: -1 for all but a nursery (its board) and a launcher (its pidfd). */
    void (*on_started)(void *owner, uint32_t pid, int board);
    /* It could not be started (error is errno), or it ended (error is 0; status as from waitpid).  The
     * child is gone with this call. */
    void (*on_ended)(void *owner, int error, int status);
};

struct child;

/*
 * Asks for a process with this end of a mailbox, which it takes.  Borrows owner until on_ended or
 * child_forget.  generation: of a nursery, for display.
 */
struct child *tree_start(enum process_kind kind, uint64_t generation, int mailbox,
                         const struct child_events *events, void *owner);

/* The same for a launcher, which runs as that user of cordond's --exec-user.  It is started with its pidfd
 * in the place of a board. */
struct child *tree_launch(uint32_t user, int mailbox, const struct child_events *events,
                          void *owner);

/* How many there are of a kind, or were asked for. */
size_t tree_count(enum process_kind kind);

/* Nobody wants to know any more how it goes on.  NULL is fine. */
void child_forget(struct child *c);

/* Borrows pidfd. */
void tree_signal(int pidfd, int number);

/* To cordond, once its channel is open. */
void tree_tell(const struct message *m);

#endif
