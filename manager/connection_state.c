/*
 * What a connection does in each of its states.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "manager/connection.h"
#include "manager/connection_deliver.h"
#include "manager/connection_exec.h"
#include "manager/connection_service.h"
#include "manager/descriptors.h"
#include "manager/frames.h"
#include "manager/ledger.h"
#include "manager/manager.h"

enum {
    WAITING_MS = 60000, /* for ssl.handshake, after ssl.transport_accept */
    SPAWNING_MS = 10000,
    HANDSHAKE_MS = 30000,      /* where no request says */
    HANDSHAKE_GRACE_MS = 5000, /* a worker that is so late is stuck */
    CLOSING_MS = 30000,
    RESET_MS = 2000,
    STATUS_MS = 1000,
    SPAWNS_MAX = 3,
    LINGERING_MAX = 256, /* failed ones, whose alert the peer is to read */
};

typedef enum connection_event (*enter)(struct connection *c);

static TAILQ_HEAD(, connection) lingering = TAILQ_HEAD_INITIALIZER(lingering);
static unsigned lingering_count;

static void on_timer(uv_timer_t *timer);

void
connection_wait(struct connection *c, int64_t timeout_ms)
{
    uv_timer_start(&c->timer, on_timer, (uint64_t)timeout_ms, 0);
}

/* --- the ledger --- */

static void
connection_record(struct connection *c)
{
    struct ledger_record record = {
        .number = c->number,
        .owner = c->owner != NULL ? owner_number(c->owner) : 0,
        .context = c->context != NULL ? context_number(c->context) : 0,
        .listener = c->listener != NULL ? listener_number(c->listener) : 0,
        .pair = c->pair.number,
        .request = c->request != NULL ? request_number(c->request) : 0,
        .data_cookie = c->data_cookie,
        .deadline_ms = c->deadline_ms,
        .uid = c->uid,
        .step = c->state,
        .serial = c->state >= CONNECTION_DELIVERING ? 1 : 0,
        .lifetime = c->options.lifetime_descriptor,
        .pid = c->pid,
    };

    if (c->state == CONNECTION_ENDED) {
        ledger_erase(LEDGER_CONNECTION, &c->ledger_slot);
        return;
    }
    record.peer_size = c->peername.size < LEDGER_PEER_SIZE ? c->peername.size : LEDGER_PEER_SIZE;
    memcpy(record.peer, &c->peername.bytes, record.peer_size);
    if (ledger_put(LEDGER_CONNECTION, &c->ledger_slot, &record) != RESULT_OK)
        log_error("conn=%s has no place in the ledger", c->handle);
}

/* --- entering a state --- */

static enum connection_event
enter_waiting(struct connection *c)
{
    connection_wait(c, WAITING_MS);
    return CONNECTION_EVENT_NONE;
}

static enum connection_event
enter_nothing(struct connection *c)
{
    uv_timer_stop(&c->timer);
    return CONNECTION_EVENT_NONE;
}

static void
on_connected(void *owner, int fd)
{
    struct connection *c = owner;

    c->dial = NULL;
    c->peer = fd;
    address_of_peer(fd, &c->peername);
    address_of_socket(fd, &c->sockname);
    connection_step(c, CONNECTION_EVENT_SPAWN);
}

static void
on_not_connected(void *owner, struct failure *f)
{
    struct connection *c = owner;

    c->dial = NULL;
    connection_end(c, NULL, f);
}

/* A service has nobody whose request has a timeout. */
static int64_t
dial_left_ms(struct connection *c)
{
    if (c->deliver != NULL) {
        connection_wait(c, c->deliver->connect_timeout_ms);
        return c->deliver->connect_timeout_ms;
    }
    return c->deadline_ms < 0 ? -1 : c->deadline_ms - clock_now_ms();
}

static enum connection_event
enter_dialling(struct connection *c)
{
    static const struct dial_events events = { NULL, on_connected, on_not_connected };
    int64_t left_ms = dial_left_ms(c);

    c->dial = dial_open(c->host, c->port, left_ms == 0 ? 1 : left_ms, &events, c);
    return CONNECTION_EVENT_NONE;
}

/* Who fails to get a worker is told from the loop: this is still entering the state. */
static void
spawn_refused(struct connection *c, enum result reason, const char *why)
{
    struct failure f;

    failure_set(&f, reason, why, "{s:s}", "why", why);
    connection_end(c, "local", &f);
}

static void
walls_refused(struct connection *c)
{
    struct failure f;

    nurseries_refuse(&f);
    connection_end(c, "local", &f);
}

static bool
add_keeper_channel(struct connection *c, struct message *m)
{
    struct key *key = context_key(c->context);
    int channel;
    enum result result;

    if (key == NULL)
        return true;
    result = keys_channel(key, c->number, c->role, context_versions(c->context), &channel);
    if (result == RESULT_OK) {
        m->fds[m->fd_count++] = channel;
        return true;
    }
    spawn_refused(c, RESULT_INTERNAL,
                  result == RESULT_CHANNEL_CLOSED
                      ? "the keeper has ended and taken the private key with it; listen again, or "
                        "give the files as paths so that they can be loaded again"
                      : "no descriptor is free for its channel to the keeper");
    return false;
}

static void
on_nursery(void *owner, struct nursery *n)
{
    struct connection *c = owner;
    struct message m;
    char peer[81];

    if (n == NULL && nurseries_missing_walls() != 0) {
        walls_refused(c);
        return;
    }
    if (n == NULL) {
        spawn_refused(c, RESULT_INTERNAL,
                      "no clean nursery was ready within 250 ms; try once more");
        return;
    }
    message_init(&m, MESSAGE_SPAWN);
    m.as.spawn.connection = c->number;
    m.as.spawn.context = context_number(c->context);
    m.as.spawn.handle = c->handle;
    address_text(&c->peername, peer, sizeof(peer));
    m.as.spawn.peer = peer;
    m.fds[0] = c->peer;
    m.fds[1] = c->pair.theirs;
    m.fd_count = 2;
    if (!add_keeper_channel(c, &m))
        return;
    c->generation = nursery_generation(n);
    c->worker = nursery_spawn(n, c->number, &m, &worker_events, c);
    if (m.fd_count == 3)
        fd_close(&m.fds[2]);
    fd_close(&c->pair.theirs);
    c->channel = channel_open(c->pair.ours, &worker_channel, c);
    c->pair.ours = -1;
}

static void
on_pair(void *owner, struct pair pair)
{
    struct connection *c = owner;

    c->pair = pair;
    nurseries_want(&c->spawn_want);
}

static enum connection_event
enter_spawning(struct connection *c)
{
    connection_wait(c, SPAWNING_MS);
    if (c->spawns++ == SPAWNS_MAX) {
        spawn_refused(c, RESULT_INTERNAL, "three nurseries died over it");
        return CONNECTION_EVENT_NONE;
    }
    if (c->pair.number != 0)
        tree_drop(KEPT_PAIR, c->pair.number);
    c->pair.number = 0;
    c->pid = 0;
    c->pair_want.on_pair = on_pair;
    c->spawn_want.on_nursery = on_nursery;
    c->pair_want.owner = c->spawn_want.owner = c;
    tree_pair(&c->pair_want);
    return CONNECTION_EVENT_NONE;
}

/* If there is a worker all the same, it finds its mailbox at its end, and goes. */
static enum connection_event
enter_respawning(struct connection *c)
{
    log_warn("conn=%s nursery died before it answered; once more", c->handle);
    worker_forget(c->worker);
    c->worker = NULL;
    if (c->channel == NULL)
        return CONNECTION_EVENT_HUNG_UP;
    channel_finish(c->channel);
    return CONNECTION_EVENT_NONE;
}

static int64_t
handshake_left_ms(const struct connection *c)
{
    int64_t left_ms;

    if (c->request == NULL)
        return HANDSHAKE_MS;
    if (c->deadline_ms < 0)
        return 0;
    left_ms = c->deadline_ms - clock_now_ms();
    return left_ms > 1 ? left_ms : 1;
}

static enum connection_event
enter_handshaking(struct connection *c)
{
    int64_t left_ms = handshake_left_ms(c);
    struct message m;

    c->has_hello = true;
    fd_close(&c->peer);
    message_init(&m, MESSAGE_GO);
    m.as.go.timeout_ms = left_ms > UINT32_MAX ? 0 : (uint32_t)left_ms;
    m.as.go.alert_timeout_ms = config.alert_timeout_ms;
    m.as.go.server_name = c->options.server_name[0] != '\0' ? c->options.server_name : NULL;
    m.as.go.verify_name = c->options.verify_name[0] != '\0' ? c->options.verify_name : NULL;
    m.as.go.delivery = c->deliver != NULL ? DELIVERY_DESCRIPTOR : c->options.delivery;
    m.as.go.active = c->options.active || c->deliver != NULL ? ACTIVE_ALWAYS : 0;
    m.as.go.log_alert = c->options.log_alert;
    if (c->already_read >= 0) {
        m.fds[m.fd_count++] = c->already_read;
        m.as.go.has_already_read_index = true;
    }
    channel_send(c->channel, &m);
    fd_close(&c->already_read);
    uv_timer_stop(&c->timer);
    if (left_ms > 0)
        connection_wait(c, left_ms + config.alert_timeout_ms + HANDSHAKE_GRACE_MS);
    return CONNECTION_EVENT_NONE;
}

/* Its listener may shake the next hand. */
static void
handshake_over(struct connection *c)
{
    if (!c->is_unasked || c->is_handshake_over)
        return;
    c->is_handshake_over = true;
    listener_handshake_over(c->listener);
}

static enum connection_event
enter_ready(struct connection *c)
{
    uv_timer_stop(&c->timer);
    if (c->is_unasked) {
        handshake_over(c);
        /* It is served as it would have been, though its listener may be closed by now. */
        if (c->deliver != NULL)
            return CONNECTION_EVENT_WANTED;
        if (listener_owner(c->listener) == NULL) {
            connection_decide(c, "local", NULL);
            return CONNECTION_EVENT_CLOSE;
        }
        return listener_offer(c->listener, c) ? CONNECTION_EVENT_WANTED : CONNECTION_EVENT_NONE;
    }
    assert(c->request != NULL);
    return CONNECTION_EVENT_WANTED;
}

static enum connection_event
enter_open(struct connection *c)
{
    struct message m;

    uv_timer_stop(&c->timer);
    message_init(&m, MESSAGE_DELIVERED);
    m.as.delivered.serial = 1;
    channel_send(c->channel, &m);
    connection_ask_next(c);
    return CONNECTION_EVENT_NONE;
}

/* Failed ones stay until their peer has read the alert; too many of them do not. */
static void
linger(struct connection *c)
{
    struct connection *oldest;

    handshake_over(c);
    TAILQ_INSERT_TAIL(&lingering, c, linger_entry);
    if (++lingering_count <= LINGERING_MAX)
        return;
    oldest = TAILQ_FIRST(&lingering);
    TAILQ_REMOVE(&lingering, oldest, linger_entry);
    lingering_count--;
    oldest->is_lingering = false;
    oldest->has_goodbye = true;
    channel_finish(oldest->channel);
}

/* What the worker does not have yet, it need not have any more: a plain caller sees a reset. */
static void
let_other_side_go(struct connection *c)
{
    dial_cancel(c->dial);
    c->dial = NULL;
    fd_close(&c->plain);
}

static enum connection_event
enter_closing(struct connection *c)
{
    let_other_side_go(c);
    connection_wait(c, CLOSING_MS + (c->is_lingering ? config.alert_timeout_ms : 0));
    if (c->channel == NULL)
        return CONNECTION_EVENT_GONE;
    if (c->is_lingering)
        linger(c);
    else if (!c->has_goodbye && !connection_is_closing(c))
        connection_ask(c, QUESTION_CLOSE, 0, NULL, -1, question_done);
    else
        connection_ask_next(c);
    return CONNECTION_EVENT_NONE;
}

static enum connection_event
enter_dying(struct connection *c)
{
    let_other_side_go(c);
    nurseries_taint(c->generation);
    if (c->has_exited || c->worker == NULL)
        return CONNECTION_EVENT_STATUS;
    connection_wait(c, STATUS_MS);
    return CONNECTION_EVENT_NONE;
}

/* Everything it had is given back; whoever waits is told. */
static void
connection_release(struct connection *c)
{
    uv_timer_stop(&c->timer);
    uv_timer_stop(&c->stuck);
    context_load_cancel(c->load);
    c->load = NULL;
    let_other_side_go(c);
    exec_close(c->exec, c->peer_ended);
    c->exec = NULL;
    tree_pair_forget(&c->pair_want);
    nurseries_want_forget(&c->spawn_want);
    if (c->peer >= 0)
        fd_disarm_linger(c->peer);
    fd_close(&c->peer);
    fd_close(&c->already_read);
    fd_close(&c->pair.theirs);
    if (c->pair.ours >= 0)
        shutdown(c->pair.ours, SHUT_RDWR);
    fd_close(&c->pair.ours);
    channel_close(c->channel);
    c->channel = NULL;
    if (c->pair.number != 0)
        tree_drop(KEPT_PAIR, c->pair.number);
    c->pair.number = 0;
    frames_close(c->frames);
    c->frames = NULL;
    worker_forget(c->worker);
    c->worker = NULL;
}

/* What the worker left behind, unless it said goodbye, which is newer. */
void
connection_read_board(struct connection *c)
{
    c->last_state = worker_last_state(c->worker);
    if (!c->has_goodbye)
        worker_last_bytes(c->worker, &c->in, &c->out);
}

static enum connection_event
enter_ended(struct connection *c)
{
    struct failure f;

    if (c->is_lingering) {
        TAILQ_REMOVE(&lingering, c, linger_entry);
        lingering_count--;
    }
    handshake_over(c);
    if (!c->verdict.is_known && c->is_killed && c->close_how != NULL) {
        connection_decide(c, c->close_how, NULL);
    } else if (!c->verdict.is_known) {
        if (c->last_state == NULL && c->worker != NULL)
            connection_read_board(c);
        failure_worker_died(c, &f);
        connection_decide(c, NULL, &f);
    }
    connection_release(c);
    connection_questions_end(c, true);
    connection_keep_handle(c);
    return CONNECTION_EVENT_NONE;
}

static const enter enters[CONNECTION_STATE_COUNT] = {
    [CONNECTION_WAITING] = enter_waiting,
    [CONNECTION_LOADING] = enter_nothing,
    [CONNECTION_DIALLING] = enter_dialling,
    [CONNECTION_SPAWNING] = enter_spawning,
    [CONNECTION_RESPAWNING] = enter_respawning,
    [CONNECTION_HANDSHAKING] = enter_handshaking,
    [CONNECTION_READY] = enter_ready,
    [CONNECTION_DELIVERING] = connection_deliver,
    [CONNECTION_OPEN] = enter_open,
    [CONNECTION_CLOSING] = enter_closing,
    [CONNECTION_DYING] = enter_dying,
    [CONNECTION_ENDED] = enter_ended,
};

void
connection_step(struct connection *c, enum connection_event event)
{
    /* What an entered state does may be an event itself: it comes when that is done. */
    if (c->is_stepping) {
        assert(c->queued_count < sizeof(c->queued) / sizeof(c->queued[0]));
        c->queued[c->queued_count++] = event;
        return;
    }
    c->is_stepping = true;
    for (;;) {
        enum connection_state next = connection_next_state(c->state, event);

        log_debug("conn=%s state=%s event=%s next=%s", c->handle, connection_state_name(c->state),
                  connection_event_name(event), connection_state_name(next));
        event = CONNECTION_EVENT_NONE;
        if (next != CONNECTION_STATE_COUNT) {
            if (c->state == CONNECTION_READY && c->is_unasked)
                listener_forget(c->listener, c);
            c->state = next;
            if (c->is_growing && next >= CONNECTION_OPEN) {
                c->is_growing = false;
                descriptors_expect(-CONNECTION_GROWTH);
            }
            connection_record(c);
            event = enters[next](c);
        }
        if (event == CONNECTION_EVENT_NONE && c->queued_count > 0) {
            event = c->queued[0];
            memmove(c->queued, c->queued + 1, --c->queued_count * sizeof(c->queued[0]));
        }
        if (event == CONNECTION_EVENT_NONE)
            break;
    }
    c->is_stepping = false;
    if (c->state == CONNECTION_ENDED)
        connection_free(c);
}

void
connection_end(struct connection *c, const char *how, struct failure *f)
{
    /* Before TLS was agreed there is nobody but the one who waits, and nothing comes that could tell more. */
    if (c->close_how == NULL)
        c->close_how = how != NULL ? how : "local";
    if (c->facts.version == 0 || !c->is_given) {
        struct failure closed;

        if (f == NULL)
            failure_set(&closed, RESULT_CLOSED, NULL, NULL);
        connection_decide(c, NULL, f != NULL ? f : &closed);
    } else if (f != NULL) {
        failure_fini(f);
    }
    connection_step(c, CONNECTION_EVENT_CLOSE);
}

void
connection_reset(struct connection *c)
{
    if (c->facts.version != 0 && !c->has_goodbye)
        connection_ask(c, QUESTION_CLOSE, CLOSE_RESET, NULL, -1, question_done);
    connection_end(c, "local", NULL);
    if (c->state == CONNECTION_CLOSING)
        connection_wait(c, RESET_MS);
}

void
connection_kill(struct connection *c, const char *why)
{
    log_info("conn=%s worker is killed why=\"%s\"", c->handle, why);
    c->is_killed = true;
    if (c->worker != NULL)
        worker_kill(c->worker);
}

/* --- time is over --- */

static void
on_timer(uv_timer_t *timer)
{
    struct connection *c = timer->data;
    struct failure f;

    switch (c->state) {
    case CONNECTION_WAITING:
        connection_end(c, "local", NULL);
        break;
    case CONNECTION_DIALLING:
        failure_posix(&f, ETIMEDOUT, "connect");
        log_info("conn=%s connect failed host=\"%s\" port=%u reason=etimedout", c->handle, c->host,
                 c->port);
        connection_end(c, NULL, &f);
        break;
    case CONNECTION_SPAWNING:
    case CONNECTION_RESPAWNING:
        if (c->worker != NULL)
            connection_kill(c, "it was not confined within 10 s");
        failure_set(&f, RESULT_INTERNAL, "no worker was ready within 10 s", "{s:s}", "why",
                    "no worker was ready within 10 s");
        connection_end(c, "local", &f);
        break;
    case CONNECTION_HANDSHAKING:
        connection_kill(c, "its handshake is long over time");
        break;
    case CONNECTION_DELIVERING:
        connection_serve_late(c);
        break;
    case CONNECTION_CLOSING:
        /* Once more than killing it cannot be done. */
        if (c->is_killed || c->worker == NULL) {
            c->has_goodbye = true;
            connection_step(c, CONNECTION_EVENT_GONE);
            break;
        }
        connection_kill(c, "it does not end");
        connection_wait(c, HANDSHAKE_GRACE_MS);
        break;
    case CONNECTION_DYING:
        connection_step(c, CONNECTION_EVENT_STATUS);
        break;
    default:
        break;
    }
}
