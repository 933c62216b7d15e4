/*
 * What the hellos say that GnuTLS does not tell while it shakes hands: the name
 * that a client asks for and the protocols it offers, before anything is
 * decided, and the cipher suite that a server has chosen.
 */
#ifndef CORDON_WORKER_HELLO_H
#define CORDON_WORKER_HELLO_H

#include <stddef.h>
#include <stdint.h>

#include <gnutls/gnutls.h>

struct hello {
    char server_name[256];  /* escaped; "" if there is none */
    char alpn_offered[256]; /* escaped, a comma between, cut */
    uint8_t alpn[4096];     /* as sent: each name after its length; cut to whole names */
    size_t alpn_size;
    unsigned versions; /* mask of enum tls_version */
    uint16_t suites[16];
    size_t suite_count, suites_offered; /* kept here; sent */
};

/* Borrows message, the body of a ClientHello.  What cannot be read is left empty. */
void hello_read(struct hello *hello, const gnutls_datum_t *message);

/* The first of names that was offered; NULL if none was. */
const gnutls_datum_t *hello_choose(const struct hello *hello, const gnutls_datum_t *names,
                                   size_t count);

/* Borrows message, the body of a ServerHello.  0: it cannot be read. */
uint16_t hello_chosen_suite(const gnutls_datum_t *message);

#endif
