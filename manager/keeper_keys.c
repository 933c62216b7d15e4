#include "manager/keeper_keys.h"

#include <limits.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

/* What reading two files of the largest size takes. */
enum { HEAP_ROOM = 4 << 20 };

struct keeper_key {
    gnutls_privkey_t privkey;
    enum key_algorithm algorithm;
    uint32_t bits;
    uint32_t curve;
};

static char *heap_start;

void
keeper_keys_init(void)
{
    void *room;

    /* One heap that only grows: no block of its own for anything large, nothing given back. */
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    /* What the library frees without wiping is overwritten by free(), all but the smallest. */
    mallopt(M_PERTURB, 0x5a);
    heap_start = sbrk(0);
    heap_start -= (uintptr_t)heap_start % (uintptr_t)sysconf(_SC_PAGESIZE);
    room = malloc(HEAP_ROOM);
    free(room);
}

void
keeper_keys_protect_heap(void)
{
    char *heap_end = sbrk(0);

    if (heap_end <= heap_start)
        return;
    /* Best effort: without CAP_IPC_LOCK there is a limit, and the keeper works without, too. */
    (void)madvise(heap_start, (size_t)(heap_end - heap_start), MADV_DONTDUMP);
    (void)mlock(heap_start, (size_t)(heap_end - heap_start));
}

/* --- from numbers --------------------------------------------------------------------- */

static gnutls_datum_t
datum_of(struct bytes bytes)
{
    /* GnuTLS' datum has no const; it does not write to it. */
    gnutls_datum_t datum = { (unsigned char *)(uintptr_t)bytes.data, (unsigned)bytes.size };

    return datum;
}

static gnutls_ecc_curve_t
curve_of_group(uint32_t group)
{
    switch (group) {
    case 23:
        return GNUTLS_ECC_CURVE_SECP256R1;
    case 24:
        return GNUTLS_ECC_CURVE_SECP384R1;
    case 25:
        return GNUTLS_ECC_CURVE_SECP521R1;
    default:
        return GNUTLS_ECC_CURVE_INVALID;
    }
}

static int
import_rsa(gnutls_privkey_t privkey, const struct message_decoded *n)
{
    gnutls_datum_t m = datum_of(n->m), e = datum_of(n->e), d = datum_of(n->d);
    gnutls_datum_t p = datum_of(n->p), q = datum_of(n->q), u = datum_of(n->u);
    gnutls_datum_t e1 = datum_of(n->e1), e2 = datum_of(n->e2);

    if (!m.size || !e.size || !d.size || !p.size || !q.size || !u.size || !e1.size || !e2.size)
        return GNUTLS_E_INVALID_REQUEST;
    return gnutls_privkey_import_rsa_raw(privkey, &m, &e, &d, &p, &q, &u, &e1, &e2);
}

static int
import_ecc(gnutls_privkey_t privkey, const struct message_decoded *n)
{
    gnutls_datum_t x = datum_of(n->x), y = datum_of(n->y), k = datum_of(n->k);
    gnutls_ecc_curve_t curve = curve_of_group(n->curve);

    if (n->algorithm == KEY_ED25519) {
        if (x.size != 32 || k.size != 32)
            return GNUTLS_E_INVALID_REQUEST;
        return gnutls_privkey_import_ecc_raw(privkey, GNUTLS_ECC_CURVE_ED25519, &x, NULL, &k);
    }
    if (curve == GNUTLS_ECC_CURVE_INVALID || !x.size || !y.size || !k.size)
        return GNUTLS_E_INVALID_REQUEST;
    return gnutls_privkey_import_ecc_raw(privkey, curve, &x, &y, &k);
}

static int
import(struct keeper_key *key, const struct message_decoded *numbers)
{
    unsigned bits = 0;
    int status = gnutls_privkey_init(&key->privkey);

    if (status < 0) {
        key->privkey = NULL;
        return status;
    }
    switch (numbers->algorithm) {
    case KEY_RSA:
        status = import_rsa(key->privkey, numbers);
        break;
    case KEY_ECDSA:
    case KEY_ED25519:
        status = import_ecc(key->privkey, numbers);
        break;
    default:
        status = GNUTLS_E_UNIMPLEMENTED_FEATURE;
    }
    if (status < 0)
        return status;
    status = gnutls_privkey_get_pk_algorithm(key->privkey, &bits);
    key->bits = numbers->curve == 25 ? 521 : bits; /* the library counts whole bytes: 528 */
    key->algorithm = (enum key_algorithm)numbers->algorithm;
    key->curve = key->algorithm == KEY_ECDSA ? numbers->curve : 0;
    return status;
}

enum result
keeper_key_new(struct keeper_key **out, const struct message_decoded *numbers, const char **why)
{
    struct keeper_key *key = calloc(1, sizeof *key);
    int status;

    if (!key) {
        *why = result_text(RESULT_NO_MEMORY);
        return RESULT_NO_MEMORY;
    }
    status = import(key, numbers);
    keeper_keys_protect_heap();
    if (status < 0) {
        *why = gnutls_strerror(status);
        keeper_key_free(key);
        return RESULT_MALFORMED;
    }
    *out = key;
    return RESULT_OK;
}

void
keeper_key_free(struct keeper_key *key)
{
    if (!key)
        return;
    if (key->privkey)
        gnutls_privkey_deinit(key->privkey); /* wipes the numbers */
    free(key);
}

enum key_algorithm
keeper_key_algorithm(const struct keeper_key *key)
{
    return key->algorithm;
}

uint32_t
keeper_key_bits(const struct keeper_key *key)
{
    return key->bits;
}

uint32_t
keeper_key_curve(const struct keeper_key *key)
{
    return key->curve;
}

/* --- what may leave ------------------------------------------------------------------- */

enum result
keeper_key_public(const struct keeper_key *key, uint8_t *der, size_t *size)
{
    gnutls_pubkey_t pubkey;
    int status;

    if (gnutls_pubkey_init(&pubkey) < 0)
        return RESULT_TLS_BROKEN;
    status = gnutls_pubkey_import_privkey(pubkey, key->privkey, 0, 0);
    if (status >= 0)
        status = gnutls_pubkey_export(pubkey, GNUTLS_X509_FMT_DER, der, size);
    gnutls_pubkey_deinit(pubkey);
    return status < 0 ? RESULT_TLS_BROKEN : RESULT_OK;
}

/* The same SignatureScheme fixes the curve in TLS 1.3 and leaves it open in TLS 1.2. */
static gnutls_sign_algorithm_t
sign_algorithm_of(const struct keeper_order *order)
{
    int is_13 = order->version == TLS_1_3;

    switch (order->scheme) {
    case 0x0401:
        return GNUTLS_SIGN_RSA_SHA256;
    case 0x0501:
        return GNUTLS_SIGN_RSA_SHA384;
    case 0x0601:
        return GNUTLS_SIGN_RSA_SHA512;
    case 0x0804:
        return GNUTLS_SIGN_RSA_PSS_RSAE_SHA256;
    case 0x0805:
        return GNUTLS_SIGN_RSA_PSS_RSAE_SHA384;
    case 0x0806:
        return GNUTLS_SIGN_RSA_PSS_RSAE_SHA512;
    case 0x0403:
        return is_13 ? GNUTLS_SIGN_ECDSA_SECP256R1_SHA256 : GNUTLS_SIGN_ECDSA_SHA256;
    case 0x0503:
        return is_13 ? GNUTLS_SIGN_ECDSA_SECP384R1_SHA384 : GNUTLS_SIGN_ECDSA_SHA384;
    case 0x0603:
        return is_13 ? GNUTLS_SIGN_ECDSA_SECP521R1_SHA512 : GNUTLS_SIGN_ECDSA_SHA512;
    case 0x0807:
        return GNUTLS_SIGN_EDDSA_ED25519;
    default:
        return GNUTLS_SIGN_UNKNOWN;
    }
}

enum result
keeper_key_sign(const struct keeper_key *key, const struct keeper_order *order, uint8_t *signature,
                size_t *size, const char **why)
{
    gnutls_datum_t content = datum_of(order->content);
    gnutls_datum_t made = { NULL, 0 };
    int status =
        gnutls_privkey_sign_data2(key->privkey, sign_algorithm_of(order), 0, &content, &made);

    if (status < 0) {
        *why = gnutls_strerror(status);
        return RESULT_TLS_BROKEN;
    }
    if (made.size > *size) {
        gnutls_free(made.data);
        *why = "the signature is longer than a message holds";
        return RESULT_TLS_BROKEN;
    }
    memcpy(signature, made.data, made.size);
    *size = made.size;
    gnutls_free(made.data);
    return RESULT_OK;
}
