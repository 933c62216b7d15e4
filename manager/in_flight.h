/*
 * Descriptors that clients were sent and have not read.
 *
 * They count against the sender's uid: past RLIMIT_NOFILE of them the kernel takes no descriptor from
 * the manager any more, for anybody.  So a client has at most 8 of them, and past 1,000 in all each
 * gets the next one only when it has read those before.  One at a time everybody may have: who
 * reads waits for nobody who does not.
 *
 * Only reading frees them, not our closing: what a client leaves unread when its connection ends
 * stays counted, and its socket open, until it has closed the other end.
 */
#ifndef CORDON_MANAGER_IN_FLIGHT_H
#define CORDON_MANAGER_IN_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

enum { IN_FLIGHT_ONE_MAX = 8, IN_FLIGHT_ALL_MAX = 1000 };

/* What one socket has on its way; part of its client. */
struct in_flight {
    TAILQ_ENTRY(in_flight) entry;
    int socket;     /* borrowed; owned once it was left */
    unsigned count; /* sent since all was last seen to be read; not 0: it is in the list */
};

void in_flight_init(struct in_flight *f, int socket);

/* Whether one more may be sent now.  When not, there is no event to wait for. */
bool in_flight_has_room(struct in_flight *f);
void in_flight_sent(struct in_flight *f);

/* The client is gone.  Takes its socket, which was shut down, also when nothing is on its way. */
void in_flight_leave(struct in_flight *f);

/* Looks which of them have been read.  To be called now and then while in_flight_left is not 0. */
void in_flight_look(void);

/* Sockets that clients left with descriptors on their way. */
size_t in_flight_left(void);

/* How many are on their way, at most: some may have been read since we looked. */
size_t in_flight_total(void);

#endif
