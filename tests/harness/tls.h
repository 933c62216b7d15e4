/*
 * A TLS peer of the test's own, with GnuTLS, in the test's process: no thread,
 * no waiting but in the functions that take a deadline.  So a test can hold a
 * thousand of them, stop one in the middle of a handshake, or leave without
 * saying goodbye.
 */
#ifndef CORDON_TESTS_HARNESS_TLS_H
#define CORDON_TESTS_HARNESS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct harness_tls;

struct harness_tls_options {
    bool is_server;
    const char *identity; /* "server": its NAME.both.pem; NULL: none (a server needs one) */
    const char *trust;    /* a file: the other's certificate must be valid; NULL: not looked at */
    const char *name;     /* client: SNI, and the name to verify with trust; NULL: none */
    const char *priority; /* GnuTLS priority string; NULL: NORMAL */
    const char *alpn;     /* protocols, comma between; NULL: none */
    bool request_client_certificate; /* server: ask for one, and require it */
};

enum harness_tls_step { HARNESS_TLS_DONE, HARNESS_TLS_AGAIN, HARNESS_TLS_END, HARNESS_TLS_FAILED };

/* Takes fd, a connected stream socket, and makes it non-blocking. NULL on failure. */
struct harness_tls *harness_tls_new(int fd, const struct harness_tls_options *options);

/* Closes the socket.  Says no goodbye.  NULL is fine. */
void harness_tls_free(struct harness_tls *t);

int harness_tls_fd(const struct harness_tls *t);
short harness_tls_events(
    const struct harness_tls *t); /* what poll(2) has to wait for after AGAIN */

/* One step, as far as it goes without waiting. */
enum harness_tls_step harness_tls_handshake_step(struct harness_tls *t);

/* The first step of a client, which reads nothing, however fast the answer is: AGAIN. */
enum harness_tls_step harness_tls_say_hello(struct harness_tls *t);

/* *size is the room, then what came.  END: the peer's close_notify. */
enum harness_tls_step harness_tls_read_step(struct harness_tls *t, void *bytes, size_t *size);

/* *size is what there is, then what was taken; after AGAIN with 0 the same bytes have to come again. */
enum harness_tls_step harness_tls_write_step(struct harness_tls *t, const void *bytes,
                                             size_t *size);

/* The same to the end, or until the deadline: false. */
bool harness_tls_handshake(struct harness_tls *t, int64_t deadline_ms);
bool harness_tls_write(struct harness_tls *t, const void *bytes, size_t size, int64_t deadline_ms);
bool harness_tls_read(struct harness_tls *t, void *bytes, size_t size, int64_t deadline_ms);
/* Nothing but the peer's close_notify. */
bool harness_tls_read_end(struct harness_tls *t, int64_t deadline_ms);
/* Sends close_notify; reading goes on. */
bool harness_tls_bye(struct harness_tls *t, int64_t deadline_ms);

/* Sends a fatal alert and nothing after it. */
bool harness_tls_send_alert(struct harness_tls *t, int description);

/* Why the last step failed; and the alert that the other side sent, -1: none. */
const char *harness_tls_error(const struct harness_tls *t);
int harness_tls_received_alert(const struct harness_tls *t);

const char *harness_tls_version(const struct harness_tls *t); /* "TLS1.3" */
/* "RSA", "EC/ECDSA", "EdDSA (Ed25519)": the key in the certificate that the other side showed. NULL: none. */
const char *harness_tls_peer_key(const struct harness_tls *t);
/* The last 4 bytes of that certificate's serial number; 0: none. */
uint32_t harness_tls_peer_serial(const struct harness_tls *t);
const char *harness_tls_alpn(struct harness_tls *t);          /* NULL: none */

#ifdef __cplusplus
}
#endif

#endif
