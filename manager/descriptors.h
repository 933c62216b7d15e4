/*
 * The manager's descriptors, which have an end (RLIMIT_NOFILE).
 *
 * Were they used up, the next message of cordond or of a nursery would come without the descriptors
 * it carries, and that ends its channel.  So the last ones are kept for what our own processes send,
 * and what comes from outside is turned away before: clients, callers, what clients send along,
 * sockets that are made for them.  The kernel gives the lowest number that is free, so
 * a new descriptor's number shows how many there are.
 */
#ifndef CORDON_MANAGER_DESCRIPTORS_H
#define CORDON_MANAGER_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>

#include "manager/failure.h"

/* Reads the limit.  Before it was called, nothing is reserved. */
void descriptors_open(void);

/* How many there are for what comes from outside, when nothing is expected. */
uint32_t descriptors_for_others(void);

/* What was let in will need so many more (or, negative, has got them): they are kept for it, too. */
void descriptors_expect(int change);

/* Whether fd, just opened for somebody outside, is one of those kept.  It is the caller's to close. */
bool descriptor_is_reserved(int fd);

/* Whether there is one for somebody outside; LIMIT in *f. */
bool descriptors_have_room(struct failure *f);

#endif
