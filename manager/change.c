#include "manager/change.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "manager/contexts.h"
#include "manager/listeners.h"
#include "manager/manager.h"
#include "manager/trust.h"

enum { LOADS_MAX = 4 }; /* side by side: each has a process of its own to decode the key */

struct part {
    TAILQ_ENTRY(part) entry;
    struct change *change;
    const struct change_part_kind *kind;
    void *subject; /* owned */
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
    p->kind->free(p->subject);
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

void
change_add(struct change *c, const struct change_part_kind *kind, void *subject)
{
    struct part *p = calloc(1, sizeof(*p));

    assert(p != NULL);
    p->change = c;
    p->kind = kind;
    p->subject = subject;
    TAILQ_INSERT_TAIL(&c->parts, p, entry);
}

/* --- a listener whose files are read again --- */

bool
change_has_certificate_paths(const struct options *o)
{
    return o->certfile.path != NULL && (!o->has_keyfile || o->keyfile.path != NULL);
}

bool
change_has_paths(const struct options *o)
{
    return change_has_certificate_paths(o) || trust_path(o) != NULL;
}

static struct context_load *
reread_load(void *subject, const struct context_events *events, void *owner)
{
    struct listener *l = subject;
    struct options o = *listener_options(l);

    o.password_key = listener_password_key(l);
    return context_load(&o, listener_context(l), !change_has_certificate_paths(&o),
                        trust_path(&o) == NULL, events, owner);
}

/* It may have been closed meanwhile. */
static bool
reread_swap(void *subject, struct context *context, const struct context_loaded *loaded)
{
    struct listener *l = subject;
    bool is_other = listener_context(l) != context;

    if (listener_owner(l) == NULL) {
        context_release(context);
        return false;
    }
    listener_swap_context(l, context, loaded);
    return is_other;
}

static void
reread_name(const void *subject, struct failure *f)
{
    const struct listener *l = subject;
    const char *service = listener_service(l);

    if (service[0] != '\0')
        failure_prefix(f, "service %s: ", service);
    else
        failure_prefix(f, "listener %s: ", listener_handle(l));
    if (f->reason == RESULT_OPTIONS && f->fields != NULL)
        json_object_set_new(f->fields, "listener", json_string(listener_handle(l)));
}

static void
reread_free(void *subject)
{
    listener_release(subject);
}

void
change_reread(struct change *c, struct listener *l)
{
    static const struct change_part_kind kind = { reread_load, reread_swap, reread_name,
                                                  reread_free };

    if (change_has_paths(listener_options(l)))
        change_add(c, &kind, listener_hold(l));
}

/* --- loading --- */

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
    p->kind->name(p->subject, f);
    change_free(p->change);
    events->on_failed(events_owner, f);
}

static void
part_begin(struct part *p)
{
    static const struct context_events events = { on_part_ready, on_part_failed };

    p->is_begun = true;
    p->change->loading++;
    p->load = p->kind->load(p->subject, &events, p);
}

static void
on_all_loaded(uv_timer_t *timer)
{
    struct change *c = timer->data;
    const struct change_events *events = c->events;
    void *owner = c->owner;
    struct failure f;

    if (!manager_is_stopping()) {
        events->on_loaded(owner);
        return;
    }
    change_free(c);
    failure_set(&f, RESULT_SHUTTING_DOWN, NULL, NULL);
    events->on_failed(owner, &f);
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

unsigned
change_commit(struct change *c)
{
    unsigned swapped = 0;
    struct part *p;

    TAILQ_FOREACH(p, &c->parts, entry)
    {
        struct context *context = p->context;

        p->context = NULL;
        swapped += p->kind->swap(p->subject, context, &p->loaded);
    }
    change_free(c);
    return swapped;
}
