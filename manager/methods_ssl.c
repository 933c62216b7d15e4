/*
 * The methods that make connections: ssl.listen, transport_accept, handshake, accept, connect,
 * upgrade.
 */
#include "manager/methods_ssl.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/digest.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "manager/descriptors.h"
#include "manager/manager.h"
#include "manager/methods.h"

/* --- parameters --- */

int64_t
param_timeout(const struct request *r)
{
    const json_t *timeout = json_object_get(request_params(r), "timeout");

    return json_is_integer(timeout) ? json_integer_value(timeout) : -1;
}

const char *
param_text(const struct request *r, const char *name)
{
    return json_string_value(json_object_get(request_params(r), name));
}

static unsigned
param_number(const struct request *r, const char *name)
{
    return (unsigned)json_integer_value(json_object_get(request_params(r), name));
}

struct connection *
param_connection(struct request *r, enum who who)
{
    struct failure f;
    struct connection *c = connection_find(r, param_text(r, "conn"), who, &f);

    if (c == NULL)
        request_fail(r, &f);
    return c;
}

struct listener *
param_listener(struct request *r, enum who who)
{
    struct failure f;
    struct listener *l = listener_find(r, param_text(r, "listener"), who, &f);

    if (l == NULL)
        request_fail(r, &f);
    return l;
}

bool
is_open(struct request *r, const struct connection *c)
{
    struct failure f;

    if (c->state == CONNECTION_OPEN || c->state == CONNECTION_DELIVERING)
        return true;
    failure_bad_state(&f, connection_state_word(c), "connection", NULL);
    request_fail(r, &f);
    return false;
}

bool
is_established(struct request *r, const struct connection *c)
{
    struct failure f;

    if (c->facts.version != 0)
        return true;
    failure_bad_state(&f, connection_state_word(c), "connection", NULL);
    request_fail(r, &f);
    return false;
}

/* --- ssl.listen --- */

struct listening {
    struct request *request;
    struct listener_parameters parameters;
    struct listen_plan plan;
    struct context_load *load;
};

static void
listening_free(struct listening *g)
{
    fd_close(&g->parameters.fd);
    listen_plan_fini(&g->plan);
    free(g);
}

static void
listening_fail(struct listening *g, struct failure *f)
{
    struct request *r = g->request;

    listening_free(g);
    request_fail(r, f);
}

void
listener_reply(struct request *r, const struct listener *l)
{
    json_t *address = listener_address(l), *result = json_object();
    json_t *ip = json_object_get(address, "address"), *port = json_object_get(address, "port");

    json_object_set_new(result, "listener", json_string(listener_handle(l)));
    json_object_set(result, "address", ip != NULL ? ip : json_null());
    json_object_set(result, "port", port != NULL ? port : json_null());
    json_decref(address);
    request_reply(r, result);
}

static void
on_listen_ready(void *owner, struct context *context, const struct context_loaded *loaded)
{
    struct listening *g = owner;
    struct request *r = g->request;
    struct listener *l;
    struct failure f;
    int error;

    /* Others may have come while this one was loading. */
    if (listeners_count() >= config.listeners_max) {
        context_release(context);
        failure_limit(&f, "listeners_max", config.listeners_max);
        listening_fail(g, &f);
        return;
    }
    g->parameters.loaded = loaded;
    l = listener_new(request_client(r), &g->parameters, &g->plan, context, &error);
    free(g);
    if (l == NULL) {
        failure_posix(&f, error, "listen");
        request_fail(r, &f);
        return;
    }
    listener_reply(r, l);
}

static void
on_listen_failed(void *owner, struct failure *f)
{
    listening_fail(owner, f);
}

static void
on_listen_abandoned(struct request *r, enum result why, void *data)
{
    struct listening *g = data;
    struct failure f;

    assert(g->request == r);
    context_load_cancel(g->load);
    failure_set(&f, why, NULL, NULL);
    listening_fail(g, &f);
}

/* Cordon may bind where its clients may not: it is not to lend that to everybody. */
static bool
may_bind(const struct request *r, const json_t *listen, struct failure *f)
{
    json_int_t port = json_integer_value(json_object_get(listen, "port"));

    if (port == 0 || port >= IPPORT_RESERVED || client_is_administrator(request_client(r)))
        return true;
    failure_set(f, RESULT_NOT_ALLOWED, "ports below 1024 are for administrators", "{s:s}", "role",
                "administrator");
    return false;
}

/* The socket that listen or fd_index names, in g->parameters.fd. */
static bool
listening_socket(struct listening *g, struct failure *f)
{
    const json_t *params = request_params(g->request);
    const json_t *listen = json_object_get(params, "listen");
    const json_t *fd_index = json_object_get(params, "fd_index");

    if (json_is_integer(fd_index)) {
        g->parameters.is_foreign = true;
        g->parameters.fd = request_take_fd(g->request, (size_t)json_integer_value(fd_index));
        if (g->parameters.fd >= 0 && fd_is_listening_stream(g->parameters.fd))
            return true;
        failure_param(f, "fd_index", "it is not a listening stream socket");
        return false;
    }
    if (!may_bind(g->request, listen, f))
        return false;
    g->parameters.fd = listener_bind(listen, g->plan.options.reuseaddr, f);
    return g->parameters.fd >= 0;
}

void
method_listen(struct request *r)
{
    static const struct context_events events = { on_listen_ready, on_listen_failed };
    struct listening *g;
    struct failure f;

    if (listeners_count() >= config.listeners_max) {
        failure_limit(&f, "listeners_max", config.listeners_max);
        request_fail(r, &f);
        return;
    }
    if (!descriptors_have_room(&f)) {
        request_fail(r, &f);
        return;
    }
    g = calloc(1, sizeof(*g));
    assert(g != NULL);
    g->request = r;
    g->parameters.fd = -1;
    if (listen_plan_read(&g->plan, request_params(r), r, &f) != RESULT_OK) {
        free(g);
        request_fail(r, &f);
        return;
    }
    if (!listening_socket(g, &f)) {
        listening_fail(g, &f);
        return;
    }
    g->load = context_load(&g->plan.options, NULL, false, false, &events, g);
    options_forget_secrets(&g->plan.options);
    request_wait(r, -1, on_listen_abandoned, g);
}

/* --- ssl.transport_accept, ssl.accept --- */

static void
wait_for_connection(struct request *r, bool with_handshake)
{
    struct listener *l = param_listener(r, WHO_OWNS);
    struct failure f;

    if (l != NULL && !listener_wait(l, r, with_handshake, param_timeout(r), &f))
        request_fail(r, &f);
}

void
method_transport_accept(struct request *r)
{
    wait_for_connection(r, false);
}

void
method_accept(struct request *r)
{
    wait_for_connection(r, true);
}

/* --- what ssl.handshake, ssl.connect and ssl.upgrade have in common --- */

static void
on_context_ready(void *owner, struct context *context, const struct context_loaded *loaded)
{
    struct connection *c = owner;

    (void)loaded;
    c->load = NULL;
    connection_set_context(c, context);
    context_release(context);
    connection_step(c, c->peer >= 0 ? CONNECTION_EVENT_SPAWN : CONNECTION_EVENT_DIAL);
}

static void
on_context_failed(void *owner, struct failure *f)
{
    struct connection *c = owner;

    c->load = NULL;
    connection_end(c, NULL, f);
}

static const struct context_events context_events = { on_context_ready, on_context_failed };

static void
on_handshake_abandoned(struct request *r, enum result why, void *data)
{
    struct connection *c = data;
    struct failure f;

    assert(c->request == r);
    if (why == RESULT_TIMEOUT)
        failure_set(&f, why, NULL, "{s:s}", "state", connection_state_word(c));
    else
        failure_set(&f, why, NULL, NULL);
    connection_end(c, NULL, &f);
}

static void
connection_await(struct connection *c, struct request *r)
{
    int64_t timeout_ms = param_timeout(r);

    c->request = r;
    c->deadline_ms = timeout_ms < 0 ? -1 : clock_now_ms() + timeout_ms;
    request_wait(r, timeout_ms, on_handshake_abandoned, c);
}

/* --- ssl.handshake --- */

static bool
names(const json_t *options, const char *name)
{
    const json_t *value = json_object_get(options, name);

    return value != NULL && !json_is_null(value);
}

void
method_handshake(struct request *r)
{
    const json_t *json = json_object_get(request_params(r), "options");
    struct connection *c = param_connection(r, WHO_OWNS);
    struct options options;
    struct failure f;
    bool own_certificate;

    if (c == NULL)
        return;
    if (c->state != CONNECTION_WAITING) {
        failure_bad_state(&f, connection_state_word(c), "waiting", NULL);
        request_fail(r, &f);
        return;
    }
    if (json_object_size(json) == 0) {
        connection_await(c, r);
        connection_step(c, CONNECTION_EVENT_SPAWN);
        return;
    }
    if (options_read(&options, ROLE_SERVER, listener_options(c->listener), json, r, &f) !=
        RESULT_OK) {
        request_fail(r, &f);
        return;
    }
    connection_options_from(&c->options, &options);
    if (options.has_password)
        options.password_key = listener_password_key(c->listener);
    own_certificate = names(json, "certfile") || names(json, "keyfile") || names(json, "password");
    c->load = context_load(&options, listener_context(c->listener), !own_certificate,
                           !names(json, "cacertfile"), &context_events, c);
    options_fini(&options);
    connection_await(c, r);
    connection_step(c, CONNECTION_EVENT_LOAD);
}

/* --- ssl.connect --- */

static void
set_text(char out[256], const char *text)
{
    snprintf(out, 256, "%s", text);
}

void
method_connect(struct request *r)
{
    const char *host = param_text(r, "host");
    struct connection_options own;
    struct connection *c;
    struct options options;
    struct failure f;

    if (!connections_have_room(&f) || !descriptors_have_room(&f) ||
        options_read(&options, ROLE_CLIENT, NULL, json_object_get(request_params(r), "options"), r,
                     &f) != RESULT_OK) {
        request_fail(r, &f);
        return;
    }
    connection_options_for(&own, &options, host);
    c = connection_new(request_client(r), ROLE_CLIENT, &own, NULL, -1, NULL);
    set_text(c->host, host);
    c->port = (uint16_t)param_number(r, "port");
    c->load = context_load(&options, NULL, false, false, &context_events, c);
    options_fini(&options);
    connection_await(c, r);
    connection_step(c, CONNECTION_EVENT_LOAD);
}

/* --- ssl.upgrade --- */

/* One end of a pair that we made carries plaintext of a connection: TLS in it would wait for itself. */
static bool
is_ours(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == getpid();
}

static int
upgrade_socket(struct request *r, struct failure *f)
{
    int fd = request_take_fd(r, param_number(r, "fd_index"));

    if (fd < 0 || !fd_is_connected_stream(fd)) {
        failure_param(f, "fd_index", "it is not a connected stream socket");
    } else if (is_ours(fd)) {
        failure_not_supported(f, "ssl.upgrade of a data descriptor",
                              "its other end is one of our own workers",
                              "a socket of your own between the two connections");
    } else {
        fd_disarm_linger(fd);
        return fd;
    }
    fd_close(&fd);
    return -1;
}

/* Bytes of the handshake that the client has read already, for the worker: *memfd, -1 if none. */
static bool
upgrade_already_read(struct request *r, int *memfd, struct failure *f)
{
    const char *text = param_text(r, "already_read");
    uint8_t *bytes;
    size_t size;
    enum result result;

    *memfd = -1;
    if (text == NULL)
        return true;
    if (base64_bytes(text, strlen(text), &bytes, &size) != RESULT_OK) {
        failure_param(f, "already_read", "it is not base64");
        return false;
    }
    result = size > 0 ? memfd_sealed(memfd, "already_read", bytes, size) : RESULT_OK;
    free(bytes);
    if (result != RESULT_OK)
        failure_posix(f, errno, "memfd_create");
    return result == RESULT_OK;
}

/* A client must know whom it talks to. */
static bool
upgrade_names(const struct options *o, struct connection_options *own, struct failure *f)
{
    if (o->role == ROLE_SERVER || !o->verify || o->verify_hostname != NULL)
        return true;
    if (o->server_name != NULL && o->server_name[0] != '\0') {
        set_text(own->verify_name, o->server_name);
        return true;
    }
    failure_option(f, "verify_hostname", NULL,
                   "name the host that the certificate must be for, or say \"disable\"");
    return false;
}

static void
upgrade_start(struct request *r, const struct options *o, int fd, int already_read)
{
    struct connection_options own;
    struct connection *c;
    struct failure f;
    int nodelay = o->nodelay;

    connection_options_from(&own, o);
    if (!upgrade_names(o, &own, &f)) {
        fd_close(&fd);
        fd_close(&already_read);
        request_fail(r, &f);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, sizeof(nodelay));
    c = connection_new(request_client(r), o->role, &own, NULL, fd, NULL);
    c->already_read = already_read;
    c->load = context_load(o, NULL, false, false, &context_events, c);
    connection_await(c, r);
    connection_step(c, CONNECTION_EVENT_LOAD);
}

void
method_upgrade(struct request *r)
{
    enum tls_role role = strcmp(param_text(r, "role"), "server") == 0 ? ROLE_SERVER : ROLE_CLIENT;
    const json_t *json = json_object_get(request_params(r), "options");
    struct options options;
    struct failure f;
    int fd, already_read;

    if (!connections_have_room(&f) || !descriptors_have_room(&f)) {
        request_fail(r, &f);
        return;
    }
    fd = upgrade_socket(r, &f);
    if (fd < 0) {
        request_fail(r, &f);
        return;
    }
    if (!upgrade_already_read(r, &already_read, &f) ||
        options_read(&options, role, NULL, json, r, &f) != RESULT_OK) {
        fd_close(&fd);
        fd_close(&already_read);
        request_fail(r, &f);
        return;
    }
    upgrade_start(r, &options, fd, already_read);
    options_fini(&options);
}
