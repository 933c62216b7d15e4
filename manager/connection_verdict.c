/*
 * How a connection ended: decided once, and told to everybody who must know.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "ipc/board.h"
#include "ipc/log.h"
#include "ipc/suites.h"
#include "manager/connection.h"
#include "manager/connection_log.h"
#include "manager/events.h"
#include "manager/hints.h"

static void
failure_alert(const struct connection *c, uint32_t alert, bool by_peer, const char *state,
              const char *cause, const char *detail, struct failure *f)
{
    const char *name = tls_alert_name(alert);
    const char *hint = hint_for_alert(name, cause, by_peer, c->role);
    char message[512];

    snprintf(message, sizeof(message), "TLS failed in state %s: %s sent the alert %s%s%s", state,
             by_peer ? "the peer" : "this side", name, detail != NULL ? ": " : "",
             detail != NULL ? detail : "");
    failure_set(f, RESULT_TLS_ALERT, message, "{s:s, s:i, s:s, s:s, s:s, s:{s:s, s:s*}, s:s*}",
                "alert", name, "alert_code", (int)alert, "sent_by", by_peer ? "peer" : "local",
                "role", c->role == ROLE_SERVER ? "server" : "client", "state", state, "cause",
                "reason", cause, "text", detail, "hint", hint);
}

/* The names that a hostile worker gives are escaped once more: it may lie about anything. */
static void
clean(char *out, size_t size, const char *text)
{
    log_escape_again(out, size, text != NULL ? text : "");
}

void
failure_from_failed(const struct connection *c, const struct message_failed *m, struct failure *f)
{
    char cause[80], detail[520];
    const char *state = worker_state_name(m->state);

    clean(cause, sizeof(cause), m->cause);
    clean(detail, sizeof(detail), m->detail);
    if (m->reason == RESULT_TLS_ALERT)
        failure_alert(c, m->alert, m->by_peer != 0, state, cause, m->detail != NULL ? detail : NULL,
                      f);
    else if (m->reason == RESULT_TIMEOUT)
        failure_set(f, RESULT_TIMEOUT, "the handshake was not complete in the time given", "{s:s}",
                    "state", state);
    else if (m->reason == RESULT_POSIX)
        failure_posix(f, (int)m->error, "handshake");
    else if (m->reason == RESULT_CLOSED)
        failure_set(f, RESULT_CLOSED, "the peer ended the transport before TLS was agreed", NULL);
    else
        failure_set(f, RESULT_INTERNAL, NULL, "{s:s}", "why", detail[0] != '\0' ? detail : cause);
}

void
failure_from_bye(const struct connection *c, const struct message_bye *m, struct failure *f)
{
    char cause[80], detail[520];

    clean(cause, sizeof(cause), m->cause != NULL ? m->cause : tls_alert_name(m->alert));
    clean(detail, sizeof(detail), m->detail);
    if (m->how == ENDING_TRANSPORT)
        failure_posix(f, (int)m->error, "transport");
    else if (m->how == ENDING_BACKEND)
        failure_posix(f, (int)m->error, "backend");
    else
        failure_alert(c, m->alert, m->by_peer != 0, "connection", cause,
                      m->detail != NULL ? detail : NULL, f);
}

void
failure_worker_died(struct connection *c, struct failure *f)
{
    const char *state = c->last_state != NULL ? c->last_state : "unknown";
    const char *abbreviation;
    char name[16];

    if (!c->has_exited) {
        failure_set(f, RESULT_WORKER_DIED, NULL, "{s:s}", "state", state);
    } else if (WIFSIGNALED(c->exit_status)) {
        abbreviation = sigabbrev_np(WTERMSIG(c->exit_status));
        snprintf(name, sizeof(name), "SIG%s", abbreviation != NULL ? abbreviation : "?");
        failure_set(f, RESULT_WORKER_DIED, NULL, "{s:s, s:s}", "signal", name, "state", state);
    } else {
        failure_set(f, RESULT_WORKER_DIED, NULL, "{s:i, s:s}", "status",
                    WEXITSTATUS(c->exit_status), "state", state);
    }
}

json_t *
connection_ending(const struct connection *c)
{
    const struct verdict *v = &c->verdict;
    json_t *ending = json_object();

    json_object_set_new(ending, "event", json_string(v->how != NULL ? "ssl_closed" : "ssl_error"));
    if (v->how != NULL) {
        json_object_set_new(ending, "how", json_string(v->how));
    } else {
        json_object_set_new(ending, "reason", json_string(result_name(v->failure.reason)));
        if (v->failure.fields != NULL)
            json_object_update(ending, v->failure.fields);
    }
    json_object_set_new(ending, "in", json_integer((json_int_t)v->in));
    json_object_set_new(ending, "out", json_integer((json_int_t)v->out));
    return ending;
}

void
failure_closed(const struct connection *c, struct failure *f)
{
    if (c != NULL && c->verdict.is_known && c->facts.version != 0)
        failure_set(f, RESULT_CLOSED, NULL, "{s:o}", "ending", connection_ending(c));
    else
        failure_set(f, RESULT_CLOSED, NULL, NULL);
}

static void
publish(const struct connection *c, const char *type, json_t *fields)
{
    json_object_set_new(fields, "conn", json_string(c->handle));
    events_publish(type, c->uid, c->handle, fields);
}

/* The owner's one last event. */
static void
tell_owner(struct connection *c)
{
    struct client *client = c->owner != NULL ? owner_client(c->owner) : NULL;
    json_t *params;

    if (!c->is_given || client == NULL || c->deliver != NULL)
        return;
    params = connection_ending(c);
    json_object_del(params, "event");
    json_object_set_new(params, "conn", json_string(c->handle));
    client_event(client, c->verdict.how != NULL ? "ssl_closed" : "ssl_error", params, -1, NULL,
                 NULL);
}

static void
tell_request(struct connection *c)
{
    struct request *r = c->request;
    struct failure f;

    c->request = NULL;
    if (r == NULL)
        return;
    if (c->verdict.how != NULL) {
        failure_set(&f, RESULT_CLOSED, NULL, NULL);
    } else {
        f = c->verdict.failure;
        f.fields = f.fields != NULL ? json_deep_copy(f.fields) : NULL;
    }
    request_fail(r, &f);
}

static void
tell_subscribers(struct connection *c)
{
    const struct verdict *v = &c->verdict;
    bool was_established = c->facts.version != 0;
    json_t *fields = connection_ending(c);

    json_object_del(fields, "event");
    if (was_established) {
        totals.closed++;
        publish(c, "connection_closed", fields);
        return;
    }
    if (v->how != NULL)
        json_object_set_new(fields, "reason", json_string("closed"));
    json_object_del(fields, "how");
    json_object_set_new(fields, "peername", address_json(&c->peername));
    publish(c, "connection_failed", fields);
}

void
connection_decide(struct connection *c, const char *how, struct failure *f)
{
    struct verdict *v = &c->verdict;

    if (v->is_known) {
        if (f != NULL)
            failure_fini(f);
        return;
    }
    v->is_known = true;
    v->how = how;
    if (f != NULL)
        v->failure = *f;
    v->in = c->in;
    v->out = c->out;
    if (c->facts.version == 0 && c->state >= CONNECTION_SPAWNING)
        totals.failed++;
    connection_log_ended(c);
    if (v->how == NULL && v->failure.reason == RESULT_WORKER_DIED)
        totals.worker_died++;
    tell_request(c);
    tell_owner(c);
    tell_subscribers(c);
    connection_questions_end(c, false);
}
