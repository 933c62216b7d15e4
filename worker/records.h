/*
 * The transport below TLS: GnuTLS' pull and push functions over the peer's
 * socket.
 *
 * A large buffer is filled by one recv(2) and whole records are cut out of it,
 * so the type and the number of what is handed to GnuTLS are known, and the
 * limits that GnuTLS lacks are kept here.  Towards the peer, records gather in
 * a buffer until records_flush() sends them all at once.  Nothing here waits.
 */
#ifndef CORDON_WORKER_RECORDS_H
#define CORDON_WORKER_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <gnutls/gnutls.h>

#include "ipc/result.h"

enum {
    RECORDS_IN_SIZE = 64 * 1024,        /* also the most that may have been read before */
    RECORDS_OUT_SIZE = 96 * 1024,       /* 64 KiB of plaintext, sealed in small records */
    RECORDS_OUT_SPARE = 8 * 1024,       /* GnuTLS' own answers, such as KeyUpdate, still fit */
    RECORDS_MAX_HANDSHAKE = 128 * 1024, /* bytes of records before the handshake is done */
    RECORDS_MAX_MESSAGE = 64 * 1024,    /* one handshake message that we can read */
    RECORDS_MAX_IDLE = 32,              /* records in a row that bring nothing on */
};

/* Which of our limits the peer broke. */
enum records_fault {
    RECORDS_FINE,
    RECORDS_HANDSHAKE_TOO_LARGE,
    RECORDS_MESSAGE_TOO_LARGE,
    RECORDS_TOO_MANY_IDLE,
};

struct records;

/* What a peer speaks whose first bytes are no TLS but well known: "the peer speaks HTTP, not TLS"; NULL. */
const char *records_plain_protocol(const struct records *r);

/* Takes socket, also on failure.  Gives *out.  NO_MEMORY. */
MUST_CHECK enum result records_new(struct records **out, int socket);

/* Closes the socket.  NULL is fine. */
void records_free(struct records *r);

/* Bytes of the peer that somebody else has read from the socket; before anything else.  LIMIT. */
MUST_CHECK enum result records_prefill(struct records *r, const void *bytes, size_t size);

/* Makes tls read and write through r, which must outlive it. */
void records_attach(struct records *r, gnutls_session_t tls);

/* The socket, borrowed. */
int records_socket(const struct records *r);

/* --- reading -------------------------------------------------------------------------------- */

/* The handshake is done: from here on, records that bring no plaintext are counted. */
void records_set_established(struct records *r);

/* The peer brought something on: idle records are counted from 0 again. */
void records_progress(struct records *r);

/* Whether application data may be handed out; GnuTLS must not meet it while it shakes hands again
 * (it would start the handshake anew).  true at first. */
void records_allow_data(struct records *r, bool allowed);

/* A whole record, or the end of the stream, is here already: reading brings something on although
 * the socket may stay silent. */
bool records_has_more(const struct records *r);

/* What the peer broke, where GnuTLS says no more than GNUTLS_E_PULL_ERROR. */
enum records_fault records_fault(const struct records *r);

/* errno of the first failure to receive or send; 0: none. */
int records_error(const struct records *r);

/* The alert that came last in the handshake, if nothing encrypts it; 0: none, or a close_notify. */
unsigned records_plain_alert(const struct records *r);

/* The part of a handshake message that r knows: bytes of records handed out before it was done. */
size_t records_handshake_size(const struct records *r);

/* Throws away what the socket has, buffered or not.  true: the stream is at its end. */
bool records_discard(struct records *r);

/* --- writing -------------------------------------------------------------------------------- */

/* Bytes not yet with the kernel. */
size_t records_unsent(const struct records *r);

/* Sends what the kernel takes.  OK: everything is with it.  WOULD_BLOCK; POSIX (records_error). */
MUST_CHECK enum result records_flush(struct records *r);

/* No more will be written: end of file for the peer. */
void records_shutdown(struct records *r);

/* GnuTLS' functions; in the header for tests.  ptr is a struct records. */
ssize_t records_pull(gnutls_transport_ptr_t ptr, void *bytes, size_t size);
ssize_t records_push(gnutls_transport_ptr_t ptr, const void *bytes, size_t size);
int records_pull_timeout(gnutls_transport_ptr_t ptr, unsigned timeout_ms);

#endif
