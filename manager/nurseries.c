#include "manager/nurseries.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/board.h"
#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "ipc/walls.h"
#include "manager/channel.h"
#include "manager/logging.h"
#include "manager/manager.h"
#include "manager/map.h"
#include "manager/tree.h"

enum {
    PATIENCE_MS = 250,    /* how long a spawn waits for a clean nursery */
    START_MAX_MS = 30000, /* how long a nursery may take to be ready */
    TICK_MS = 5000,
    IN_FLIGHT_MAX = 64, /* spawns that are not yet answered with forked */
    DELAY_MIN_MS = 250,
    DELAY_MAX_MS = 60000,
    QUEUE_MAX = 8192, /* contexts, mostly */
    ORPHANS_REMEMBERED = 64,
    ORPHAN_MAX_MS = 5000, /* pids are used again */
    LEAVE_MS = 10000, /* how long a worker may stay when its connection has ended */
};

enum nursery_state {
    NURSERY_STARTING, /* its library warms up */
    NURSERY_LOADING,  /* it takes the contexts that there are */
    NURSERY_READY,
    NURSERY_RETIRED, /* exits, its workers live on */
    NURSERY_DEAD,
};

/* What a nursery knows of a context. */
static char context_sent, context_known;

struct nursery {
    uint64_t generation;
    enum nursery_state state;
    struct channel *channel; /* NULL once dead */
    struct child *child;
    int board; /* owned; until the last worker is gone */
    uint32_t walls; /* that stand around it and its workers */
    unsigned forks, in_flight;
    size_t contexts_pending;
    struct map contexts; /* number → &context_sent or &context_known */
    int64_t since_ms;    /* of its start, then of its first fork */
    TAILQ_HEAD(, worker) workers;
    struct map by_connection; /* of the same */
    TAILQ_ENTRY(nursery) entry;
};

struct worker {
    struct nursery *nursery;
    uint64_t connection;
    uint32_t pid; /* 0: not forked yet */
    int pidfd;    /* owned; -1 */
    uint32_t page;
    const struct worker_events *events;
    void *owner;          /* NULL: nobody cares any more */
    int64_t forgotten_ms; /* since when */
    bool is_killed;       /* by us */
    TAILQ_ENTRY(worker) entry;
};

static TAILQ_HEAD(, nursery) nurseries = TAILQ_HEAD_INITIALIZER(nurseries);
static struct nursery *current; /* NULL: none is clean and ready */
static uint64_t last_generation;
static struct map workers_by_pid;
static TAILQ_HEAD(, spawn_want) wants = TAILQ_HEAD_INITIALIZER(wants);
static uv_timer_t patience, tick, delayed_start;
static unsigned failed_starts;

static struct {
    bool is_known;
    uint32_t versions;
    uint8_t suites[512];
    size_t suites_size;
    char name[101]; /* "GnuTLS 3.7.9"; "": not known yet */
} library;

/* Of the last nursery that said so: all see the same machine. */
static struct {
    bool is_known;
    uint32_t standing;
    uint32_t missing; /* of those that are required */
} walls;

/* Ends that cordond told of before the nursery's forked was read. */
static struct {
    uint32_t pid;
    int status;
    int64_t at_ms;
} orphans[ORPHANS_REMEMBERED];
static unsigned next_orphan;

static void nurseries_arrange(void);
static void nursery_retire(struct nursery *n, const char *why);
static void nursery_lost(struct nursery *n, const char *why);

bool
nurseries_library(uint32_t *versions, const uint8_t **suites, size_t *suites_size)
{
    *versions = library.versions;
    *suites = library.suites;
    *suites_size = library.suites_size;
    return library.is_known;
}

const char *
nurseries_library_name(void)
{
    return library.name;
}

bool
nurseries_walls(uint32_t *standing)
{
    *standing = walls.standing;
    return walls.is_known;
}

uint32_t
nurseries_missing_walls(void)
{
    return walls.missing;
}

void
nurseries_refuse(struct failure *f)
{
    failure_set(f, RESULT_WALLS, NULL, "{s:o}", "missing", walls_json(walls.missing));
}

json_t *
walls_json(uint32_t mask)
{
    json_t *names = json_array();

    for (int i = 0; i < WALL_COUNT; i++) {
        if (mask & WALL_BIT(i))
            json_array_append_new(names, json_string(wall_name((enum wall)i)));
    }
    return names;
}

/* --- workers --- */

static void
nursery_free_if_done(struct nursery *n)
{
    if (n->state != NURSERY_DEAD || !TAILQ_EMPTY(&n->workers))
        return;
    TAILQ_REMOVE(&nurseries, n, entry);
    fd_close(&n->board);
    map_fini(&n->contexts);
    map_fini(&n->by_connection);
    free(n);
}

static void
worker_free(struct worker *w)
{
    struct nursery *n = w->nursery;

    TAILQ_REMOVE(&n->workers, w, entry);
    map_take(&n->by_connection, w->connection);
    if (w->pid != 0)
        map_take(&workers_by_pid, w->pid);
    else
        n->in_flight--;
    fd_close(&w->pidfd);
    free(w);
    nursery_free_if_done(n);
}

static void
worker_exited(struct worker *w, int status)
{
    struct nursery *n = w->nursery;
    bool is_unheard = w->owner == NULL && WIFSIGNALED(status) && !w->is_killed;

    if (w->owner != NULL)
        w->events->on_exited(w->owner, status);
    else if (is_unheard)
        nursery_retire(n, "a worker that nobody heard of was killed");
    worker_free(w);
}

void
worker_forget(struct worker *w)
{
    if (w == NULL)
        return;
    w->owner = NULL;
    w->forgotten_ms = clock_now_ms();
}

void
worker_kill(struct worker *w)
{
    w->is_killed = true;
    if (w->pidfd >= 0)
        tree_signal(w->pidfd, SIGKILL);
}

uint32_t
worker_pid(const struct worker *w)
{
    return w->pid;
}

uint32_t
worker_walls(const struct worker *w)
{
    return w->nursery->walls;
}

const char *
worker_last_state(const struct worker *w)
{
    if (w->pid == 0 || w->nursery->board < 0)
        return worker_state_name(WORKER_SPAWNED);
    return worker_state_name(board_read_state(w->nursery->board, w->page));
}

void
worker_last_bytes(const struct worker *w, uint64_t *in, uint64_t *out)
{
    *in = *out = 0;
    if (w->pid != 0 && w->nursery->board >= 0)
        board_read_bytes(w->nursery->board, w->page, in, out);
}

void
nurseries_orphan_ended(uint32_t pid, int status)
{
    struct worker *w = map_get(&workers_by_pid, pid);

    if (w != NULL) {
        worker_exited(w, status);
        return;
    }
    orphans[next_orphan % ORPHANS_REMEMBERED].pid = pid;
    orphans[next_orphan % ORPHANS_REMEMBERED].status = status;
    orphans[next_orphan++ % ORPHANS_REMEMBERED].at_ms = clock_now_ms();
}

static bool
orphan_status(uint32_t pid, int *status)
{
    int64_t oldest_ms = clock_now_ms() - ORPHAN_MAX_MS;

    for (int i = 0; i < ORPHANS_REMEMBERED; i++) {
        if (orphans[i].pid == pid && orphans[i].at_ms >= oldest_ms) {
            *status = orphans[i].status;
            orphans[i].pid = 0;
            return true;
        }
    }
    return false;
}

/* --- retiring --- */

static void
nursery_retire(struct nursery *n, const char *why)
{
    struct message m;

    if (n->state >= NURSERY_RETIRED)
        return;
    log_info("nursery=%llu retired why=\"%s\" forks=%u", (unsigned long long)n->generation, why,
             n->forks);
    n->state = NURSERY_RETIRED;
    message_init(&m, MESSAGE_RETIRE);
    channel_send(n->channel, &m);
    nurseries_arrange();
}

uint64_t
nursery_generation(const struct nursery *n)
{
    return n->generation;
}

void
nurseries_taint(uint64_t generation)
{
    struct nursery *n;

    TAILQ_FOREACH(n, &nurseries, entry)
    {
        if (n->generation == generation) {
            nursery_retire(n, "a worker ended without a goodbye");
            return;
        }
    }
}

static void
tell_duty(const struct nursery *n)
{
    struct message m;

    message_init(&m, MESSAGE_DUTY);
    m.as.duty.generation = n->generation;
    m.as.duty.spare = n != current;
    channel_send(n->channel, &m);
}

/* --- messages --- */

static void
check_known(uint64_t number)
{
    struct context *c = context_by_number(number);
    struct nursery *n;
    bool is_known = false;

    if (c == NULL)
        return;
    TAILQ_FOREACH(n, &nurseries, entry)
    {
        void *known = n->state <= NURSERY_READY ? map_get(&n->contexts, number) : NULL;

        if (known == &context_sent)
            return;
        is_known = is_known || known == &context_known;
    }
    if (is_known)
        context_is_known(c, NULL, NULL);
}

static void
nursery_ready_if_loaded(struct nursery *n)
{
    if (n->state != NURSERY_LOADING || n->contexts_pending > 0)
        return;
    n->state = NURSERY_READY;
    failed_starts = 0;
    log_info("nursery=%llu ready took_ms=%lld", (unsigned long long)n->generation,
             (long long)(clock_now_ms() - n->since_ms));
    nurseries_arrange();
}

static void
send_context(void *data, struct context *c)
{
    struct nursery *n = data;
    struct message m;

    context_describe(c, &m);
    map_put(&n->contexts, context_number(c), &context_sent);
    n->contexts_pending++;
    channel_send(n->channel, &m);
}

void
nurseries_add_context(struct context *c)
{
    struct nursery *n;

    TAILQ_FOREACH(n, &nurseries, entry)
    {
        if (n->state == NURSERY_LOADING || n->state == NURSERY_READY)
            send_context(n, c);
    }
}

void
nurseries_drop_context(uint64_t number)
{
    struct nursery *n;
    struct message m;

    message_init(&m, MESSAGE_CONTEXT_DROP);
    m.as.context_drop.context = number;
    TAILQ_FOREACH(n, &nurseries, entry)
    {
        void *known = n->state <= NURSERY_READY ? map_take(&n->contexts, number) : NULL;

        if (known == NULL)
            continue;
        channel_send(n->channel, &m);
        if (known == &context_sent) {
            n->contexts_pending--;
            nursery_ready_if_loaded(n);
        }
    }
}

/* Says so when it is news: every generation sees the same machine. */
static void
log_walls(uint32_t standing, uint32_t missing)
{
    for (int i = 0; i < WALL_COUNT; i++) {
        enum wall wall = (enum wall)i;

        if (missing & WALL_BIT(wall))
            log_error("a required wall does not stand wall=%s hint=\"%s; cordon doctor says more\"",
                      wall_name(wall), wall_absence(wall));
        else if (!(standing & WALL_BIT(wall)))
            log_warn("a wall does not stand wall=%s hint=\"%s\"", wall_name(wall),
                     wall_absence(wall));
    }
}

/* What a nursery says before it has read a byte of anybody else's.  false: it may not be used. */
static bool
note_walls(struct nursery *n, const struct message_nursery_ready *ready)
{
    uint32_t missing;

    n->walls = ready->walls & (WALL_BIT(WALL_COUNT) - 1);
    n->walls &= ~WALL_BIT(WALL_UID);
    if (ready->uid != geteuid())
        n->walls |= WALL_BIT(WALL_UID);
    missing = config.walls & ~n->walls;
    if (!walls.is_known || walls.standing != n->walls || walls.missing != missing)
        log_walls(n->walls, missing);
    walls.is_known = true;
    walls.standing = n->walls;
    walls.missing = missing;
    return missing == 0;
}

static void
handle_ready(struct nursery *n, const struct message_nursery_ready *ready)
{
    if (n->state != NURSERY_STARTING)
        return;
    if (!note_walls(n, ready)) {
        nursery_lost(n, "a wall that the configuration requires does not stand");
        return;
    }
    library.is_known = true;
    library.versions = ready->versions;
    log_escape(library.name, sizeof(library.name), ready->library, strlen(ready->library));
    library.suites_size = ready->suites.size < sizeof(library.suites) ? ready->suites.size
                                                                      : sizeof(library.suites);
    memcpy(library.suites, ready->suites.data, library.suites_size);
    n->state = NURSERY_LOADING;
    contexts_each(send_context, n);
    nursery_ready_if_loaded(n);
}

static void
handle_context(struct nursery *n, uint64_t number, const char *option, const char *why)
{
    if (map_get(&n->contexts, number) != &context_sent)
        return;
    n->contexts_pending--;
    if (option == NULL) {
        map_put(&n->contexts, number, &context_known);
        check_known(number);
    } else {
        struct context *c = context_by_number(number);

        map_take(&n->contexts, number);
        if (c != NULL)
            context_is_known(c, option, why);
    }
    nursery_ready_if_loaded(n);
}

static void
handle_forked(struct nursery *n, struct message *m)
{
    struct worker *w = map_get(&n->by_connection, m->as.forked.connection);
    int status;

    if (w == NULL || w->pid != 0 || m->as.forked.pid == 0)
        return;
    n->in_flight--;
    w->pid = m->as.forked.pid;
    w->pidfd = message_take_fd(m, 0);
    w->page = m->as.forked.page;
    map_put(&workers_by_pid, w->pid, w);
    if (w->owner != NULL)
        w->events->on_forked(w->owner, w);
    else if (w->is_killed)
        worker_kill(w);
    if (orphan_status(w->pid, &status))
        worker_exited(w, status);
    nurseries_arrange();
}

static void
handle_fork_failed(struct nursery *n, const struct message_fork_failed *failed)
{
    struct worker *w = map_get(&n->by_connection, failed->connection);

    if (w == NULL || w->pid != 0)
        return;
    if (w->owner != NULL)
        w->events->on_fork_failed(w->owner, (int)failed->error);
    worker_free(w);
    nurseries_arrange();
}

static void
handle_exited(struct nursery *n, const struct message_exited *exited)
{
    struct worker *w = map_get(&n->by_connection, exited->connection);

    if (w != NULL && w->pid != 0)
        worker_exited(w, (int)exited->status);
}

static void
on_message(void *owner, struct message *m)
{
    struct nursery *n = owner;

    if (m->type == MESSAGE_NURSERY_READY)
        handle_ready(n, &m->as.nursery_ready);
    else if (m->type == MESSAGE_CONTEXT_READY)
        handle_context(n, m->as.context_ready.context, NULL, NULL);
    else if (m->type == MESSAGE_CONTEXT_FAILED)
        handle_context(n, m->as.context_failed.context, m->as.context_failed.option,
                       m->as.context_failed.why);
    else if (m->type == MESSAGE_FORKED)
        handle_forked(n, m);
    else if (m->type == MESSAGE_FORK_FAILED)
        handle_fork_failed(n, &m->as.fork_failed);
    else if (m->type == MESSAGE_EXITED)
        handle_exited(n, &m->as.exited);
    else if (m->type == MESSAGE_LOG)
        log_forward((enum log_level)m->as.log.level, "nursery", m->as.log.line);
}

/* --- the process --- */

static void
recheck_context(void *data, struct context *c)
{
    (void)data;
    check_known(context_number(c));
}

static void
nursery_lost(struct nursery *n, const char *why)
{
    struct worker *w, *next;

    if (n->state == NURSERY_DEAD)
        return;
    if (n->state != NURSERY_RETIRED && !manager_is_stopping()) {
        log_error("nursery=%llu ended why=\"%s\" forks=%u", (unsigned long long)n->generation, why,
                  n->forks);
        failed_starts++;
    }
    n->state = NURSERY_DEAD;
    if (current == n)
        current = NULL;
    channel_close(n->channel);
    n->channel = NULL;
    child_forget(n->child);
    n->child = NULL;
    for (w = TAILQ_FIRST(&n->workers); w != NULL; w = next) {
        next = TAILQ_NEXT(w, entry);
        if (w->pid != 0)
            continue;
        if (w->owner != NULL)
            w->events->on_lost(w->owner);
        w->owner = NULL;
        /* The last one frees the nursery, so nothing of it is used after the loop. */
        if (next == NULL)
            n = NULL;
        worker_free(w);
    }
    if (n != NULL)
        nursery_free_if_done(n);
    contexts_each(recheck_context, NULL);
    nurseries_arrange();
}

static void
on_end(void *owner, enum result result, const char *why)
{
    (void)result;
    nursery_lost(owner, why);
}

static void
on_started(void *owner, uint32_t pid, int board)
{
    struct nursery *n = owner;

    log_info("nursery=%llu started pid=%u", (unsigned long long)n->generation, pid);
    fd_close(&n->board);
    n->board = board;
}

static void
on_ended(void *owner, int error, int status)
{
    struct nursery *n = owner;

    (void)status;
    n->child = NULL;
    /* If it ran, its channel still holds what it said, and ends after that. */
    if (error != 0)
        nursery_lost(n, posix_name(error));
}

static void
nursery_start(void)
{
    static const struct channel_kind kind = { .name = "nursery",
                                              .receives = NURSERY_TO_MANAGER,
                                              .message_max = MESSAGE_MAX,
                                              .queue_max = QUEUE_MAX,
                                              .on_message = on_message,
                                              .on_end = on_end };
    static const struct child_events events = { on_started, on_ended };
    struct nursery *n = calloc(1, sizeof(*n));
    struct message m;
    int pair[2];

    assert(n != NULL);
    if (mailbox_pair(pair, MESSAGE_MAX) != RESULT_OK) {
        log_error("nursery has no mailbox error=%s", posix_name(errno));
        free(n);
        failed_starts++;
        return;
    }
    n->generation = ++last_generation;
    n->board = -1;
    n->since_ms = clock_now_ms();
    TAILQ_INIT(&n->workers);
    TAILQ_INSERT_TAIL(&nurseries, n, entry);
    n->channel = channel_open(pair[0], &kind, n);
    logging_message(&m);
    channel_send(n->channel, &m);
    tell_duty(n);
    n->child = tree_start(PROCESS_NURSERY, n->generation, pair[1], &events, n);
}

/* --- who forks --- */

static unsigned
live_nurseries(void)
{
    struct nursery *n;
    unsigned live = 0;

    TAILQ_FOREACH(n, &nurseries, entry)
    {
        if (n->state <= NURSERY_READY)
            live++;
    }
    return live;
}

static void keep_two(void);

static void
on_delayed_start(uv_timer_t *timer)
{
    (void)timer;
    if (live_nurseries() < 2)
        nursery_start();
    keep_two();
}

/* One that forks and a spare.  After a failure the next start waits, longer each time. */
static void
keep_two(void)
{
    uint64_t delay_ms;

    while (live_nurseries() < 2 && failed_starts == 0 && !manager_is_stopping())
        nursery_start();
    if (live_nurseries() >= 2 || manager_is_stopping() ||
        uv_is_active((uv_handle_t *)&delayed_start))
        return;
    delay_ms = (uint64_t)DELAY_MIN_MS << (failed_starts < 8 ? failed_starts - 1 : 8);
    uv_timer_start(&delayed_start, on_delayed_start,
                   delay_ms < DELAY_MAX_MS ? delay_ms : DELAY_MAX_MS, 0);
}

static struct nursery *
usable(void)
{
    if (current != NULL && current->state != NURSERY_READY)
        current = NULL;
    if (current == NULL) {
        TAILQ_FOREACH(current, &nurseries, entry)
        {
            if (current->state == NURSERY_READY)
                break;
        }
        if (current != NULL) {
            current->since_ms = clock_now_ms();
            tell_duty(current);
        }
    }
    return current;
}

static void
on_patience(uv_timer_t *timer)
{
    int64_t now = clock_now_ms();
    struct spawn_want *want;

    if (usable() != NULL)
        return;
    while ((want = TAILQ_FIRST(&wants)) != NULL && want->deadline_ms <= now) {
        nurseries_want_forget(want);
        want->on_nursery(want->owner, NULL);
    }
    if (want != NULL)
        uv_timer_start(timer, on_patience, (uint64_t)(want->deadline_ms - now) + 1, 0);
}

/* After every change: who waits is served, what is missing is started. */
static void
nurseries_arrange(void)
{
    struct spawn_want *want;

    while (usable() != NULL && current->in_flight < IN_FLIGHT_MAX &&
           (want = TAILQ_FIRST(&wants)) != NULL) {
        nurseries_want_forget(want);
        want->on_nursery(want->owner, current);
    }
    if (usable() == NULL && !TAILQ_EMPTY(&wants) && !uv_is_active((uv_handle_t *)&patience)) {
        /* Those that waited for a busy nursery have had none for no time yet. */
        TAILQ_FOREACH(want, &wants, entry)
        {
            want->deadline_ms = clock_now_ms() + PATIENCE_MS;
        }
        uv_timer_start(&patience, on_patience, PATIENCE_MS, 0);
    }
    keep_two();
}

void
nurseries_want(struct spawn_want *want)
{
    assert(!want->is_waiting);
    want->is_waiting = true;
    want->deadline_ms = clock_now_ms() + PATIENCE_MS;
    TAILQ_INSERT_TAIL(&wants, want, entry);
    nurseries_arrange();
}

void
nurseries_want_forget(struct spawn_want *want)
{
    if (want->is_waiting)
        TAILQ_REMOVE(&wants, want, entry);
    want->is_waiting = false;
}

struct worker *
nursery_spawn(struct nursery *n, uint64_t connection, const struct message *spawn,
              const struct worker_events *events, void *owner)
{
    struct worker *w = calloc(1, sizeof(*w));

    assert(w != NULL && n->state == NURSERY_READY);
    w->nursery = n;
    w->connection = connection;
    w->pidfd = -1;
    w->events = events;
    w->owner = owner;
    TAILQ_INSERT_TAIL(&n->workers, w, entry);
    map_put(&n->by_connection, connection, w);
    n->in_flight++;
    n->forks++;
    channel_send(n->channel, spawn);
    if (n->forks >= config.nursery_forks_max)
        nursery_retire(n, "it has forked nursery_forks_max times");
    return w;
}

static bool
has_ended(const struct worker *w)
{
    struct pollfd ended = { .fd = w->pidfd, .events = POLLIN };

    return poll(&ended, 1, 0) == 1;
}

/*
 * A worker whose mailbox hangs up ends.  One that stays was stopped, or is not ours any more; and
 * one of a dead nursery may have ended without anybody to tell us.
 */
static void
end_forgotten(struct nursery *n, int64_t limit_ms)
{
    int64_t now = clock_now_ms();
    struct worker *w, *next;

    for (w = TAILQ_FIRST(&n->workers); w != NULL; w = next) {
        next = TAILQ_NEXT(w, entry);
        if (w->owner != NULL || w->pid == 0 || now - w->forgotten_ms < limit_ms)
            continue;
        if (!has_ended(w)) {
            log_warn("worker is killed pid=%u why=\"it stays when its connection has ended\"",
                     w->pid);
            worker_kill(w);
            w->forgotten_ms = now;
        } else if (n->state == NURSERY_DEAD) {
            worker_free(w);
        }
    }
}

static void
end_all_forgotten(int64_t limit_ms)
{
    struct nursery *n, *next;

    for (n = TAILQ_FIRST(&nurseries); n != NULL; n = next) {
        next = TAILQ_NEXT(n, entry);
        end_forgotten(n, limit_ms);
    }
}

void
nurseries_stop(void)
{
    end_all_forgotten(0);
}

static void
on_tick(uv_timer_t *timer)
{
    struct nursery *n, *next;
    int64_t now = clock_now_ms();

    (void)timer;
    end_all_forgotten(LEAVE_MS);
    for (n = TAILQ_FIRST(&nurseries); n != NULL; n = next) {
        next = TAILQ_NEXT(n, entry);
        if (n->state <= NURSERY_LOADING && now - n->since_ms > START_MAX_MS) {
            nursery_lost(n, "it was not ready within 30 s");
            return;
        }
    }
    if (usable() != NULL && current->forks > 0 &&
        now - current->since_ms > (int64_t)config.nursery_age_max_s * 1000)
        nursery_retire(current, "it has forked for nursery_age_max");
}

void
nurseries_tell(const struct message *m)
{
    struct nursery *n;

    TAILQ_FOREACH(n, &nurseries, entry)
    {
        if (n->state <= NURSERY_READY)
            channel_send(n->channel, m);
    }
}

void
nurseries_open(void)
{
    int status = uv_timer_init(manager_loop, &patience);

    status |= uv_timer_init(manager_loop, &delayed_start);
    status |= uv_timer_init(manager_loop, &tick);
    assert(status == 0);
    uv_unref((uv_handle_t *)&tick);
    uv_timer_start(&tick, on_tick, TICK_MS, TICK_MS);
    nurseries_arrange();
}
