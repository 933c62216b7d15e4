/*
 * The key decoder: makes numbers of one private key and ends.
 *
 * Key files have formats of forty years, with passwords stretched as often as
 * the file says.  Whatever goes wrong in reading one goes wrong here, where
 * memory and time are limited and no other key is near.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "ipc/process.h"
#include "ipc/sandbox.h"
#include "ipc/secret.h"

enum {
    REQUEST_TIMEOUT_MS = 60000,
    ANSWER_TIMEOUT_MS = 5000,
    PASSWORD_MAX = 1024,
    RSA_BITS_MIN = 1024,
    RSA_BITS_MAX = 16384,
};

/* What decode_failed says. */
struct fault {
    bool is_password;
    char why[300];
};

static bool __attribute__((format(printf, 3, 4)))
fail(struct fault *fault, bool is_password, const char *format, ...)
{
    va_list args;

    fault->is_password = is_password;
    va_start(args, format);
    vsnprintf(fault->why, sizeof fault->why, format, args);
    va_end(args);
    return false;
}

static bool
contains(struct bytes bytes, const char *text)
{
    return memmem(bytes.data, bytes.size, text, strlen(text)) != NULL;
}

static bool
is_encrypted(struct bytes pem)
{
    return contains(pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----") ||
           contains(pem, "Proc-Type: 4,ENCRYPTED");
}

/* Says why an encrypted key did not open.  A wrong password mostly, but not always, gives bad
 * padding; else what was decrypted is no key. */
static bool
fail_encrypted(struct fault *fault, int status)
{
    switch (status) {
    case GNUTLS_E_UNKNOWN_CIPHER_TYPE:
    case GNUTLS_E_ILLEGAL_PARAMETER: /* so many rounds of key stretching that the library refuses */
    case GNUTLS_E_UNKNOWN_HASH_ALGORITHM:
    case GNUTLS_E_UNIMPLEMENTED_FEATURE:
    case GNUTLS_E_INVALID_PASSWORD_STRING:
    case GNUTLS_E_BASE64_DECODING_ERROR:
    case GNUTLS_E_BASE64_UNEXPECTED_HEADER_ERROR:
    case GNUTLS_E_MEMORY_ERROR:
        return fail(fault, false, "the encrypted private key cannot be read: %s",
                    gnutls_strerror(status));
    default:
        return fail(fault, true,
                    "the password does not open the private key (or the key is damaged)");
    }
}

static bool
import(gnutls_x509_privkey_t key, const struct message_decode *decode, struct fault *fault)
{
    gnutls_datum_t pem = { (unsigned char *)(uintptr_t)decode->pem.data,
                           (unsigned)decode->pem.size };
    char password[PASSWORD_MAX + 1];
    bool has_password = decode->password.size > 0;
    int status;

    if (!is_encrypted(decode->pem)) {
        status = gnutls_x509_privkey_import(key, &pem, GNUTLS_X509_FMT_PEM);
        return status >= 0 ||
               fail(fault, false, "the private key cannot be read: %s", gnutls_strerror(status));
    }
    if (!has_password)
        return fail(fault, true, "the private key is encrypted and there is no password");
    if (decode->password.size > PASSWORD_MAX ||
        memchr(decode->password.data, '\0', decode->password.size))
        return fail(fault, true, "the password is too long or contains a NUL");
    memcpy(password, decode->password.data, decode->password.size);
    password[decode->password.size] = '\0';
    status = gnutls_x509_privkey_import2(key, &pem, GNUTLS_X509_FMT_PEM, password, 0);
    secret_wipe(password, sizeof password);
    return status >= 0 || fail_encrypted(fault, status);
}

static struct bytes
bytes_of(const gnutls_datum_t *datum)
{
    return (struct bytes){ datum->data, datum->size };
}

static bool
export_rsa(gnutls_privkey_t key, unsigned bits, struct message_decoded *out, struct fault *fault)
{
    gnutls_datum_t m, e, d, p, q, u, e1, e2;
    int status;

    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
        return fail(fault, false, "an RSA key must have %d to %d bits; this one has %u",
                    RSA_BITS_MIN, RSA_BITS_MAX, bits);
    status = gnutls_privkey_export_rsa_raw2(key, &m, &e, &d, &p, &q, &u, &e1, &e2,
                                            GNUTLS_EXPORT_FLAG_NO_LZ);
    if (status < 0)
        return fail(fault, false, "the private key cannot be read: %s", gnutls_strerror(status));
    out->algorithm = KEY_RSA;
    out->m = bytes_of(&m);
    out->e = bytes_of(&e);
    out->d = bytes_of(&d);
    out->p = bytes_of(&p);
    out->q = bytes_of(&q);
    out->u = bytes_of(&u);
    out->e1 = bytes_of(&e1);
    out->e2 = bytes_of(&e2);
    return true;
}

/* The NamedGroup; 0 for a curve that we do not have. */
static uint32_t
group_of_curve(gnutls_ecc_curve_t curve)
{
    switch (curve) {
    case GNUTLS_ECC_CURVE_SECP256R1:
        return 23;
    case GNUTLS_ECC_CURVE_SECP384R1:
        return 24;
    case GNUTLS_ECC_CURVE_SECP521R1:
        return 25;
    default:
        return 0;
    }
}

static bool
export_ecc(gnutls_privkey_t key, enum key_algorithm algorithm, struct message_decoded *out,
           struct fault *fault)
{
    gnutls_datum_t x = { NULL, 0 }, y = { NULL, 0 }, k = { NULL, 0 };
    gnutls_ecc_curve_t curve;
    int status = gnutls_privkey_export_ecc_raw2(key, &curve, &x, &y, &k, GNUTLS_EXPORT_FLAG_NO_LZ);

    if (status < 0)
        return fail(fault, false, "the private key cannot be read: %s", gnutls_strerror(status));
    if (algorithm == KEY_ECDSA && group_of_curve(curve) == 0)
        return fail(fault, false,
                    "keys on the curve %s are not supported: it must be secp256r1, secp384r1 or "
                    "secp521r1",
                    gnutls_ecc_curve_get_name(curve));
    out->algorithm = algorithm;
    out->curve = algorithm == KEY_ECDSA ? group_of_curve(curve) : 0;
    out->x = bytes_of(&x);
    out->y = bytes_of(&y);
    out->k = bytes_of(&k);
    return true;
}

static bool export(gnutls_x509_privkey_t x509, struct message_decoded *out, struct fault *fault)
{
    gnutls_privkey_t key;
    unsigned bits = 0;
    int algorithm = gnutls_x509_privkey_get_pk_algorithm2(x509, &bits);
    int status;

    /* A key whose parts do not fit together signs wrongly, or worse, gives itself away. */
    status = gnutls_x509_privkey_verify_params(x509);
    if (status < 0)
        return fail(fault, false, "the numbers of the private key do not fit together");
    status = gnutls_privkey_init(&key);
    if (status >= 0)
        status = gnutls_privkey_import_x509(key, x509, 0);
    if (status < 0)
        return fail(fault, false, "the private key cannot be read: %s", gnutls_strerror(status));
    switch (algorithm) {
    case GNUTLS_PK_RSA:
        return export_rsa(key, bits, out, fault);
    case GNUTLS_PK_ECDSA:
        return export_ecc(key, KEY_ECDSA, out, fault);
    case GNUTLS_PK_EDDSA_ED25519:
        return export_ecc(key, KEY_ED25519, out, fault);
    default:
        return fail(fault, false, "%s keys are not supported: it must be RSA, ECDSA or Ed25519",
                    gnutls_pk_algorithm_get_name((gnutls_pk_algorithm_t)algorithm));
    }
}

/* The answer borrows from fault. */
static void
decode_key(const struct message_decode *decode, struct message *answer, struct fault *fault)
{
    gnutls_x509_privkey_t key;

    message_init(answer, MESSAGE_DECODED);
    if (gnutls_x509_privkey_init(&key) >= 0 && import(key, decode, fault) &&
        export(key, &answer->as.decoded, fault))
        return;
    message_init(answer, MESSAGE_DECODE_FAILED);
    answer->as.decode_failed.password = fault->is_password;
    answer->as.decode_failed.why = fault->why;
}

/* Nothing is freed here: the process ends, and its memory with it. */
int
main(int argc, char **argv)
{
    static char buffer[MESSAGE_MAX_LARGE + 1];
    static struct fault fault = { false, "there is not enough memory" };
    struct message request, answer;

    process_begin("key_decoder", false, PROCESS_MAILBOX);
    process_title_init(argc, argv);
    /* The mailbox ends at the keeper, which takes no log lines. */
    log_set_sink(NULL);
    log_set_level(LOG_ERROR);
    process_limit_helper();
    sandbox_enter_or_end(SANDBOX_KEY_DECODER);
    if (mailbox_receive_wait(PROCESS_MAILBOX, KEEPER_TO_DECODER, buffer, MESSAGE_MAX_LARGE,
                             &request, NULL, clock_now_ms() + REQUEST_TIMEOUT_MS) != RESULT_OK)
        return EXIT_FAILURE;
    decode_key(&request.as.decode, &answer, &fault);
    if (mailbox_send_wait(PROCESS_MAILBOX, &answer, clock_now_ms() + ANSWER_TIMEOUT_MS) !=
        RESULT_OK)
        return EXIT_FAILURE;
    _exit(EXIT_SUCCESS);
}
