/*
 * The verdict on the peer's certificate: its path to a trusted authority, its
 * purpose, its name, and how long the path is.
 */
#ifndef CORDON_WORKER_VERIFY_H
#define CORDON_WORKER_VERIFY_H

#include <stdbool.h>

#include <gnutls/gnutls.h>

#include "worker/alerts.h"
#include "worker/credentials.h"

struct verdict {
    bool is_verified;
    unsigned status; /* GNUTLS_CERT_... */
    enum certificate_fault fault;
};

/* Asks for what c wants from the peer.  verify_name: NULL for any. true: go on. */
bool verify_peer(gnutls_session_t tls, const struct credentials *c, const char *verify_name,
                 struct verdict *verdict);

#endif
