#include "manager/contexts.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/digest.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "manager/helpers.h"
#include "manager/manager.h"
#include "manager/map.h"
#include "manager/nurseries.h"
#include "manager/trust.h"

enum { UNUSED_MS = 60000, KNOWN_TIMEOUT_MS = 10000, CERTIFICATES_MAX = 1 << 20 };

enum context_state {
    CONTEXT_CHECKING, /* a checker parses chain or trust */
    CONTEXT_SENT,     /* the nurseries parse them */
    CONTEXT_READY,
    CONTEXT_BROKEN, /* refused: nobody finds it any more */
};

struct context {
    uint64_t number;
    uint8_t digest[DIGEST_SIZE];
    enum context_state state;
    struct context_facts facts;
    struct key *key;          /* a reference; NULL */
    int certificates;         /* PEM, sealed memfd; owned; -1 */
    struct trust *trust;      /* a reference; NULL */
    char *certfile, *keyfile; /* owned; where the key can be had again; NULL: nowhere */
    struct key_load *reload;
    struct helper *checker;
    enum check_what checking;
    bool is_chain_checked;
    unsigned references;
    uv_timer_t timer; /* unused, or not yet known */
    TAILQ_ENTRY(context) entry;
    TAILQ_HEAD(, context_load) waiting;
};

struct context_load {
    const struct context_events *events;
    void *owner; /* NULL: cancelled */
    struct context_facts facts;
    struct key *key;
    struct key_load *key_load;
    int certificates;
    struct trust *trust;
    char *certfile, *keyfile, *cacertfile; /* owned; for errors, and for reloading */
    struct file_state cacertfile_state;
    bool can_reload;
    struct context *context; /* waits for this one */
    struct failure failure;  /* told from the loop */
    bool has_failed;
    uv_timer_t soon;
    TAILQ_ENTRY(context_load) entry;
};

static TAILQ_HEAD(, context) contexts = TAILQ_HEAD_INITIALIZER(contexts);
static struct map contexts_by_number;
static uint64_t last_context;

static void context_step(struct context *c);

/* --- the object --- */

uint64_t
context_number(const struct context *c)
{
    return c->number;
}

unsigned
context_versions(const struct context *c)
{
    return c->facts.versions;
}

struct key *
context_key(const struct context *c)
{
    return c->key;
}

struct context *
context_by_number(uint64_t number)
{
    return map_get(&contexts_by_number, number);
}

struct context *
context_hold(struct context *c)
{
    c->references++;
    if (c->state == CONTEXT_READY)
        uv_timer_stop(&c->timer);
    return c;
}

static void
on_context_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void
context_free(struct context *c)
{
    assert(TAILQ_EMPTY(&c->waiting));
    TAILQ_REMOVE(&contexts, c, entry);
    map_take(&contexts_by_number, c->number);
    if (c->state == CONTEXT_SENT || c->state == CONTEXT_READY)
        nurseries_drop_context(c->number);
    helper_cancel(c->checker);
    key_load_cancel(c->reload);
    key_release(c->key);
    trust_release(c->trust);
    fd_close(&c->certificates);
    free(c->certfile);
    free(c->keyfile);
    uv_close((uv_handle_t *)&c->timer, on_context_closed);
}

static void
on_unused(uv_timer_t *timer)
{
    context_free(timer->data);
}

void
context_release(struct context *c)
{
    if (c == NULL || --c->references > 0)
        return;
    if (c->state == CONTEXT_READY)
        uv_timer_start(&c->timer, on_unused, UNUSED_MS, 0);
    else if (c->state == CONTEXT_BROKEN && TAILQ_EMPTY(&c->waiting))
        context_free(c);
}

/* --- loads --- */

static void
on_load_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void
load_free(struct context_load *l)
{
    if (l->context != NULL)
        TAILQ_REMOVE(&l->context->waiting, l, entry);
    key_load_cancel(l->key_load);
    key_release(l->key);
    fd_close(&l->certificates);
    trust_release(l->trust);
    free(l->certfile);
    free(l->keyfile);
    free(l->cacertfile);
    uv_close((uv_handle_t *)&l->soon, on_load_closed);
}

void
context_load_cancel(struct context_load *l)
{
    if (l == NULL)
        return;
    if (l->has_failed)
        failure_fini(&l->failure);
    load_free(l);
}

static void
on_load_failed(uv_timer_t *timer)
{
    struct context_load *l = timer->data;

    l->has_failed = false;
    load_free(l);
    l->events->on_failed(l->owner, &l->failure);
}

/* The failure is in l->failure. */
static void
load_fail(struct context_load *l)
{
    l->has_failed = true;
    uv_timer_start(&l->soon, on_load_failed, 0, 0);
}

/* What the client wrote for an option, where an error names it. */
static json_t *
load_value(const struct context_load *l, const char *option)
{
    const char *path = strcmp(option, "certfile") == 0     ? l->certfile
                       : strcmp(option, "keyfile") == 0    ? l->keyfile
                       : strcmp(option, "cacertfile") == 0 ? l->cacertfile
                                                           : NULL;

    return path != NULL ? json_string(path) : json_null();
}

static void
load_refuse(struct context_load *l, const char *option, const char *why)
{
    json_t *value;

    /* Then nothing is wrong with any option: there is no nursery that could say so. */
    if (nurseries_missing_walls() != 0) {
        nurseries_refuse(&l->failure);
        load_fail(l);
        return;
    }
    /* Who gave no keyfile has its key in certfile. */
    if (strcmp(option, "keyfile") == 0 && l->keyfile == NULL)
        option = "certfile";
    value = load_value(l, option);
    failure_option(&l->failure, option, value, why);
    json_decref(value);
    load_fail(l);
}

static void
on_load_ready(uv_timer_t *timer)
{
    struct context_load *l = timer->data;
    struct context *c = context_hold(l->context);
    struct context_loaded loaded = { .key = l->key != NULL ? key_hold(l->key) : NULL,
                                     .cacertfile = l->cacertfile_state };

    load_free(l);
    l->events->on_ready(l->owner, c, &loaded);
    key_release(loaded.key);
}

static void
context_answer(struct context *c, const char *option, const char *why)
{
    struct context_load *l, *next;

    for (l = TAILQ_FIRST(&c->waiting); l != NULL; l = next) {
        next = TAILQ_NEXT(l, entry);
        if (option == NULL)
            uv_timer_start(&l->soon, on_load_ready, 0, 0);
        else
            load_refuse(l, option, why);
    }
}

static void
context_break(struct context *c, const char *option, const char *why)
{
    struct context_load *l;

    log_info("context=%llu refused option=%s why=\"%s\"", (unsigned long long)c->number, option,
             why);
    if (c->state == CONTEXT_SENT || c->state == CONTEXT_READY)
        nurseries_drop_context(c->number);
    c->state = CONTEXT_BROKEN;
    uv_timer_stop(&c->timer);
    context_answer(c, option, why);
    while ((l = TAILQ_FIRST(&c->waiting)) != NULL) {
        TAILQ_REMOVE(&c->waiting, l, entry);
        l->context = NULL;
    }
    if (c->references == 0)
        context_free(c);
}

/* --- checking and sending --- */

static void
on_checked(void *owner, struct message *answer)
{
    struct context *c = owner;
    const struct message_checked *checked = &answer->as.checked;
    const char *option = c->checking == CHECK_TRUST               ? "cacertfile"
                         : checked->reason == RESULT_KEY_MISMATCH ? "keyfile"
                                                                  : "certfile";

    c->checker = NULL;
    if (checked->reason != RESULT_OK) {
        enum result reason = checked->reason < RESULT_COUNT ? (enum result)checked->reason
                                                            : RESULT_MALFORMED;

        context_break(c, option, checked->why != NULL ? checked->why : result_text(reason));
        return;
    }
    if (c->checking == CHECK_TRUST)
        c->trust->is_checked = true;
    else
        c->is_chain_checked = true;
    context_step(c);
}

static void
on_check_failed(void *owner, enum result result, const char *why)
{
    struct context *c = owner;
    char text[200];

    c->checker = NULL;
    snprintf(text, sizeof(text), "the process that checks certificates failed (%s): %s",
             result_name(result), why);
    context_break(c, c->checking == CHECK_TRUST ? "cacertfile" : "certfile", text);
}

static void
context_check(struct context *c, enum check_what what)
{
    static const struct helper_events events = { on_checked, on_check_failed };
    struct message m;

    c->checking = what;
    message_init(&m, MESSAGE_CHECK);
    m.as.check.what = what;
    m.as.check.has_what = true;
    m.fds[0] = what == CHECK_TRUST ? c->trust->memfd : c->certificates;
    m.fd_count = 1;
    if (what == CHECK_CHAIN)
        m.as.check.public_key = c->key->public_key;
    c->checker = helper_ask(PROCESS_CHECKER, &m, HELPER_TIMEOUT_MS, &events, c);
}

static void
on_not_known(uv_timer_t *timer)
{
    context_break(timer->data, "certfile", "the nurseries gave no answer within 10 s");
}

/* What comes next, until every nursery has it. */
static void
context_step(struct context *c)
{
    if (c->certificates >= 0 && !c->is_chain_checked) {
        context_check(c, CHECK_CHAIN);
    } else if (c->trust != NULL && !c->trust->is_checked) {
        context_check(c, CHECK_TRUST);
    } else if (nurseries_missing_walls() != 0) {
        context_break(c, "walls", result_text(RESULT_WALLS));
    } else {
        c->state = CONTEXT_SENT;
        uv_timer_start(&c->timer, on_not_known, KNOWN_TIMEOUT_MS, 0);
        nurseries_add_context(c);
    }
}

void
context_is_known(struct context *c, const char *option, const char *why)
{
    if (c->state != CONTEXT_SENT && option == NULL)
        return;
    if (option != NULL) {
        context_break(c, option, why);
        return;
    }
    c->state = CONTEXT_READY;
    uv_timer_stop(&c->timer);
    log_info("context=%llu ready role=%s verify=%d", (unsigned long long)c->number,
             c->facts.role == ROLE_SERVER ? "server" : "client", c->facts.verify);
    context_answer(c, NULL, NULL);
    if (c->references == 0 && TAILQ_EMPTY(&c->waiting))
        uv_timer_start(&c->timer, on_unused, UNUSED_MS, 0);
}

void
context_describe(const struct context *c, struct message *m)
{
    static uint8_t suites[512];
    struct message_context *out = &m->as.context;

    message_init(m, MESSAGE_CONTEXT);
    for (size_t i = 0; i < c->facts.suite_count; i++) {
        suites[2 * i] = (uint8_t)(c->facts.suites[i] >> 8);
        suites[2 * i + 1] = (uint8_t)c->facts.suites[i];
    }
    out->context = c->number;
    out->role = c->facts.role;
    out->versions = c->facts.versions;
    out->suites = (struct bytes){ suites, 2 * c->facts.suite_count };
    out->honor_cipher_order = c->facts.honor_cipher_order;
    out->verify = c->facts.verify;
    out->fail_if_no_peer_cert = c->facts.fail_if_no_peer_cert;
    out->depth = c->facts.depth;
    out->has_data_limit = out->has_cpu_limit_s = true;
    out->data_limit = c->facts.data_limit;
    out->cpu_limit_s = c->facts.cpu_limit_s;
    out->alpn = (struct bytes){ c->facts.alpn, c->facts.alpn_size };
    if (c->certificates >= 0) {
        out->certificate_index = (uint32_t)m->fd_count;
        out->has_certificate_index = true;
        m->fds[m->fd_count++] = c->certificates;
        out->key_algorithm = c->key->algorithm;
        out->has_key_algorithm = true;
        out->key_bits = c->key->bits;
    }
    if (c->trust != NULL) {
        out->trust_index = (uint32_t)m->fd_count;
        out->has_trust_index = true;
        m->fds[m->fd_count++] = c->trust->memfd;
    }
}

void
contexts_each(void (*on_context)(void *data, struct context *c), void *data)
{
    struct context *c;

    TAILQ_FOREACH(c, &contexts, entry)
    {
        if (c->state == CONTEXT_SENT || c->state == CONTEXT_READY)
            on_context(data, c);
    }
}

/* --- from options to a context --- */

static struct context *
context_by_digest(const uint8_t digest[DIGEST_SIZE])
{
    struct context *c;

    TAILQ_FOREACH(c, &contexts, entry)
    {
        if (c->state != CONTEXT_BROKEN && memcmp(c->digest, digest, DIGEST_SIZE) == 0)
            return c;
    }
    return NULL;
}

static size_t
context_count(void)
{
    return contexts_by_number.count;
}

/* One that only waits for its 60 s to be over makes room. */
static bool
make_room(void)
{
    struct context *c;

    TAILQ_FOREACH(c, &contexts, entry)
    {
        if (c->state == CONTEXT_READY && c->references == 0 && TAILQ_EMPTY(&c->waiting)) {
            context_free(c);
            return true;
        }
    }
    return false;
}

static char *
copy_of(const char *text)
{
    return text != NULL ? strdup(text) : NULL;
}

/* Where the key can be had again, should the keeper end. */
static void
context_take_paths(struct context *c, const struct context_load *l)
{
    if (!l->can_reload)
        return;
    free(c->certfile);
    free(c->keyfile);
    c->certfile = copy_of(l->certfile);
    c->keyfile = copy_of(l->keyfile);
}

static struct context *
context_new(struct context_load *l, const uint8_t digest[DIGEST_SIZE])
{
    struct context *c = calloc(1, sizeof(*c));
    int status;

    assert(c != NULL);
    status = uv_timer_init(manager_loop, &c->timer);
    assert(status == 0);
    uv_unref((uv_handle_t *)&c->timer);
    c->timer.data = c;
    c->number = ++last_context;
    memcpy(c->digest, digest, DIGEST_SIZE);
    c->facts = l->facts;
    c->key = l->key != NULL ? key_hold(l->key) : NULL;
    c->certificates = l->certificates;
    l->certificates = -1;
    c->trust = l->trust;
    l->trust = NULL;
    context_take_paths(c, l);
    TAILQ_INIT(&c->waiting);
    TAILQ_INSERT_TAIL(&contexts, c, entry);
    map_put(&contexts_by_number, c->number, c);
    return c;
}

static void
load_join(struct context_load *l, struct context *c)
{
    l->context = c;
    TAILQ_INSERT_TAIL(&c->waiting, l, entry);
    if (c->state == CONTEXT_READY) {
        uv_timer_stop(&c->timer);
        uv_timer_start(&l->soon, on_load_ready, 0, 0);
    }
}

/* SHA-256 of the chain; false: it cannot be read. */
static bool
digest_of_memfd(int memfd, uint8_t sum[DIGEST_SIZE])
{
    struct digest *d;
    uint8_t *bytes;
    size_t size;

    if (memfd_read(memfd, CERTIFICATES_MAX, &bytes, &size) != RESULT_OK)
        return false;
    d = digest_new();
    assert(d != NULL);
    digest_add(d, bytes, size);
    digest_end(d, sum);
    free(bytes);
    return true;
}

/* Key, certificates and trust are there. */
static void
load_find(struct context_load *l)
{
    uint8_t chain[DIGEST_SIZE], digest[DIGEST_SIZE];
    struct context *c;

    if (l->certificates >= 0 && !digest_of_memfd(l->certificates, chain)) {
        load_refuse(l, "certfile", "its certificates cannot be read");
        return;
    }
    context_digest(&l->facts, l->certificates >= 0 ? chain : NULL,
                   l->key != NULL ? l->key->public_key : (struct bytes){ NULL, 0 },
                   l->trust != NULL ? l->trust->digest : NULL, digest);
    c = context_by_digest(digest);
    if (c != NULL) {
        /* The same key once more: it takes the place of one that went with its keeper. */
        if (c->key != NULL && !key_is_alive(c->key)) {
            key_release(c->key);
            c->key = key_hold(l->key);
        }
        context_take_paths(c, l);
        load_join(l, c);
        return;
    }
    if (context_count() >= config.contexts_max && !make_room()) {
        failure_limit(&l->failure, "contexts_max", config.contexts_max);
        load_fail(l);
        return;
    }
    c = context_new(l, digest);
    load_join(l, c);
    context_step(c);
}

static void
on_key_loaded(void *owner, struct key *key, int certificates)
{
    struct context_load *l = owner;

    l->key_load = NULL;
    l->key = key;
    l->certificates = certificates;
    load_find(l);
}

static void
on_key_failed(void *owner, struct failure *f)
{
    struct context_load *l = owner;
    const char *option = f->fields != NULL ? json_string_value(json_object_get(f->fields, "option"))
                                           : NULL;

    l->key_load = NULL;
    if (option != NULL)
        json_object_set_new(f->fields, "value", load_value(l, option));
    l->failure = *f;
    load_fail(l);
}

static void
on_load_find(uv_timer_t *timer)
{
    load_find(timer->data);
}

/* Trust, unless it is inherited or not needed. */
static bool
load_trust(struct context_load *l, const struct options *o, struct context *base, bool inherit)
{
    if (inherit && base != NULL) {
        l->trust = base->trust != NULL ? trust_hold(base->trust) : NULL;
        return true;
    }
    if (o->cacertfile.path == NULL && o->cacertfile.fd < 0 &&
        (o->role == ROLE_SERVER || !o->verify))
        return true;
    return trust_load(&o->cacertfile, &l->trust, &l->failure) == RESULT_OK;
}

/* Key and certificates of base. */
static bool
load_inherit(struct context_load *l, const struct context *base)
{
    if (base->certificates >= 0) {
        l->certificates = fcntl(base->certificates, F_DUPFD_CLOEXEC, 3);
        if (l->certificates < 0) {
            failure_posix(&l->failure, errno, "dup");
            return false;
        }
    }
    l->key = base->key != NULL ? key_hold(base->key) : NULL;
    return true;
}

struct context_load *
context_load(const struct options *o, struct context *base, bool inherit_certificate,
             bool inherit_trust, const struct context_events *events, void *owner)
{
    static const struct key_events key_events = { on_key_loaded, on_key_failed };
    struct context_load *l = calloc(1, sizeof(*l));
    int status;

    assert(l != NULL);
    status = uv_timer_init(manager_loop, &l->soon);
    assert(status == 0);
    l->soon.data = l;
    l->events = events;
    l->owner = owner;
    l->certificates = -1;
    l->certfile = copy_of(o->certfile.path);
    l->keyfile = copy_of(o->keyfile.path);
    l->cacertfile = copy_of(o->cacertfile.path);
    l->can_reload = o->certfile.path != NULL && o->keyfile.fd < 0 && o->password == NULL &&
                    o->password_fd < 0 && o->password_key == NULL;
    file_state_of_path(trust_path(o), &l->cacertfile_state);
    context_facts_from(&l->facts, o);
    if (!load_trust(l, o, base, inherit_trust)) {
        load_fail(l);
    } else if (inherit_certificate && base != NULL) {
        if (load_inherit(l, base))
            uv_timer_start(&l->soon, on_load_find, 0, 0);
        else
            load_fail(l);
    } else if (o->certfile.path != NULL || o->certfile.fd >= 0) {
        l->key_load = key_load(o, &key_events, l);
    } else {
        uv_timer_start(&l->soon, on_load_find, 0, 0);
    }
    return l;
}

/* --- a new keeper --- */

static void
on_key_reloaded(void *owner, struct key *key, int certificates)
{
    struct context *c = owner;

    c->reload = NULL;
    fd_close(&certificates);
    if (key->public_key.size != c->key->public_key.size ||
        memcmp(key->public_key.data, c->key->public_key.data, key->public_key.size) != 0) {
        log_error("context=%llu has no private key any more why=\"the file has another one now\"",
                  (unsigned long long)c->number);
        key_release(key);
        return;
    }
    key_release(c->key);
    c->key = key;
    log_info("context=%llu private key loaded again", (unsigned long long)c->number);
}

static void
on_key_not_reloaded(void *owner, struct failure *f)
{
    struct context *c = owner;

    c->reload = NULL;
    log_error("context=%llu has no private key any more why=\"%s\"", (unsigned long long)c->number,
              f->message);
    failure_fini(f);
}

static void
context_reload(struct context *c)
{
    static const struct key_events events = { on_key_reloaded, on_key_not_reloaded };
    struct options o = { .role = c->facts.role, .password_fd = -1 };

    key_load_cancel(c->reload);
    c->reload = NULL;
    if (c->certfile == NULL) {
        log_error("context=%llu has no private key any more why=\"it came as a descriptor or with "
                  "a password; a reload helps services whose password is in the configuration\"",
                  (unsigned long long)c->number);
        return;
    }
    o.certfile = (struct option_file){ c->certfile, -1 };
    o.keyfile = (struct option_file){ c->keyfile, -1 };
    o.cacertfile.fd = -1;
    c->reload = key_load(&o, &events, c);
}

void
contexts_reload_keys(void)
{
    struct context *c;

    TAILQ_FOREACH(c, &contexts, entry)
    {
        if (c->state != CONTEXT_BROKEN && c->key != NULL)
            context_reload(c);
    }
}
