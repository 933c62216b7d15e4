/*
 * cordond's loop, for cordond_loop*.c alone: what it is, and how they hand it to each other.
 *
 *   cordond_loop.c           the turn, its beginning, and the end of the tree
 *   cordond_loop_children.c  the processes it has started
 *   cordond_loop_manager.c   what it says to the manager, and hears from it
 */
#ifndef CORDON_MANAGER_CORDOND_LOOP_PARTS_H
#define CORDON_MANAGER_CORDOND_LOOP_PARTS_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/message.h"
#include "manager/cordond_child.h"
#include "manager/cordond_loop.h"
#include "manager/cordond_outbox.h"
#include "manager/cordond_pairs.h"
#include "manager/cordond_restarts.h"

enum { OUTBOX_LIMIT = 1000 }; /* a manager that does not listen is not listened to */

enum tree_state { TREE_RUNNING, TREE_TERMINATING, TREE_ENDING, TREE_FORCED };

struct loop {
    enum tree_state state;
    int exit_status;
    int64_t deadline_ms; /* of a state that has one; -1 */

    const struct programs *programs;
    struct child *children; /* owned */
    struct child *manager;  /* one of children; NULL: it is gone */
    int mailbox;            /* owned: our end of the manager's; -1 after it hung up */
    struct outbox outbox;
    struct pairs *pairs; /* owned */
    bool owes_pairs;     /* asked for, and there was no descriptor left */
    struct restarts restarts;

    int signals;      /* owned: signalfd */
    int ready_fd;     /* owned; -1 once written */
    int until_closed; /* owned; -1 once its other end is closed */
    int ledger;       /* owned: memfd */

    struct pollfd *polls; /* owned */
    size_t poll_room;
    char buffer[MESSAGE_MAX + 1];
};

/* --- cordond_loop.c --- */

/* The manager first: it would take the ends of the others for faults, and say so. */
void loop_end(struct loop *l, int exit_status);
/* With our copies gone too, each worker sees its mailbox hang up and ends by itself. */
void loop_end_the_others(struct loop *l);

/* --- cordond_loop_children.c --- */

/* Takes mailbox.  NULL: no memory. */
struct child *loop_add_child(struct loop *l, enum process_kind kind, uint64_t request, int mailbox);
void loop_start_due(struct loop *l);
void loop_end_children(struct loop *l);
void loop_forget_ended(struct loop *l);
/* Whether the ends of its kind are counted: it is started again. */
bool loop_is_restarted(enum process_kind kind);

/* --- cordond_loop_manager.c --- */

/* Takes m's descriptors. */
void loop_tell_manager(struct loop *l, struct message *m);
void loop_tell_boot(struct loop *l);
void loop_tell_started(struct loop *l, struct child *c);
void loop_tell_start_failed(struct loop *l, const struct child *c);
void loop_tell_ended(struct loop *l, const struct child *c);
void loop_tell_orphan_ended(struct loop *l, pid_t pid, int status);
void loop_flush_outbox(struct loop *l);
/* false: there is nothing more, now or ever. */
bool loop_receive_one(struct loop *l);
void loop_receive_all(struct loop *l);
void loop_give_up_manager(struct loop *l, const char *why);

#endif
