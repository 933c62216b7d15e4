/*
 * Mailboxes: Unix SOCK_SEQPACKET pairs that carry one message a packet, with
 * descriptors.  The descriptor is the mailbox; there is no object around it.
 */
#ifndef CORDON_IPC_MAILBOX_H
#define CORDON_IPC_MAILBOX_H

#include "ipc/message.h"

/* A pair, close-on-exec, with the socket buffers that its kind of channel has: 32 KiB for mailboxes
 * (MESSAGE_MAX), room for two large messages for MESSAGE_MAX_LARGE.  Gives both.  POSIX on failure. */
MUST_CHECK enum result mailbox_pair(int pair[2], size_t message_max);

/*
 * Sends m without waiting; borrows its descriptors.  WOULD_BLOCK: the queue is full.  CHANNEL_BUSY: see
 * fd_send.
 * CHANNEL_CLOSED: nobody reads it any more.  CHANNEL_FAILED: errno says why.  The encoded copy is
 * wiped if m has secret fields.
 */
MUST_CHECK enum result mailbox_send(int mailbox, const struct message *m);

/* The same, but waits until there is room, at most until deadline_ms (monotonic, -1: for ever): TIMEOUT. */
MUST_CHECK enum result mailbox_send_wait(int mailbox, const struct message *m, int64_t deadline_ms);

/*
 * Receives one message without waiting.  buffer has room for size + 1 bytes (size is MESSAGE_MAX
 * or MESSAGE_MAX_LARGE); m points into it until the next receive.  The caller owes message_fini.
 * WOULD_BLOCK; CHANNEL_CLOSED at end of file; CHANNEL_FAILED; or message_decode's results, with
 * MESSAGE_TOO_LONG and, for lost descriptors, MESSAGE_DESCRIPTORS.
 */
MUST_CHECK enum result mailbox_receive(int mailbox, enum route route, char *buffer, size_t size,
                                       struct message *m, const char **why);

/* The same, but waits, at most until deadline_ms (monotonic, -1: for ever): TIMEOUT. */
MUST_CHECK enum result mailbox_receive_wait(int mailbox, enum route route, char *buffer,
                                            size_t size, struct message *m, const char **why,
                                            int64_t deadline_ms);

/* Sends `log` on a mailbox; what does not fit is counted and lost, logging never waits. */
void mailbox_log_to(int mailbox);

#endif
