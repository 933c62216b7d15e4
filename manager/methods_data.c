/*
 * The methods that move data, change and end: ssl.close, shutdown, send, recv, setopts, getopts,
 * and cordon.kill.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/digest.h"
#include "ipc/log.h"
#include "manager/frames.h"
#include "manager/methods.h"
#include "manager/methods_ssl.h"

/* --- ssl.close --- */

static void
close_listener(struct request *r)
{
    struct listener *l = param_listener(r, WHO_OWNS);

    if (l == NULL)
        return;
    listener_close(l);
    request_reply(r, json_object());
}

/* The handle is forgotten at once; what was written before goes out all the same. */
static void
close_connection(struct request *r, struct connection *c)
{
    c->is_forgotten = true;
    if (!c->is_given) {
        connection_end(c, "local", NULL);
        request_reply(r, json_object());
        return;
    }
    if (c->close_how == NULL)
        c->close_how = "local";
    connection_ask(c, QUESTION_CLOSE, 0, r, param_timeout(r), question_done);
    connection_step(c, CONNECTION_EVENT_CLOSE);
}

void
method_close(struct request *r)
{
    const char *handle = param_text(r, "conn");
    struct connection *c;
    struct failure f;

    if (handle == NULL) {
        close_listener(r);
        return;
    }
    c = connection_find(r, handle, WHO_OWNS, &f);
    if (c != NULL) {
        close_connection(r, c);
    } else if (f.reason == RESULT_CLOSED && connection_forget_ended(r, handle)) {
        failure_fini(&f);
        request_reply(r, json_object());
    } else {
        request_fail(r, &f);
    }
}

/* --- ssl.shutdown --- */

void
method_shutdown(struct request *r)
{
    /* Before param_connection, which answers r and so ends it. */
    const char *how = param_text(r, "how");
    uint32_t value = strcmp(how, "read") == 0    ? SHUTDOWN_READ
                     : strcmp(how, "write") == 0 ? SHUTDOWN_WRITE
                                                 : SHUTDOWN_BOTH;
    struct connection *c = param_connection(r, WHO_OWNS);

    if (c == NULL || !is_open(r, c))
        return;
    if (value != SHUTDOWN_READ)
        c->is_write_shut = true;
    connection_ask(c, QUESTION_SHUTDOWN, value, r, -1, question_done);
}

/* --- ssl.send --- */

/* The bytes that data, bytes or text give; owned by the caller. */
static bool
bytes_to_send(const struct request *r, uint8_t **bytes, size_t *size)
{
    const json_t *params = request_params(r);
    const json_t *list = json_object_get(params, "bytes"), *text = json_object_get(params, "text");
    const char *data = param_text(r, "data");

    if (data != NULL)
        return base64_bytes(data, strlen(data), bytes, size) == RESULT_OK;
    *size = list != NULL ? json_array_size(list) : json_string_length(text);
    *bytes = malloc(*size + 1);
    assert(*bytes != NULL);
    if (list == NULL)
        memcpy(*bytes, json_string_value(text), *size);
    for (size_t i = 0; list != NULL && i < *size; i++)
        (*bytes)[i] = (uint8_t)json_integer_value(json_array_get(list, i));
    return true;
}

static bool
may_send(struct request *r, const struct connection *c)
{
    struct failure f;

    if (c->options.delivery != DELIVERY_MESSAGES)
        failure_bad_state(&f, "descriptor", "messages", NULL);
    else if (c->is_write_shut)
        failure_bad_state(&f, "shut", "connection", NULL);
    else
        return is_open(r, c);
    request_fail(r, &f);
    return false;
}

void
method_send(struct request *r)
{
    struct connection *c = param_connection(r, WHO_OWNS);
    struct failure f;
    uint8_t *bytes;
    size_t size;

    if (c == NULL || !may_send(r, c))
        return;
    if (!bytes_to_send(r, &bytes, &size)) {
        failure_param(&f, "data", "it is not base64");
        request_fail(r, &f);
        return;
    }
    if (size > SEND_MAX) {
        free(bytes);
        failure_param(&f, "data", "it is longer than 32,768 bytes");
        request_fail(r, &f);
        return;
    }
    if (size == 0) {
        free(bytes);
        request_reply(r, json_pack("{s:I}", "out", (json_int_t)c->out));
        return;
    }
    frames_send(c->frames, r, bytes, size, param_timeout(r));
}

/* --- ssl.recv --- */

void
method_recv(struct request *r)
{
    json_int_t length = json_integer_value(json_object_get(request_params(r), "length"));
    struct connection *c = param_connection(r, WHO_OWNS);
    struct failure f;

    if (c == NULL)
        return;
    if (c->options.delivery != DELIVERY_MESSAGES || c->options.active) {
        failure_posix(&f, EINVAL, "recv");
        request_fail(r, &f);
        return;
    }
    if (is_open(r, c))
        frames_receive(c->frames, r, (uint32_t)length, param_timeout(r));
}

/* --- options --- */

static void
on_active_set(struct question *q, enum result result)
{
    struct connection *c = q->connection;
    struct request *r = q->request;

    if (result != RESULT_OK) {
        question_done(q, result);
        return;
    }
    c->options.active = q->value != 0;
    /* The data first, then the answer. */
    if (c->frames != NULL) {
        frames_catch_up(c->frames, q->in);
        frames_set_active(c->frames, c->options.active);
    }
    q->request = NULL;
    if (r != NULL)
        request_reply(r, json_pack("{s:I}", "in",
                                   (json_int_t)(c->frames != NULL ? frames_in(c->frames) : q->in)));
}

static void
set_connection(struct request *r, const json_t *active)
{
    struct connection *c = param_connection(r, WHO_OWNS);

    if (c == NULL || !is_open(r, c))
        return;
    if (!json_is_boolean(active)) {
        request_reply(r, json_pack("{s:I}", "in", (json_int_t)c->in));
        return;
    }
    if (json_is_true(active) && c->frames != NULL)
        frames_refuse_receiver(c->frames);
    connection_ask(c, QUESTION_ACTIVE, json_is_true(active) ? ACTIVE_ALWAYS : 0, r, -1,
                   on_active_set);
}

void
method_setopts(struct request *r)
{
    const json_t *options = json_object_get(request_params(r), "options");
    const json_t *active = json_object_get(options, "active");
    struct listener *l;

    if (param_text(r, "conn") != NULL) {
        set_connection(r, active);
        return;
    }
    l = param_listener(r, WHO_OWNS);
    if (l == NULL)
        return;
    if (json_is_boolean(active))
        listener_options(l)->active = json_is_true(active);
    request_reply(r, json_object());
}

static json_t *
options_named(const struct connection_options *o, const json_t *wanted)
{
    json_t *options = json_object(), *name;
    size_t i;

    json_array_foreach (wanted, i, name) {
        const char *text = json_string_value(name);

        if (strcmp(text, "active") == 0)
            json_object_set_new(options, text, json_boolean(o->active));
        else if (strcmp(text, "delivery") == 0)
            json_object_set_new(
                options, text,
                json_string(o->delivery == DELIVERY_MESSAGES ? "messages" : "descriptor"));
        else if (strcmp(text, "lifetime") == 0)
            json_object_set_new(options, text,
                                json_string(o->lifetime_descriptor ? "descriptor" : "control"));
        else
            json_object_set_new(options, text, json_string(o->mode_list ? "list" : "binary"));
    }
    return options;
}

void
method_getopts(struct request *r)
{
    const json_t *wanted = json_object_get(request_params(r), "names");
    struct connection_options own;
    struct connection *c;
    struct listener *l;

    if (param_text(r, "conn") != NULL) {
        c = param_connection(r, WHO_OWNS);
        if (c == NULL)
            return;
        own = c->options;
    } else {
        l = param_listener(r, WHO_OWNS);
        if (l == NULL)
            return;
        connection_options_from(&own, listener_options(l));
    }
    request_reply(r, json_pack("{s:o}", "options", options_named(&own, wanted)));
}

/* --- cordon.kill --- */

void
method_kill(struct request *r)
{
    struct connection *c = param_connection(r, WHO_SEES);
    const char *how;

    if (c == NULL)
        return;
    how = param_text(r, "how");
    log_info("conn=%s is ended by client=%s how=%s", c->handle, client_handle(request_client(r)),
             how);
    if (strcmp(how, "reset") == 0)
        connection_reset(c);
    else
        connection_end(c, "local", NULL);
    request_reply(r, json_object());
}
