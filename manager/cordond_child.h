/*
 * A process cordond starts, from the request to its reaping: one state machine.
 *
 *   waiting ──► starting ──► running ──► ending ──► ended
 *                  └──► failed ─────────────────────►
 *
 * Starting waits for nobody: the child has one end of a pipe that execve(2)
 * closes, or that carries the errno that kept it from getting there.
 */
#ifndef CORDON_MANAGER_CORDOND_CHILD_H
#define CORDON_MANAGER_CORDOND_CHILD_H

#include <stdint.h>
#include <sys/types.h>

#include "manager/cordond_programs.h"

enum child_state {
    CHILD_NONE, /* no move */
    CHILD_WAITING,
    CHILD_STARTING,
    CHILD_RUNNING,
    CHILD_FAILED, /* its program did not start; to be reaped */
    CHILD_ENDING, /* we have killed it; to be reaped */
    CHILD_ENDED,
    CHILD_STATE_COUNT
};

enum child_event {
    CHILD_EVENT_NONE,
    CHILD_EVENT_START_DUE,
    CHILD_EVENT_NOT_FORKED,
    CHILD_EVENT_EXECUTED,
    CHILD_EVENT_NOT_EXECUTED,
    CHILD_EVENT_END_ASKED,
    CHILD_EVENT_EXITED,
    CHILD_EVENT_COUNT
};

struct child {
    struct child *next; /* the owner's list */
    enum child_state state;
    enum process_kind kind;
    uint64_t request; /* the manager's number for it; 0: it is the manager */
    int64_t due_ms;   /* waiting: when to start */
    pid_t pid;        /* 0: none yet */
    int pidfd;        /* owned */
    size_t user;      /* launcher: which of exec_users */
    int mailbox;      /* owned until the fork: the child's end */
    int board;        /* owned; nursery: its board, until the owner has passed it on */
    int report;       /* owned; starting: what became of execve */
    int error;        /* errno of what did not work */
    int status;       /* ended: as from waitpid */
    bool was_started; /* it came as far as running */
    const struct programs *programs;
    void (*on_state)(struct child *c); /* called in running, failed and ended */
    void *owner;
};

/* Takes mailbox, also on failure.  The child waits for CHILD_EVENT_START_DUE.  NULL: no memory. */
struct child *child_new(enum process_kind kind, uint64_t request, int mailbox,
                        const struct programs *programs, void (*on_state)(struct child *c),
                        void *owner);

/* Before it is ended only when nobody waits for it any more.  NULL is fine. */
void child_free(struct child *c);

/* The only place where c->state changes.  The child may be ended afterwards; it is never freed here. */
void child_step(struct child *c, enum child_event event);

/* The report pipe is readable. */
void child_on_report(struct child *c);

/* waitpid gave this status. */
void child_on_exit(struct child *c, int status);

const char *child_state_name(enum child_state state);

#endif
