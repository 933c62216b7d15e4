#include "manager/reload.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/log.h"
#include "manager/change.h"
#include "manager/keys.h"
#include "manager/listeners.h"
#include "manager/logging.h"
#include "manager/manager.h"
#include "manager/methods.h"
#include "manager/pem_watch.h"
#include "manager/services.h"
#include "manager/turns.h"

struct reload {
    struct turn turn;
    struct request *request; /* NULL: a signal asked */
    struct config config;
    enum log_level level;
    json_t *services; /* owned */
    struct services_counts counts;
    struct change *change;
    int64_t started_ms;
};

/* What counts only from the start on. */
static const struct {
    const char *key;
    size_t offset, size;
} fixed_keys[] = {
#define FIXED(key, member)                                          \
    {                                                               \
        key, offsetof(struct config, member), sizeof(config.member) \
    }
    FIXED("restart_intensity", restart_intensity),
    FIXED("restart_period", restart_period_s),
    FIXED("admin_group", admin_group),
#undef FIXED
};

static enum log_level level_in_file; /* cordon.log_level may have set another since */
static bool is_signal_waiting;       /* a reload for a signal that has not begun */

static const char *
asker(const struct reload *r)
{
    return r->request != NULL ? client_handle(request_client(r->request)) : "SIGHUP";
}

static void
reload_free(struct reload *r)
{
    change_free(r->change);
    json_decref(r->services);
    turn_over(&r->turn);
    free(r);
}

/* Takes f's content. */
static void
reload_fail(struct reload *r, struct failure *f)
{
    struct request *request = r->request;

    log_error("reload failed, everything stays as it was by=%s reason=%s why=\"%s\"", asker(r),
              result_name(f->reason), f->message[0] != '\0' ? f->message : result_text(f->reason));
    reload_free(r);
    if (request != NULL)
        request_fail(request, f);
    else
        failure_fini(f);
}

/* Gives the names of keys that have changed in vain. */
static json_t *
needs_restart(const struct config *c)
{
    json_t *names = json_array();

    for (size_t i = 0; i < sizeof(fixed_keys) / sizeof(fixed_keys[0]); i++) {
        size_t offset = fixed_keys[i].offset;

        if (memcmp((const char *)c + offset, (const char *)&config + offset, fixed_keys[i].size) !=
            0)
            json_array_append_new(names, json_string(fixed_keys[i].key));
    }
    return names;
}

static void
swap_config(struct reload *r)
{
    for (size_t i = 0; i < sizeof(fixed_keys) / sizeof(fixed_keys[0]); i++)
        memcpy((char *)&r->config + fixed_keys[i].offset,
               (const char *)&config + fixed_keys[i].offset, fixed_keys[i].size);
    config = r->config;
    logging_set(r->level != level_in_file ? r->level : log_get_level(), config.log_format);
    level_in_file = r->level;
    pem_watch_open();
}

/* Gives. */
static json_t *
result_of(const struct reload *r, unsigned listeners, json_t *names)
{
    return json_pack("{s:{s:I, s:I, s:I, s:I}, s:o}", "reloaded", "listeners",
                     (json_int_t)listeners, "services_added", (json_int_t)r->counts.added,
                     "services_removed", (json_int_t)r->counts.removed, "services_changed",
                     (json_int_t)r->counts.changed, "needs_restart", names);
}

static void
on_loaded(void *owner)
{
    struct reload *r = owner;
    struct request *request = r->request;
    json_t *names = needs_restart(&r->config);
    unsigned listeners = change_commit(r->change);
    json_t *result;

    r->change = NULL;
    services_drop_others(r->services, &r->counts);
    swap_config(r);
    log_info("reloaded by=%s listeners=%u services_added=%u services_removed=%u "
             "services_changed=%u took_ms=%lld",
             asker(r), listeners, r->counts.added, r->counts.removed, r->counts.changed,
             (long long)(clock_now_ms() - r->started_ms));
    for (size_t i = 0; i < json_array_size(names); i++)
        log_warn("%s has changed, and counts only after a restart",
                 json_string_value(json_array_get(names, i)));
    result = result_of(r, listeners, names);
    reload_free(r);
    if (request != NULL)
        request_reply(request, result);
    else
        json_decref(result);
}

static void
on_failed(void *owner, struct failure *f)
{
    struct reload *r = owner;

    r->change = NULL;
    reload_fail(r, f);
}

/* It cannot sign since its keeper ended, and only who gave the password can change that; the others
 * need not wait for it. */
static bool
has_lost_password(const struct listener *l)
{
    const struct key *key = listener_password_key(l);

    if (key == NULL || key_is_alive(key))
        return false;
    log_warn("listener=%s is not reloaded why=\"the password of its key went with a keeper that "
             "ended\"",
             listener_handle(l));
    return true;
}

static void
on_turn(void *owner)
{
    static const struct change_events events = { on_loaded, on_failed };
    struct reload *r = owner;
    struct failure f;
    char why[400];

    if (r->request == NULL)
        is_signal_waiting = false;
    r->started_ms = clock_now_ms();
    if (!manager_read_config(&r->config, &r->level, &r->services, why, sizeof(why))) {
        json_t *path = json_string(manager_config_path());

        failure_option(&f, "config", path, why);
        json_decref(path);
        reload_fail(r, &f);
        return;
    }
    r->change = change_new(&events, r);
    for (struct listener *l = listener_first(); l != NULL; l = listener_after(l)) {
        if (listener_service(l)[0] == '\0' && !has_lost_password(l))
            change_reread(r->change, l);
    }
    if (!services_change(r->change, r->services, r->config.listeners_max, &r->counts, &f)) {
        reload_fail(r, &f);
        return;
    }
    change_begin(r->change);
}

static void
on_abandoned(struct request *request, enum result why, void *data)
{
    struct reload *r = data;
    struct failure f;

    assert(r->request == request);
    failure_set(&f, why, NULL, NULL);
    reload_fail(r, &f);
}

void
method_reload(struct request *request)
{
    struct reload *r = calloc(1, sizeof(*r));
    struct failure f;

    assert(r != NULL);
    r->request = request;
    request_wait(request, -1, on_abandoned, r);
    if (turn_take(&r->turn, on_turn, r))
        return;
    failure_limit(&f, "reloads that wait", TURNS_MAX);
    reload_fail(r, &f);
}

void
reload_by_signal(void)
{
    struct reload *r;

    /* The one that waits will see what this one would. */
    if (is_signal_waiting || manager_is_stopping())
        return;
    r = calloc(1, sizeof(*r));
    assert(r != NULL);
    is_signal_waiting = true;
    if (turn_take(&r->turn, on_turn, r))
        return;
    is_signal_waiting = false;
    log_error("reload failed by=SIGHUP why=\"%d changes wait already\"", TURNS_MAX);
    free(r);
}

void
reload_open(void)
{
    level_in_file = log_get_level();
    pem_watch_open();
}
