/*
 * cordond's loop: signals, the manager's mailbox, and starting children.  One
 * poll(2), nothing in it ever waits.
 *
 * The tree as a whole is in one of these states, and only ever goes down:
 *
 *   running      the manager asks, we do
 *   terminating  a signal came; the manager closes everything and says `finished`
 *   ending       what is left has been killed or has seen its mailbox hang up
 *   forced       its time is over: SIGKILL to every child there is
 */
#ifndef CORDON_MANAGER_CORDOND_LOOP_H
#define CORDON_MANAGER_CORDOND_LOOP_H

#include <signal.h>

#include "manager/cordond_programs.h"

struct loop_setup {
    const struct programs *programs; /* borrowed */
    sigset_t *signals;               /* blocked already: SIGCHLD and those that stop us */
    int ready_fd;                    /* takes; -1: nobody wants to know */
    int until_closed;                /* takes: its other end closed is a stop signal; -1 */
};

/* Starts the manager and returns when no process is left: cordond's exit status. */
MUST_CHECK int loop_run(const struct loop_setup *setup);

#endif
