/*
 * One TLS session over one socket.
 *
 * Nothing here waits: each step does what can be done now and answers
 * WOULD_BLOCK otherwise.  What it writes gathers in its records until
 * session_flush().
 */
#ifndef CORDON_WORKER_SESSION_H
#define CORDON_WORKER_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gnutls/gnutls.h>

#include "ipc/result.h"
#include "worker/alerts.h"
#include "worker/credentials.h"
#include "worker/records.h"
#include "worker/worker_fsm.h"

struct session;

struct session_options {
    const struct credentials *credentials; /* borrowed, must outlive the session */
    const char *server_name;               /* client: SNI; NULL: none */
    const char *verify_name;               /* client: DNS name or IP address; NULL: any */
    bool log_alert;
    const char *handle;                                       /* for log lines; borrowed */
    void (*on_event)(void *context, enum worker_event event); /* how far the handshake is */
    void *context;
};

/* Takes records, also on failure; copies the names.  Gives *out.  NO_MEMORY, TLS_BROKEN. */
MUST_CHECK enum result session_new(struct session **out, struct records *records,
                                   const struct session_options *options);

/* Closes the socket and forgets the keys.  NULL is fine. */
void session_free(struct session *s);

/* Borrowed. */
gnutls_session_t session_tls(const struct session *s);
struct records *session_records(const struct session *s);

/* OK: TLS is agreed.  WOULD_BLOCK.  Anything else: session_failure() says why. */
MUST_CHECK enum result session_handshake(struct session *s);

/*
 * Reads plaintext; *size is the room, then what came.  OK; WOULD_BLOCK; CLOSED: the peer's
 * close_notify came.  Anything else: session_failure() says why.
 */
MUST_CHECK enum result session_receive(struct session *s, void *bytes, size_t *size);

/* session_receive would bring something although the socket may stay silent. */
bool session_has_more(const struct session *s);

/* Seals plaintext.  There must be room: 64 KiB when nothing is unsent.  TLS_BROKEN. */
MUST_CHECK enum result session_send(struct session *s, const uint8_t *bytes, size_t size);

/* Seals our close_notify. */
void session_bye(struct session *s);

/* Seals the alert of session_failure(), if it is ours to send.  true: there is one. */
bool session_send_alert(struct session *s);

/* Seals a fatal alert of ours. */
void session_refuse(struct session *s, uint32_t alert);

/* Sends what is sealed.  OK: all of it is with the kernel.  WOULD_BLOCK; POSIX. */
MUST_CHECK enum result session_flush(struct session *s);

/* Why the last step failed. */
const struct failure *session_failure(const struct session *s);

/* Facts that are known before the handshake is done.  "" if they are not; escaped. */
const char *session_server_name(const struct session *s);
const char *session_alpn_offered(const struct session *s);

/* The peer's certificate, its path and its name were checked. */
bool session_is_verified(const struct session *s);

#endif
