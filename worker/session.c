#include "worker/session.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/log.h"
#include "ipc/suites.h"
#include "worker/explain.h"
#include "worker/hello.h"
#include "worker/signer.h"
#include "worker/verify.h"

struct session {
    gnutls_session_t tls;    /* owned */
    struct records *records; /* owned */
    const struct credentials *credentials;
    struct session_options options;
    char *server_name;   /* owned; NULL: none */
    char *verify_name;   /* owned; NULL: none */
    struct hello *hello; /* owned; a server's, from the ClientHello to the end of the handshake */
    char seen_name[256];
    char alpn_offered[256];
    bool hello_seen;
    bool established;
    bool suite_refused;
    bool swallow_unexpected; /* after a refused renegotiation */
    struct verdict verdict;
    struct failure failure;
    char explanation[EXPLAIN_SIZE]; /* failure.detail may point to it */
};

static bool
is_tls13(const struct session *s)
{
    return gnutls_protocol_get_version(s->tls) >= GNUTLS_TLS1_3;
}

/* GnuTLS' code, but for one that it mistakes for another: when no version fits, no suite does. */
static int
better_code(const struct session *s, int code)
{
    if (code == GNUTLS_E_NO_CIPHER_SUITES && s->hello != NULL &&
        (s->hello->versions & s->credentials->versions) == 0)
        return GNUTLS_E_UNSUPPORTED_VERSION_PACKET;
    return code;
}

/* Translates a GnuTLS code; the one way into s->failure. */
static enum result
fail(struct session *s, int code)
{
    struct alerts_question q = {
        .code = better_code(s, code),
        .received_alert = (unsigned)gnutls_alert_get(s->tls),
        .certificate_status = s->verdict.status,
        .certificate = s->verdict.fault,
        .records = records_fault(s->records),
        .plain_protocol = records_plain_protocol(s->records),
        .transport_error = records_error(s->records),
        .plain_alert = records_plain_alert(s->records),
        .keeper_failed = code == GNUTLS_E_PK_SIGN_FAILED && signer_failure() != RESULT_OK,
        .suite_refused = s->suite_refused,
        .is_tls13 = is_tls13(s),
    };

    s->failure = alerts_answer(&q);
    if (s->failure.result == RESULT_TLS_ALERT && !s->failure.by_peer)
        s->failure.detail =
            explain(s->explanation, &s->failure, s->tls, s->credentials, s->hello, s->verify_name);
    return s->failure.result;
}

/* --- called by GnuTLS in the handshake ------------------------------------------------------ */

/* A server answers with one protocol, the first of its own that the client offers. */
static int
choose_protocol(struct session *s)
{
    const struct credentials *c = s->credentials;
    const gnutls_datum_t *chosen;

    if (c->alpn_count == 0 || s->hello->alpn_size == 0)
        return 0;
    chosen = hello_choose(s->hello, c->alpn_names, c->alpn_count);
    if (chosen == NULL)
        return GNUTLS_E_NO_APPLICATION_PROTOCOL;
    return gnutls_alpn_set_protocols(s->tls, chosen, 1, 0);
}

static int
on_client_hello(struct session *s, const gnutls_datum_t *message)
{
    /* The second one, after a HelloRetryRequest, says nothing new. */
    if (s->hello_seen)
        return 0;
    s->hello_seen = true;
    s->hello = malloc(sizeof *s->hello);
    if (s->hello == NULL)
        return GNUTLS_E_MEMORY_ERROR;
    hello_read(s->hello, message);
    memcpy(s->seen_name, s->hello->server_name, sizeof s->seen_name);
    memcpy(s->alpn_offered, s->hello->alpn_offered, sizeof s->alpn_offered);
    return choose_protocol(s);
}

/*
 * GnuTLS offers the product of key exchanges, ciphers and hashes; a suite that was not named may
 * be among them.
 */
static int
on_server_hello(struct session *s, const gnutls_datum_t *message)
{
    uint16_t suite = hello_chosen_suite(message);

    if (!credentials_allow(s->credentials, suite)) {
        log_debug("conn=%s the suite is not one of those named suite=0x%04x", s->options.handle,
                  (unsigned)suite);
        s->suite_refused = true;
        return GNUTLS_E_NO_CIPHER_SUITES;
    }
    s->options.on_event(s->options.context, EVENT_HELLO_DONE);
    return 0;
}

/*
 * In TLS 1.2 that is the client's key exchange; in 1.3 the server's Finished, or, where the server
 * asked for the client's certificate, that.
 */
static bool
ends_certificates(const struct session *s, unsigned type, bool incoming)
{
    bool asked = s->credentials->role == ROLE_SERVER && s->credentials->verify;

    if (!is_tls13(s))
        return type == GNUTLS_HANDSHAKE_CLIENT_KEY_EXCHANGE;
    if (asked)
        return type == GNUTLS_HANDSHAKE_CERTIFICATE_PKT && incoming;
    return type == GNUTLS_HANDSHAKE_FINISHED;
}

static int
on_message(gnutls_session_t tls, unsigned type, unsigned when, unsigned incoming,
           const gnutls_datum_t *message)
{
    struct session *s = gnutls_session_get_ptr(tls);

    if (s->established)
        return 0;
    if (type == GNUTLS_HANDSHAKE_CLIENT_HELLO && when == GNUTLS_HOOK_PRE && incoming)
        return on_client_hello(s, message);
    if (when != GNUTLS_HOOK_POST)
        return 0;
    if (type == GNUTLS_HANDSHAKE_SERVER_HELLO)
        return on_server_hello(s, message);
    if (ends_certificates(s, type, incoming))
        s->options.on_event(s->options.context, EVENT_KEYS_DONE);
    return 0;
}

static int
on_verify(gnutls_session_t tls)
{
    struct session *s = gnutls_session_get_ptr(tls);

    if (verify_peer(tls, s->credentials, s->verify_name, &s->verdict))
        return 0;
    return GNUTLS_E_CERTIFICATE_ERROR;
}

/* --- birth and death ------------------------------------------------------------------------ */

static gnutls_certificate_request_t
client_certificate_wish(const struct credentials *c)
{
    if (!c->verify)
        return GNUTLS_CERT_IGNORE;
    return c->fail_if_no_peer_cert ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST;
}

static int
set_up_client(struct session *s)
{
    const struct credentials *c = s->credentials;
    int code = 0;

    if (s->server_name != NULL)
        code =
            gnutls_server_name_set(s->tls, GNUTLS_NAME_DNS, s->server_name, strlen(s->server_name));
    if (code >= 0 && c->alpn_count > 0)
        code = gnutls_alpn_set_protocols(s->tls, c->alpn_names, (unsigned)c->alpn_count, 0);
    return code;
}

static int
set_up(struct session *s)
{
    const struct credentials *c = s->credentials;
    int code = gnutls_priority_set(s->tls, c->priority);

    if (code >= 0)
        code = gnutls_credentials_set(s->tls, GNUTLS_CRD_CERTIFICATE, c->certificates);
    if (code < 0)
        return code;
    gnutls_session_set_ptr(s->tls, s);
    gnutls_handshake_set_timeout(s->tls, GNUTLS_INDEFINITE_TIMEOUT);
    gnutls_session_set_verify_function(s->tls, on_verify);
    gnutls_handshake_set_hook_function(s->tls, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_BOTH, on_message);
    records_attach(s->records, s->tls);
    if (c->role == ROLE_CLIENT)
        return set_up_client(s);
    gnutls_certificate_server_set_request(s->tls, client_certificate_wish(c));
    return 0;
}

/* NULL stays NULL.  false: no memory. */
static bool
copy_text(char **copy, const char *text)
{
    *copy = text != NULL ? strdup(text) : NULL;
    return text == NULL || *copy != NULL;
}

enum result
session_new(struct session **out, struct records *records, const struct session_options *options)
{
    struct session *s = calloc(1, sizeof *s);
    unsigned flags = GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS;

    if (s == NULL) {
        records_free(records);
        return RESULT_NO_MEMORY;
    }
    s->records = records;
    s->options = *options;
    s->credentials = options->credentials;
    /* Without the extensions that GnuTLS adds by itself: a client's status_request. */
    flags |= s->credentials->role == ROLE_CLIENT ? GNUTLS_CLIENT | GNUTLS_NO_EXTENSIONS
                                                 : GNUTLS_SERVER;
    if (!copy_text(&s->server_name, options->server_name) ||
        !copy_text(&s->verify_name, options->verify_name) || gnutls_init(&s->tls, flags) < 0) {
        session_free(s);
        return RESULT_NO_MEMORY;
    }
    if (set_up(s) < 0) {
        session_free(s);
        return RESULT_TLS_BROKEN;
    }
    *out = s;
    return RESULT_OK;
}

void
session_free(struct session *s)
{
    if (s == NULL)
        return;
    if (s->tls != NULL)
        gnutls_deinit(s->tls);
    records_free(s->records);
    free(s->hello);
    free(s->server_name);
    free(s->verify_name);
    free(s);
}

gnutls_session_t
session_tls(const struct session *s)
{
    return s->tls;
}

struct records *
session_records(const struct session *s)
{
    return s->records;
}

const struct failure *
session_failure(const struct session *s)
{
    return &s->failure;
}

const char *
session_server_name(const struct session *s)
{
    if (s->credentials->role == ROLE_CLIENT)
        return s->server_name != NULL ? s->server_name : "";
    return s->seen_name;
}

const char *
session_alpn_offered(const struct session *s)
{
    return s->alpn_offered;
}

bool
session_is_verified(const struct session *s)
{
    return s->verdict.is_verified;
}

/* --- the handshake -------------------------------------------------------------------------- */

static void
log_warning_alert(const struct session *s)
{
    if (s->options.log_alert)
        log_info("conn=%s warning=%s by=peer", s->options.handle,
                 tls_alert_name((unsigned)gnutls_alert_get(s->tls)));
}

static void
set_established(struct session *s)
{
    s->established = true;
    records_set_established(s->records);
    free(s->hello);
    s->hello = NULL;
}

/* One call of gnutls_handshake that is worth its while. */
static int
step_handshake(struct session *s)
{
    int code;

    while ((code = gnutls_handshake(s->tls)) == GNUTLS_E_WARNING_ALERT_RECEIVED)
        log_warning_alert(s);
    return code == GNUTLS_E_INTERRUPTED ? GNUTLS_E_AGAIN : code;
}

enum result
session_handshake(struct session *s)
{
    int code = step_handshake(s);
    enum result flushed = session_flush(s);

    /* The peer may have said why it does not listen any more; if not, the socket's error counts. */
    if (code == GNUTLS_E_AGAIN && flushed == RESULT_POSIX) {
        code = step_handshake(s);
        if (code == GNUTLS_E_AGAIN)
            code = GNUTLS_E_PUSH_ERROR;
    }
    if (code == GNUTLS_E_AGAIN)
        return RESULT_WOULD_BLOCK;
    if (code != 0)
        return fail(s, code);
    set_established(s);
    return RESULT_OK;
}

/* --- afterwards ----------------------------------------------------------------------------- */

/* The peer wants to shake hands again (TLS 1.2).  It is told no, and the connection goes on. */
static void
refuse_renegotiation(struct session *s)
{
    log_debug("conn=%s renegotiation refused", s->options.handle);
    (void)gnutls_alert_send(s->tls, GNUTLS_AL_WARNING, GNUTLS_A_NO_RENEGOTIATION);
    /* A server's GnuTLS then stumbles over the ClientHello that it still holds, once (B.2). */
    s->swallow_unexpected = s->credentials->role == ROLE_SERVER;
}

/* What came instead of data.  WOULD_BLOCK: try again when there is more. */
static enum result
handle_no_data(struct session *s, int code)
{
    switch (code) {
    case GNUTLS_E_AGAIN:
    case GNUTLS_E_INTERRUPTED:
        return RESULT_WOULD_BLOCK;
    case GNUTLS_E_WARNING_ALERT_RECEIVED:
        log_warning_alert(s);
        return RESULT_WOULD_BLOCK;
    case GNUTLS_E_REHANDSHAKE:
        refuse_renegotiation(s);
        return RESULT_WOULD_BLOCK;
    case GNUTLS_E_UNEXPECTED_PACKET:
        if (s->swallow_unexpected) {
            s->swallow_unexpected = false;
            return RESULT_WOULD_BLOCK;
        }
        return fail(s, code);
    default:
        return fail(s, code);
    }
}

enum result
session_receive(struct session *s, void *bytes, size_t *size)
{
    enum result result;
    bool swallowing;

    do {
        ssize_t got;

        swallowing = s->swallow_unexpected;
        got = gnutls_record_recv(s->tls, bytes, *size);
        if (got > 0) {
            *size = (size_t)got;
            records_progress(s->records);
            s->swallow_unexpected = false;
            return RESULT_OK;
        }
        if (got == 0)
            return RESULT_CLOSED;
        result = handle_no_data(s, (int)got);
    } while (result == RESULT_WOULD_BLOCK &&
             (records_has_more(s->records) || swallowing != s->swallow_unexpected));
    return result;
}

bool
session_has_more(const struct session *s)
{
    return gnutls_record_check_pending(s->tls) > 0 || records_has_more(s->records);
}

/* In TLS 1.0 an attacker knows the next IV; a first record of one byte takes that from him. */
static size_t
first_step(const struct session *s, size_t size)
{
    return gnutls_protocol_get_version(s->tls) == GNUTLS_TLS1_0 ? 1 : size;
}

enum result
session_send(struct session *s, const uint8_t *bytes, size_t size)
{
    size_t step = first_step(s, size);

    while (size > 0) {
        ssize_t sent = gnutls_record_send(s->tls, bytes, step);

        if (sent <= 0) {
            (void)fail(s, sent < 0 ? (int)sent : GNUTLS_E_INTERNAL_ERROR);
            return RESULT_TLS_BROKEN;
        }
        bytes += sent;
        size -= (size_t)sent;
        step = size;
    }
    return RESULT_OK;
}

void
session_bye(struct session *s)
{
    (void)gnutls_bye(s->tls, GNUTLS_SHUT_WR);
}

void
session_refuse(struct session *s, uint32_t alert)
{
    (void)gnutls_alert_send(s->tls, GNUTLS_AL_FATAL, (gnutls_alert_description_t)alert);
}

bool
session_send_alert(struct session *s)
{
    const struct failure *f = &s->failure;

    if (f->result != RESULT_TLS_ALERT || f->by_peer)
        return false;
    return gnutls_alert_send(s->tls, GNUTLS_AL_FATAL, (gnutls_alert_description_t)f->alert) == 0;
}

enum result
session_flush(struct session *s)
{
    return records_flush(s->records);
}
