/*
 * TLS versions, cipher suites, groups, signature schemes and alerts by name: the manager's
 * knowledge of TLS words, without a TLS library.
 */
#ifndef CORDON_IPC_SUITES_H
#define CORDON_IPC_SUITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/message.h"

struct suite {
    uint16_t code;             /* IANA */
    const char *iana;          /* TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 */
    const char *openssl;       /* ECDHE-RSA-AES256-GCM-SHA384 */
    const char *gnutls;        /* name as gnutls_cipher_suite_info gives it */
    const char *key_exchange;  /* the reference's word: ecdhe_rsa; "any" in TLS 1.3 */
    const char *cipher;        /* aes_256_gcm */
    const char *hash;          /* NULL for AEAD suites before TLS 1.3 */
    unsigned versions;         /* mask of enum tls_version */
    bool is_default;           /* offered unless ciphers says otherwise */
    bool is_default_below_1_2; /* offered so too, but only where TLS 1.0 or 1.1 was named */
};

extern const struct suite suites[];
extern const size_t suite_count;

const struct suite *suite_by_code(uint16_t code);    /* NULL if unknown */
const struct suite *suite_by_name(const char *name); /* IANA's or OpenSSL's; NULL if unknown */

/* "tlsv1.3"; NULL / 0 if unknown. */
const char *tls_version_name(uint32_t version);
uint32_t tls_version_by_name(const char *name);

const char *tls_alert_name(uint32_t alert);      /* "unknown_ca"; "unknown" */
const char *tls_group_name(uint32_t group);      /* "secp256r1"; NULL if unknown */
const char *tls_signature_name(uint32_t scheme); /* "ecdsa_secp256r1_sha256"; NULL */

#endif
