#include "manager/connection_log.h"

#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "ipc/log_record.h"
#include "ipc/suites.h"
#include "manager/hints.h"

enum { LINES_OF_ONE_MAX = 50, LINES_OF_ALL_MAX = 5000 };

/* What stands in every line; a string that is not known is "", and then the line has no such key. */
struct words {
    char peer[160];
    const char *role, *listener, *service, *sni, *alpn, *version, *cipher, *subject;
};

static const char *
or_nothing(const char *text)
{
    return text != NULL ? text : "";
}

static void
words_of(const struct connection *c, struct words *w)
{
    const struct facts *f = &c->facts;
    const struct suite *suite = f->suite <= UINT16_MAX ? suite_by_code((uint16_t)f->suite) : NULL;

    address_text(&c->peername, w->peer, sizeof(w->peer));
    w->role = c->role == ROLE_SERVER ? "server" : "client";
    w->listener = c->listener != NULL ? listener_handle(c->listener) : "";
    w->service = c->listener != NULL ? listener_service(c->listener) : "";
    w->sni = or_nothing(f->server_name);
    w->alpn = or_nothing(f->alpn);
    w->version = or_nothing(tls_version_name(f->version));
    w->cipher = f->version != 0 && suite != NULL ? suite->iana : "";
    w->subject = or_nothing(f->subject);
}

void
connection_log_opened(const struct connection *c)
{
    struct words w;

    words_of(c, &w);
    log_info(
        "conn=%s opened peer=%s role=%s listener=%s service=%s sni=\"%s\" alpn=\"%s\" version=%s cipher=%s "
        "subject=\"%s\" took_ms=%u pid=%u",
        c->handle, w.peer, w.role, w.listener, w.service, w.sni, w.alpn, w.version, w.cipher,
        w.subject, (unsigned)c->facts.took_ms, (unsigned)c->pid);
}

/* --- lines of its worker ---------------------------------------------------------------------- */

static struct log_limit of_all;

static void
tell_dropped(struct connection *c)
{
    uint32_t dropped = log_limit_take_dropped(&c->log_limit);

    if (dropped > 0)
        log_warn("conn=%s its worker writes too many lines dropped=%u", c->handle,
                 (unsigned)dropped);
}

static void
tell_dropped_of_all(void)
{
    uint32_t dropped = log_limit_take_dropped(&of_all);

    if (dropped > 0)
        log_warn("all workers together write too many lines dropped=%u", (unsigned)dropped);
}

void
connection_log_line(struct connection *c, enum log_level level, const char *line)
{
    int64_t now_ms = clock_now_ms();
    char whole[LOG_LINE_MAX];

    if (level > log_get_level() || !log_limit_allows(&c->log_limit, LINES_OF_ONE_MAX, now_ms) ||
        !log_limit_allows(&of_all, LINES_OF_ALL_MAX, now_ms))
        return;
    tell_dropped(c);
    tell_dropped_of_all();
    /* Its own name for itself comes second, so it does not count. */
    snprintf(whole, sizeof(whole), "conn=%s %s", c->handle, line);
    log_forward(level, "worker", whole);
}

/* --- why it is over --------------------------------------------------------------------------- */

/* The verdict in words; "" likewise. */
struct why {
    const char *how;    /* a word: close_notify, tls_alert, worker_died */
    const char *by;     /* who: peer, owner, network, backend, worker, local */
    const char *alert;  /* its name */
    const char *cause;  /* a word */
    const char *detail; /* a sentence */
    const char *state, *error, *signal, *hint;
    enum log_level level;
    char status[40]; /* detail, of a worker that ended by itself */
};

static const char *
field(const struct verdict *v, const char *key)
{
    return or_nothing(json_string_value(json_object_get(v->failure.fields, key)));
}

static const char *
who_ended(const struct connection *c)
{
    const struct verdict *v = &c->verdict;

    if (v->how != NULL)
        return strcmp(v->how, "close_notify") == 0 || strcmp(v->how, "truncated") == 0 ? "peer"
                                                                                       : "owner";
    switch (v->failure.reason) {
    case RESULT_TLS_ALERT:
        return field(v, "sent_by");
    case RESULT_WORKER_DIED:
        return "worker";
    case RESULT_CLOSED:
        return c->close_how != NULL ? "owner" : "peer";
    case RESULT_TIMEOUT:
        return "peer";
    case RESULT_POSIX:
        if (json_object_get(v->failure.fields, "backend") != NULL ||
            strcmp(field(v, "what"), "backend") == 0)
            return "backend";
        return c->has_hello ? "network" : "local";
    default:
        return "local";
    }
}

static enum log_level
level_of(const struct connection *c, enum result reason)
{
    if (reason == RESULT_WORKER_DIED)
        return LOG_WARN;
    /* Not even a worker: this machine needs a hand. */
    if (reason == RESULT_INTERNAL || (reason == RESULT_POSIX && c->state == CONNECTION_SPAWNING))
        return LOG_ERROR;
    return LOG_INFO;
}

static const char *
detail_of(const struct connection *c, struct why *w)
{
    const struct verdict *v = &c->verdict;
    const json_t *cause = json_object_get(v->failure.fields, "cause");
    const json_t *status = json_object_get(v->failure.fields, "status");
    const char *text = json_string_value(json_object_get(cause, "text"));

    if (text != NULL)
        return text;
    if (status != NULL) {
        snprintf(w->status, sizeof(w->status), "its exit status is %d",
                 (int)json_integer_value(status));
        return w->status;
    }
    text = field(v, "why");
    return text[0] != '\0' || cause != NULL ? text : v->failure.message;
}

static void
explain(const struct connection *c, struct why *w)
{
    const struct verdict *v = &c->verdict;
    const json_t *cause = json_object_get(v->failure.fields, "cause");

    *w = (struct why){ .how = v->how != NULL ? v->how : result_name(v->failure.reason),
                       .by = who_ended(c),
                       .alert = field(v, "alert"),
                       .cause = or_nothing(json_string_value(json_object_get(cause, "reason"))),
                       .state = field(v, "state"),
                       .error = field(v, "posix"),
                       .signal = field(v, "signal"),
                       .hint = field(v, "hint"),
                       .level = level_of(c, v->failure.reason) };
    if (strcmp(w->signal, "SIGSYS") == 0)
        w->hint = HINT_FORBIDDEN_CALL;
    w->detail = detail_of(c, w);
    if (w->state[0] == '\0')
        w->state = c->failed_state != NULL ? c->failed_state : connection_state_name(c->state);
    if (w->hint[0] == '\0' && (strcmp(w->by, "peer") == 0 || strcmp(w->by, "network") == 0 ||
                               strcmp(w->by, "worker") == 0))
        w->hint = or_nothing(hint_for_reason(v->failure.reason, c->role));
}

static long long
lasted_ms(const struct connection *c)
{
    int64_t ms = clock_unix_ms() - c->opened_ms;

    return ms > 0 ? (long long)ms : 0;
}

static void
log_closed(const struct connection *c)
{
    const struct verdict *v = &c->verdict;
    struct words w;
    struct why y;

    words_of(c, &w);
    explain(c, &y);
    /* log_alert turns the report of an alert off; who closed, and how, is said all the same. */
    if (v->how == NULL && v->failure.reason == RESULT_TLS_ALERT && !c->options.log_alert)
        y.alert = y.cause = y.detail = y.hint = "";
    log_line(
        y.level,
        "conn=%s closed how=%s in=%llu out=%llu by=%s lasted_ms=%lld alert=%s signal=%s error=%s "
        "cause=%s detail=\"%s\" hint=\"%s\" peer=%s role=%s listener=%s service=%s sni=\"%s\" alpn=\"%s\" "
        "version=%s cipher=%s subject=\"%s\" pid=%u",
        c->handle, y.how, (unsigned long long)v->in, (unsigned long long)v->out, y.by, lasted_ms(c),
        y.alert, y.signal, y.error, y.cause, y.detail, y.hint, w.peer, w.role, w.listener,
        w.service, w.sni, w.alpn, w.version, w.cipher, w.subject, (unsigned)c->pid);
}

static void
log_failed(const struct connection *c)
{
    struct words w;
    struct why y;

    if (c->verdict.failure.reason == RESULT_TLS_ALERT && !c->options.log_alert)
        return;
    words_of(c, &w);
    explain(c, &y);
    log_line(
        y.level,
        "conn=%s handshake failed reason=%s by=%s alert=%s state=%s cause=%s signal=%s error=%s "
        "detail=\"%s\" hint=\"%s\" peer=%s role=%s listener=%s service=%s sni=\"%s\" alpn=\"%s\" "
        "lasted_ms=%lld",
        c->handle, y.how, y.by, y.alert, y.state, y.cause, y.signal, y.error, y.detail, y.hint,
        w.peer, w.role, w.listener, w.service, w.sni, w.alpn, lasted_ms(c));
}

/* Nobody has asked for a handshake, its options were wrong, or its peer could not be called. */
static void
log_unbegun(const struct connection *c)
{
    struct words w;
    struct why y;

    words_of(c, &w);
    explain(c, &y);
    if (c->host[0] != '\0')
        log_info("conn=%s connect failed host=\"%s\" port=%u reason=%s error=%s detail=\"%s\"",
                 c->handle, c->host, (unsigned)c->port, y.how, y.error, y.detail);
    else
        log_info(
            "conn=%s ended before a handshake reason=%s state=%s peer=%s role=%s listener=%s service=%s "
            "lasted_ms=%lld",
            c->handle, y.how, y.state, w.peer, w.role, w.listener, w.service, lasted_ms(c));
}

void
connection_log_ended(struct connection *c)
{
    tell_dropped(c);
    if (c->facts.version != 0)
        log_closed(c);
    else if (c->state >= CONNECTION_SPAWNING)
        log_failed(c);
    else
        log_unbegun(c);
}
