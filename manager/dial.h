/*
 * Calls a host: looks the name up, then tries every address, the next one 250 ms after the one
 * before or at once when that one fails, the families in turn (RFC 8305).  The first that answers
 * wins.
 */
#ifndef CORDON_MANAGER_DIAL_H
#define CORDON_MANAGER_DIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "manager/failure.h"

struct dial;

struct dial_events {
    /* NULL, or prepares a socket that is going to call.  Borrows fd. */
    void (*on_socket)(int fd);
    /* Gives fd, connected, close-on-exec, O_NONBLOCK. */
    void (*on_connected)(void *owner, int fd);
    /* RESOLVE, or POSIX with the error of the last address.  Takes f's content. */
    void (*on_failed)(void *owner, struct failure *f);
};

/* One callback comes, from the loop.  timeout_ms: for the name; -1: no limit. */
struct dial *dial_open(const char *host, uint16_t port, int64_t timeout_ms,
                       const struct dial_events *events, void *owner);
/* The same for a Unix socket that listens at path.  While its queue is full, it is tried again: the
 * caller sets the limit. */
struct dial *dial_open_path(const char *path, const struct dial_events *events, void *owner);
/* No callback comes.  NULL is fine. */
void dial_cancel(struct dial *d);

bool host_is_address(const char *host);

#endif
