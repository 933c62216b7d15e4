#ifndef API_CONTROL_H
#define API_CONTROL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "ipc/result.h"

/*
 * The control socket, seen from a program: JSON-RPC lines and descriptors.
 *
 * The kernel merges and splits writes as it likes, so descriptors are not tied
 * to the recvmsg that brought them: they queue up, and a complete line takes
 * from the front as many as its "fds" says.
 *
 * A restarted manager writes a newline and the event `restarted`.  Before it
 * stands at most one line that was cut off; that line and the descriptors
 * nobody claimed are dropped.
 */
struct control;

/*
 * Connects to path or, when it is NULL, to the first of the usual places that
 * answers.  NULL: no manager there; then why says so.  Release with
 * control_free.
 */
struct control *control_open(const char *path, char *why, size_t why_size);

/* Where a cordond makes its socket when nobody names another.  false: it would refuse to guess. */
bool control_usual_place(char *path, size_t size);

/* Whether somebody answers at path, or may: false when it is free. */
bool control_is_there(const char *path);

/* Hangs up, which ends what was made through it.  NULL is fine. */
void control_free(struct control *control);

/* For poll: readable means that control_receive is worth a call. */
int control_fd(const struct control *control);

/*
 * Sends a message with copies of fd_count descriptors; waits until it is with
 * the kernel.  Borrows both.  LIMIT: longer than a line may be.  Other
 * failures end the connection; control_failure says why.
 */
MUST_CHECK enum result control_send(struct control *control, const json_t *message, const int *fds,
                                    size_t fd_count);

/*
 * The next message, a reply or an event, without waiting.  Gives *message; its
 * descriptors stay open until control_free.  WOULD_BLOCK: none is complete yet.
 * Anything else: the other side hung up or broke the protocol; control_failure
 * says how.
 */
MUST_CHECK enum result control_receive(struct control *control, json_t **message);

/*
 * The same, waiting for it.  CANCELLED: the descriptor of control_set_interrupt has become readable
 * first.
 */
MUST_CHECK enum result control_wait(struct control *control, json_t **message);

/* Borrows fd; -1: nothing interrupts.  Typically a signalfd, which is not read here. */
void control_set_interrupt(struct control *control, int fd);

/*
 * The descriptor of the last message that data, {"fd_index": N}, names.  The caller owns it.  -1: there
 * is none.
 */
int control_take_fd(struct control *control, const json_t *data);

/* Why control_send or control_receive failed: a sentence. */
const char *control_failure(const struct control *control);

#endif
