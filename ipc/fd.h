/*
 * Descriptors: received in one way, checked before use, large things in sealed
 * memfds.
 */
#ifndef CORDON_IPC_FD_H
#define CORDON_IPC_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "ipc/result.h"

enum {
    FD_MAX_RECEIVED = 253, /* the kernel's SCM_MAX_FD */
    FD_BUSY_RETRY_MS = 20,
};

/* Closes *fd if it is not -1, and makes it -1. */
void fd_close(int *fd);

/*
 * recvmsg(2) with room for 253 descriptors, close-on-exec, control buffer zeroed.  *size is the room
 * in bytes, then what came (0: end of file).  *fd_count is the room in fds, then how many came; more than fit
 * are closed and the result is DESCRIPTORS, as it is after MSG_CTRUNC: then all are closed.
 * MESSAGE_TOO_LONG after MSG_TRUNC.  WOULD_BLOCK, CHANNEL_FAILED (errno).  flags: of recvmsg.
 */
MUST_CHECK enum result fd_receive(int socket, void *bytes, size_t *size, int *fds, size_t *fd_count,
                                  int flags);

/* sendmsg(2) with descriptors, MSG_NOSIGNAL; *size is what was taken.  Borrows fds.
 * WOULD_BLOCK, CHANNEL_CLOSED (EPIPE, ECONNRESET), CHANNEL_FAILED (errno).  CHANNEL_BUSY: processes of
 * our uid have sent more descriptors than RLIMIT_NOFILE that nobody has read yet; poll(2) cannot wait
 * for that, so try again FD_BUSY_RETRY_MS later. */
MUST_CHECK enum result fd_send(int socket, const void *bytes, size_t *size, const int *fds,
                               size_t fd_count, int flags);

/* What a received descriptor is. */
bool fd_is_connected_stream(int fd); /* TCP or Unix, connected */
bool fd_is_listening_stream(int fd); /* TCP or Unix, listening */
bool fd_is_seqpacket(int fd);
bool fd_is_regular_file(int fd);

/* SO_COOKIE, the same for every copy of a socket; 0 if it has none. */
uint64_t fd_cookie(int fd);

MUST_CHECK enum result fd_set_nonblocking(int fd); /* only for descriptors that nobody else holds */

/* Turns a non-zero linger time off, so that close(2) cannot wait (linger 0 stays). */
void fd_disarm_linger(int fd);

/* A sealed memfd (no write, grow, shrink, seal) with these bytes.  Gives *fd. */
MUST_CHECK enum result memfd_sealed(int *fd, const char *name, const void *bytes, size_t size);

/* Reads a whole sealed memfd of at most max bytes into fresh memory with a NUL after it.
 * Borrows fd.  Gives *bytes (free).  NOT_SEALED, NO_MEMORY. */
MUST_CHECK enum result memfd_read(int fd, size_t max, uint8_t **bytes, size_t *size);

/* Reads a regular file, a pipe or a socket to its end, at most max bytes, with a NUL after them; never waits for
 * longer than 1 s.  Borrows fd, and reads a regular file from its start.  Gives *bytes (free; wipe it first if
 * it may hold secrets).  POSIX (errno), LIMIT (more than max), NO_MEMORY, TIMEOUT. */
MUST_CHECK enum result fd_read_all(int fd, size_t max, uint8_t **bytes, size_t *size);

#endif
