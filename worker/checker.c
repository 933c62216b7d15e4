/*
 * The checker: reads one file of certificates before a nursery does, and ends.
 *
 * Certificates come from clients; a nursery's children inherit what it has read,
 * so it must not be the first to read them.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "ipc/process.h"
#include "ipc/sandbox.h"

enum {
    REQUEST_TIMEOUT_MS = 60000,
    ANSWER_TIMEOUT_MS = 5000,
    FILE_MAX = 4 << 20,
    CHAIN_MAX = 32,
    PUBLIC_KEY_MAX = 2600,
};

/* What checked says. */
struct verdict {
    enum result reason;
    uint32_t count;
    int64_t not_after; /* 0: unknown */
    char subject[501];
    char why[501];
};

static void __attribute__((format(printf, 3, 4)))
conclude(struct verdict *verdict, enum result reason, const char *format, ...)
{
    va_list args;

    verdict->reason = reason;
    va_start(args, format);
    vsnprintf(verdict->why, sizeof verdict->why, format, args);
    va_end(args);
}

/* --- PEM ------------------------------------------------------------------------------ */

/* The next block, from BEGIN to the end of END, off the front of rest. */
static bool
next_block(struct bytes *rest, struct bytes *block)
{
    static const char begin[] = "-----BEGIN ", end[] = "-----END ", dashes[] = "-----";
    const uint8_t *limit = rest->data + rest->size;
    const uint8_t *first = memmem(rest->data, rest->size, begin, strlen(begin));
    const uint8_t *last;

    if (!first)
        return false;
    last = memmem(first, (size_t)(limit - first), end, strlen(end));
    if (last) {
        last += strlen(end);
        last = memmem(last, (size_t)(limit - last), dashes, strlen(dashes));
    }
    last = last ? last + strlen(dashes) : limit;
    *block = (struct bytes){ first, (size_t)(last - first) };
    *rest = (struct bytes){ last, (size_t)(limit - last) };
    return true;
}

/* Looks at the name in the BEGIN line. */
static bool
block_is(struct bytes block, const char *name)
{
    const uint8_t *line_end = memchr(block.data, '\n', block.size);
    size_t size = line_end ? (size_t)(line_end - block.data) : block.size;

    return memmem(block.data, size, name, strlen(name)) != NULL;
}

static bool
is_certificate(struct bytes block)
{
    return block_is(block, "-----BEGIN CERTIFICATE-----") ||
           block_is(block, "-----BEGIN X509 CERTIFICATE-----");
}

/* Gives *certificate. */
static int
import(gnutls_x509_crt_t *certificate, struct bytes block)
{
    gnutls_datum_t pem = { (unsigned char *)(uintptr_t)block.data, (unsigned)block.size };
    int status = gnutls_x509_crt_init(certificate);

    if (status < 0)
        return status;
    status = gnutls_x509_crt_import(*certificate, &pem, GNUTLS_X509_FMT_PEM);
    if (status < 0)
        gnutls_x509_crt_deinit(*certificate);
    return status;
}

/* --- facts ---------------------------------------------------------------------------- */

static void
name_of(gnutls_x509_crt_t certificate, bool is_issuer, char *name, size_t size)
{
    gnutls_datum_t dn = { NULL, 0 };
    int status = is_issuer ? gnutls_x509_crt_get_issuer_dn3(certificate, &dn, 0)
                           : gnutls_x509_crt_get_dn3(certificate, &dn, 0);

    name[0] = '\0';
    if (status < 0)
        return;
    log_escape(name, size, dn.data, dn.size);
    gnutls_free(dn.data);
}

static void
write_date(time_t when, char *date, size_t size)
{
    struct tm utc;

    if (!gmtime_r(&when, &utc) || strftime(date, size, "%Y-%m-%d %H:%M:%S UTC", &utc) == 0)
        snprintf(date, size, "an unknown time");
}

/* --- the chain ------------------------------------------------------------------------ */

static bool
is_supported_key(gnutls_x509_crt_t leaf, struct verdict *verdict)
{
    gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
    unsigned bits = 0;
    int algorithm = gnutls_x509_crt_get_pk_algorithm(leaf, &bits);
    const char *name =
        algorithm < 0 ? NULL : gnutls_pk_algorithm_get_name((gnutls_pk_algorithm_t)algorithm);

    if (algorithm == GNUTLS_PK_RSA || algorithm == GNUTLS_PK_EDDSA_ED25519)
        return true;
    if (algorithm == GNUTLS_PK_ECDSA) {
        (void)gnutls_x509_crt_get_pk_ecc_raw(leaf, &curve, NULL, NULL);
        if (curve == GNUTLS_ECC_CURVE_SECP256R1 || curve == GNUTLS_ECC_CURVE_SECP384R1 ||
            curve == GNUTLS_ECC_CURVE_SECP521R1)
            return true;
    }
    conclude(verdict, RESULT_NOT_SUPPORTED,
             "the certificate's key (%s) is not supported: it must be RSA, ECDSA with secp256r1, "
             "secp384r1 or secp521r1, or Ed25519",
             name ? name : "of an unknown kind");
    return false;
}

static bool
has_public_key(gnutls_x509_crt_t leaf, struct bytes wanted, struct verdict *verdict)
{
    uint8_t der[PUBLIC_KEY_MAX];
    size_t size = sizeof der;
    gnutls_pubkey_t pubkey;

    if (wanted.size == 0)
        return true;
    if (gnutls_pubkey_init(&pubkey) < 0 || gnutls_pubkey_import_x509(pubkey, leaf, 0) < 0 ||
        gnutls_pubkey_export(pubkey, GNUTLS_X509_FMT_DER, der, &size) < 0) {
        conclude(verdict, RESULT_MALFORMED, "the certificate's public key cannot be read");
        return false;
    }
    if (size == wanted.size && memcmp(der, wanted.data, size) == 0)
        return true;
    conclude(verdict, RESULT_KEY_MISMATCH,
             "the private key does not belong to the first certificate (%.200s): the "
             "key's own certificate comes first",
             verdict->subject);
    return false;
}

static bool
is_in_time(gnutls_x509_crt_t leaf, struct verdict *verdict)
{
    time_t now = time(NULL);
    time_t from = gnutls_x509_crt_get_activation_time(leaf);
    time_t until = gnutls_x509_crt_get_expiration_time(leaf);
    char date[64];

    if (from == (time_t)-1 || until == (time_t)-1) {
        conclude(verdict, RESULT_MALFORMED, "the certificate's dates cannot be read");
        return false;
    }
    verdict->not_after = until;
    if (now < from) {
        write_date(from, date, sizeof date);
        conclude(verdict, RESULT_EXPIRED, "the certificate is not valid before %s", date);
        return false;
    }
    if (now > until) {
        write_date(until, date, sizeof date);
        conclude(verdict, RESULT_EXPIRED, "the certificate has expired on %s", date);
        return false;
    }
    return true;
}

/* Each certificate must be followed by its issuer's (RFC 5246 7.4.2). */
static bool
is_in_order(gnutls_x509_crt_t *chain, uint32_t count, struct verdict *verdict)
{
    for (uint32_t i = 0; i + 1 < count; i++) {
        char issuer[201];

        if (gnutls_x509_crt_check_issuer(chain[i], chain[i + 1]))
            continue;
        name_of(chain[i], true, issuer, sizeof issuer);
        conclude(verdict, RESULT_MALFORMED,
                 "certificate %u is not the issuer of certificate %u (%s): the order is own "
                 "certificate, its issuer, and so on",
                 i + 2, i + 1, issuer);
        return false;
    }
    return true;
}

/* Gives the certificates in chain; false after a verdict. */
static bool
read_chain(struct bytes rest, gnutls_x509_crt_t chain[CHAIN_MAX], struct verdict *verdict)
{
    struct bytes block;

    while (next_block(&rest, &block)) {
        int status;

        if (!is_certificate(block))
            continue;
        if (verdict->count == CHAIN_MAX) {
            conclude(verdict, RESULT_MALFORMED, "there are more than %d certificates", CHAIN_MAX);
            return false;
        }
        status = import(&chain[verdict->count], block);
        if (status < 0) {
            conclude(verdict, RESULT_MALFORMED, "certificate %u cannot be read: %s",
                     verdict->count + 1, gnutls_strerror(status));
            return false;
        }
        verdict->count++;
    }
    if (verdict->count == 0)
        conclude(verdict, RESULT_MALFORMED, "there is no certificate in it");
    return verdict->count > 0;
}

/* The certificates are not freed: the process ends. */
static void
check_chain(struct bytes pem, struct bytes public_key, struct verdict *verdict)
{
    static gnutls_x509_crt_t chain[CHAIN_MAX];

    if (!read_chain(pem, chain, verdict))
        return;
    name_of(chain[0], false, verdict->subject, sizeof verdict->subject);
    if (is_supported_key(chain[0], verdict) && has_public_key(chain[0], public_key, verdict) &&
        is_in_time(chain[0], verdict) && is_in_order(chain, verdict->count, verdict))
        verdict->reason = RESULT_OK;
}

/* --- trust ---------------------------------------------------------------------------- */

static void
note_first(gnutls_x509_crt_t certificate, struct verdict *verdict)
{
    time_t until = gnutls_x509_crt_get_expiration_time(certificate);

    name_of(certificate, false, verdict->subject, sizeof verdict->subject);
    verdict->not_after = until == (time_t)-1 ? 0 : until;
}

static void
check_trust(struct bytes rest, struct verdict *verdict)
{
    uint32_t bad = 0;
    struct bytes block;

    while (next_block(&rest, &block)) {
        gnutls_x509_crt_t certificate;

        if (block_is(block, "PRIVATE KEY-----")) {
            conclude(verdict, RESULT_MALFORMED,
                     "there is a private key in it: a file of CA certificates must hold none");
            return;
        }
        if (!is_certificate(block))
            continue;
        if (import(&certificate, block) < 0) {
            bad++;
            continue;
        }
        if (verdict->count++ == 0)
            note_first(certificate, verdict);
        gnutls_x509_crt_deinit(certificate);
    }
    verdict->reason = RESULT_OK;
    if (verdict->count == 0 && bad == 0)
        conclude(verdict, RESULT_MALFORMED, "there is no certificate in it");
    else if (verdict->count == 0)
        conclude(verdict, RESULT_MALFORMED, "none of its %u certificates can be read", bad);
    else if (bad > 0)
        conclude(verdict, RESULT_OK, "%u of %u certificates cannot be read and are left out", bad,
                 bad + verdict->count);
}

/* --- the one job ---------------------------------------------------------------------- */

static void
check(struct message *request, struct verdict *verdict)
{
    const struct message_check *wanted = &request->as.check;
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum result result = memfd_read(request->fds[0], FILE_MAX, &bytes, &size);

    if (result != RESULT_OK)
        conclude(verdict, RESULT_MALFORMED, "the certificates cannot be read: %s",
                 result_text(result));
    else if (wanted->what == CHECK_CHAIN)
        check_chain((struct bytes){ bytes, size }, wanted->public_key, verdict);
    else
        check_trust((struct bytes){ bytes, size }, verdict);
    free(bytes);
}

int
main(int argc, char **argv)
{
    static char buffer[MESSAGE_MAX + 1];
    static struct verdict verdict = { .reason = RESULT_MALFORMED };
    struct message request, answer;

    process_begin("checker", false, PROCESS_MAILBOX);
    process_title_init(argc, argv);
    process_limit_helper();
    tzset(); /* which reads a file */
    sandbox_enter_or_end(SANDBOX_CHECKER);
    if (mailbox_receive_wait(PROCESS_MAILBOX, MANAGER_TO_CHECKER, buffer, MESSAGE_MAX, &request,
                             NULL, clock_now_ms() + REQUEST_TIMEOUT_MS) != RESULT_OK)
        return EXIT_FAILURE;
    check(&request, &verdict);
    message_fini(&request);
    message_init(&answer, MESSAGE_CHECKED);
    answer.as.checked.reason = verdict.reason;
    answer.as.checked.count = verdict.count;
    answer.as.checked.not_after = verdict.not_after;
    answer.as.checked.subject = verdict.subject[0] ? verdict.subject : NULL;
    answer.as.checked.why = verdict.why[0] ? verdict.why : NULL;
    if (mailbox_send_wait(PROCESS_MAILBOX, &answer, clock_now_ms() + ANSWER_TIMEOUT_MS) !=
        RESULT_OK)
        return EXIT_FAILURE;
    _exit(EXIT_SUCCESS);
}
