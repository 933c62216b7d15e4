/*
 * What every process of the tree does first, and the numbers it finds its
 * descriptors at.
 */
#ifndef CORDON_IPC_PROCESS_H
#define CORDON_IPC_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/result.h"

enum {
    PROCESS_MAILBOX = 3,
    PROCESS_BOARD = 4, /* nursery only */
};

/*
 * For a program started by cordond: names the process, opens its log (to the mailbox, or to stderr
 * for the manager), ignores SIGPIPE, makes it not dumpable, no_new_privs, sets umask 077, checks that the mailbox is a SEQPACKET
 * socket, closes everything above what its kind has.  Ends the process with a message on stderr if it was
 * not started so (a person ran it by hand).
 */
void process_begin(const char *name, bool log_on_stderr, int last_fd);

/*
 * The process title that ps shows.  argv from main, once; the rest writes into the memory of argv and the
 * environment, cut where that ends: no allocation, no system call, no more bytes than change.
 */
void process_title_init(int argc, char **argv);
void process_title(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What stands behind it, replaced each time: a word, and one more unless that is NULL. */
void process_title_append(const char *word, const char *another);

/* Closes all descriptors above 2 but those in keep (sorted ascending). */
void process_keep_only(const int *keep, size_t count);

/* What a worker may use, where its context does not say otherwise. */
#define PROCESS_WORKER_DATA  (UINT64_C(96) << 20) /* bytes */
#define PROCESS_WORKER_CPU_S (UINT32_C(6) * 3600)

/* How a worker's rlimits look; applied in the forked child. */
void process_limit_worker(uint64_t data, uint32_t cpu_s);
/* ... and a one-shot helper's: memory, CPU seconds, no files, no processes. */
void process_limit_helper(void);

#endif
