/* What can be seen of processes from outside: who they are, what they hold. */
#ifndef CORDON_TESTS_HARNESS_PROCESSES_H
#define CORDON_TESTS_HARNESS_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct process {
    pid_t pid, parent;
    uid_t uid;
    char state;     /* R, S, T, Z, ... */
    char title[64]; /* the first words of its command line: "cordon worker c1.2" */
};

/* All living descendants of root, root first, zombies too. Returns how many there are; room is that in found. */
size_t processes_below(pid_t root, struct process *found, size_t room);

/* Whose title begins so; 0: none.  The first one found. */
pid_t process_named(pid_t root, const char *title);
size_t processes_named(pid_t root, const char *title);

struct descriptors {
    size_t all;
    size_t mailboxes; /* SOCK_SEQPACKET: pairs come and go 64 at a time */
    size_t memfds;    /* a context keeps its files in some until 60 s after its last user */
    size_t others;
};

/* false: it cannot be looked into. */
bool process_descriptors(pid_t pid, struct descriptors *d);

/* What its descriptors are, a line each, for the message of a failed test. Gives (free). */
char *process_describe_descriptors(pid_t pid);

/* Private_Dirty of all its memory, KiB; -1: it cannot be read. */
long process_private_dirty_kib(pid_t pid);

/* Anonymous memory it has touched (RssAnon) and the most it ever had resident (VmHWM), KiB; -1. */
long process_rss_anon_kib(pid_t pid);
long process_peak_kib(pid_t pid);

/* How often the bytes are in its memory, all readable maps; -1: they cannot be read. */
long process_memory_count(pid_t pid, const void *bytes, size_t size);

/* Waits for the end of a process that is not our child (pidfd). true: it has ended. */
bool process_wait_end(pid_t pid, int64_t deadline_ms);

/* Another RLIMIT_NOFILE, at most its hard one; 0: that. */
bool process_limit_descriptors(pid_t pid, unsigned count);

/* By pidfd, and only if it is still below root. */
bool process_signal(pid_t root, pid_t pid, int number);

#ifdef __cplusplus
}
#endif

#endif
