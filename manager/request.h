/*
 * An open request of a client.  It is answered exactly once, with request_reply or request_fail,
 * which also free it.  Parameters were checked against the description, and defaults put in.
 */
#ifndef CORDON_MANAGER_REQUEST_H
#define CORDON_MANAGER_REQUEST_H

#include <jansson.h>
#include <stdint.h>

#include "manager/client.h"
#include "manager/failure.h"

struct request;

struct client *request_client(const struct request *r);     /* never NULL: dies after its requests */
const json_t *request_params(const struct request *r);      /* borrowed */
uint64_t request_number(const struct request *r);           /* unique in this start */

/* The descriptor named by fd_index; the caller owns it.  -1 if there is none (left). */
int request_take_fd(struct request *r, size_t index);

/* Takes result (an object) and frees r. */
void request_reply(struct request *r, json_t *result);

/* The same with one descriptor; result names it {"fd_index": 0}.  Takes fd. on_written as in client.h. */
void request_reply_fd(struct request *r, json_t *result, int fd, client_written_cb on_written,
                      void *data);

/* Takes f's content and frees r. */
void request_fail(struct request *r, struct failure *f);

/*
 * For requests that wait.  When the time is over (TIMEOUT; timeout_ms < 0: never), cordon.cancel
 * names it (CANCELLED) or its client is gone (CLOSED), on_abandoned is called once and owes an
 * answer by request_fail (at once or, where a worker must be asked first, later; to a client that is gone
 * the answer goes nowhere).  Without it the request is answered so by itself.
 */
void request_wait(struct request *r, int64_t timeout_ms,
                  void (*on_abandoned)(struct request *r, enum result why, void *data), void *data);

#endif
