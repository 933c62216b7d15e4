/*
 * The messages of a connection's worker.  It is believed about its own TLS, and about nothing else.
 */
#include <stdio.h>
#include <string.h>

#include "ipc/board.h"
#include "ipc/log.h"
#include "manager/connection.h"
#include "manager/connection_log.h"
#include "manager/events.h"
#include "manager/frames.h"

enum { WORKER_QUEUE_MAX = 16 };

typedef bool (*handler)(struct connection *c, struct message *m);

static bool
handle_hello(struct connection *c, struct message *m)
{
    (void)m;
    if (c->state == CONNECTION_RESPAWNING)
        return true; /* it finds its mailbox at its end */
    if (c->state != CONNECTION_SPAWNING)
        return false;
    connection_step(c, CONNECTION_EVENT_HELLO);
    return true;
}

static bool
handle_established(struct connection *c, struct message *m)
{
    if (m->as.established.version == 0)
        return false;
    if (c->state == CONNECTION_CLOSING)
        return true; /* we gave it up meanwhile */
    if (c->state != CONNECTION_HANDSHAKING)
        return false;
    facts_from(&c->facts, &m->as.established);
    totals.established++;
    c->established_ms = clock_unix_ms();
    connection_log_opened(c);
    if (events_wanted("connection_established"))
        events_publish("connection_established", c->uid, c->handle,
                       json_pack("{s:s, s:o}", "conn", c->handle, "info", connection_info(c)));
    connection_step(c, CONNECTION_EVENT_ESTABLISHED);
    return true;
}

static bool
handle_failed(struct connection *c, struct message *m)
{
    struct failure f;

    if (c->state == CONNECTION_CLOSING)
        return true;
    if (c->state != CONNECTION_HANDSHAKING)
        return false;
    c->failed_state = worker_state_name(m->as.failed.state);
    facts_from_failed(&c->facts, &m->as.failed);
    failure_from_failed(c, &m->as.failed, &f);
    c->is_lingering = true;
    connection_decide(c, NULL, &f);
    connection_step(c, CONNECTION_EVENT_GOODBYE);
    return true;
}

/* The word for how it ended; NULL: an error.  Who closed it, we know better than the worker. */
static const char *
how_of(const struct connection *c, const struct message_bye *m)
{
    switch (m->how) {
    case ENDING_LOCAL:
        return c->close_how != NULL ? c->close_how : "local";
    case ENDING_OWNER_GONE:
        if (c->close_how != NULL)
            return c->close_how;
        return c->options.lifetime_descriptor ? "owner_gone" : "local";
    case ENDING_PEER:
        return "close_notify";
    case ENDING_TRUNCATED:
        return "truncated";
    case ENDING_ALERT:
    case ENDING_TRANSPORT:
    case ENDING_BACKEND:
        return NULL;
    default:
        return c->close_how != NULL ? c->close_how : "local";
    }
}

static bool
handle_bye(struct connection *c, struct message *m)
{
    const struct message_bye *bye = &m->as.bye;
    const char *how = how_of(c, bye);
    struct failure f;

    if (c->has_goodbye || !c->has_hello)
        return false;
    c->has_goodbye = true;
    c->in = bye->in;
    c->out = bye->out;
    if (c->frames != NULL)
        frames_drain(c->frames);
    if (c->facts.version == 0)
        how = NULL;
    if (how == NULL && !c->verdict.is_known) {
        if (c->facts.version == 0 && bye->how != ENDING_ALERT && bye->how != ENDING_TRANSPORT)
            failure_closed(NULL, &f);
        else
            failure_from_bye(c, bye, &f);
        connection_decide(c, NULL, &f);
    } else if (!c->verdict.is_known) {
        connection_decide(c, how, NULL);
    }
    if (c->state != CONNECTION_CLOSING)
        connection_step(c, CONNECTION_EVENT_GOODBYE);
    return true;
}

static bool
handle_answer(struct connection *c, struct message *m)
{
    c->in = m->as.answer.in;
    c->out = m->as.answer.out;
    connection_answered(c, &m->as.answer);
    return true;
}

static bool
handle_certificate_part(struct connection *c, struct message *m)
{
    connection_certificate_part(c, &m->as.certificate_part);
    return true;
}

static bool
handle_received(struct connection *c, struct message *m)
{
    return c->frames != NULL && frames_received(c->frames, &m->as.received);
}

static bool
handle_sent(struct connection *c, struct message *m)
{
    return c->frames != NULL && frames_sent(c->frames, m->as.sent.out);
}

static bool
handle_peer_ended(struct connection *c, struct message *m)
{
    c->peer_ended = true;
    c->in = m->as.peer_ended.in;
    log_debug("conn=%s peer has closed its side in=%llu", c->handle, (unsigned long long)c->in);
    if (c->frames != NULL)
        frames_peer_ended(c->frames);
    return true;
}

static bool
handle_log(struct connection *c, struct message *m)
{
    connection_log_line(c, (enum log_level)m->as.log.level, m->as.log.line);
    return true;
}

static const handler handlers[MESSAGE_TYPE_COUNT] = {
    [MESSAGE_HELLO] = handle_hello,           [MESSAGE_ESTABLISHED] = handle_established,
    [MESSAGE_FAILED] = handle_failed,         [MESSAGE_BYE] = handle_bye,
    [MESSAGE_ANSWER] = handle_answer,         [MESSAGE_CERTIFICATE_PART] = handle_certificate_part,
    [MESSAGE_RECEIVED] = handle_received,     [MESSAGE_SENT] = handle_sent,
    [MESSAGE_PEER_ENDED] = handle_peer_ended, [MESSAGE_LOG] = handle_log,
};

static void
on_message(void *owner, struct message *m)
{
    struct connection *c = owner;

    if (handlers[m->type] != NULL && handlers[m->type](c, m))
        return;
    log_warn("conn=%s worker says what it may not type=%s state=%s", c->handle,
             message_name(m->type), connection_state_name(c->state));
    connection_kill(c, "it broke the protocol");
}

/* End of file is an end like any other; everything else is the worker's fault, and its end. */
static void
on_end(void *owner, enum result result, const char *why)
{
    struct connection *c = owner;

    if (result != RESULT_CHANNEL_CLOSED) {
        log_warn("conn=%s worker's mailbox is closed reason=%s why=\"%s\"", c->handle,
                 result_name(result), why);
        connection_kill(c, why);
    }
    if (c->frames != NULL)
        frames_drain(c->frames);
    channel_close(c->channel);
    c->channel = NULL;
    /* Before forked it may be the nursery that died or the worker: what we hear next tells which. */
    if (c->state == CONNECTION_SPAWNING && c->pid == 0)
        return;
    connection_step(c, c->has_goodbye ? CONNECTION_EVENT_GONE : CONNECTION_EVENT_HUNG_UP);
}

const struct channel_kind worker_channel = {
    .name = "worker",
    .receives = WORKER_TO_MANAGER,
    .message_max = MESSAGE_MAX,
    .queue_max = WORKER_QUEUE_MAX,
    .on_message = on_message,
    .on_end = on_end,
};

static void
on_forked(void *owner, struct worker *w)
{
    struct connection *c = owner;

    c->pid = worker_pid(w);
    log_debug("conn=%s worker forked pid=%u", c->handle, c->pid);
    if (c->is_killed)
        worker_kill(w);
    /* It was over before we heard that it began. */
    if (c->channel == NULL)
        connection_step(c, CONNECTION_EVENT_HUNG_UP);
}

static void
on_fork_failed(void *owner, int error)
{
    struct connection *c = owner;
    struct failure f;

    c->worker = NULL;
    failure_posix(&f, error, "fork");
    connection_end(c, "local", &f);
}

static void
on_lost(void *owner)
{
    struct connection *c = owner;

    c->worker = NULL;
    connection_step(c, CONNECTION_EVENT_NURSERY_LOST);
}

static void
on_exited(void *owner, int status)
{
    struct connection *c = owner;

    connection_read_board(c);
    c->has_exited = true;
    c->exit_status = status;
    c->worker = NULL;
    if (c->state == CONNECTION_DYING)
        connection_step(c, CONNECTION_EVENT_STATUS);
}

const struct worker_events worker_events = { on_forked, on_fork_failed, on_lost, on_exited };
