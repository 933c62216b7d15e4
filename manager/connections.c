#include "manager/connections.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "manager/connection.h"
#include "manager/descriptors.h"
#include "manager/events.h"
#include "manager/keys.h"
#include "manager/ledger.h"
#include "manager/listeners.h"
#include "manager/manager.h"
#include "manager/map.h"

enum { ENDED_MAX = 1024 };

/* The handle of a connection that has ended, for its owner. */
struct ended {
    uint64_t number;
    struct owner *owner;
    json_t *ending; /* owned; NULL: it was never established */
    TAILQ_ENTRY(ended) entry;
};

/* What a client owns; client 0: the manager itself, whose services have no other owner. */
struct owner {
    uint64_t client;
    uid_t uid;
    TAILQ_HEAD(, connection) connections;
    TAILQ_HEAD(, owned_listener) listeners;
    TAILQ_HEAD(, ended) ended;
    size_t ended_count;
};

struct owned_listener {
    struct listener *listener;
    TAILQ_ENTRY(owned_listener) entry;
};

struct totals totals;

static TAILQ_HEAD(, connection) connections = TAILQ_HEAD_INITIALIZER(connections);
static struct map connections_by_number, ended_by_number, owners_by_client;
static uint64_t last_number;

static struct {
    bool is_closing;
    void (*on_done)(void);
    uv_timer_t timer;
} closing;

static void close_all_if_done(void);

/* --- handles --- */

uint64_t
handle_number(const char *handle, char prefix)
{
    unsigned long long start, number;
    char expected[48];

    if (handle[0] != prefix || sscanf(handle + 1, "%llu.%llu", &start, &number) != 2 ||
        start != manager_start_number())
        return 0;
    snprintf(expected, sizeof(expected), "%c%llu.%llu", prefix, start, number);
    return strcmp(expected, handle) == 0 ? number : 0;
}

static bool
may_see(const struct client *client, uid_t uid)
{
    return client_is_administrator(client) || client_uid(client) == uid;
}

static void
failure_not_found(struct failure *f, const char *handle)
{
    failure_set(f, RESULT_NOT_FOUND, NULL, "{s:s}", "what", handle);
}

static bool
owns(const struct client *client, const struct connection *c)
{
    if (c->owner != NULL)
        return c->owner->client == client_number(client);
    return c->options.lifetime_descriptor && c->uid == client_uid(client);
}

bool
connection_is_over(const struct connection *c)
{
    return c->verdict.is_known;
}

static void
find_ended(const struct client *client, uint64_t number, const char *handle, struct failure *f)
{
    struct ended *e = map_get(&ended_by_number, number);

    if (e == NULL)
        failure_not_found(f, handle);
    else if (!may_see(client, e->owner->uid))
        failure_set(f, RESULT_NOT_OWNER, NULL, NULL);
    else if (e->ending != NULL)
        failure_set(f, RESULT_CLOSED, NULL, "{s:O}", "ending", e->ending);
    else
        failure_set(f, RESULT_CLOSED, NULL, NULL);
}

struct connection *
connection_find(const struct request *r, const char *handle, enum who who, struct failure *f)
{
    const struct client *client = request_client(r);
    uint64_t number = handle_number(handle, 'c');
    struct connection *c = connection_by_number(number);

    if (number == 0 || (c != NULL && c->is_forgotten)) {
        failure_not_found(f, handle);
        return NULL;
    }
    if (c == NULL) {
        find_ended(client, number, handle, f);
        return NULL;
    }
    if (who == WHO_OWNS ? !owns(client, c) : !may_see(client, c->uid)) {
        failure_set(f, RESULT_NOT_OWNER, NULL, NULL);
        return NULL;
    }
    if (connection_is_over(c)) {
        failure_closed(c, f);
        return NULL;
    }
    return c;
}

static void
ended_free(struct ended *e)
{
    map_take(&ended_by_number, e->number);
    TAILQ_REMOVE(&e->owner->ended, e, entry);
    e->owner->ended_count--;
    json_decref(e->ending);
    free(e);
}

bool
connection_forget_ended(const struct request *r, const char *handle)
{
    uint64_t number = handle_number(handle, 'c');
    struct ended *e = map_get(&ended_by_number, number);
    struct connection *c = connection_by_number(number);

    if (c != NULL && connection_is_over(c) && owns(request_client(r), c)) {
        c->is_forgotten = true;
        return true;
    }
    if (e == NULL || e->owner->client != client_number(request_client(r)))
        return false;
    ended_free(e);
    return true;
}

void
connection_keep_handle(struct connection *c)
{
    struct ended *e;

    if (c->owner == NULL || c->is_forgotten)
        return;
    e = calloc(1, sizeof(*e));
    assert(e != NULL);
    e->number = c->number;
    e->owner = c->owner;
    e->ending = c->facts.version != 0 ? connection_ending(c) : NULL;
    TAILQ_INSERT_TAIL(&c->owner->ended, e, entry);
    map_put(&ended_by_number, e->number, e);
    if (++c->owner->ended_count > ENDED_MAX)
        ended_free(TAILQ_FIRST(&c->owner->ended));
}

struct listener *
listener_find(const struct request *r, const char *handle, enum who who, struct failure *f)
{
    const struct client *client = request_client(r);
    struct listener *l = listener_by_number(handle_number(handle, 'l'));
    struct owner *o = l != NULL ? listener_owner(l) : NULL;

    if (l == NULL || o == NULL) {
        failure_not_found(f, handle);
        return NULL;
    }
    if (who == WHO_OWNS ? o->client != client_number(client) : !may_see(client, o->uid)) {
        failure_set(f, RESULT_NOT_OWNER, NULL, NULL);
        return NULL;
    }
    return l;
}

/* --- owners --- */

static struct owner *
owner_of(struct client *client)
{
    uint64_t number = client != NULL ? client_number(client) : 0;
    struct owner *o = map_get(&owners_by_client, number);

    if (o != NULL)
        return o;
    o = calloc(1, sizeof(*o));
    assert(o != NULL);
    o->client = number;
    o->uid = client != NULL ? client_uid(client) : geteuid();
    TAILQ_INIT(&o->connections);
    TAILQ_INIT(&o->listeners);
    TAILQ_INIT(&o->ended);
    map_put(&owners_by_client, o->client, o);
    return o;
}

struct client *
owner_client(const struct owner *o)
{
    return client_by_number(o->client);
}

uint64_t
owner_number(const struct owner *o)
{
    return o->client;
}

void
owner_add_listener(struct client *client, struct listener *l)
{
    struct owner *o = owner_of(client);
    struct owned_listener *owned = calloc(1, sizeof(*owned));

    assert(owned != NULL);
    owned->listener = l;
    TAILQ_INSERT_TAIL(&o->listeners, owned, entry);
    listener_set_owner(l, o);
}

void
owner_remove_listener(struct listener *l)
{
    struct owner *o = listener_owner(l);
    struct owned_listener *owned;

    TAILQ_FOREACH(owned, &o->listeners, entry)
    {
        if (owned->listener == l) {
            TAILQ_REMOVE(&o->listeners, owned, entry);
            free(owned);
            break;
        }
    }
    listener_set_owner(l, NULL);
}

static void
disown(struct connection *c)
{
    if (c->owner != NULL)
        TAILQ_REMOVE(&c->owner->connections, c, owner_entry);
    c->owner = NULL;
}

void
connections_client_gone(struct client *client)
{
    struct owner *o = map_get(&owners_by_client, client_number(client));
    struct connection *c;

    if (o == NULL)
        return;
    while (!TAILQ_EMPTY(&o->listeners))
        listener_close(TAILQ_FIRST(&o->listeners)->listener);
    while ((c = TAILQ_FIRST(&o->connections)) != NULL) {
        disown(c);
        if (!c->options.lifetime_descriptor || !c->is_given)
            connection_end(c, "owner_gone", NULL);
    }
    while (!TAILQ_EMPTY(&o->ended))
        ended_free(TAILQ_FIRST(&o->ended));
    map_take(&owners_by_client, o->client);
    free(o);
}

/* --- the registry --- */

int64_t
clock_unix_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct connection *
connection_by_number(uint64_t number)
{
    return map_get(&connections_by_number, number);
}

struct connection *
connection_new(struct client *client, enum tls_role role, const struct connection_options *options,
               struct listener *listener, int peer, const struct proxy_input *said)
{
    struct connection *c = calloc(1, sizeof(*c));
    int status;

    assert(c != NULL);
    c->number = ++last_number;
    snprintf(c->handle, sizeof(c->handle), "c%u.%llu", manager_start_number(),
             (unsigned long long)c->number);
    c->owner = owner_of(client);
    c->uid = c->owner->uid;
    c->role = role;
    c->options = *options;
    c->listener = listener != NULL ? listener_hold(listener) : NULL;
    c->deliver = listener != NULL ? deliver_hold(listener_deliver(listener)) : NULL;
    c->peer = peer;
    c->already_read = c->plain = c->pair.ours = c->pair.theirs = -1;
    c->deadline_ms = -1;
    c->ledger_slot = LEDGER_NO_SLOT;
    c->opened_ms = clock_unix_ms();
    TAILQ_INIT(&c->questions);
    status = uv_timer_init(manager_loop, &c->timer);
    status |= uv_timer_init(manager_loop, &c->stuck);
    assert(status == 0);
    c->timer.data = c->stuck.data = c;
    if (peer >= 0) {
        address_of_peer(peer, &c->peername);
        address_of_socket(peer, &c->sockname);
    }
    if (said != NULL && said->has_addresses) {
        c->proxied_by = c->peername;
        c->peername = said->source;
        c->sockname = said->destination;
    }
    TAILQ_INSERT_TAIL(&connections, c, entry);
    TAILQ_INSERT_TAIL(&c->owner->connections, c, owner_entry);
    map_put(&connections_by_number, c->number, c);
    c->is_growing = true;
    descriptors_expect(CONNECTION_GROWTH);
    totals.opened++;
    if (events_wanted("connection_opened"))
        events_publish(
            "connection_opened", c->uid, c->handle,
            json_pack("{s:s, s:o}", "conn", c->handle, "peername", address_json(&c->peername)));
    return c;
}

void
connection_set_context(struct connection *c, struct context *context)
{
    struct context *old = c->context;

    c->context = context_hold(context);
    context_release(old);
}

static void
on_handle_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;

    if (--c->closing_handles == 0)
        free(c);
}

void
connection_free(struct connection *c)
{
    disown(c);
    TAILQ_REMOVE(&connections, c, entry);
    map_take(&connections_by_number, c->number);
    context_release(c->context);
    listener_release(c->listener);
    deliver_release(c->deliver);
    facts_fini(&c->facts);
    if (c->verdict.is_known && c->verdict.how == NULL)
        failure_fini(&c->verdict.failure);
    c->closing_handles = 2;
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
    uv_close((uv_handle_t *)&c->stuck, on_handle_closed);
    close_all_if_done();
}

void
connection_options_from(struct connection_options *out, const struct options *o)
{
    memset(out, 0, sizeof(*out));
    out->active = o->active;
    out->delivery = o->delivery;
    out->lifetime_descriptor = o->lifetime_descriptor;
    out->mode_list = o->mode_list;
    out->nodelay = o->nodelay;
    out->log_alert = o->log_alert;
    if (o->server_name != NULL)
        snprintf(out->server_name, sizeof(out->server_name), "%s", o->server_name);
    if (o->verify && o->verify_hostname != NULL)
        snprintf(out->verify_name, sizeof(out->verify_name), "%s", o->verify_hostname);
}

void
connection_options_for(struct connection_options *out, const struct options *o, const char *host)
{
    connection_options_from(out, o);
    if (o->server_name == NULL && !host_is_address(host))
        snprintf(out->server_name, sizeof(out->server_name), "%s", host);
    if (o->verify && o->verify_hostname == NULL)
        snprintf(out->verify_name, sizeof(out->verify_name), "%s", host);
}

bool
connections_have_room(struct failure *f)
{
    if (manager_is_stopping()) {
        failure_set(f, RESULT_SHUTTING_DOWN, NULL, NULL);
        return false;
    }
    if (connections_by_number.count < config.connections_max)
        return true;
    failure_limit(f, "connections_max", config.connections_max);
    return false;
}

void
connection_misuse(uint64_t number, const char *why)
{
    struct connection *c = connection_by_number(number);
    char peer[160] = "none";

    if (c != NULL)
        address_text(&c->peername, peer, sizeof(peer));
    log_error("conn=%s attack: the worker asked the keeper for what it may not peer=%s why=\"%s\"",
              c != NULL ? c->handle : "none", peer, why);
    if (c != NULL)
        connection_kill(c, "it misused its channel to the keeper");
}

/* --- lists --- */

void
connections_status(json_t *status)
{
    struct connection *c;
    json_int_t handshaking = 0, leaving = 0;

    TAILQ_FOREACH(c, &connections, entry)
    {
        if (c->verdict.is_known)
            leaving++;
        else if (c->state >= CONNECTION_SPAWNING && c->state <= CONNECTION_HANDSHAKING)
            handshaking++;
    }
    json_object_set_new(status, "connections",
                        json_integer((json_int_t)connections_by_number.count));
    json_object_set_new(status, "handshaking", json_integer(handshaking));
    json_object_set_new(status, "leaving", json_integer(leaving));
    json_object_set_new(status, "listeners", json_integer((json_int_t)listeners_count()));
    json_object_set_new(status, "totals",
                        json_pack("{s:I, s:I, s:I, s:I, s:I}", "opened", (json_int_t)totals.opened,
                                  "established", (json_int_t)totals.established, "failed",
                                  (json_int_t)totals.failed, "closed", (json_int_t)totals.closed,
                                  "worker_died", (json_int_t)totals.worker_died));
}

void
connections_count(const struct client *client, uint32_t *connection_count, uint32_t *listener_count)
{
    const struct owner *o = map_get(&owners_by_client, client_number(client));
    const struct owned_listener *l;
    const struct connection *c;

    *connection_count = *listener_count = 0;
    if (o == NULL)
        return;
    TAILQ_FOREACH(c, &o->connections, owner_entry)
    {
        (*connection_count)++;
    }
    TAILQ_FOREACH(l, &o->listeners, entry)
    {
        (*listener_count)++;
    }
}

/* --- the end of all --- */

static void
on_close_all_late(uv_timer_t *timer)
{
    struct connection *c;

    TAILQ_FOREACH(c, &connections, entry)
    {
        connection_kill(c, "Cordon stops");
    }
    nurseries_stop();
    uv_timer_stop(timer);
    if (closing.on_done != NULL)
        closing.on_done();
    closing.on_done = NULL;
}

static void
on_all_closed(uv_timer_t *timer)
{
    on_close_all_late(timer);
}

static void
close_all_if_done(void)
{
    if (closing.is_closing && TAILQ_EMPTY(&connections))
        uv_timer_start(&closing.timer, on_all_closed, 0, 0);
}

void
connections_close_all(int64_t timeout_ms, void (*on_done)(void))
{
    struct connection *c, *next;
    struct listener *l, *following;

    closing.is_closing = true;
    closing.on_done = on_done;
    uv_timer_start(&closing.timer, on_close_all_late, timeout_ms > 0 ? (uint64_t)timeout_ms : 0, 0);
    for (l = listener_first(); l != NULL; l = following) {
        following = listener_after(l);
        if (listener_owner(l) != NULL)
            listener_close(l);
    }
    for (c = TAILQ_FIRST(&connections); c != NULL; c = next) {
        next = TAILQ_NEXT(c, entry);
        connection_end(c, "local", NULL);
    }
    close_all_if_done();
}

void
connections_open(void)
{
    int status = uv_timer_init(manager_loop, &closing.timer);

    assert(status == 0);
    keys_open();
    listeners_open();
    nurseries_open();
}

/* --- pages of lists --- */

static struct connection *
connections_after(uint64_t number)
{
    struct connection *c;

    if (number == 0)
        return TAILQ_FIRST(&connections);
    c = connection_by_number(number);
    if (c != NULL)
        return TAILQ_NEXT(c, entry);
    /* It has ended meanwhile; they are in the order of their numbers. */
    TAILQ_FOREACH(c, &connections, entry)
    {
        if (c->number > number)
            return c;
    }
    return NULL;
}

json_t *
connections_page(const struct client *client, uint64_t after, size_t limit,
                 bool (*fits)(const struct connection *c, const void *filter), const void *filter)
{
    struct connection *c, *last = NULL;
    json_t *rows = json_array(), *next = json_null();

    for (c = connections_after(after); c != NULL; c = TAILQ_NEXT(c, entry)) {
        if (!may_see(client, c->uid) || (fits != NULL && !fits(c, filter)))
            continue;
        if (json_array_size(rows) == limit) {
            next = json_string(last->handle);
            break;
        }
        json_array_append_new(rows, connection_row(c));
        last = c;
    }
    return json_pack("{s:o, s:o}", "connections", rows, "next", next);
}

json_t *
connections_snapshot(struct client *client)
{
    return connections_page(client, 0, 1000, NULL, NULL);
}
