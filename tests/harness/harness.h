/*
 * What process tests are made of: the real processes (tree.h), the control API
 * (client.h), peers that are programs (peer.h) or ours (tls.h), certificates
 * (certs.h), and what can be seen of a process from outside (processes.h).
 *
 * Nothing here waits without a deadline, and nothing sleeps: it waits for a
 * descriptor, a line of the log, or, where the kernel has no event for it
 * (counts in /proc), looks again every few milliseconds.
 */
#ifndef CORDON_TESTS_HARNESS_HARNESS_H
#define CORDON_TESTS_HARNESS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How long a test waits for what must come, in milliseconds. */
enum { HARNESS_WAIT_MS = 20000 };

/* The point in monotonic time that is so far away. */
int64_t harness_deadline(int64_t wait_ms);
int64_t harness_now_ms(void);

/* Waits for one of poll(2)'s events; false at the deadline. */
bool harness_wait_fd(int fd, short events, int64_t deadline_ms);

/* Looks at a condition of /proc's kind until it holds; false at the deadline. */
bool harness_wait_until(bool (*condition)(void *context), void *context, int64_t deadline_ms);

/* A small count, or the full one with CORDON_FULL=1, divided by CORDON_SCALE. */
size_t harness_count(size_t few, size_t full);
bool harness_is_full(void);

/* $CORDON_ROOT: where bin/ and libexec/ are. Ends the program with a message without it. */
const char *harness_root(void);

/* A whole file, NUL behind it.  NULL if it cannot be read.  Gives (free). */
char *harness_read_file(const char *path, size_t *size);
bool harness_write_file(const char *path, const void *bytes, size_t size, unsigned mode);

/* A fresh folder below /tmp that our users may enter.  Gives (harness_remove_folder). */
char *harness_make_folder(void);

/* Removes the folder with its files (one level) and frees the name. NULL is fine. */
void harness_remove_folder(char *folder);

/* The uid of a user; -1: there is none. */
long harness_uid(const char *user);

/* Sockets on the loopback; -1 on failure. */
int harness_listen_tcp(uint16_t *port);
int harness_connect_tcp(uint16_t port); /* blocking; close-on-exec */
bool harness_tcp_pair(int pair[2]);     /* connected TCP sockets */

/* All bytes, whatever poll says meanwhile; false at the deadline or on an error. */
bool harness_write_all(int fd, const void *bytes, size_t size, int64_t deadline_ms);
/* Exactly size bytes; false at end of file, at the deadline or on an error. */
bool harness_read_all(int fd, void *bytes, size_t size, int64_t deadline_ms);
/* true: end of file, and not a byte before it. */
bool harness_read_end(int fd, int64_t deadline_ms);

/* Descriptors open in this process. */
size_t harness_own_descriptors(void);

#ifdef __cplusplus
}
#endif

#endif
