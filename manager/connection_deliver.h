/*
 * The first delivery (protocol H, steps 3 and 8): the worker gets one end of a stream pair, the
 * owner the other, with the line that names it.
 */
#ifndef CORDON_MANAGER_CONNECTION_DELIVER_H
#define CORDON_MANAGER_CONNECTION_DELIVER_H

#include "manager/connection_fsm.h"

struct connection;

/* Entering CONNECTION_DELIVERING. */
enum connection_event connection_deliver(struct connection *c);

#endif
