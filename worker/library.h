/*
 * The TLS library: made ready once, in the nursery, before anything else, and
 * asked what it has.
 */
#ifndef CORDON_WORKER_LIBRARY_H
#define CORDON_WORKER_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gnutls/gnutls.h>

#include "ipc/message.h"

/*
 * GnuTLS reads its environment before main() does: the system's priority file, debugging, and the
 * file that every session's secrets are written to.  None of them may decide here, so a program
 * started with them starts itself again without.  Ends the process if it cannot.
 */
void library_clean_environment(char **argv);

/* Mask of enum tls_version that the library has. */
unsigned library_versions(void);

/* Our cipher suites that the library has, as their numbers; *count is the room, then how many. */
void library_suites(uint16_t *codes, size_t *count);

/* Enough to name a suite in a priority string. */
struct library_suite {
    gnutls_kx_algorithm_t kx; /* 0 for TLS 1.3 */
    gnutls_cipher_algorithm_t cipher;
    gnutls_mac_algorithm_t mac;
};

/* false: the library does not have it. */
bool library_find_suite(uint16_t code, struct library_suite *suite);

/* The number of the suite that was agreed on; 0: none yet, or none of ours. */
uint16_t library_session_suite(gnutls_session_t tls);

/* One enum tls_version; 0: unknown. */
unsigned library_tls_version(gnutls_protocol_t version);

/* NamedGroup and SignatureScheme (RFC 8446 4.2.7, 4.2.3) of GnuTLS' numbers; 0: unknown. */
unsigned library_group(gnutls_group_t group);
unsigned library_scheme(gnutls_sign_algorithm_t algorithm);

#endif
