/*
 * Proves that the TLS library that is loaded asks our signer, in TLS 1.3 and
 * 1.2 and in both roles, by whole handshakes in memory with a key made for the
 * occasion.  It also leaves the library warm for the workers to inherit.
 */
#ifndef CORDON_WORKER_SELFTEST_H
#define CORDON_WORKER_SELFTEST_H

#include <gnutls/gnutls.h>

#include "ipc/result.h"

/* A certificate and its key, made for the occasion.  Gives *out.  TLS_BROKEN: *why says what is wrong. */
MUST_CHECK enum result selftest_credentials(gnutls_certificate_credentials_t *out,
                                            const char **why);

/* Borrows credentials.  TLS_BROKEN: *why is a constant text that says what is wrong. */
MUST_CHECK enum result selftest_run(gnutls_certificate_credentials_t credentials, const char **why);

#endif
