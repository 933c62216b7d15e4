/*
 * A connection whose plaintext goes where its listener's `deliver` says, and not to its owner.
 */
#ifndef CORDON_MANAGER_CONNECTION_SERVICE_H
#define CORDON_MANAGER_CONNECTION_SERVICE_H

#include "manager/connection.h"

/* Entering the state delivering.  What comes later is DELIVERED or the end. */
enum connection_event connection_serve(struct connection *c);

/* How a plain socket is made ready for a worker. */
void connection_serve_socket(int fd);

/* The state delivering has lasted for too long. */
void connection_serve_late(struct connection *c);

#endif
