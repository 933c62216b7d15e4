/*
 * A context: the options and credentials of one listener or client profile, as
 * GnuTLS wants them, built once in the nursery and inherited by its workers.
 *
 * There is no private key in it.  GnuTLS gets a stub that says of which kind
 * the key is; what is to be signed goes to the keeper (worker/signer.h).
 */
#ifndef CORDON_WORKER_CREDENTIALS_H
#define CORDON_WORKER_CREDENTIALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gnutls/gnutls.h>

#include "ipc/message.h"
#include "ipc/result.h"

enum {
    ALPN_MAX_NAMES = 64,
    ALPN_MAX_NAME = 31,  /* GnuTLS' table (catalogue B.11) */
    ALPN_MAX_CLIENT = 8, /* GnuTLS' table; a server offers the one it chose */
};

struct credentials {
    uint64_t number;
    enum tls_role role;
    unsigned versions; /* mask of enum tls_version: those that have a suite */
    bool verify;
    bool fail_if_no_peer_cert;
    unsigned depth;
    uint64_t data_limit; /* bytes */
    uint32_t cpu_limit_s;
    bool has_key;
    gnutls_certificate_credentials_t certificates; /* owned */
    gnutls_priority_t priority;                    /* owned */
    uint8_t *alpn;                                 /* owned; the names point into it */
    gnutls_datum_t alpn_names[ALPN_MAX_NAMES];
    size_t alpn_count;
    uint16_t suites[256]; /* those that may be agreed on */
    size_t suite_count;
    struct credentials *next; /* for the list they are in */
};

/* Which option is wrong, and why; text of GnuTLS or constant. */
struct credentials_fault {
    const char *option;
    const char *why;
};

/* Borrows m, and takes from it what it needs.  Gives *out.  OPTIONS: *fault says more.  NO_MEMORY. */
MUST_CHECK enum result credentials_new(struct credentials **out, struct message *m,
                                       struct credentials_fault *fault);

/* NULL is fine. */
void credentials_free(struct credentials *c);

/* Whether a connection may use this cipher suite. */
bool credentials_allow(const struct credentials *c, uint16_t suite);

#endif
