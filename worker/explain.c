#include "worker/explain.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <gnutls/x509.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "ipc/suites.h"

enum { NAMES_SHOWN = 4, NAMES_READ = 32, SUITES_SHOWN = 6, NAME_SIZE = 80 };

/* The sentence so far. */
struct sentence {
    char *out;
    size_t used;
};

static void add(struct sentence *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void
add(struct sentence *s, const char *format, ...)
{
    va_list arguments;
    int added;

    va_start(arguments, format);
    added = vsnprintf(s->out + s->used, EXPLAIN_SIZE - s->used, format, arguments);
    va_end(arguments);
    if (added > 0)
        s->used += (size_t)added;
    if (s->used >= EXPLAIN_SIZE)
        s->used = EXPLAIN_SIZE - 1;
}

/* --- what was offered ------------------------------------------------------------------------- */

static void
add_versions(struct sentence *s, unsigned versions)
{
    bool is_first = true;

    for (unsigned version = TLS_1_0; version <= TLS_1_3; version <<= 1) {
        if (!(versions & version))
            continue;
        add(s, "%s%s", is_first ? "" : ", ", tls_version_name(version));
        is_first = false;
    }
    if (is_first)
        add(s, "none that is known");
}

static void
explain_versions(struct sentence *s, const struct credentials *c, const struct hello *hello)
{
    add(s, "the peer offers ");
    add_versions(s, hello->versions);
    add(s, "; here are ");
    add_versions(s, c->versions);
}

static void
explain_suites(struct sentence *s, const struct hello *hello)
{
    size_t shown = 0;

    add(s, "no cipher suite that fits the certificate; the peer offers ");
    for (size_t i = 0; i < hello->suite_count && shown < SUITES_SHOWN; i++, shown++) {
        const struct suite *suite = suite_by_code(hello->suites[i]);

        if (suite != NULL)
            add(s, "%s%s", shown == 0 ? "" : ", ", suite->iana);
        else
            add(s, "%s0x%04x", shown == 0 ? "" : ", ", (unsigned)hello->suites[i]);
    }
    if (hello->suites_offered > shown)
        add(s, " and %zu more", hello->suites_offered - shown);
}

/* --- certificates ----------------------------------------------------------------------------- */

/* The peer's certificate number i.  false: there is none, or it cannot be read.  Gives *crt. */
static bool
import(gnutls_session_t tls, unsigned i, gnutls_x509_crt_t *crt)
{
    unsigned count = 0;
    const gnutls_datum_t *peers = gnutls_certificate_get_peers(tls, &count);

    if (peers == NULL || i >= count || gnutls_x509_crt_init(crt) < 0)
        return false;
    if (gnutls_x509_crt_import(*crt, &peers[i], GNUTLS_X509_FMT_DER) >= 0)
        return true;
    gnutls_x509_crt_deinit(*crt);
    return false;
}

static void
add_name(struct sentence *s, gnutls_x509_crt_t crt,
         int (*get)(gnutls_x509_crt_t, gnutls_datum_t *, unsigned))
{
    char shown[NAME_SIZE];
    gnutls_datum_t name;

    if (get(crt, &name, 0) < 0) {
        add(s, "(no name)");
        return;
    }
    log_escape(shown, sizeof shown, name.data, name.size);
    gnutls_free(name.data);
    add(s, "%s", shown);
}

/* Of the path, the first that is out of its time. */
static void
explain_time(struct sentence *s, gnutls_session_t tls)
{
    time_t now = time(NULL);
    gnutls_x509_crt_t crt;

    for (unsigned i = 0; s->used == 0 && import(tls, i, &crt); i++) {
        time_t begin = gnutls_x509_crt_get_activation_time(crt);
        time_t end = gnutls_x509_crt_get_expiration_time(crt);
        bool is_expired = end < now;
        char when[CLOCK_UTC_SIZE];

        if (is_expired || begin > now) {
            clock_utc_text_of((int64_t)(is_expired ? end : begin) * 1000, when);
            add(s, "the peer's certificate of ");
            add_name(s, crt, gnutls_x509_crt_get_dn3);
            add(s, "%s %.10s", is_expired ? " expired on" : " is not valid before", when);
        }
        gnutls_x509_crt_deinit(crt);
    }
}

static void
explain_issuer(struct sentence *s, gnutls_session_t tls)
{
    gnutls_x509_crt_t crt;

    if (!import(tls, 0, &crt))
        return;
    add(s, "no authority trusted here has signed the peer's certificate, of ");
    add_name(s, crt, gnutls_x509_crt_get_dn3);
    add(s, ", issued by ");
    add_name(s, crt, gnutls_x509_crt_get_issuer_dn3);
    gnutls_x509_crt_deinit(crt);
}

/* One subject alternative name.  false: it is of another kind. */
static bool
write_name(char *out, size_t size, int kind, const char *name, size_t name_size)
{
    if (kind == GNUTLS_SAN_DNSNAME) {
        log_escape(out, size, name, name_size);
        return true;
    }
    if (kind == GNUTLS_SAN_IPADDRESS && (name_size == 4 || name_size == 16))
        return inet_ntop(name_size == 4 ? AF_INET : AF_INET6, name, out, (socklen_t)size) != NULL;
    return false;
}

static unsigned
add_alternatives(struct sentence *s, gnutls_x509_crt_t crt)
{
    unsigned shown = 0;

    for (unsigned i = 0; i < NAMES_READ; i++) {
        char name[256], text[NAME_SIZE];
        size_t size = sizeof name;
        int kind = gnutls_x509_crt_get_subject_alt_name(crt, i, name, &size, NULL);

        if (kind < 0 && kind != GNUTLS_E_SHORT_MEMORY_BUFFER)
            break;
        if (kind < 0 || !write_name(text, sizeof text, kind, name, size))
            continue;
        if (shown == NAMES_SHOWN) {
            add(s, " and more");
            break;
        }
        add(s, "%s%s", shown == 0 ? "" : ", ", text);
        shown++;
    }
    return shown;
}

static void
explain_names(struct sentence *s, gnutls_session_t tls, const char *verify_name)
{
    gnutls_x509_crt_t crt;

    if (verify_name == NULL || !import(tls, 0, &crt))
        return;
    add(s, "the peer's certificate is for ");
    if (add_alternatives(s, crt) == 0)
        add(s, "no name at all");
    add(s, ", not for %.100s", verify_name);
    gnutls_x509_crt_deinit(crt);
}

const char *
explain(char out[EXPLAIN_SIZE], const struct failure *f, gnutls_session_t tls,
        const struct credentials *c, const struct hello *hello, const char *verify_name)
{
    struct sentence s = { out, 0 };

    out[0] = '\0';
    if (strcmp(f->cause, "no_shared_version") == 0 && hello != NULL)
        explain_versions(&s, c, hello);
    else if (strcmp(f->cause, "no_shared_cipher") == 0 && hello != NULL)
        explain_suites(&s, hello);
    else if (strcmp(f->cause, "expired") == 0 || strcmp(f->cause, "not_yet_valid") == 0)
        explain_time(&s, tls);
    else if (strcmp(f->cause, "unknown_ca") == 0)
        explain_issuer(&s, tls);
    else if (strcmp(f->cause, "hostname_mismatch") == 0)
        explain_names(&s, tls, verify_name);
    return s.used > 0 ? out : f->detail;
}
