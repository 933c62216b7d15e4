#include "manager/events.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/time.h>
#include <unistd.h>

#include "ipc/log.h"
#include "ipc/secret.h"
#include "manager/control.h"
#include "manager/manager.h"
#include "manager/methods.h"

enum {
    QUEUE_BYTES_MAX = 256 << 10,
    QUEUE_LINES_MAX = 1024,
    PER_CLIENT_MAX = 64,
};

/* The types, a bit each; as the description lists them. */
static const char *const types[] = {
    "connection_opened", "connection_established", "connection_failed",
    "connection_closed", "listener_opened",        "listener_closed",
    "client_opened",     "client_closed",          "log",
};

enum { TYPE_COUNT = sizeof(types) / sizeof(types[0]), TYPE_LOG = 1 << (TYPE_COUNT - 1) };

struct event {
    STAILQ_ENTRY(event) next;
    char *line; /* owned */
    size_t size;
};

struct subscription {
    LIST_ENTRY(subscription) next;
    struct client *client; /* borrowed; ends its subscriptions before it ends */
    uint64_t number;
    unsigned wanted; /* mask of types */
    json_t *conns;   /* owned; handles as keys; NULL: any */
    uint64_t seq;
    uint64_t dropped; /* not told yet */
    STAILQ_HEAD(, event) queue;
    size_t bytes, lines;
};

static LIST_HEAD(, subscription) subscriptions;
static size_t subscription_count;
static uint64_t last_number;
static unsigned wanted_by_anybody;
static bool is_logging;

static unsigned
type_bit(const char *type)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (strcmp(types[i], type) == 0)
            return 1U << i;
    }
    return 0;
}

bool
events_wanted(const char *type)
{
    return wanted_by_anybody & type_bit(type);
}

size_t
events_subscription_count(void)
{
    return subscription_count;
}

/* --- the queue of a subscription ----------------------------------------------------------- */

static void
handle_of(const struct subscription *s, char *text, size_t size)
{
    snprintf(text, size, "s%" PRIu32 ".%" PRIu64, manager_start_number(), s->number);
}

/* Takes params.  false: no memory. */
static bool
append(struct subscription *s, const char *method, json_t *params)
{
    json_t *json =
        json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", method, "params", params);
    struct event *e = calloc(1, sizeof(*e));

    if (!e || !json || client_encode(json, &e->line, &e->size) != RESULT_OK) {
        json_decref(json);
        free(e);
        return false;
    }
    json_decref(json);
    STAILQ_INSERT_TAIL(&s->queue, e, next);
    s->bytes += e->size;
    s->lines++;
    client_wake(s->client);
    return true;
}

static bool
has_room(const struct subscription *s)
{
    return s->bytes < QUEUE_BYTES_MAX && s->lines < QUEUE_LINES_MAX;
}

static void
tell_dropped(struct subscription *s)
{
    char handle[40];

    if (s->dropped == 0 || !has_room(s))
        return;
    handle_of(s, handle, sizeof(handle));
    if (append(s, "overflow",
               json_pack("{s:s, s:I}", "subscription", handle, "dropped", (json_int_t)s->dropped)))
        s->dropped = 0;
}

static void
pop(struct subscription *s, char **line, size_t *size)
{
    struct event *e = STAILQ_FIRST(&s->queue);

    STAILQ_REMOVE_HEAD(&s->queue, next);
    s->bytes -= e->size;
    s->lines--;
    *line = e->line;
    *size = e->size;
    free(e);
}

bool
events_next(struct client *c, char **line, size_t *size)
{
    struct subscription *s;

    if (subscription_count == 0)
        return false;
    LIST_FOREACH(s, &subscriptions, next)
    {
        if (s->client != c)
            continue;
        tell_dropped(s);
        if (STAILQ_EMPTY(&s->queue))
            continue;
        pop(s, line, size);
        return true;
    }
    return false;
}

/* --- publishing ---------------------------------------------------------------------------- */

static bool
is_for(const struct subscription *s, unsigned bit, uid_t uid, const char *handle)
{
    if (!(s->wanted & bit))
        return false;
    if (client_uid(s->client) != uid && !client_is_administrator(s->client))
        return false;
    return !s->conns || (handle && json_object_get(s->conns, handle));
}

static int64_t
now_since_1970_ms(void)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    return (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
}

static const char *
handle_key(const char *handle)
{
    switch (handle[0]) {
    case 'c':
        return "conn";
    case 'l':
        return "listener";
    default:
        return "client";
    }
}

static void
publish_to(struct subscription *s, const char *type, int64_t time, const char *handle,
           json_t *fields)
{
    char name[40];
    json_t *params;

    s->seq++;
    tell_dropped(s);
    if (s->dropped > 0 || !has_room(s)) {
        s->dropped++;
        client_wake(s->client);
        return;
    }
    handle_of(s, name, sizeof(name));
    params = json_pack("{s:s, s:I, s:I, s:s}", "subscription", name, "seq", (json_int_t)s->seq,
                       "time", (json_int_t)time, "type", type);
    if (handle)
        json_object_set_new(params, handle_key(handle), json_string(handle));
    json_object_update(params, fields);
    if (!append(s, "cordon.event", params))
        s->dropped++;
}

void
events_publish(const char *type, uid_t uid, const char *handle, json_t *fields)
{
    unsigned bit = type_bit(type);
    struct subscription *s;

    if (wanted_by_anybody & bit) {
        int64_t time = now_since_1970_ms();

        LIST_FOREACH(s, &subscriptions, next)
        {
            if (is_for(s, bit, uid, handle))
                publish_to(s, type, time, handle, fields);
        }
    }
    json_decref(fields);
}

/* A line about an event that could not be sent would be the next event. */
static void
on_log_line(enum log_level level, const char *process, const char *line)
{
    char text[2048];
    char escaped[4096];
    json_t *json;

    if (is_logging)
        return;
    is_logging = true;
    snprintf(text, sizeof(text), "%s %s", process, line);
    json = json_string(text);
    if (!json) {
        log_escape(escaped, sizeof(escaped), text, strlen(text));
        json = json_string(escaped);
    }
    events_publish("log", geteuid(), NULL,
                   json_pack("{s:s, s:o}", "level", log_level_name(level), "text", json));
    is_logging = false;
}

/* --- subscribing --------------------------------------------------------------------------- */

static void
count_wanted(void)
{
    struct subscription *s;

    wanted_by_anybody = 0;
    LIST_FOREACH(s, &subscriptions, next)
    wanted_by_anybody |= s->wanted;
    log_set_tap(wanted_by_anybody & TYPE_LOG ? on_log_line : NULL);
}

static void
subscription_free(struct subscription *s)
{
    char *line;
    size_t size;

    LIST_REMOVE(s, next);
    subscription_count--;
    ledger_subscription_close(s->number);
    while (!STAILQ_EMPTY(&s->queue)) {
        pop(s, &line, &size);
        secret_free(line);
    }
    json_decref(s->conns);
    free(s);
}

void
events_client_gone(struct client *c)
{
    struct subscription *s = LIST_FIRST(&subscriptions);

    while (s) {
        struct subscription *after = LIST_NEXT(s, next);

        if (s->client == c)
            subscription_free(s);
        s = after;
    }
    count_wanted();
}

static size_t
count_of(const struct client *c)
{
    struct subscription *s;
    size_t count = 0;

    LIST_FOREACH(s, &subscriptions, next)
    count += s->client == c;
    return count;
}

static unsigned
read_types(const json_t *json)
{
    unsigned wanted = 0;
    size_t i;
    json_t *type;

    if (!json)
        return ((1U << TYPE_COUNT) - 1) & ~(unsigned)TYPE_LOG;
    json_array_foreach (json, i, type)
        wanted |= type_bit(json_string_value(type));
    return wanted;
}

static json_t *
read_conns(const json_t *json)
{
    json_t *conns = json ? json_object() : NULL;
    size_t i;
    json_t *conn;

    json_array_foreach (json, i, conn)
        json_object_set_new(conns, json_string_value(conn), json_true());
    return conns;
}

static struct subscription *
subscription_new(struct client *c, const json_t *params)
{
    struct subscription *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->client = c;
    s->number = ++last_number;
    s->wanted = read_types(json_object_get(params, "types"));
    s->conns = read_conns(json_object_get(params, "conns"));
    STAILQ_INIT(&s->queue);
    LIST_INSERT_HEAD(&subscriptions, s, next);
    subscription_count++;
    ledger_subscription_open(s->number, client_number(c));
    count_wanted();
    return s;
}

void
method_subscribe(struct request *r)
{
    struct client *c = request_client(r);
    struct subscription *s;
    struct failure f;
    char handle[40];
    json_t *result;

    if (count_of(c) >= PER_CLIENT_MAX) {
        failure_limit(&f, "subscriptions", PER_CLIENT_MAX);
        request_fail(r, &f);
        return;
    }
    s = subscription_new(c, request_params(r));
    if (!s) {
        request_reply(r, NULL);
        return;
    }
    handle_of(s, handle, sizeof(handle));
    result = json_pack("{s:s, s:I}", "subscription", handle, "seq", (json_int_t)s->seq);
    json_object_update_new(result, connections_snapshot(c));
    request_reply(r, result);
}

void
method_unsubscribe(struct request *r)
{
    const char *handle = json_string_value(json_object_get(request_params(r), "subscription"));
    struct subscription *s;
    struct failure f;
    char name[40];

    LIST_FOREACH(s, &subscriptions, next)
    {
        handle_of(s, name, sizeof(name));
        if (strcmp(name, handle) == 0)
            break;
    }
    if (s && s->client == request_client(r)) {
        subscription_free(s);
        count_wanted();
        request_reply(r, json_object());
        return;
    }
    if (s)
        failure_set(&f, RESULT_NOT_OWNER, NULL, NULL);
    else
        failure_set(&f, RESULT_NOT_FOUND, NULL, "{s:s}", "what", handle);
    request_fail(r, &f);
}
