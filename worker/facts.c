#include "worker/facts.h"

#include <stdio.h>
#include <string.h>

#include <gnutls/crypto.h>
#include <gnutls/x509.h>

#include "ipc/log.h"
#include "worker/library.h"

enum { MAX_CERTIFICATE = 65536, SHA256_SIZE = 32 };

struct bytes
facts_peer_certificate(const struct session *s)
{
    unsigned count = 0;
    const gnutls_datum_t *peers = gnutls_certificate_get_peers(session_tls(s), &count);

    if (peers == NULL || count == 0 || peers[0].size > MAX_CERTIFICATE)
        return (struct bytes){ NULL, 0 };
    return (struct bytes){ peers[0].data, peers[0].size };
}

/* Escaped, cut to size; NULL if there is no name. */
static const char *
write_name(char *out, size_t size, gnutls_x509_crt_t crt,
           int (*get)(gnutls_x509_crt_t, gnutls_datum_t *, unsigned))
{
    gnutls_datum_t name;

    if (get(crt, &name, 0) < 0)
        return NULL;
    log_escape(out, size, name.data, name.size);
    gnutls_free(name.data);
    return out;
}

/* The first one, escaped, cut to size; NULL if there is none. */
static const char *
write_common_name(char *out, size_t size, gnutls_x509_crt_t crt)
{
    char name[256];
    size_t name_size = sizeof name;

    if (gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &name_size) < 0)
        return NULL;
    log_escape(out, size, name, name_size);
    return out;
}

static void
write_hex(char *out, size_t out_size, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size && 2 * i + 2 < out_size; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static const char *
write_serial(char *out, size_t out_size, gnutls_x509_crt_t crt)
{
    uint8_t serial[64];
    size_t size = sizeof serial;

    if (gnutls_x509_crt_get_serial(crt, serial, &size) < 0)
        return NULL;
    write_hex(out, out_size, serial, size);
    return out;
}

/* rsa-2048, ecdsa-secp256r1, ed25519. */
static const char *
write_key(char *out, size_t out_size, gnutls_x509_crt_t crt)
{
    unsigned bits = 0;
    int algorithm = gnutls_x509_crt_get_pk_algorithm(crt, &bits);
    gnutls_ecc_curve_t curve;

    switch (algorithm) {
    case GNUTLS_PK_RSA:
        snprintf(out, out_size, "rsa-%u", bits);
        return out;
    case GNUTLS_PK_RSA_PSS:
        snprintf(out, out_size, "rsa_pss-%u", bits);
        return out;
    case GNUTLS_PK_EDDSA_ED25519:
        return "ed25519";
    case GNUTLS_PK_EDDSA_ED448:
        return "ed448";
    case GNUTLS_PK_ECDSA:
        if (gnutls_x509_crt_get_pk_ecc_raw(crt, &curve, NULL, NULL) < 0)
            return "ecdsa";
        snprintf(out, out_size, "ecdsa-%s", gnutls_ecc_curve_get_name(curve));
        for (char *c = out; *c != '\0'; c++) {
            if (*c >= 'A' && *c <= 'Z')
                *c = (char)(*c - 'A' + 'a');
        }
        return out;
    default:
        snprintf(out, out_size, "other-%u", bits);
        return out;
    }
}

static void
fill_certificate(struct facts *facts, struct message_established *e, struct bytes der)
{
    gnutls_datum_t datum = { .data = (unsigned char *)der.data, .size = (unsigned)der.size };
    uint8_t digest[SHA256_SIZE];
    gnutls_x509_crt_t crt;

    e->peer_certificate = (uint32_t)der.size;
    if (der.size == 0 || gnutls_x509_crt_init(&crt) < 0)
        return;
    if (gnutls_x509_crt_import(crt, &datum, GNUTLS_X509_FMT_DER) >= 0) {
        e->subject =
            write_name(facts->subject, sizeof facts->subject, crt, gnutls_x509_crt_get_dn3);
        e->common_name = write_common_name(facts->common_name, sizeof facts->common_name, crt);
        e->issuer =
            write_name(facts->issuer, sizeof facts->issuer, crt, gnutls_x509_crt_get_issuer_dn3);
        e->serial = write_serial(facts->serial, sizeof facts->serial, crt);
        e->public_key = write_key(facts->public_key, sizeof facts->public_key, crt);
        e->not_before = gnutls_x509_crt_get_activation_time(crt);
        e->not_after = gnutls_x509_crt_get_expiration_time(crt);
        e->has_not_before = e->has_not_after = true;
    }
    gnutls_x509_crt_deinit(crt);
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, der.data, der.size, digest) >= 0) {
        write_hex(facts->sha256, sizeof facts->sha256, digest, sizeof digest);
        e->sha256 = facts->sha256;
    }
}

void
facts_fill(struct facts *facts, const struct session *s, struct message *m)
{
    struct message_established *e = &m->as.established;
    gnutls_session_t tls = session_tls(s);
    gnutls_datum_t protocol;

    memset(facts, 0, sizeof *facts);
    e->version = library_tls_version(gnutls_protocol_get_version(tls));
    e->suite = library_session_suite(tls);
    e->resumed = gnutls_session_is_resumed(tls) != 0;
    e->group = library_group(gnutls_group_get(tls));
    e->signature = library_scheme((gnutls_sign_algorithm_t)gnutls_sign_algorithm_get(tls));
    e->verified = session_is_verified(s);
    snprintf(facts->server_name, sizeof facts->server_name, "%s", session_server_name(s));
    if (facts->server_name[0] != '\0')
        e->server_name = facts->server_name;
    if (gnutls_alpn_get_selected_protocol(tls, &protocol) == 0)
        e->alpn = (struct bytes){ protocol.data, protocol.size };
    fill_certificate(facts, e, facts_peer_certificate(s));
}
