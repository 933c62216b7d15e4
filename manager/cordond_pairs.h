/*
 * Mailbox pairs, and the copies of other processes' descriptors that cordond
 * keeps without reading them: the manager's ends of the pairs, its listeners,
 * its clients.  They are what a next manager will be given.
 */
#ifndef CORDON_MANAGER_CORDOND_PAIRS_H
#define CORDON_MANAGER_CORDOND_PAIRS_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/message.h"

struct pairs;

/* NULL: no memory. */
struct pairs *pairs_new(void);

/* Closes every copy. */
void pairs_free(struct pairs *p);

/*
 * Makes at most PAIRS_PER_MESSAGE pairs, keeps the manager's ends, and fills m, which is then to be
 * sent: its descriptors are the caller's (message_fini).  Fewer when descriptors run out; POSIX
 * (errno) when not even one could be made, and m is untouched.
 */
MUST_CHECK enum result pairs_make(struct pairs *p, struct message *m);

/* Takes fd, also on failure.  A copy that was kept under this number before is closed. NO_MEMORY. */
MUST_CHECK enum result pairs_keep(struct pairs *p, enum kept_kind kind, uint64_t number, int fd);

/* Closes the copy; nothing when there is none. */
void pairs_drop(struct pairs *p, enum kept_kind kind, uint64_t number);

/* All of them: whoever waits for these channels to hang up sees it now. */
void pairs_drop_all(struct pairs *p);

size_t pairs_count(const struct pairs *p);

#endif
