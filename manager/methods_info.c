/*
 * The methods that only tell: ssl.connection_information and its relatives, cordon.connections and
 * cordon.listeners.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/digest.h"
#include "ipc/suites.h"
#include "manager/methods.h"
#include "manager/methods_ssl.h"

/* --- ssl.connection_information --- */

static bool
is_wanted(const json_t *items, const char *name)
{
    const json_t *item;
    size_t i;

    if (!json_is_array(items))
        return true;
    json_array_foreach (items, i, item) {
        if (strcmp(json_string_value(item), name) == 0)
            return true;
    }
    return false;
}

static json_t *
information(const struct connection *c, const json_t *items)
{
    json_t *info = connection_info(c), *chosen = json_object(), *value;
    const char *name;

    json_object_set_new(info, "state", json_string(connection_state_word(c)));
    json_object_set_new(info, "hibernation", json_string("awake"));
    json_object_set_new(
        info, "bytes", json_pack("{s:I, s:I}", "in", (json_int_t)c->in, "out", (json_int_t)c->out));
    json_object_set_new(
        info, "times",
        json_pack("{s:I, s:o}", "opened", (json_int_t)c->opened_ms, "established",
                  c->established_ms != 0 ? json_integer(c->established_ms) : json_null()));
    json_object_foreach (info, name, value) {
        if (is_wanted(items, name))
            json_object_set(chosen, name, value);
    }
    json_decref(info);
    return json_pack("{s:o}", "info", chosen);
}

static void
on_report(struct question *q, enum result result)
{
    struct request *r = q->request;

    if (result != RESULT_OK) {
        question_done(q, result);
        return;
    }
    q->request = NULL;
    if (r != NULL)
        request_reply(r, information(q->connection, json_object_get(request_params(r), "items")));
}

void
method_connection_information(struct request *r)
{
    const json_t *items = json_object_get(request_params(r), "items");
    struct connection *c = param_connection(r, WHO_SEES);

    if (c == NULL || !is_established(r, c))
        return;
    if (c->state == CONNECTION_OPEN && is_wanted(items, "bytes"))
        connection_ask(c, QUESTION_REPORT, 0, r, -1, on_report);
    else
        request_reply(r, information(c, items));
}

void
method_connection_info(struct request *r)
{
    struct connection *c = param_connection(r, WHO_SEES);
    const char *version;

    if (c == NULL || !is_established(r, c))
        return;
    version = tls_version_name(c->facts.version);
    request_reply(r, json_pack("{s:s, s:o}", "protocol", version != NULL ? version : "unknown",
                               "cipher_suite", suite_json(c->facts.suite)));
}

void
method_negotiated_protocol(struct request *r)
{
    struct connection *c = param_connection(r, WHO_SEES);
    struct failure f;

    if (c == NULL || !is_established(r, c))
        return;
    if (c->facts.alpn != NULL) {
        request_reply(r, json_pack("{s:s}", "protocol", c->facts.alpn));
        return;
    }
    failure_set(&f, RESULT_PROTOCOL_NOT_NEGOTIATED, NULL, NULL);
    request_fail(r, &f);
}

/* --- ssl.peercert --- */

static void
on_certificate(struct question *q, enum result result)
{
    struct request *r = q->request;
    struct failure f;
    char *der;

    if (result != RESULT_OK) {
        question_done(q, result);
        return;
    }
    q->request = NULL;
    if (r == NULL)
        return;
    if (q->size == 0) {
        failure_set(&f, RESULT_NO_PEERCERT, NULL, NULL);
        request_fail(r, &f);
        return;
    }
    der = base64_text(q->bytes, q->size);
    request_reply(r, json_pack("{s:s}", "der", der));
    free(der);
}

void
method_peercert(struct request *r)
{
    struct connection *c = param_connection(r, WHO_SEES);
    struct failure f;

    if (c == NULL || !is_established(r, c))
        return;
    if (c->facts.peer_certificate == 0) {
        failure_set(&f, RESULT_NO_PEERCERT, NULL, NULL);
        request_fail(r, &f);
        return;
    }
    connection_ask(c, QUESTION_CERTIFICATE, 0, r, -1, on_certificate);
}

/* --- addresses --- */

/* Takes address, a socket_address or null. */
static void
reply_address(struct request *r, json_t *address)
{
    struct failure f;

    if (json_is_object(address)) {
        request_reply(r, address);
        return;
    }
    json_decref(address);
    failure_posix(&f, ENOTCONN, "getpeername");
    request_fail(r, &f);
}

void
method_peername(struct request *r)
{
    struct connection *c = param_connection(r, WHO_SEES);

    if (c != NULL)
        reply_address(r, address_json(&c->peername));
}

void
method_sockname(struct request *r)
{
    struct connection *c;
    struct listener *l;

    if (param_text(r, "conn") != NULL) {
        c = param_connection(r, WHO_SEES);
        if (c != NULL)
            reply_address(r, address_json(&c->sockname));
        return;
    }
    l = param_listener(r, WHO_SEES);
    if (l != NULL)
        reply_address(r, listener_address(l));
}

/* --- lists --- */

static bool
is_given(const json_t *params, const char *name, const char *value)
{
    const char *wanted = json_string_value(json_object_get(params, name));

    return wanted == NULL || strcmp(wanted, value) == 0;
}

static bool
connection_fits(const struct connection *c, const void *filter)
{
    const json_t *params = filter;
    struct client *owner = c->owner != NULL ? owner_client(c->owner) : NULL;

    return is_given(params, "conn", c->handle) &&
           is_given(params, "listener", c->listener != NULL ? listener_handle(c->listener) : "") &&
           is_given(params, "owner", owner != NULL ? client_handle(owner) : "") &&
           is_given(params, "role", c->role == ROLE_SERVER ? "server" : "client") &&
           is_given(params, "state", connection_state_word(c));
}

void
method_connections(struct request *r)
{
    const json_t *params = request_params(r);
    const char *after = param_text(r, "after");

    request_reply(r,
                  connections_page(request_client(r), after != NULL ? handle_number(after, 'c') : 0,
                                   (size_t)json_integer_value(json_object_get(params, "limit")),
                                   connection_fits, params));
}

void
method_listeners(struct request *r)
{
    const json_t *params = request_params(r);
    struct client *client = request_client(r);
    const char *after = param_text(r, "after");
    uint64_t number = after != NULL ? handle_number(after, 'l') : 0;
    size_t limit = (size_t)json_integer_value(json_object_get(params, "limit"));
    json_t *rows = json_array(), *next = json_null();
    struct listener *l, *last = NULL;

    for (l = listener_first(); l != NULL; l = listener_after(l)) {
        struct client *owner = owner_client(listener_owner(l));

        if (listener_number(l) <= number || !is_given(params, "listener", listener_handle(l)) ||
            !is_given(params, "owner", owner != NULL ? client_handle(owner) : "") ||
            (listener_uid(l) != client_uid(client) && !client_is_administrator(client)))
            continue;
        if (json_array_size(rows) == limit) {
            next = json_string(listener_handle(last));
            break;
        }
        json_array_append_new(rows, listener_row(l));
        last = l;
    }
    request_reply(r, json_pack("{s:o, s:o}", "listeners", rows, "next", next));
}
