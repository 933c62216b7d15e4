/*
 * The control side's own agreements: what control.c, client.c, request.c and events.c need of each
 * other.  What the connection side may use is in client.h, request.h and events.h.
 *
 * A client never ends inside a call: only the loop's callbacks of client.c end one, so whoever
 * holds a client while it handles a line or writes a reply may go on using it.
 */
#ifndef CORDON_MANAGER_CONTROL_H
#define CORDON_MANAGER_CONTROL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "manager/client.h"
#include "manager/failure.h"
#include "manager/line.h"

LIST_HEAD(request_list, request);

/* --- control.c: the listening socket -------------------------------------------------------- */

/* false: why says what is in the way. */
bool control_listen(const char *path, char *why, size_t why_size);
void control_stop_listening(void);
/* Removes the socket from the file system if it is still ours. */
void control_unlink(void);

/* --- client.c ------------------------------------------------------------------------------- */

void clients_open(void);
size_t clients_count(void);
/* In the order of their numbers; NULL at the end. */
struct client *clients_after(uint64_t number);

/* Takes fd, a connected control socket. */
void client_new(int fd);

void client_set_name(struct client *c, const char *name);
json_t *client_row(const struct client *c);

/* Takes reply and fd (-1: none).  Never dropped, and in order with owner's events. */
void client_reply(struct client *c, json_t *reply, int fd, client_written_cb on_written,
                  void *data);

/* Reads no more; the client ends when what is queued is written. */
void client_end(struct client *c, const char *why);
/* For the stop: every client ends like this; on_done when the last is gone, or after limit_ms. */
void clients_end_all(uint64_t limit_ms, void (*on_done)(void));

/* There are events to be fetched with events_next, or a request was answered. */
void client_wake(struct client *c);

struct line_reader *client_reader(struct client *c);
struct request_list *client_requests(struct client *c);
void client_request_opened(struct client *c);
void client_request_closed(struct client *c); /* may free a client that is gone */
size_t client_request_count(const struct client *c);
bool client_is_gone(const struct client *c);

/* A line with its newline, at most 1 MiB, ASCII.  Borrows json.  Gives *line (secret_free). */
MUST_CHECK enum result client_encode(const json_t *json, char **line, size_t *size);

/* --- request.c ------------------------------------------------------------------------------ */

/* Holds the list of methods against the description; false: why says which does not fit. */
bool requests_open(char *why, size_t why_size);
void request_handle_line(struct client *c, const char *line, size_t size);
/* Answers a line that is no request; id is null.  Takes what f holds. */
void request_refuse_line(struct client *c, struct failure *f);
/* Ends the waits of a client that is gone. */
void requests_abandon(struct client *c, enum result why);
/* How cordon.cancel answers: takes r, the request of the cancel itself. */
void request_cancel(struct request *r, const json_t *id);

/* --- events.c ------------------------------------------------------------------------------- */

/* The next line of the client's subscriptions.  Gives *line (secret_free); false: there is none. */
bool events_next(struct client *c, char **line, size_t *size);
void events_client_gone(struct client *c);
size_t events_subscription_count(void);

/* --- main.c --------------------------------------------------------------------------------- */

int64_t manager_uptime_ms(void);

#endif
