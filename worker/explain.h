/*
 * The sentence for people about a handshake that we refused, with what was seen: what the client
 * offered, whose certificate has expired when, which names it is for.
 */
#ifndef CORDON_WORKER_EXPLAIN_H
#define CORDON_WORKER_EXPLAIN_H

#include <stddef.h>

#include <gnutls/gnutls.h>

#include "worker/alerts.h"
#include "worker/credentials.h"
#include "worker/hello.h"

enum { EXPLAIN_SIZE = 400 };

/* Writes it to out and returns that, or f->detail where there is nothing to add.  hello: NULL if there was
 * none; verify_name: NULL for any. */
const char *explain(char out[EXPLAIN_SIZE], const struct failure *f, gnutls_session_t tls,
                    const struct credentials *c, const struct hello *hello,
                    const char *verify_name);

#endif
