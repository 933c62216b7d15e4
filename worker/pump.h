/*
 * Plaintext between an agreed session and its owner, both ways, with bounded
 * buffers and without ever waiting.
 *
 * Each direction is one batch at a time: up to 64 KiB from the owner are sealed
 * and sent before more are read; up to 64 KiB from the peer wait for the owner.
 * A side that does not take what is for it stops the reading on the other, and
 * TCP tells the one who sends.
 *
 * The owner's descriptor carries the bytes themselves (DELIVERY_DESCRIPTOR), or
 * frames of a 4-byte length and so many bytes (DELIVERY_MESSAGES).  A service's
 * backend is an owner too; its socket resets when it is closed, until the peer
 * has said goodbye and everything before that is delivered.
 */
#ifndef CORDON_WORKER_PUMP_H
#define CORDON_WORKER_PUMP_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/message.h"
#include "ipc/result.h"
#include "worker/post.h"
#include "worker/session.h"

struct pump;

enum { PUMP_POLLFDS = 2 };

/* How it ended. */
struct pump_end {
    enum ending how;
    struct failure
        failure;        /* with ENDING_ALERT, ENDING_TRANSPORT, ENDING_TRUNCATED, ENDING_BACKEND */
    uint32_t linger_ms;     /* with ENDING_LOCAL */
};

/* Borrows session and mailbox.  Gives *out.  NO_MEMORY. */
MUST_CHECK enum result pump_new(struct pump **out, struct session *session, int mailbox,
                                enum delivery delivery, uint32_t active);

/* Closes the owner's descriptor.  NULL is fine. */
void pump_free(struct pump *p);

/* What the manager says; see ipc/messages.def. */
void pump_data(struct pump *p, int data, enum data_kind kind); /* takes data; -1: DATA_ECHO */
void pump_delivered(struct pump *p);
void pump_active(struct pump *p, uint32_t request, uint32_t credit);
void pump_receive(struct pump *p, uint32_t request, uint32_t length);
void pump_receive_cancel(struct pump *p, uint32_t request);
void pump_shutdown(struct pump *p, uint32_t request, enum shutdown_how how);
void pump_close(struct pump *p, uint32_t request, uint32_t linger_ms);

/* Does what can be done now, one batch each way.  true: there is more that can be done now. */
bool pump_work(struct pump *p);

/* Not NULL: it is over. */
const struct pump_end *pump_end(const struct pump *p);

/* What to wait for; fd -1 where there is nothing. */
void pump_poll(struct pump *p, struct pollfd fds[PUMP_POLLFDS]);
void pump_ready(struct pump *p, const struct pollfd fds[PUMP_POLLFDS]);

/* When to call pump_work at the latest; -1: never. */
int64_t pump_deadline(const struct pump *p);

/* It is over: a backend need not wait for what the peer still does. */
void pump_let_go(struct pump *p);

struct post_bytes pump_bytes(const struct pump *p);

#endif
