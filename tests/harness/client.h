/*
 * A client of the control API: lines and descriptors, nothing hidden.
 *
 * Events that come while a reply is awaited are kept, with their descriptors,
 * until they are asked for.
 */
#ifndef CORDON_TESTS_HARNESS_CLIENT_H
#define CORDON_TESTS_HARNESS_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { HARNESS_LINE_FDS = 64 };

struct harness_client;

/* One line from Cordon. */
struct harness_line {
    json_t *json;              /* owned */
    int fds[HARNESS_LINE_FDS]; /* owned; -1 once taken */
    size_t fd_count;
};

/* Closes the descriptors nobody took. */
void harness_line_fini(struct harness_line *line);
int harness_line_take_fd(struct harness_line *line, size_t index);

/* NULL: nobody listens there. */
struct harness_client *harness_client_open(const char *socket_path);
void harness_client_close(struct harness_client *c);
int harness_client_fd(const struct harness_client *c);

/* Bytes as they are, with descriptors; false at the deadline or when the other side is gone. */
bool harness_client_send(struct harness_client *c, const void *bytes, size_t size, const int *fds,
                         size_t fd_count, int64_t deadline_ms);

/* Sends a request.  Takes params (NULL: none).  Returns its id; -1 when it could not be sent. */
int64_t harness_client_request(struct harness_client *c, const char *method, json_t *params,
                               const int *fds, size_t fd_count);

/* The next line, whatever it is; kept ones first. false: deadline, or the connection has ended. */
bool harness_client_line(struct harness_client *c, struct harness_line *line, int64_t deadline_ms);

/* The reply with this id. */
bool harness_client_reply(struct harness_client *c, int64_t id, struct harness_line *line,
                          int64_t deadline_ms);

/* The next event of this name, about this connection (NULL: any). */
bool harness_client_event(struct harness_client *c, const char *method, const char *conn,
                          struct harness_line *line, int64_t deadline_ms);

/* Whether such an event has come already; waits for nothing. */
bool harness_client_has_event(struct harness_client *c, const char *method, const char *conn);

/* Request and reply, within HARNESS_WAIT_MS. Takes params. */
bool harness_client_call(struct harness_client *c, const char *method, json_t *params,
                         const int *fds, size_t fd_count, struct harness_line *line);

/* true: Cordon has closed this control connection (what came before is kept). */
bool harness_client_ended(struct harness_client *c, int64_t deadline_ms);

#ifdef __cplusplus
}
#endif

#endif
