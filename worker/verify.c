#include "worker/verify.h"

#include <arpa/inet.h>
#include <string.h>

#include <gnutls/x509.h>

enum { MAX_PATH = 32 };

/* The certificates that the peer sent; those that cannot be decoded are NULL. */
struct sent {
    gnutls_x509_crt_t certificates[MAX_PATH];
    size_t count;
};

static void
sent_init(struct sent *sent, const gnutls_datum_t *peers, unsigned count)
{
    memset(sent, 0, sizeof *sent);
    for (; sent->count < count && sent->count < MAX_PATH; sent->count++) {
        gnutls_x509_crt_t *crt = &sent->certificates[sent->count];

        if (gnutls_x509_crt_init(crt) < 0)
            return;
        if (gnutls_x509_crt_import(*crt, &peers[sent->count], GNUTLS_X509_FMT_DER) < 0) {
            gnutls_x509_crt_deinit(*crt);
            *crt = NULL;
        }
    }
}

static void
sent_fini(struct sent *sent)
{
    for (size_t i = 0; i < sent->count; i++) {
        if (sent->certificates[i] != NULL)
            gnutls_x509_crt_deinit(sent->certificates[i]);
    }
}

static bool
is_trusted_issuer(gnutls_x509_trust_list_t trust, gnutls_x509_crt_t crt)
{
    gnutls_x509_crt_t issuer;

    if (gnutls_x509_trust_list_get_issuer(trust, crt, &issuer, GNUTLS_TL_GET_COPY) < 0)
        return false;
    gnutls_x509_crt_deinit(issuer);
    return true;
}

static gnutls_x509_crt_t
find_issuer(const struct sent *sent, gnutls_x509_crt_t crt)
{
    for (size_t i = 0; i < sent->count; i++) {
        gnutls_x509_crt_t issuer = sent->certificates[i];

        if (issuer != NULL && issuer != crt && gnutls_x509_crt_check_issuer(crt, issuer) != 0)
            return issuer;
    }
    return NULL;
}

/*
 * How many intermediate certificates the path has, which is known to be valid: from the peer's up
 * to the first one that a trusted authority has signed.  Self-issued ones do not count (RFC 5280
 * 4.2.1.9).
 */
static unsigned
count_intermediates(gnutls_x509_trust_list_t trust, const struct sent *sent)
{
    gnutls_x509_crt_t crt = sent->count > 0 ? sent->certificates[0] : NULL;
    unsigned count = 0;

    for (size_t step = 0; crt != NULL && step < sent->count; step++) {
        if (is_trusted_issuer(trust, crt))
            break;
        crt = find_issuer(sent, crt);
        if (crt != NULL && gnutls_x509_crt_check_issuer(crt, crt) == 0)
            count++;
    }
    return count;
}

static bool
is_too_deep(const struct credentials *c, const gnutls_datum_t *peers, unsigned count)
{
    gnutls_x509_trust_list_t trust;
    struct sent sent;
    unsigned intermediates;

    gnutls_certificate_get_trust_list(c->certificates, &trust);
    sent_init(&sent, peers, count);
    intermediates = count_intermediates(trust, &sent);
    sent_fini(&sent);
    return intermediates > c->depth;
}

/* The name that the certificate must be for, as GnuTLS wants it; address is room for an IP's. */
static void
set_name(gnutls_typed_vdata_st *data, const char *name, unsigned char *address)
{
    if (inet_pton(AF_INET, name, address) == 1) {
        *data = (gnutls_typed_vdata_st){ GNUTLS_DT_IP_ADDRESS, address, 4 };
        return;
    }
    if (inet_pton(AF_INET6, name, address) == 1) {
        *data = (gnutls_typed_vdata_st){ GNUTLS_DT_IP_ADDRESS, address, 16 };
        return;
    }
    *data = (gnutls_typed_vdata_st){ GNUTLS_DT_DNS_HOSTNAME, (unsigned char *)name, 0 };
}

/* GnuTLS' code. */
static int
verify_path(gnutls_session_t tls, const struct credentials *c, const char *verify_name,
            unsigned *status)
{
    const char *purpose = c->role == ROLE_CLIENT ? GNUTLS_KP_TLS_WWW_SERVER
                                                 : GNUTLS_KP_TLS_WWW_CLIENT;
    unsigned char address[16];
    gnutls_typed_vdata_st data[2] = {
        { GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)purpose, 0 },
    };

    if (verify_name != NULL)
        set_name(&data[1], verify_name, address);
    return gnutls_certificate_verify_peers(tls, data, verify_name != NULL ? 2 : 1, status);
}

static bool
refuse(struct verdict *verdict, enum certificate_fault fault)
{
    verdict->fault = fault;
    return false;
}

bool
verify_peer(gnutls_session_t tls, const struct credentials *c, const char *verify_name,
            struct verdict *verdict)
{
    unsigned count = 0;
    const gnutls_datum_t *peers = gnutls_certificate_get_peers(tls, &count);
    int code;

    *verdict = (struct verdict){ .fault = CERTIFICATE_FINE };
    if (!c->verify)
        return true;
    if (peers == NULL || count == 0) {
        if (c->role == ROLE_SERVER && !c->fail_if_no_peer_cert)
            return true;
        return refuse(verdict, CERTIFICATE_MISSING);
    }
    code = verify_path(tls, c, verify_name, &verdict->status);
    if (code == GNUTLS_E_CONSTRAINT_ERROR)
        return refuse(verdict, CERTIFICATE_PATH_TOO_LONG);
    if (code < 0)
        return refuse(verdict, CERTIFICATE_MALFORMED);
    if (verdict->status != 0)
        return false;
    if (is_too_deep(c, peers, count))
        return refuse(verdict, CERTIFICATE_PATH_TOO_LONG);
    verdict->is_verified = true;
    return true;
}
