/*
 * Callers of a listener with accept_proxy whose PROXY header has not come yet.  They cost a
 * descriptor and a few hundred bytes each, and no process, for 5 s at most.
 */
#ifndef CORDON_MANAGER_ARRIVALS_H
#define CORDON_MANAGER_ARRIVALS_H

#include <stddef.h>

#include "manager/proxy.h"

struct arrivals;

struct arrivals_events {
    /* The header is complete.  Gives fd; said is borrowed for the call. */
    void (*on_arrived)(void *owner, int fd, const struct proxy_input *said);
    /* It came not, or is none; the caller is gone.  by: who it was; why is a constant text. */
    void (*on_lost)(void *owner, const struct address *by, const char *why);
};

/* Borrows events and owner. */
struct arrivals *arrivals_new(const struct arrivals_events *events, void *owner);
/* Nothing calls back any more: those that are here are closed.  NULL is fine. */
void arrivals_free(struct arrivals *a);

/* Takes fd.  One callback comes, for most of them from this call. */
void arrivals_add(struct arrivals *a, int fd);
size_t arrivals_count(const struct arrivals *a); /* NULL: 0 */

#endif
