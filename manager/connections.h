/*
 * Connections: the registry of all, by handle and by owner, and what a method may ask of one.
 *
 * Each is one state machine (connection_fsm.c) around one worker.  A worker is believed only about
 * its own connection: number, owner, context and peer address are the manager's own.
 */
#ifndef CORDON_MANAGER_CONNECTIONS_H
#define CORDON_MANAGER_CONNECTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "manager/contexts.h"
#include "manager/options.h"
#include "manager/request.h"

struct connection;
struct listener;
struct owner;

/* How its plaintext reaches the owner, and the names it is to check: the part of the options that
 * is not in the context. */
struct connection_options {
    bool active;
    enum delivery delivery;
    bool lifetime_descriptor;
    bool mode_list;
    bool nodelay;
    bool log_alert;
    char server_name[256]; /* client: SNI; empty: none */
    char verify_name[256]; /* client: empty: none */
};

/* Takes from options what belongs to the connection; names only as they are given there. */
void connection_options_from(struct connection_options *out, const struct options *options);

/* The same for a client that calls host: the name it sends and checks, where options do not say. */
void connection_options_for(struct connection_options *out, const struct options *options,
                            const char *host);

enum who {
    WHO_SEES, /* any client of the owner's uid, and administrators */
    WHO_OWNS,
};

/*
 * The connection that handle names, if r's client may.  NULL: NOT_FOUND, NOT_OWNER, or CLOSED (with how it
 * ended) in *f.
 */
struct connection *connection_find(const struct request *r, const char *handle, enum who who,
                                   struct failure *f);
/* The same for listeners. */
struct listener *listener_find(const struct request *r, const char *handle, enum who who,
                               struct failure *f);

/* Forgets the handle of an ended connection, if handle is one and r's client owns it. */
bool connection_forget_ended(const struct request *r, const char *handle);

/* The keeper says that a worker broke its rules. */
void connection_misuse(uint64_t number, const char *why);

/* LIMIT in *f when there are connections_max already, SHUTTING_DOWN when we stop. */
bool connections_have_room(struct failure *f);

/* "c3.42" → 42 with prefix 'c'; 0: it is of another start, or no handle. */
uint64_t handle_number(const char *handle, char prefix);

#endif
