/*
 * Listeners: accept on demand, never more than is asked for, and shake hands side by side below a
 * cap for ssl.accept and accept auto.
 *
 * A socket that a client made is shared with it: its O_NONBLOCK is not ours to change.  See
 * listener_accept_one.
 */
#ifndef CORDON_MANAGER_LISTENERS_H
#define CORDON_MANAGER_LISTENERS_H

#include "manager/connections.h"
#include "manager/deliver.h"
#include "manager/listen_plan.h"
#include "manager/service_definition.h"

struct connection;

const char *listener_handle(const struct listener *l);
uint64_t listener_number(const struct listener *l);
struct listener *listener_hold(struct listener *l);
void listener_release(struct listener *l); /* NULL is fine */
struct listener *listener_by_number(uint64_t number);
size_t listeners_count(void);
struct listener *listener_first(void);
struct listener *listener_after(const struct listener *l);

struct listener_parameters {
    int fd; /* taken; listening already if is_foreign, else only bound */
    bool is_foreign;
    const char *service;                 /* its name, borrowed; NULL: it is none */
    const struct context_loaded *loaded; /* borrowed */
};

/* The files that it names by path. */
struct listener_files {
    struct file_state certfile, keyfile, cacertfile;
};

/* Once, at the start: sets a descriptor aside for when there are no others. */
void listeners_open(void);

/* Takes plan's content and a reference to context.  Now it listens.  client NULL: a service, the
 * manager's own.  *error: errno of listen(2), and NULL is returned. */
struct listener *listener_new(struct client *client, const struct listener_parameters *parameters,
                              struct listen_plan *plan, struct context *context, int *error);

/* A socket that is bound and does not listen yet; listen: a checked listen_address.  -1: *f says why. */
int listener_bind(const json_t *listen, bool reuseaddr, struct failure *f);

/* Nobody can reach it any more; its waiting calls answer closed. */
void listener_close(struct listener *l);
struct owner *listener_owner(const struct listener *l); /* NULL: closed */
uid_t listener_uid(const struct listener *l);
void listener_set_owner(struct listener *l, struct owner *o); /* for connections.c */
struct options *listener_options(struct listener *l);
struct context *listener_context(struct listener *l);
struct deliver *listener_deliver(const struct listener *l); /* borrowed; NULL */
/* The key whose password the keeper remembers; NULL: it has none. */
const struct key *listener_password_key(const struct listener *l);
/* As they were when they were read, and as they were when they were last refused. */
const struct listener_files *listener_files(const struct listener *l);
struct listener_files *listener_refused_files(struct listener *l);
/* From the next connection on; those that have begun keep theirs.  Takes a reference to context. */
void listener_swap_context(struct listener *l, struct context *context,
                           const struct context_loaded *loaded);
/* The same with all that a service says, and its name.  Takes plan's content, too. */
void listener_swap_service(struct listener *l, const char *service, struct listen_plan *plan,
                           struct context *context, const struct context_loaded *loaded);
const char *listener_service(const struct listener *l); /* "": it is none */
json_t *listener_row(const struct listener *l);
json_t *listener_address(const struct listener *l); /* gives; null if it has none */

/* Takes r, which waits for a connection (with timeout_ms, -1: for ever). BAD_STATE in *f, and r is not
 * taken. */
bool listener_wait(struct listener *l, struct request *r, bool with_handshake, int64_t timeout_ms,
                   struct failure *f);

/* --- for connection_*.c: a connection that the listener began by itself --- */

/* Its handshake is done: who gets it.  True: c->request or the listener's owner does now. */
bool listener_offer(struct listener *l, struct connection *c);
/* It is not handshaking any more. */
void listener_handshake_over(struct listener *l);
/* It was in the queue of finished ones and has ended. */
void listener_forget(struct listener *l, struct connection *c);
bool listener_is_auto(const struct listener *l);

#endif
