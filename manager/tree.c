#include "manager/tree.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/process.h"
#include "manager/channel.h"
#include "manager/helpers.h"
#include "manager/ledger.h"
#include "manager/logging.h"
#include "manager/manager.h"
#include "manager/map.h"
#include "manager/nurseries.h"

enum {
    PAIRS_LOW = 16,
    PAIRS_MAX = PAIRS_LOW + PAIRS_PER_MESSAGE,
    DROPS_PER_MESSAGE = 64,
    DROP_DELAY_MS = 1000,
    QUEUE_MAX = 65536,
};

struct child {
    uint64_t number;
    enum process_kind kind;
    uint64_t generation;
    uint32_t pid; /* 0: not yet started */
    const struct child_events *events;
    void *owner; /* borrowed; NULL: forgotten */
    TAILQ_ENTRY(child) entry;
};

struct drops {
    size_t count;
    uint8_t numbers[DROPS_PER_MESSAGE * 8];
};

static struct channel *cordond;
static const struct tree_events *tree_events;
static bool is_booted;
static uint32_t start_number;

static struct pair pairs[PAIRS_MAX];
static size_t pair_count;
static bool is_asking;
static STAILQ_HEAD(, pair_want) wants = STAILQ_HEAD_INITIALIZER(wants);

static TAILQ_HEAD(, child) children = TAILQ_HEAD_INITIALIZER(children);
static struct map children_by_number;
static size_t counts[PROCESS_KIND_COUNT];
static uint64_t last_child;

static struct drops drops[KEPT_CLIENT + 1];
static uv_timer_t drop_timer;

uint32_t
manager_start_number(void)
{
    return start_number;
}

/* --- pairs --- */

static void
ask_for_pairs(void)
{
    struct message m;

    if (is_asking || pair_count >= PAIRS_LOW)
        return;
    is_asking = true;
    message_init(&m, MESSAGE_WANT_PAIRS);
    channel_send(cordond, &m);
}

void
tree_pair(struct pair_want *want)
{
    assert(!want->is_waiting);
    if (pair_count == 0) {
        want->is_waiting = true;
        STAILQ_INSERT_TAIL(&wants, want, entry);
        ask_for_pairs();
        return;
    }
    pair_count--;
    ask_for_pairs();
    want->on_pair(want->owner, pairs[pair_count]);
}

void
tree_pair_forget(struct pair_want *want)
{
    if (want->is_waiting)
        STAILQ_REMOVE(&wants, want, pair_want, entry);
    want->is_waiting = false;
}

static void
handle_pairs(struct message *m)
{
    is_asking = false;
    for (size_t i = 0; i + 1 < m->fd_count && pair_count < PAIRS_MAX; i += 2) {
        pairs[pair_count].number = m->as.pairs.first + i / 2;
        pairs[pair_count].ours = message_take_fd(m, i);
        pairs[pair_count].theirs = message_take_fd(m, i + 1);
        pair_count++;
    }
    while (!STAILQ_EMPTY(&wants) && pair_count > 0) {
        struct pair_want *want = STAILQ_FIRST(&wants);

        tree_pair_forget(want);
        tree_pair(want);
    }
    ask_for_pairs();
}

/* --- copies --- */

void
tree_tell(const struct message *m)
{
    if (cordond != NULL)
        channel_send(cordond, m);
}

void
tree_keep(uint32_t kind, uint64_t number, int fd)
{
    struct message m;

    message_init(&m, MESSAGE_KEEP);
    m.as.keep.kind = kind;
    m.as.keep.number = number;
    m.fds[0] = fd;
    m.fd_count = 1;
    channel_send(cordond, &m);
}

static void
send_drops(uint32_t kind)
{
    struct message m;

    if (drops[kind].count == 0)
        return;
    message_init(&m, MESSAGE_DROP);
    m.as.drop.kind = kind;
    m.as.drop.numbers.data = drops[kind].numbers;
    m.as.drop.numbers.size = drops[kind].count * 8;
    channel_send(cordond, &m);
    drops[kind].count = 0;
}

static void
on_drop_timer(uv_timer_t *timer)
{
    (void)timer;
    for (uint32_t kind = 0; kind <= KEPT_CLIENT; kind++)
        send_drops(kind);
}

void
tree_drop(uint32_t kind, uint64_t number)
{
    struct drops *d = &drops[kind];

    assert(kind <= KEPT_CLIENT);
    for (int i = 0; i < 8; i++)
        d->numbers[8 * d->count + (size_t)i] = (uint8_t)(number >> (56 - 8 * i));
    d->count++;
    if (d->count == DROPS_PER_MESSAGE)
        send_drops(kind);
    else if (!uv_is_active((uv_handle_t *)&drop_timer))
        uv_timer_start(&drop_timer, on_drop_timer, DROP_DELAY_MS, 0);
}

/* --- processes --- */

static struct child *
start(enum process_kind kind, uint64_t generation, uint32_t user, int mailbox,
      const struct child_events *events, void *owner)
{
    struct child *c = calloc(1, sizeof(*c));
    struct message m;

    assert(c != NULL);
    c->number = ++last_child;
    c->kind = kind;
    c->generation = generation;
    c->events = events;
    c->owner = owner;
    TAILQ_INSERT_TAIL(&children, c, entry);
    counts[kind]++;
    map_put(&children_by_number, c->number, c);
    message_init(&m, MESSAGE_START);
    m.as.start.request = c->number;
    m.as.start.kind = kind;
    m.as.start.has_kind = true;
    m.as.start.user = user;
    m.fds[0] = mailbox;
    m.fd_count = 1;
    channel_send(cordond, &m);
    fd_close(&mailbox);
    return c;
}

struct child *
tree_start(enum process_kind kind, uint64_t generation, int mailbox,
           const struct child_events *events, void *owner)
{
    return start(kind, generation, 0, mailbox, events, owner);
}

struct child *
tree_launch(uint32_t user, int mailbox, const struct child_events *events, void *owner)
{
    return start(PROCESS_LAUNCHER, 0, user, mailbox, events, owner);
}

size_t
tree_count(enum process_kind kind)
{
    return counts[kind];
}

void
child_forget(struct child *c)
{
    if (c != NULL)
        c->owner = NULL;
}

static void
child_gone(struct child *c, int error, int status)
{
    enum process_kind kind = c->kind;

    TAILQ_REMOVE(&children, c, entry);
    counts[kind]--;
    map_take(&children_by_number, c->number);
    if (c->owner != NULL)
        c->events->on_ended(c->owner, error, status);
    free(c);
    helpers_start(kind);
}

static void
handle_started(struct message *m)
{
    struct child *c = map_get(&children_by_number, m->as.started.request);

    if (c == NULL)
        return;
    c->pid = m->as.started.pid;
    if (c->owner != NULL)
        c->events->on_started(c->owner, c->pid, message_take_fd(m, 0));
}

static void
handle_start_failed(struct message *m)
{
    struct child *c = map_get(&children_by_number, m->as.start_failed.request);

    if (c != NULL)
        child_gone(c, (int)m->as.start_failed.error, 0);
}

static void
handle_process_ended(struct message *m)
{
    struct child *c = map_get(&children_by_number, m->as.process_ended.request);

    if (c != NULL)
        child_gone(c, 0, (int)m->as.process_ended.status);
}

void
tree_signal(int pidfd, int number)
{
    struct message m;

    message_init(&m, MESSAGE_SIGNAL);
    m.as.signal.number = (uint32_t)number;
    m.fds[0] = pidfd;
    m.fd_count = 1;
    channel_send(cordond, &m);
}

static const char *const kind_names[PROCESS_KIND_COUNT] = {
    [PROCESS_KEEPER] = "keeper",           [PROCESS_NURSERY] = "nursery",
    [PROCESS_RESOLVER] = "resolver",       [PROCESS_CHECKER] = "checker",
    [PROCESS_KEY_DECODER] = "key_decoder", [PROCESS_MANAGER] = "manager",
    [PROCESS_LAUNCHER] = "launcher",
};

json_t *
tree_processes(void)
{
    json_t *rows = json_array();
    struct child *c;

    json_array_append_new(rows, json_pack("{s:s, s:i}", "name", "cordond", "pid", (int)getppid()));
    json_array_append_new(rows, json_pack("{s:s, s:i}", "name", "manager", "pid", (int)getpid()));
    TAILQ_FOREACH(c, &children, entry)
    {
        json_t *row;

        if (c->pid == 0)
            continue;
        row = json_pack("{s:s, s:I}", "name", kind_names[c->kind], "pid", (json_int_t)c->pid);
        if (c->kind == PROCESS_NURSERY)
            json_object_set_new(row, "generation", json_integer((json_int_t)c->generation));
        json_array_append_new(rows, row);
    }
    return rows;
}

/* --- the channel --- */

static void
handle_boot(struct message *m)
{
    enum result result;

    if (is_booted)
        return;
    is_booted = true;
    start_number = m->as.boot.start;
    result = ledger_open(message_take_fd(m, 0), start_number);
    if (result != RESULT_OK) {
        log_error("ledger cannot be opened reason=%s", result_name(result));
        exit(1);
    }
    ask_for_pairs();
    tree_events->on_boot();
}

static void
on_message(void *owner, struct message *m)
{
    (void)owner;
    if (m->type == MESSAGE_BOOT)
        handle_boot(m);
    else if (m->type == MESSAGE_PAIRS)
        handle_pairs(m);
    else if (m->type == MESSAGE_STARTED)
        handle_started(m);
    else if (m->type == MESSAGE_START_FAILED)
        handle_start_failed(m);
    else if (m->type == MESSAGE_PROCESS_ENDED)
        handle_process_ended(m);
    else if (m->type == MESSAGE_ORPHAN_ENDED)
        nurseries_orphan_ended(m->as.orphan_ended.pid, (int)m->as.orphan_ended.status);
    else if (m->type == MESSAGE_TERMINATE)
        tree_events->on_terminate();
    else if (m->type == MESSAGE_RELOAD)
        tree_events->on_reload();
}

static void
on_end(void *owner, enum result result, const char *why)
{
    (void)owner;
    log_error("cordond is gone, so this ends too reason=%s why=\"%s\"", result_name(result), why);
    exit(1);
}

void
tree_open(const struct tree_events *events)
{
    static const struct channel_kind kind = { .name = "cordond",
                                              .receives = CORDOND_TO_MANAGER,
                                              .message_max = MESSAGE_MAX,
                                              .queue_max = QUEUE_MAX,
                                              .on_message = on_message,
                                              .on_end = on_end };
    int status = uv_timer_init(manager_loop, &drop_timer);
    struct message m;

    assert(status == 0);
    uv_unref((uv_handle_t *)&drop_timer);
    tree_events = events;
    cordond = channel_open(PROCESS_MAILBOX, &kind, &cordond);
    logging_message(&m);
    channel_send(cordond, &m);
}

void
tree_ready(void)
{
    struct message m;

    message_init(&m, MESSAGE_READY);
    m.as.ready.restart_intensity = config.restart_intensity;
    m.as.ready.has_restart_intensity = true;
    m.as.ready.restart_period_s = config.restart_period_s;
    m.as.ready.has_restart_period_s = true;
    channel_send(cordond, &m);
}

void
tree_finished(void (*on_told)(void))
{
    struct message m;

    on_drop_timer(&drop_timer);
    message_init(&m, MESSAGE_FINISHED);
    channel_send(cordond, &m);
    channel_when_sent(cordond, on_told);
}
