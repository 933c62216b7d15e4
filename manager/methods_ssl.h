/*
 * What the methods of ssl.* share.
 */
#ifndef CORDON_MANAGER_METHODS_SSL_H
#define CORDON_MANAGER_METHODS_SSL_H

#include "manager/connection.h"

/* A parameter of type timeout: milliseconds; -1: infinity, or absent. */
int64_t param_timeout(const struct request *r);
const char *param_text(const struct request *r, const char *name); /* NULL: absent */
/* Parameter conn; NULL: the request was refused. */
struct connection *param_connection(struct request *r, enum who who);
struct listener *param_listener(struct request *r, enum who who);
/* The result of ssl.listen and cordon.service_add. */
void listener_reply(struct request *r, const struct listener *l);
/* The connection is open; otherwise the request is refused with bad_state. */
bool is_open(struct request *r, const struct connection *c);
/* Its handshake is done; otherwise likewise. */
bool is_established(struct request *r, const struct connection *c);

#endif
