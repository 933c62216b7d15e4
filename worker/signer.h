/*
 * Signatures by a private key that is in another process.
 *
 * GnuTLS' own interface for such keys hands out digests only, and whoever signs
 * a digest does not know what he signs.  So the nursery takes over
 * gnutls_privkey_sign_data2, which the library's handshake calls with the whole
 * content (worker/interpose.c); scheme and content go to the keeper.  The
 * nursery proves at its start that the library does come here
 * (worker/selftest.h).
 */
#ifndef CORDON_WORKER_SIGNER_H
#define CORDON_WORKER_SIGNER_H

#include <stdbool.h>
#include <stdint.h>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

#include "ipc/message.h"
#include "ipc/result.h"

/* Waits until fd can be read.  OK, or why not to wait any longer. */
typedef enum result signer_wait_function(void *context, int fd);

/*
 * From here on, signatures of this session come over this channel.  Takes channel (-1: there is no
 * own key).  Borrows tls and context until signer_close.  A process has one signer, as it has one
 * connection: GnuTLS gives the function below no other place to look.
 */
void signer_open(int channel, gnutls_session_t tls, enum tls_role role, signer_wait_function *wait,
                 void *context);

/* The handshake is over: nothing is signed any more.  Fine if it is not open. */
void signer_close(void);

/* Why the last signature failed; OK: none did. */
enum result signer_failure(void);

/* How often GnuTLS came here, with whatever key. */
unsigned signer_calls(void);

typedef int signer_library_function(gnutls_privkey_t key, gnutls_sign_algorithm_t algorithm,
                                    unsigned flags, const gnutls_datum_t *data,
                                    gnutls_datum_t *signature);

/* What GnuTLS gets when it wants a signature.  Keys that are not the keeper's are library's. */
int signer_sign(signer_library_function *library, gnutls_privkey_t key,
                gnutls_sign_algorithm_t algorithm, unsigned flags, const gnutls_datum_t *data,
                gnutls_datum_t *signature);

/*
 * What the keeper is told to sign, out of what GnuTLS wants signed: in TLS 1.3 the transcript hash
 * without the 64 spaces and the context string in front (RFC 8446 4.4.3).  false: it is not that.
 */
bool signer_content(enum tls_role role, unsigned version, const gnutls_datum_t *data,
                    struct bytes *content);

#endif
