/*
 * Delivery by messages: the manager keeps the owner's end of the data pair, on which each frame,
 * either way, is 4 bytes of length and that many bytes.
 *
 * Frames from the worker are data events while the connection is active, and answers to `receive` while it
 * is not; then they are kept until somebody has asked for them.
 */
#ifndef CORDON_MANAGER_FRAMES_H
#define CORDON_MANAGER_FRAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/message.h"
#include "manager/request.h"

struct connection;
struct frames;

enum { FRAME_MAX = 65536, SEND_MAX = 32768 };

/* Takes fd. */
struct frames *frames_open(struct connection *c, int fd);
/* NULL is fine.  Everybody who waits is told. */
void frames_close(struct frames *f);

/* Takes r; answers with `sent`.  Takes bytes. */
void frames_send(struct frames *f, struct request *r, uint8_t *bytes, size_t size,
                 int64_t timeout_ms);
/* Everything that was to be sent is on the pair: shutdown and close may follow. */
bool frames_are_flushed(const struct frames *f);

/* Takes r.  BAD_STATE: another one waits. */
void frames_receive(struct frames *f, struct request *r, uint32_t length, int64_t timeout_ms);

/* Who waits for data is told EINVAL: the connection becomes active. */
void frames_refuse_receiver(struct frames *f);
/* The worker has answered: what is kept goes to the owner as data, or is kept from now on. */
void frames_set_active(struct frames *f, bool is_active);
/* Reads what the worker has written up to `in`, without waiting, however full the owner's queue is. */
void frames_catch_up(struct frames *f, uint64_t in);
uint64_t frames_in(const struct frames *f); /* bytes the owner has got */

/* The worker's messages; false: they make no sense. */
bool frames_received(struct frames *f, const struct message_received *m);
bool frames_sent(struct frames *f, uint64_t out);
void frames_peer_ended(struct frames *f);
/* The worker will write no more: what is in the pair goes to the owner now. */
void frames_drain(struct frames *f);
/* No more requests can be served. */
void frames_end(struct frames *f);

#endif
