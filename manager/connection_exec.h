/*
 * The program of a service with `exec`, for one connection.
 *
 * It has one end of a Unix stream pair as stdin and stdout, the worker the other.  Such a
 * pair cannot be reset, so the manager keeps a copy of the worker's end: when the connection
 * ends without the peer's goodbye, the program is killed before it could take that for an end of file.
 */
#ifndef CORDON_MANAGER_CONNECTION_EXEC_H
#define CORDON_MANAGER_CONNECTION_EXEC_H

#include "manager/connection.h"

struct exec;

struct exec_events {
    /* The program runs, and this is the worker's end of the pair; borrowed. */
    void (*on_running)(void *owner, int fd);
    /* It does not run; the exec is gone with this call. */
    void (*on_failed)(void *owner, int error);
};

/* Starts c->deliver's program with what is known of c; one callback comes, from the loop.  NULL: errno. */
struct exec *exec_open(const struct connection *c, const struct exec_events *events, void *owner);

/*
 * The connection is over, and nothing calls back any more.  is_clean: the program has read the peer's end of
 * file, and may go on for 10 s, before SIGHUP, then 5 s, before SIGKILL; else it is killed at once.
 * NULL is fine.
 */
void exec_close(struct exec *e, bool is_clean);

#endif
