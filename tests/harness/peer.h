/* A program as peer: openssl s_client, gnutls-cli, curl, python3.  Its output and its errors are one stream. */
#ifndef CORDON_TESTS_HARNESS_PEER_H
#define CORDON_TESTS_HARNESS_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct harness_peer;

/* argv[0] is looked for in PATH; NULL at the end.  It dies with the test.  NULL on failure. */
struct harness_peer *harness_peer_start(const char *const argv[]);

/* The same from one text, words between blanks: no quotes. */
struct harness_peer *harness_peer_run(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

bool harness_peer_write(struct harness_peer *p, const void *bytes, size_t size);
void harness_peer_close_input(struct harness_peer *p);

/* Waits until its output matches (extended regular expression). */
bool harness_peer_wait_output(struct harness_peer *p, const char *pattern, int64_t deadline_ms);

/* Waits for its end. The status as from waitpid; -1 at the deadline. */
int harness_peer_wait(struct harness_peer *p, int64_t deadline_ms);

/* Everything it has written so far.  Belongs to the peer. */
const char *harness_peer_output(struct harness_peer *p);

pid_t harness_peer_pid(const struct harness_peer *p);

/* Ends it.  NULL is fine. */
void harness_peer_free(struct harness_peer *p);

#ifdef __cplusplus
}
#endif

#endif
