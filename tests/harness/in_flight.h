/*
 * Descriptors on their way: sent by processes of one uid, not yet read.  Past
 * RLIMIT_NOFILE of them the kernel lets an unprivileged sender send no more.
 */
#ifndef CORDON_TESTS_HARNESS_IN_FLIGHT_H
#define CORDON_TESTS_HARNESS_IN_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Sends so many and keeps both ends: -1 in pair where it cannot.  Closing pair brings them down. */
bool harness_in_flight_fill(int pair[2], size_t count);

/* The same by a process of that uid, which needs root.  Returns its pid once all are on their way, -1
 * on failure; with its end they are gone. */
pid_t harness_in_flight_start(uid_t uid, size_t count);
void harness_in_flight_stop(pid_t pid);

/*
 * Runs test in a child with RLIMIT_NOFILE 64 and, if we are root, who may always send, with a uid that
 * nobody else has.  0: it returned false, which is to mean that nothing failed.
 */
enum { HARNESS_IN_FLIGHT_MAX = 64 };
int harness_in_flight_run(bool (*test)(void));

#ifdef __cplusplus
}
#endif

#endif
