#include "manager/services.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "manager/change.h"
#include "manager/listeners.h"
#include "manager/manager.h"
#include "manager/methods.h"
#include "manager/methods_ssl.h"
#include "manager/service_definition.h"
#include "manager/turns.h"

struct service {
    TAILQ_ENTRY(service) entry;
    char name[SERVICE_NAME_MAX + 1];
    json_t *definition;        /* owned; without secrets */
    struct listener *listener; /* a reference; it may have been closed by an error */
    bool is_from_file;
    bool is_taken; /* in a change: somebody has its listener already */
};

/* A service as it will be. */
struct candidate {
    char name[SERVICE_NAME_MAX + 1];
    json_t *definition;        /* owned */
    struct listen_plan plan;   /* owned */
    struct listener *listener; /* a reference: it keeps its socket; NULL: fd is its own */
    int fd;                    /* owned; bound, and listening; -1 */
    bool is_from_file;
    struct services_counts *counts; /* borrowed; NULL */
};

static TAILQ_HEAD(, service) services = TAILQ_HEAD_INITIALIZER(services);

/* --- the table --- */

static struct service *
service_find(const char *name)
{
    struct service *s;

    TAILQ_FOREACH(s, &services, entry)
    {
        if (strcmp(s->name, name) == 0)
            return s;
    }
    return NULL;
}

static bool
service_is_open(const struct service *s)
{
    return listener_owner(s->listener) != NULL;
}

static void
service_free(struct service *s)
{
    TAILQ_REMOVE(&services, s, entry);
    json_decref(s->definition);
    listener_release(s->listener);
    free(s);
}

static bool
is_used(const struct listener *l)
{
    const struct service *s;

    TAILQ_FOREACH(s, &services, entry)
    {
        if (s->listener == l)
            return true;
    }
    return false;
}

/* Listeners that no service has any more.  Their connections live on. */
static void
close_unused(void)
{
    struct listener *l, *next;

    for (l = listener_first(); l != NULL; l = next) {
        next = listener_after(l);
        if (listener_service(l)[0] == '\0' || is_used(l))
            continue;
        log_info("service=%s stops listening listener=%s", listener_service(l), listener_handle(l));
        listener_close(l);
    }
}

/* --- a part of a change --- */

static void
candidate_free(void *subject)
{
    struct candidate *c = subject;

    if (c == NULL)
        return;
    json_decref(c->definition);
    listen_plan_fini(&c->plan);
    listener_release(c->listener);
    fd_close(&c->fd);
    free(c);
}

/* r: as in listen_plan_read.  NULL: *f. */
static struct candidate *
candidate_new(const json_t *params, struct request *r, struct failure *f)
{
    struct candidate *c = calloc(1, sizeof(*c));

    assert(c != NULL);
    c->fd = -1;
    if (listen_plan_read(&c->plan, params, r, f) != RESULT_OK) {
        free(c);
        return NULL;
    }
    snprintf(c->name, sizeof(c->name), "%s", json_string_value(json_object_get(params, "name")));
    c->definition = service_definition(params);
    return c;
}

static bool
has_same_address(const struct candidate *c, const struct service *s)
{
    return json_equal(json_object_get(c->definition, "listen"),
                      json_object_get(s->definition, "listen"));
}

static void
candidate_take(struct candidate *c, struct service *s)
{
    s->is_taken = true;
    c->listener = listener_hold(s->listener);
}

/* A socket of its own; it listens before the old one of this name closes. */
static bool
candidate_listen(struct candidate *c, struct failure *f)
{
    c->fd = listener_bind(json_object_get(c->definition, "listen"), c->plan.options.reuseaddr, f);
    if (c->fd < 0)
        return false;
    if (listen(c->fd, c->plan.options.backlog) == 0)
        return true;
    failure_posix(f, errno, "listen");
    return false;
}

static struct context_load *
candidate_load(void *subject, const struct context_events *events, void *owner)
{
    struct candidate *c = subject;
    struct context_load *load = context_load(&c->plan.options, NULL, false, false, events, owner);

    options_forget_secrets(&c->plan.options);
    return load;
}

/* NULL: there is no listener, and the log says why. */
static struct listener *
candidate_swap_listener(struct candidate *c, struct context *context,
                        const struct context_loaded *loaded)
{
    struct listener_parameters parameters = { .fd = c->fd, .service = c->name, .loaded = loaded };
    struct listener *l;
    int error;

    if (c->listener != NULL && listener_owner(c->listener) != NULL) {
        listener_swap_service(c->listener, c->name, &c->plan, context, loaded);
        return c->listener;
    }
    if (c->listener != NULL) {
        context_release(context);
        log_error("service=%s does not listen why=\"its socket failed\"", c->name);
        return NULL;
    }
    c->fd = -1;
    l = listener_new(NULL, &parameters, &c->plan, context, &error);
    if (l == NULL)
        log_error("service=%s does not listen error=%s", c->name, posix_name(error));
    return l;
}

static struct service *
service_new(const char *name)
{
    struct service *s = calloc(1, sizeof(*s));

    assert(s != NULL);
    snprintf(s->name, sizeof(s->name), "%s", name);
    TAILQ_INSERT_TAIL(&services, s, entry);
    return s;
}

static void
count_swap(const struct candidate *c, const struct service *old, bool is_other)
{
    if (c->counts == NULL)
        return;
    if (old == NULL)
        c->counts->added++;
    else if (is_other)
        c->counts->changed++;
}

static bool
candidate_swap(void *subject, struct context *context, const struct context_loaded *loaded)
{
    struct candidate *c = subject;
    struct service *s = service_find(c->name);
    struct listener *old = s != NULL ? s->listener : NULL;
    bool has_other_context = c->listener == NULL || listener_context(c->listener) != context;
    struct listener *l = candidate_swap_listener(c, context, loaded);

    if (l == NULL)
        return false;
    count_swap(c, s, s != NULL && !json_equal(s->definition, c->definition));
    if (s == NULL)
        s = service_new(c->name);
    s->listener = listener_hold(l);
    listener_release(old);
    json_decref(s->definition);
    s->definition = c->definition;
    c->definition = NULL;
    s->is_from_file = c->is_from_file;
    if (l != old)
        log_info("service=%s listens listener=%s", s->name, listener_handle(l));
    return has_other_context && l == old;
}

static void
candidate_name(const void *subject, struct failure *f)
{
    const struct candidate *c = subject;

    if (!c->is_from_file) {
        failure_prefix(f, "service %s: ", c->name);
        return;
    }
    service_name_fault(f, c->name, c->definition);
    failure_prefix(f, "%s: ", manager_config_path());
}

static const struct change_part_kind candidate_kind = { candidate_load, candidate_swap,
                                                        candidate_name, candidate_free };

/* --- all services of the file --- */

/* A service that keeps its address keeps its socket, and so does one that has another name now. */
static struct service *
find_socket(const struct candidate *c, bool by_name)
{
    struct service *s;

    TAILQ_FOREACH(s, &services, entry)
    {
        if (!s->is_taken && service_is_open(s) && has_same_address(c, s) &&
            (by_name ? strcmp(s->name, c->name) == 0 : s->is_from_file))
            return s;
    }
    return NULL;
}

struct candidates {
    size_t count;
    struct candidate *of[]; /* borrowed: they are in the change */
};

static bool
find_sockets(const struct candidates *all, size_t listeners_max, struct failure *f)
{
    size_t fresh = 0;
    struct service *s;

    TAILQ_FOREACH(s, &services, entry)
    {
        s->is_taken = false;
    }
    for (int by_name = 1; by_name >= 0; by_name--) {
        for (size_t i = 0; i < all->count; i++) {
            s = all->of[i]->listener == NULL ? find_socket(all->of[i], by_name) : NULL;
            if (s != NULL)
                candidate_take(all->of[i], s);
        }
    }
    for (size_t i = 0; i < all->count; i++) {
        struct candidate *c = all->of[i];

        if (c->listener != NULL)
            continue;
        if (listeners_count() + ++fresh > listeners_max) {
            failure_limit(f, "listeners_max", (long long)listeners_max);
            candidate_name(c, f);
            return false;
        }
        if (!candidate_listen(c, f)) {
            candidate_name(c, f);
            return false;
        }
    }
    return true;
}

bool
services_change(struct change *change, const json_t *checked, size_t listeners_max,
                struct services_counts *counts, struct failure *f)
{
    size_t count = json_object_size(checked);
    struct candidates *all = calloc(1, sizeof(*all) + count * sizeof(struct candidate *));
    struct service *s;
    const char *name;
    json_t *params;
    bool is_right;

    assert(all != NULL);
    json_object_foreach ((json_t *)checked, name, params) {
        struct candidate *c = candidate_new(params, NULL, f);

        if (c == NULL)
            break;
        c->is_from_file = true;
        c->counts = counts;
        all->of[all->count++] = c;
        change_add(change, &candidate_kind, c);
    }
    TAILQ_FOREACH(s, &services, entry)
    {
        if (!s->is_from_file && service_is_open(s) && json_object_get(checked, s->name) == NULL)
            change_reread(change, s->listener);
    }
    is_right = all->count == count && find_sockets(all, listeners_max, f);
    free(all);
    return is_right;
}

void
services_drop_others(const json_t *checked, struct services_counts *counts)
{
    struct service *s, *next;

    for (s = TAILQ_FIRST(&services); s != NULL; s = next) {
        next = TAILQ_NEXT(s, entry);
        if (!s->is_from_file || json_object_get(checked, s->name) != NULL)
            continue;
        counts->removed++;
        service_free(s);
    }
    close_unused();
}

/* --- cordon.service_add --- */

struct adding {
    struct turn turn;
    struct request *request;
    struct candidate *candidate; /* owned until it is in the change */
    struct change *change;
};

static void
adding_free(struct adding *a)
{
    candidate_free(a->candidate);
    change_free(a->change);
    turn_over(&a->turn);
    free(a);
}

static void
adding_fail(struct adding *a, struct failure *f)
{
    struct request *r = a->request;

    adding_free(a);
    request_fail(r, f);
}

static void
on_added(void *owner)
{
    struct adding *a = owner;
    struct request *r = a->request;
    const char *name = json_string_value(json_object_get(request_params(r), "name"));
    const struct service *s;
    struct failure f;

    change_commit(a->change);
    a->change = NULL;
    close_unused();
    s = service_find(name);
    if (s != NULL && service_is_open(s)) {
        listener_reply(r, s->listener);
    } else {
        failure_set(&f, RESULT_INTERNAL, "the service does not listen; the log says why", NULL);
        request_fail(r, &f);
    }
    adding_free(a); /* not before: whoever has the next turn may remove the service in this */
}

static void
on_not_added(void *owner, struct failure *f)
{
    struct adding *a = owner;

    a->change = NULL;
    adding_fail(a, f);
}

/* The socket of the service that it replaces, or its own. */
static bool
adding_socket(struct adding *a, struct failure *f)
{
    struct candidate *c = a->candidate;
    struct service *s = service_find(c->name);

    if (s != NULL && !json_is_true(json_object_get(request_params(a->request), "replace"))) {
        failure_param(f, "name", "there is a service of this name; replace: true takes its place");
        return false;
    }
    if (s != NULL && service_is_open(s) && has_same_address(c, s)) {
        candidate_take(c, s);
        return true;
    }
    if (listeners_count() >= config.listeners_max) {
        failure_limit(f, "listeners_max", config.listeners_max);
        return false;
    }
    return candidate_listen(c, f);
}

static void
on_adding_turn(void *owner)
{
    static const struct change_events events = { on_added, on_not_added };
    struct adding *a = owner;
    struct failure f;

    if (!adding_socket(a, &f)) {
        adding_fail(a, &f);
        return;
    }
    a->change = change_new(&events, a);
    change_add(a->change, &candidate_kind, a->candidate);
    a->candidate = NULL;
    change_begin(a->change);
}

static void
on_adding_abandoned(struct request *r, enum result why, void *data)
{
    struct adding *a = data;
    struct failure f;

    assert(a->request == r);
    failure_set(&f, why, NULL, NULL);
    adding_fail(a, &f);
}

void
method_service_add(struct request *r)
{
    const json_t *params = request_params(r);
    struct candidate *c = NULL;
    struct adding *a;
    struct failure f;

    if (service_check_name(json_string_value(json_object_get(params, "name")), &f))
        c = candidate_new(params, r, &f);
    if (c == NULL) {
        request_fail(r, &f);
        return;
    }
    a = calloc(1, sizeof(*a));
    assert(a != NULL);
    a->request = r;
    a->candidate = c;
    request_wait(r, -1, on_adding_abandoned, a);
    if (turn_take(&a->turn, on_adding_turn, a))
        return;
    failure_limit(&f, "changes that wait", TURNS_MAX);
    adding_fail(a, &f);
}

/* --- cordon.service_remove --- */

struct removing {
    struct turn turn;
    struct request *request;
};

static void
removing_end(struct removing *g, struct failure *f)
{
    struct request *r = g->request;

    turn_over(&g->turn);
    free(g);
    if (f != NULL)
        request_fail(r, f);
    else
        request_reply(r, json_object());
}

static void
on_removing_turn(void *owner)
{
    struct removing *g = owner;
    const char *name = json_string_value(json_object_get(request_params(g->request), "name"));
    struct service *s = service_find(name);
    struct failure f;

    if (s == NULL) {
        failure_set(&f, RESULT_NOT_FOUND, NULL, "{s:s}", "what", name);
        removing_end(g, &f);
        return;
    }
    service_free(s);
    close_unused();
    removing_end(g, NULL);
}

static void
on_removing_abandoned(struct request *r, enum result why, void *data)
{
    struct failure f;

    (void)r;
    failure_set(&f, why, NULL, NULL);
    removing_end(data, &f);
}

void
method_service_remove(struct request *r)
{
    struct removing *g = calloc(1, sizeof(*g));
    struct failure f;

    assert(g != NULL);
    g->request = r;
    request_wait(r, -1, on_removing_abandoned, g);
    if (turn_take(&g->turn, on_removing_turn, g))
        return;
    failure_limit(&f, "changes that wait", TURNS_MAX);
    removing_end(g, &f);
}

/* --- cordon.services --- */

static json_t *
service_row(const struct service *s)
{
    json_t *row = listener_row(s->listener);

    json_object_set_new(row, "source", json_string(s->is_from_file ? "configuration" : "request"));
    return row;
}

/* Behind the one named after; from the first one on, when that is gone. */
static struct service *
first_after(const char *after)
{
    struct service *s = after != NULL ? service_find(after) : NULL;

    return s != NULL ? TAILQ_NEXT(s, entry) : TAILQ_FIRST(&services);
}

void
method_services(struct request *r)
{
    const json_t *params = request_params(r);
    size_t limit = (size_t)json_integer_value(json_object_get(params, "limit"));
    struct service *s = first_after(json_string_value(json_object_get(params, "after")));
    json_t *rows = json_array();
    const char *next = NULL, *last = NULL;

    for (; s != NULL; s = TAILQ_NEXT(s, entry)) {
        if (!service_is_open(s))
            continue;
        if (json_array_size(rows) == limit) {
            next = last;
            break;
        }
        json_array_append_new(rows, service_row(s));
        last = s->name;
    }
    request_reply(r, json_pack("{s:o, s:s?}", "services", rows, "next", next));
}
