#include "manager/change.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "manager/contexts.h"
#include "manager/listeners.h"
#include "manager/manager.h"

enum { LOADS_MAX = 4 }; /* side by side: each has a process of its own to decode the key */

/* One listener, as it will be. */
struct part {
    TAILQ_ENTRY(part) entry;
    struct change *change;
    struct listener *listener; /* a reference */
    bool is_begun;
    struct context_load *load;
    struct context *context;      /* a reference, once it is loaded */
    struct context_loaded loaded; /* its key is a reference */
};

struct change {
    const struct change_events *events;
    void *owner;
    TAILQ_HEAD(, part) parts;
    unsigned loading;
    uv_timer_t soon;
};

static void change_go_on(struct change *c);

/* --- birth and death --- */

struct change *
change_new(const struct change_events *events, void *owner)
{
    struct change *c = calloc(1, sizeof(*c));
    int status;

    assert(c != NULL);
    status = uv_timer_init(manager_loop, &c->soon);
    assert(status == 0);
    c->soon.data = c;
    c->events = events;
    c->owner = owner;
    TAILQ_INIT(&c->parts);
    return c;
}

static void
part_free(struct part *p)
{
    TAILQ_REMOVE(&p->change->parts, p, entry);
    context_load_cancel(p->load);
    context_release(p->context);
    key_release(p->loaded.key);
    listener_release(p->listener);
    free(p);
}

static void
on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void
change_free(struct change *c)
{
    if (c == NULL)
        return;
    while (!TAILQ_EMPTY(&c->parts))
        part_free(TAILQ_FIRST(&c->parts));
    uv_close((uv_handle_t *)&c->soon, on_closed);
}

/* --- loading --- */

bool
change_has_certificate_paths(const struct options *o)
{
    return o->certfile.path != NULL && (!o->has_keyfile || o->keyfile.path != NULL);
}

bool
change_has_paths(const struct options *o)
{
    return change_has_certificate_paths(o) || o->cacertfile.path != NULL;
}

void
change_reread(struct change *c, struct listener *l)
{
    const struct options *o = listener_options(l);
    struct part *p;

    if (!change_has_paths(o))
        return;
    p = calloc(1, sizeof(*p));
    assert(p != NULL);
    p->change = c;
    p->listener = listener_hold(l);
    TAILQ_INSERT_TAIL(&c->parts, p, entry);
}

/* Whose option it is, in front of what is wrong with it. */
static void
name_listener(struct failure *f, const struct listener *l)
{
    const char *message = f->message[0] != '\0' ? f->message : result_text(f->reason);
    char named[sizeof(f->message) + 64];

    snprintf(named, sizeof(named), "listener %s: %s", listener_handle(l), message);
    memcpy(f->message, named, sizeof(f->message) - 1);
    f->message[sizeof(f->message) - 1] = '\0';
    if (f->reason == RESULT_OPTIONS && f->fields != NULL)
        json_object_set_new(f->fields, "listener", json_string(listener_handle(l)));
}

static void
on_part_ready(void *owner, struct context *context, const struct context_loaded *loaded)
{
    struct part *p = owner;

    p->load = NULL;
    p->context = context;
    p->loaded = *loaded;
    if (p->loaded.key != NULL)
        key_hold(p->loaded.key);
    p->change->loading--;
    change_go_on(p->change);
}

static void
on_part_failed(void *owner, struct failure *f)
{
    struct part *p = owner;
    const struct change_events *events = p->change->events;
    void *events_owner = p->change->owner;

    p->load = NULL;
    name_listener(f, p->listener);
    change_free(p->change);
    events->on_failed(events_owner, f);
}

static void
part_begin(struct part *p)
{
    static const struct context_events events = { on_part_ready, on_part_failed };
    struct options o = *listener_options(p->listener);

    p->is_begun = true;
    p->change->loading++;
    o.password_key = listener_password_key(p->listener);
    p->load = context_load(&o, listener_context(p->listener), !change_has_certificate_paths(&o),
                           o.cacertfile.path == NULL, &events, p);
}

static void
on_all_loaded(uv_timer_t *timer)
{
    struct change *c = timer->data;

    c->events->on_loaded(c->owner);
}

static void
change_go_on(struct change *c)
{
    struct part *p;

    TAILQ_FOREACH(p, &c->parts, entry)
    {
        if (c->loading >= LOADS_MAX)
            return;
        if (!p->is_begun)
            part_begin(p);
    }
    if (c->loading == 0)
        uv_timer_start(&c->soon, on_all_loaded, 0, 0);
}

void
change_begin(struct change *c)
{
    change_go_on(c);
}

/* --- the swap --- */

/* Whether its context is another one now.  A listener may have been closed meanwhile. */
static bool
part_commit(struct part *p)
{
    bool is_other = listener_context(p->listener) != p->context;

    if (listener_owner(p->listener) == NULL)
        return false;
    listener_swap_context(p->listener, p->context, &p->loaded);
    p->context = NULL;
    return is_other;
}

unsigned
change_commit(struct change *c)
{
    unsigned swapped = 0;
    struct part *p;

    TAILQ_FOREACH(p, &c->parts, entry)
    {
        swapped += part_commit(p);
    }
    change_free(c);
    return swapped;
}
