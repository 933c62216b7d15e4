#include "ipc/suites.h"

#include <string.h>
#include <strings.h>

enum offered { NAMED, ALWAYS, BELOW_1_2 };

const struct suite suites[] = {
#define SUITE(code_, iana_, openssl_, gnutls_, kx_, cipher_, hash_, versions_, offered_) \
    {                                                                                    \
        .code = (code_),                                                                 \
        .iana = (iana_),                                                                 \
        .openssl = (openssl_),                                                           \
        .gnutls = (gnutls_),                                                             \
        .key_exchange = (kx_),                                                           \
        .cipher = (cipher_),                                                             \
        .hash = (hash_),                                                                 \
        .versions = (versions_),                                                         \
        .is_default = (offered_) == ALWAYS,                                              \
        .is_default_below_1_2 = (offered_) == BELOW_1_2,                                 \
    },
#include "ipc/suites.def"
#undef SUITE
};
const size_t suite_count = sizeof suites / sizeof suites[0];

struct name {
    uint32_t number;
    const char *name;
};

static const struct name versions[] = {
    { TLS_1_3, "tlsv1.3" },
    { TLS_1_2, "tlsv1.2" },
    { TLS_1_1, "tlsv1.1" },
    { TLS_1_0, "tlsv1" },
    { 0, NULL },
};

/* RFC 8446 6, RFC 5246 7.2, and the older ones' names. */
static const struct name alerts[] = {
    { 0, "close_notify" },
    { 10, "unexpected_message" },
    { 20, "bad_record_mac" },
    { 21, "decryption_failed" },
    { 22, "record_overflow" },
    { 30, "decompression_failure" },
    { 40, "handshake_failure" },
    { 41, "no_certificate" },
    { 42, "bad_certificate" },
    { 43, "unsupported_certificate" },
    { 44, "certificate_revoked" },
    { 45, "certificate_expired" },
    { 46, "certificate_unknown" },
    { 47, "illegal_parameter" },
    { 48, "unknown_ca" },
    { 49, "access_denied" },
    { 50, "decode_error" },
    { 51, "decrypt_error" },
    { 60, "export_restriction" },
    { 70, "protocol_version" },
    { 71, "insufficient_security" },
    { 80, "internal_error" },
    { 86, "inappropriate_fallback" },
    { 90, "user_canceled" },
    { 100, "no_renegotiation" },
    { 109, "missing_extension" },
    { 110, "unsupported_extension" },
    { 111, "certificate_unobtainable" },
    { 112, "unrecognized_name" },
    { 113, "bad_certificate_status_response" },
    { 114, "bad_certificate_hash_value" },
    { 115, "unknown_psk_identity" },
    { 116, "certificate_required" },
    { 120, "no_application_protocol" },
    { 0, NULL },
};

/* RFC 8446 4.2.7. */
static const struct name groups[] = {
    { 0x0017, "secp256r1" },
    { 0x0018, "secp384r1" },
    { 0x0019, "secp521r1" },
    { 0x001d, "x25519" },
    { 0x001e, "x448" },
    { 0x0100, "ffdhe2048" },
    { 0x0101, "ffdhe3072" },
    { 0x0102, "ffdhe4096" },
    { 0x0103, "ffdhe6144" },
    { 0x0104, "ffdhe8192" },
    { 0, NULL },
};

/* RFC 8446 4.2.3. */
static const struct name signatures[] = {
    { 0x0201, "rsa_pkcs1_sha1" },
    { 0x0203, "ecdsa_sha1" },
    { 0x0401, "rsa_pkcs1_sha256" },
    { 0x0501, "rsa_pkcs1_sha384" },
    { 0x0601, "rsa_pkcs1_sha512" },
    { 0x0403, "ecdsa_secp256r1_sha256" },
    { 0x0503, "ecdsa_secp384r1_sha384" },
    { 0x0603, "ecdsa_secp521r1_sha512" },
    { 0x0804, "rsa_pss_rsae_sha256" },
    { 0x0805, "rsa_pss_rsae_sha384" },
    { 0x0806, "rsa_pss_rsae_sha512" },
    { 0x0807, "ed25519" },
    { 0x0808, "ed448" },
    { 0x0809, "rsa_pss_pss_sha256" },
    { 0x080a, "rsa_pss_pss_sha384" },
    { 0x080b, "rsa_pss_pss_sha512" },
    { 0, NULL },
};

static const char *
find_name(const struct name *names, uint32_t number)
{
    for (const struct name *n = names; n->name != NULL; n++) {
        if (n->number == number)
            return n->name;
    }
    return NULL;
}

const struct suite *
suite_by_code(uint16_t code)
{
    for (size_t i = 0; i < suite_count; i++) {
        if (suites[i].code == code)
            return &suites[i];
    }
    return NULL;
}

const struct suite *
suite_by_name(const char *name)
{
    for (size_t i = 0; i < suite_count; i++) {
        if (strcasecmp(suites[i].iana, name) == 0 || strcasecmp(suites[i].openssl, name) == 0)
            return &suites[i];
    }
    return NULL;
}

const char *
tls_version_name(uint32_t version)
{
    return find_name(versions, version);
}

uint32_t
tls_version_by_name(const char *name)
{
    for (const struct name *n = versions; n->name != NULL; n++) {
        if (strcmp(n->name, name) == 0)
            return n->number;
    }
    return 0;
}

const char *
tls_alert_name(uint32_t alert)
{
    const char *name = find_name(alerts, alert);

    return name != NULL ? name : "unknown";
}

const char *
tls_group_name(uint32_t group)
{
    return find_name(groups, group);
}

const char *
tls_signature_name(uint32_t scheme)
{
    return find_name(signatures, scheme);
}
