/*
 * One change at a time: who wants to make one takes a turn, and gives it back when it is over.
 */
#ifndef CORDON_MANAGER_TURNS_H
#define CORDON_MANAGER_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

/* Part of who waits. */
struct turn {
    STAILQ_ENTRY(turn) entry;
    bool is_waiting, is_running;
    void (*on_turn)(void *owner);
    void *owner;
};

enum { TURNS_MAX = 64 }; /* that wait */

/* on_turn is called once, at once or later.  False: too many wait already. */
bool turn_take(struct turn *t, void (*on_turn)(void *owner), void *owner);

/* It waits no more, or it is over; the next one's begins.  One that was never taken is fine. */
void turn_over(struct turn *t);

#endif
