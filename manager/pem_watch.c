#include "manager/pem_watch.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/log.h"
#include "manager/change.h"
#include "manager/keys.h"
#include "manager/listeners.h"
#include "manager/manager.h"
#include "manager/methods.h"
#include "manager/trust.h"
#include "manager/turns.h"

/* One round over all listeners. */
struct round {
    struct turn turn;
    struct request *request;   /* NULL: its time had come */
    uint64_t at;               /* number of the listener that was looked at last */
    struct listener *listener; /* a reference: it is looked at now */
    struct listener_files now;
    struct key_load *examination;
    struct change *change;
    json_t *said; /* owned: what was said in this round of a file that several use */
    unsigned reloaded, refused;
};

static uv_timer_t timer;
static bool is_open;

static void round_go_on(struct round *r);

/* --- the end of a round --- */

static void on_time(uv_timer_t *t);

static void
start_timer(void)
{
    if (config.pem_cache_clean_ms > 0)
        uv_timer_start(&timer, on_time, config.pem_cache_clean_ms, 0);
    else
        uv_timer_stop(&timer);
}

static void
round_free(struct round *r)
{
    change_free(r->change);
    key_load_cancel(r->examination);
    listener_release(r->listener);
    json_decref(r->said);
    turn_over(&r->turn);
    free(r);
    start_timer();
}

static void
round_end(struct round *r)
{
    struct request *request = r->request;
    json_t *result = json_pack("{s:I, s:I}", "reloaded", (json_int_t)r->reloaded, "refused",
                               (json_int_t)r->refused);

    round_free(r);
    if (request != NULL)
        request_reply(request, result);
    else
        json_decref(result);
}

/* --- a listener whose files have changed --- */

static bool
is_equal(const struct listener_files *a, const struct listener_files *b)
{
    return file_state_is_equal(&a->certfile, &b->certfile) &&
           file_state_is_equal(&a->keyfile, &b->keyfile) &&
           file_state_is_equal(&a->cacertfile, &b->cacertfile);
}

static const char *
text_of(const struct failure *f, const char *field)
{
    const char *text = json_string_value(json_object_get(f->fields, field));

    return text != NULL ? text : "";
}

/* Once for each change of a file, and once for all listeners that use it. */
static void
complain(struct round *r, const struct failure *f)
{
    char key[600];

    snprintf(key, sizeof(key), "%s %s", text_of(f, "value"), text_of(f, "why"));
    if (json_object_get(r->said, key) != NULL)
        return;
    json_object_set_new(r->said, key, json_true());
    log_warn("changed files are not taken up, the old ones stay why=\"%s\"",
             f->message[0] != '\0' ? f->message : result_text(f->reason));
}

static void
on_loaded(void *owner)
{
    struct round *r = owner;

    change_commit(r->change);
    r->change = NULL;
    r->reloaded++;
    log_info("listener=%s takes up changed files", listener_handle(r->listener));
    round_go_on(r);
}

static void
on_failed(void *owner, struct failure *f)
{
    struct round *r = owner;
    struct listener_files *refused = listener_refused_files(r->listener);

    r->change = NULL;
    r->refused++;
    file_state_settle(&r->now.certfile);
    file_state_settle(&r->now.keyfile);
    file_state_settle(&r->now.cacertfile);
    /* It is tried again each time: what is wrong may be elsewhere. */
    if (!is_equal(&r->now, refused))
        complain(r, f);
    *refused = r->now;
    failure_fini(f);
    round_go_on(r);
}

/* False: nothing has changed, so the round may go on. */
static bool
take_up(struct round *r)
{
    static const struct change_events events = { on_loaded, on_failed };

    if (is_equal(&r->now, listener_files(r->listener)))
        return false;
    r->change = change_new(&events, r);
    change_reread(r->change, r->listener);
    change_begin(r->change);
    return true;
}

/* --- looking --- */

static void
on_examined(void *owner, const struct file_state *certfile, const struct file_state *keyfile)
{
    struct round *r = owner;

    r->examination = NULL;
    if (certfile != NULL) {
        r->now.certfile = *certfile;
        r->now.keyfile = *keyfile;
    }
    if (!take_up(r))
        round_go_on(r);
}

/* False: it is done with. */
static bool
look(struct round *r)
{
    const struct options *o = listener_options(r->listener);

    r->now = *listener_files(r->listener);
    file_state_of_path(trust_path(o), &r->now.cacertfile);
    if (!change_has_certificate_paths(o))
        return take_up(r);
    r->examination = keys_examine(o->certfile.path, o->keyfile.path, on_examined, r);
    return true;
}

/* Listeners are in the order of their numbers; the last one may be gone meanwhile. */
static struct listener *
next_listener(const struct round *r)
{
    struct listener *l = listener_first();

    while (l != NULL && (listener_number(l) <= r->at || !change_has_paths(listener_options(l))))
        l = listener_after(l);
    return l;
}

static void
round_go_on(struct round *r)
{
    do {
        struct listener *l = next_listener(r);

        listener_release(r->listener);
        r->listener = l != NULL ? listener_hold(l) : NULL;
        if (l == NULL) {
            round_end(r);
            return;
        }
        r->at = listener_number(l);
    } while (!look(r));
}

static void
on_turn(void *owner)
{
    round_go_on(owner);
}

/* --- beginning one --- */

static struct round *
round_new(struct request *request)
{
    struct round *r = calloc(1, sizeof(*r));

    assert(r != NULL);
    r->request = request;
    r->said = json_object();
    uv_timer_stop(&timer); /* until it is over */
    return r;
}

static void
on_time(uv_timer_t *t)
{
    struct round *r;

    (void)t;
    if (manager_is_stopping())
        return;
    r = round_new(NULL);
    if (!turn_take(&r->turn, on_turn, r))
        round_free(r);
}

static void
on_abandoned(struct request *request, enum result why, void *data)
{
    struct failure f;

    round_free(data);
    failure_set(&f, why, NULL, NULL);
    request_fail(request, &f);
}

void
method_clear_pem_cache(struct request *request)
{
    struct round *r = round_new(request);
    struct failure f;

    request_wait(request, -1, on_abandoned, r);
    if (turn_take(&r->turn, on_turn, r))
        return;
    round_free(r);
    failure_limit(&f, "changes that wait", TURNS_MAX);
    request_fail(request, &f);
}

void
pem_watch_open(void)
{
    int status;

    if (!is_open) {
        status = uv_timer_init(manager_loop, &timer);
        assert(status == 0);
        uv_unref((uv_handle_t *)&timer);
        is_open = true;
    }
    start_timer();
}
