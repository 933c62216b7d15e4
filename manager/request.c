#include "manager/request.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "manager/control.h"
#include "manager/description.h"
#include "manager/manager.h"
#include "manager/methods.h"
#include "manager/params.h"

enum {
    ID_BYTES_MAX = 64,
    NAME_SHOWN = 128,
    METHODS_MAX = 64,
};

enum request_state {
    REQUEST_RUNNING,   /* its method works on it */
    REQUEST_WAITING,   /* request_wait: its end may be asked for */
    REQUEST_ABANDONED, /* asked for; the answer is owed */
};

struct request {
    LIST_ENTRY(request) next;
    uint64_t number;
    struct client *client;
    const struct method *method;
    enum request_state state;
    json_t *id;                  /* owned */
    json_t *params;              /* owned */
    int fds[LINE_UNCLAIMED_MAX]; /* owned; -1 once taken */
    size_t fd_count;
    struct request *canceller; /* answered after this one; NULL */

    uv_timer_t timer;
    bool has_timer;
    void (*on_abandoned)(struct request *r, enum result why, void *data);
    void *data;
};

static const struct {
    const char *name;
    void (*run)(struct request *r);
} method_list[] = {
#define METHOD(method_name, function) { method_name, function },
    METHOD_LIST(METHOD)
#undef METHOD
};

/* By the number of the method in the description. */
static void (*runs[METHODS_MAX])(struct request *r);
static uint64_t last_number;

bool
requests_open(char *why, size_t why_size)
{
    size_t count = sizeof(method_list) / sizeof(method_list[0]);

    if (description_method_count() != count || count > METHODS_MAX) {
        snprintf(why, why_size, "%zu methods are described, %zu are there",
                 description_method_count(), count);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const struct method *m = description_method(method_list[i].name);

        if (!m || strcmp(m->name, method_list[i].name) != 0 || runs[m->number]) {
            snprintf(why, why_size, "%s is not described, or twice there", method_list[i].name);
            return false;
        }
        runs[m->number] = method_list[i].run;
    }
    return true;
}

/* --- facts --------------------------------------------------------------------------------- */

struct client *
request_client(const struct request *r)
{
    return r->client;
}

const json_t *
request_params(const struct request *r)
{
    return r->params;
}

uint64_t
request_number(const struct request *r)
{
    return r->number;
}

int
request_take_fd(struct request *r, size_t index)
{
    int fd = -1;

    if (index < r->fd_count) {
        fd = r->fds[index];
        r->fds[index] = -1;
    }
    return fd;
}

/* --- answers ------------------------------------------------------------------------------- */

static void
close_fds(int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fd_close(&fds[i]);
}

static void
on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void
request_free(struct request *r)
{
    struct client *c = r->client;
    struct request *canceller = r->canceller;

    LIST_REMOVE(r, next);
    ledger_request_close(r->number);
    json_decref(r->id);
    json_decref(r->params);
    close_fds(r->fds, r->fd_count);
    if (r->has_timer)
        uv_close((uv_handle_t *)&r->timer, on_timer_closed);
    else
        free(r);
    if (canceller)
        request_reply(canceller, json_object());
    client_request_closed(c);
}

/* Takes id, result and fd. */
static void
reply(struct client *c, json_t *id, const char *key, json_t *value, int fd,
      client_written_cb on_written, void *data)
{
    json_t *json = json_pack("{s:s, s:o}", "jsonrpc", "2.0", "id", id);

    if (fd >= 0)
        json_object_set_new(json, "fds", json_integer(1));
    json_object_set_new(json, key, value);
    client_reply(c, json, fd, on_written, data);
}

void
request_reply(struct request *r, json_t *result)
{
    request_reply_fd(r, result, -1, NULL, NULL);
}

void
request_reply_fd(struct request *r, json_t *result, int fd, client_written_cb on_written,
                 void *data)
{
    if (!result) {
        struct failure f;

        fd_close(&fd);
        failure_set(&f, RESULT_NO_MEMORY, NULL, NULL);
        request_fail(r, &f);
        if (on_written)
            on_written(data, false);
        return;
    }
    reply(r->client, json_incref(r->id), "result", result, fd, on_written, data);
    request_free(r);
}

void
request_fail(struct request *r, struct failure *f)
{
    log_debug("client=%s method=%s failed reason=%s", client_handle(r->client), r->method->name,
              result_name(f->reason));
    reply(r->client, json_incref(r->id), "error", failure_json(f), -1, NULL, NULL);
    failure_fini(f);
    request_free(r);
}

/* --- waiting ------------------------------------------------------------------------------- */

static void
abandon(struct request *r, enum result why)
{
    struct failure f;

    assert(r->state != REQUEST_ABANDONED);
    r->state = REQUEST_ABANDONED;
    if (r->has_timer)
        uv_timer_stop(&r->timer);
    if (r->on_abandoned) {
        r->on_abandoned(r, why, r->data);
        return;
    }
    failure_set(&f, why, NULL, NULL);
    request_fail(r, &f);
}

static void
on_time_over(uv_timer_t *timer)
{
    struct request *r = timer->data;

    abandon(r, client_is_gone(r->client) ? RESULT_CLOSED : RESULT_TIMEOUT);
}

static void
start_timer(struct request *r, uint64_t timeout_ms)
{
    if (!r->has_timer) {
        uv_timer_init(manager_loop, &r->timer);
        r->timer.data = r;
        r->has_timer = true;
    }
    uv_timer_start(&r->timer, on_time_over, timeout_ms, 0);
}

void
request_wait(struct request *r, int64_t timeout_ms,
             void (*on_abandoned)(struct request *r, enum result why, void *data), void *data)
{
    r->on_abandoned = on_abandoned;
    r->data = data;
    if (r->state == REQUEST_ABANDONED)
        return;
    r->state = REQUEST_WAITING;
    if (client_is_gone(r->client))
        start_timer(r, 0);
    else if (timeout_ms >= 0)
        start_timer(r, (uint64_t)timeout_ms);
    else if (r->has_timer)
        uv_timer_stop(&r->timer);
}

static struct request *
next_waiting(struct client *c)
{
    struct request *r;

    LIST_FOREACH(r, client_requests(c), next)
    {
        if (r->state == REQUEST_WAITING)
            return r;
    }
    return NULL;
}

/* An abandoned request may take others with it, so the search starts again each time. */
void
requests_abandon(struct client *c, enum result why)
{
    struct request *r;

    while ((r = next_waiting(c)))
        abandon(r, why);
}

static struct request *
find(struct client *c, const json_t *id)
{
    struct request *r;

    LIST_FOREACH(r, client_requests(c), next)
    {
        if (json_equal(r->id, id))
            return r;
    }
    return NULL;
}

void
request_cancel(struct request *r, const json_t *id)
{
    struct request *other = find(r->client, id);
    struct failure f;

    if (!other) {
        failure_set(&f, RESULT_NOT_FOUND, "no request of this client has this id", "{s:s}", "what",
                    "request");
        request_fail(r, &f);
        return;
    }
    if (other->state != REQUEST_WAITING || other == r) {
        failure_bad_state(&f, other->state == REQUEST_ABANDONED ? "ending" : "running", "waiting",
                          NULL);
        request_fail(r, &f);
        return;
    }
    other->canceller = r; /* answered by request_free, behind the other's own answer */
    abandon(other, RESULT_CANCELLED);
}

/* --- from a line to a method --------------------------------------------------------------- */

/* What a line says, before it is known to be a request. */
struct envelope {
    json_t *json; /* owned */
    json_t *id;   /* borrowed; NULL when it is none that can be answered to */
    const char *method;
    json_t *params;              /* borrowed; NULL: none given */
    int fds[LINE_UNCLAIMED_MAX]; /* owned */
    size_t fd_count;
};

void
request_refuse_line(struct client *c, struct failure *f)
{
    reply(c, json_null(), "error", failure_json(f), -1, NULL, NULL);
    failure_fini(f);
}

static void
envelope_fini(struct envelope *e)
{
    json_decref(e->json);
    close_fds(e->fds, e->fd_count);
}

/* The name, where there is one, is the client's and shown escaped. */
static enum result
invalid(struct failure *f, const char *text, const char *name)
{
    char shown[NAME_SHOWN];
    char why[2 * NAME_SHOWN];

    log_escape(shown, sizeof(shown), name, strlen(name));
    snprintf(why, sizeof(why), "%s%s", text, shown);
    failure_set(f, RESULT_INVALID_REQUEST, why, "{s:s}", "why", why);
    return RESULT_INVALID_REQUEST;
}

static enum result
descriptors_missing(struct failure *f, json_int_t announced, size_t there)
{
    char why[NAME_SHOWN];

    snprintf(why, sizeof(why), "the line announces %lld descriptors, %zu came",
             (long long)announced, there);
    failure_set(f, RESULT_DESCRIPTORS, why, "{s:s}", "why", why);
    return RESULT_DESCRIPTORS;
}

static bool
is_id(const json_t *id)
{
    return json_is_integer(id) || (json_is_string(id) && json_string_length(id) <= ID_BYTES_MAX);
}

/*
 * Takes the line's descriptors off the queue first, so that whatever else is wrong with it, the
 * next line meets its own.  Where that cannot be known all are dropped: a later line then finds
 * too few, never another's.
 */
static enum result
claim_fds(struct envelope *e, struct client *c, struct failure *f)
{
    json_t *fds = json_object_get(e->json, "fds");
    json_int_t count = json_integer_value(fds);

    if (!fds)
        return RESULT_OK;
    if (!json_is_integer(fds) || count < 0) {
        line_reader_drop_fds(client_reader(c));
        return invalid(f, "fds must be an integer, the number of descriptors", "");
    }
    if (count > LINE_UNCLAIMED_MAX || !line_reader_claim(client_reader(c), e->fds, (size_t)count))
        return descriptors_missing(f, count, client_reader(c)->fd_count);
    e->fd_count = (size_t)count;
    return RESULT_OK;
}

static enum result
check_members(const struct envelope *e, struct failure *f)
{
    static const char *const known[] = { "jsonrpc", "id", "method", "params", "fds" };
    const char *name;
    json_t *value;

    json_object_foreach (e->json, name, value) {
        size_t i = 0;

        while (i < sizeof(known) / sizeof(known[0]) && strcmp(known[i], name) != 0)
            i++;
        if (i == sizeof(known) / sizeof(known[0]))
            return invalid(f, "a request has no member ", name);
    }
    return RESULT_OK;
}

static enum result
check_envelope(struct envelope *e, struct failure *f)
{
    const char *version = json_string_value(json_object_get(e->json, "jsonrpc"));
    enum result result = check_members(e, f);

    if (result != RESULT_OK)
        return result;
    if (!version || strcmp(version, "2.0") != 0)
        return invalid(f, "jsonrpc must be \"2.0\"", "");
    if (!json_object_get(e->json, "id"))
        return invalid(f, "id is missing: there are no notifications to Cordon", "");
    if (!e->id)
        return invalid(f, "id must be an integer or a string of at most 64 bytes", "");
    e->method = json_string_value(json_object_get(e->json, "method"));
    if (!e->method)
        return invalid(f, "method must be a string", "");
    if (!e->params || json_is_object(e->params))
        return RESULT_OK;
    failure_param(f, "params", "must be an object with the parameters by name");
    return RESULT_INVALID_PARAMS;
}

static enum result
read_line(struct envelope *e, struct client *c, const char *line, size_t size, struct failure *f)
{
    enum result result;

    memset(e, 0, sizeof(*e));
    e->json = line_parse(line, size, LINE_VALUES_MAX, f);
    if (!e->json) {
        line_reader_drop_fds(client_reader(c));
        return f->reason;
    }
    e->id = json_object_get(e->json, "id");
    if (!is_id(e->id))
        e->id = NULL;
    e->params = json_object_get(e->json, "params");
    result = claim_fds(e, c, f);
    return result == RESULT_OK ? check_envelope(e, f) : result;
}

static enum result
no_method(struct failure *f, const char *name)
{
    char shown[NAME_SHOWN];

    log_escape(shown, sizeof(shown), name, strlen(name));
    failure_set(f, RESULT_METHOD_NOT_FOUND, NULL, "{s:s}", "method", shown);
    snprintf(f->message, sizeof(f->message), "there is no method %s; cordon.describe lists them",
             shown);
    return RESULT_METHOD_NOT_FOUND;
}

/* Whether this client may have this done now. */
static enum result
check_admission(struct client *c, struct envelope *e, const struct method *m, struct failure *f)
{
    if (find(c, e->id)) {
        e->id = NULL; /* or this would look like the other's answer */
        return invalid(f, "this id is in use by a request that is not answered", "");
    }
    if (client_request_count(c) >= config.requests_max) {
        failure_limit(f, "requests", config.requests_max);
        return RESULT_LIMIT;
    }
    if (manager_is_stopping()) {
        failure_set(f, RESULT_SHUTTING_DOWN, NULL, NULL);
        return RESULT_SHUTTING_DOWN;
    }
    if (m->role == ROLE_ADMINISTRATOR && !client_is_administrator(c)) {
        failure_set(f, RESULT_NOT_ALLOWED, NULL, "{s:s}", "role", "administrator");
        return RESULT_NOT_ALLOWED;
    }
    if (e->fd_count > 0 && !client_is_operator(c)) {
        failure_not_supported(f, "descriptors",
                              "descriptors of clients of another user are not supported yet",
                              "run the client as Cordon's own user or as root");
        return RESULT_NOT_SUPPORTED;
    }
    if (e->fd_count > m->fds_max) {
        failure_set(f, RESULT_DESCRIPTORS, NULL, "{s:s}", "why", "more came than the method takes");
        snprintf(f->message, sizeof(f->message), "%s takes at most %zu descriptors, %zu came",
                 m->name, m->fds_max, e->fd_count);
        return RESULT_DESCRIPTORS;
    }
    return RESULT_OK;
}

static enum result
check_params(struct client *c, struct envelope *e, const struct method *m, struct failure *f)
{
    struct params_source source = { .fds = e->fds,
                                    .fd_count = e->fd_count,
                                    .may_name_paths = client_is_operator(c) };

    if (!e->params) {
        e->params = json_object();
        json_object_set_new(e->json, "params", e->params);
    }
    return params_check(m, e->params, &source, f);
}

/* Takes what e holds. */
static enum result
start(struct client *c, struct envelope *e, const struct method *m, struct failure *f)
{
    struct request *r = calloc(1, sizeof(*r));

    if (!r) {
        failure_set(f, RESULT_NO_MEMORY, NULL, NULL);
        return RESULT_NO_MEMORY;
    }
    r->number = ++last_number;
    r->client = c;
    r->method = m;
    r->id = json_incref(e->id);
    r->params = json_incref(e->params);
    memcpy(r->fds, e->fds, sizeof(r->fds));
    r->fd_count = e->fd_count;
    e->fd_count = 0;
    LIST_INSERT_HEAD(client_requests(c), r, next);
    client_request_opened(c);
    ledger_request_open(r->number, client_number(c), 0, -1);
    runs[m->number](r);
    return RESULT_OK;
}

static enum result
handle(struct client *c, struct envelope *e, struct failure *f)
{
    const struct method *m = description_method(e->method);
    enum result result;

    if (!m)
        return no_method(f, e->method);
    result = check_admission(c, e, m, f);
    if (result == RESULT_OK)
        result = check_params(c, e, m, f);
    return result == RESULT_OK ? start(c, e, m, f) : result;
}

/* A line with fewer descriptors than it says: nobody knows any more which are whose. */
static bool
is_fatal(const struct envelope *e, enum result result)
{
    return result == RESULT_DESCRIPTORS && e->json && e->fd_count == 0 && !e->method;
}

void
request_handle_line(struct client *c, const char *line, size_t size)
{
    struct envelope e;
    struct failure f;
    enum result result = read_line(&e, c, line, size, &f);
    bool ends = is_fatal(&e, result);

    if (result == RESULT_OK)
        result = handle(c, &e, &f);
    if (result != RESULT_OK) {
        log_debug("client=%s refused reason=%s", client_handle(c), result_name(result));
        reply(c, e.id ? json_incref(e.id) : json_null(), "error", failure_json(&f), -1, NULL, NULL);
        failure_fini(&f);
    }
    if (ends) {
        line_reader_drop_fds(client_reader(c));
        client_end(c, "descriptors are missing");
    }
    envelope_fini(&e);
}
