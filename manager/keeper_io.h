/*
 * What the keeper's parts share: the loop's descriptor, the manager's mailbox
 * and one buffer to receive in.
 */
#ifndef CORDON_MANAGER_KEEPER_IO_H
#define CORDON_MANAGER_KEEPER_IO_H

#include "ipc/message.h"

/* What a descriptor in the loop is; the first member of whatever is behind it. */
enum keeper_watch_kind { KEEPER_WATCH_MANAGER, KEEPER_WATCH_CHANNEL, KEEPER_WATCH_LOAD };

struct keeper_watch {
    enum keeper_watch_kind kind;
    int fd; /* owned by what the watch is part of */
};

struct keeper_io {
    int epoll;
    int manager; /* its mailbox */
    char buffer[MESSAGE_MAX_LARGE + 1];
};

/* Wakes the loop when watch->fd can be read.  Borrows watch, until keeper_io_close.  POSIX (errno). */
MUST_CHECK enum result keeper_io_watch(struct keeper_io *io, struct keeper_watch *watch);

/* Closes watch->fd, and takes it out of the loop, where it would stay while anybody else, such as
 * the manager that sent it, has a copy. */
void keeper_io_close(struct keeper_io *io, struct keeper_watch *watch);

/* Sends to the manager; ends the keeper if the manager does not take it for 5 s: who cannot hear
 * about attacks must not go on. */
void keeper_io_tell(struct keeper_io *io, const struct message *m);

#endif
