/*
 * Where a listener's plaintext goes when it does not go to its owner: to a backend, a program, back
 * to the peer, or out again over TLS.  Read once, never changed, shared by the listener and
 * its connections.
 */
#ifndef CORDON_MANAGER_DELIVER_H
#define CORDON_MANAGER_DELIVER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "manager/failure.h"

enum deliver_kind {
    DELIVER_CONNECT, /* TLS in, plain out: to host and port, or to path */
    DELIVER_EXEC,    /* TLS in, a program of its own for each connection */
    DELIVER_ECHO,    /* TLS in, and back */
    DELIVER_CLIENT,  /* plain in, TLS out: to host and port */
};

struct deliver {
    unsigned references;
    enum deliver_kind kind;
    char target[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 256]; /* for people, escaped */
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];         /* of a Unix socket; "" */
    char host[256];
    uint16_t port;
    uint32_t connect_timeout_ms;
    bool proxy_header; /* version 2, before the first byte */
    json_t *exec;      /* owned; the program and its arguments */
    uint32_t user;     /* whom it runs as, by its place among those allowed */
};

/* What whoever wrote it may name. */
struct deliver_rights {
    bool paths; /* the configuration file, or an operator */
    bool exec;  /* the configuration file, or an administrator */
};

/*
 * Reads json, which has been checked against the type `deliver` of api/cordon.api.json.  Gives
 * *out.  OPTIONS, NOT_ALLOWED or NOT_SUPPORTED in *f.
 */
MUST_CHECK enum result deliver_parse(struct deliver **out, const json_t *json,
                                     struct deliver_rights rights, struct failure *f);

/* A user whom cordond starts programs as; called at the start, in cordond's order. */
void deliver_allow_user(const char *name);

/* The TLS options of kind client, borrowed from json; NULL: it is not of this kind, and the listener
 * is the TLS server. */
const json_t *deliver_client_options(const json_t *json);

struct deliver *deliver_hold(struct deliver *d); /* NULL is fine */
void deliver_release(struct deliver *d);         /* NULL is fine */

/* For lists; without TLS options.  NULL is fine: null.  Gives. */
json_t *deliver_row(const struct deliver *d);

#endif
