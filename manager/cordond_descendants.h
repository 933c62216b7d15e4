/*
 * Signals to processes below us, and to nobody else.
 *
 * A number may belong to a stranger by the time a signal gets there; a pidfd
 * cannot.  So whatever is signalled is named by a pidfd, and was seen to be an
 * unreaped child of ours, or of a child of ours, while that pidfd was alive.
 */
#ifndef CORDON_MANAGER_CORDOND_DESCENDANTS_H
#define CORDON_MANAGER_CORDOND_DESCENDANTS_H

#include <stddef.h>

#include "ipc/result.h"

/* Borrows pidfd.  REFUSED: it is no pidfd, or not of a process below us.  CLOSED: that process has
 * ended.  POSIX (errno). */
MUST_CHECK enum result descendant_signal(int pidfd, int number);

/* SIGKILL to every child we have, of any origin.  Returns how many there were. */
size_t descendants_kill_children(void);

#endif
