/*
 * The walls that a process puts up around itself, once, before it reads the first byte from
 * outside; there is no way back.  A library of its own, so that only those link libseccomp who
 * have a system call filter.
 *
 * What each kind of process gets is data: walls, the system calls that it makes, and what any
 * other call meets (ipc/sandbox.c, ipc/sandbox_calls.c).  The workers' filter is the nursery's: it
 * is compiled once and inherited, which costs a worker nothing.
 *
 * cordond and the launcher have none: a filter stays through execve, and theirs would be that of
 * every process of the tree and of every program of a service.
 */
#ifndef CORDON_IPC_SANDBOX_H
#define CORDON_IPC_SANDBOX_H

#include <stdint.h>

enum sandbox_kind {
    SANDBOX_NURSERY, /* and the workers */
    SANDBOX_KEEPER,
    SANDBOX_CHECKER,
    SANDBOX_KEY_DECODER,
    SANDBOX_RESOLVER,
    SANDBOX_MANAGER,
    SANDBOX_KIND_COUNT
};

/*
 * The one descriptor over which a nursery, and so a worker, may use sendmsg, which can pass
 * descriptors on.  It is above what a worker's RLIMIT_NOFILE allows, so no worker has it.
 */
enum { SANDBOX_SENDMSG_FD = 40 };

/*
 * Puts up what the kind's policy names and the machine gives.  Returns the walls that stand (mask of
 * WALL_BIT), as the kernel says; a debug line says why one does not.  WALL_UID and WALL_LIMITS are
 * not known here.
 */
uint32_t sandbox_enter(enum sandbox_kind kind);

/* The same for who cannot do without: the process ends, with an error line, where one of
 * walls_required() does not stand. */
void sandbox_enter_or_end(enum sandbox_kind kind);

#endif
