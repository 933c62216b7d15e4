/*
 * What a worker is asked.  At most one question of a kind is with the worker at a time, so its mailbox never
 * fills however much a client asks; what comes after something the owner has written waits until that
 * is on its way.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/log.h"
#include "manager/connection.h"
#include "manager/frames.h"

enum {
    STUCK_MS = 10000,
    ALERT_INTERNAL_ERROR = 80,
    CERTIFICATE_MAX = 65536,
    QUESTIONS_MAX = 256, /* of a connection, with those that nobody waits for any more */
};

/* Shutting down waits for the peer to read; these do not, and a worker that is silent is stuck. */
static bool
is_answered_at_once(enum question_kind kind)
{
    return kind == QUESTION_REPORT || kind == QUESTION_ACTIVE || kind == QUESTION_CERTIFICATE;
}

static bool
is_after_data(const struct question *q)
{
    return q->kind == QUESTION_SHUTDOWN || (q->kind == QUESTION_CLOSE && q->value != CLOSE_RESET);
}

bool
connection_is_closing(const struct connection *c)
{
    return c->is_close_asked;
}

static void
on_stuck(uv_timer_t *timer)
{
    struct connection *c = timer->data;

    connection_kill(c, "it has not answered for 10 s");
}

static void
watch(struct connection *c)
{
    struct question *q;

    TAILQ_FOREACH(q, &c->questions, entry)
    {
        if (q->number != 0 && !q->is_answered && is_answered_at_once(q->kind)) {
            if (!uv_is_active((uv_handle_t *)&c->stuck))
                uv_timer_start(&c->stuck, on_stuck, STUCK_MS, 0);
            return;
        }
    }
    uv_timer_stop(&c->stuck);
}

static bool
is_asking(const struct connection *c, enum question_kind kind)
{
    struct question *q;

    TAILQ_FOREACH(q, &c->questions, entry)
    {
        if (q->number != 0 && !q->is_answered && q->kind == kind)
            return true;
    }
    return false;
}

static void
send_question(struct connection *c, struct question *q)
{
    static const enum message_type types[] = {
        [QUESTION_REPORT] = MESSAGE_REPORT,
        [QUESTION_ACTIVE] = MESSAGE_ACTIVE,
        [QUESTION_CERTIFICATE] = MESSAGE_CERTIFICATE_ASK,
        [QUESTION_SHUTDOWN] = MESSAGE_SHUTDOWN,
        [QUESTION_CLOSE] = MESSAGE_CLOSE,
    };
    struct message m;

    q->number = ++c->last_question;
    message_init(&m, types[q->kind]);
    if (q->kind == QUESTION_REPORT) {
        m.as.report.request = q->number;
    } else if (q->kind == QUESTION_ACTIVE) {
        m.as.active.request = q->number;
        m.as.active.credit = q->value;
    } else if (q->kind == QUESTION_CERTIFICATE) {
        m.as.certificate_ask.request = q->number;
    } else if (q->kind == QUESTION_SHUTDOWN) {
        m.as.shutdown.request = q->number;
        m.as.shutdown.how = q->value;
    } else {
        m.as.close.request = q->number;
        m.as.close.linger_ms = CLOSE_LINGER_MS;
        m.as.close.reset = q->value == CLOSE_RESET;
        m.as.close.alert = q->value == CLOSE_ALERT ? ALERT_INTERNAL_ERROR : 0;
    }
    channel_send(c->channel, &m);
}

/* Owners ask once they have their line; a close may come during the handshake. */
static bool
may_send(const struct connection *c, const struct question *q)
{
    if (c->channel == NULL || c->has_goodbye || q->number != 0)
        return false;
    /* A reset overtakes a close that waits for its peer. */
    if (is_asking(c, q->kind) && q->value != CLOSE_RESET)
        return false;
    if (is_after_data(q) && c->frames != NULL && !frames_are_flushed(c->frames))
        return false;
    return c->state == CONNECTION_OPEN || c->state == CONNECTION_CLOSING;
}

void
connection_ask_next(struct connection *c)
{
    struct question *q;

    TAILQ_FOREACH(q, &c->questions, entry)
    {
        if (may_send(c, q))
            send_question(c, q);
    }
    watch(c);
}

static void
on_abandoned(struct request *r, enum result why, void *data)
{
    struct question *q = data;
    struct failure f;

    q->request = NULL;
    failure_set(&f, why, NULL, NULL);
    request_fail(r, &f);
}

void
connection_ask(struct connection *c, enum question_kind kind, uint32_t value, struct request *r,
               int64_t timeout_ms, void (*on_answer)(struct question *q, enum result result))
{
    struct question *q;
    struct failure f;

    if (c->question_count >= QUESTIONS_MAX && kind != QUESTION_CLOSE) {
        failure_limit(&f, "questions to a connection that wait", QUESTIONS_MAX);
        request_fail(r, &f);
        return;
    }
    q = calloc(1, sizeof(*q));
    assert(q != NULL);
    c->question_count++;
    q->connection = c;
    q->kind = kind;
    q->value = value;
    q->request = r;
    q->on_answer = on_answer;
    q->waits_for_end = kind == QUESTION_CLOSE && r != NULL && timeout_ms >= 0;
    if (kind == QUESTION_CLOSE)
        c->is_close_asked = true;
    TAILQ_INSERT_TAIL(&c->questions, q, entry);
    if (r != NULL)
        request_wait(r, timeout_ms, on_abandoned, q);
    connection_ask_next(c);
}

void
question_done(struct question *q, enum result result)
{
    struct request *r = q->request;
    struct failure f;

    q->request = NULL;
    if (r == NULL)
        return;
    if (result == RESULT_OK) {
        request_reply(r, json_object());
        return;
    }
    if (result == RESULT_CLOSED)
        failure_closed(q->connection, &f);
    else
        failure_set(&f, result, NULL, NULL);
    request_fail(r, &f);
}

static void
question_end(struct question *q, enum result result)
{
    TAILQ_REMOVE(&q->connection->questions, q, entry);
    q->connection->question_count--;
    q->on_answer(q, result);
    free(q->bytes);
    free(q);
}

static struct question *
question_by_number(struct connection *c, uint32_t number)
{
    struct question *q;

    TAILQ_FOREACH(q, &c->questions, entry)
    {
        if (q->number == number && number != 0 && !q->is_answered)
            return q;
    }
    return NULL;
}

/* A worker that gives a result that is no answer is no better than one that failed. */
static enum result
result_of(uint32_t reason)
{
    if (reason == RESULT_OK || reason == RESULT_CLOSED || reason == RESULT_BAD_STATE)
        return (enum result)reason;
    return reason < RESULT_COUNT && reason != RESULT_POSIX ? (enum result)reason : RESULT_CLOSED;
}

void
connection_answered(struct connection *c, const struct message_answer *answer)
{
    struct question *q = question_by_number(c, answer->request);

    if (q == NULL || q->kind == QUESTION_CERTIFICATE)
        return;
    q->is_answered = true;
    q->in = answer->in;
    q->out = answer->out;
    if (!q->waits_for_end)
        question_end(q, q->kind == QUESTION_CLOSE ? RESULT_OK : result_of(answer->reason));
    connection_ask_next(c);
}

void
connection_certificate_part(struct connection *c, const struct message_certificate_part *p)
{
    struct question *q = question_by_number(c, p->request);

    if (q == NULL || q->kind != QUESTION_CERTIFICATE)
        return;
    if (q->bytes == NULL && p->total > 0 && p->total <= CERTIFICATE_MAX) {
        q->total = p->total;
        q->bytes = malloc(p->total);
        assert(q->bytes != NULL);
    }
    if (p->total != q->total || p->offset != q->size || p->part.size > q->total - q->size ||
        (q->total > 0 && p->part.size == 0)) {
        connection_kill(c, "the parts of its peer's certificate do not fit");
        return;
    }
    if (p->part.size > 0)
        memcpy(q->bytes + q->size, p->part.data, p->part.size);
    q->size += (uint32_t)p->part.size;
    if (q->size < q->total)
        return;
    q->is_answered = true;
    question_end(q, RESULT_OK);
    connection_ask_next(c);
}

void
connection_questions_end(struct connection *c, bool is_gone)
{
    struct question *q, *next;

    uv_timer_stop(&c->stuck);
    for (q = TAILQ_FIRST(&c->questions); q != NULL; q = next) {
        next = TAILQ_NEXT(q, entry);
        if (q->kind == QUESTION_CLOSE && q->waits_for_end && !is_gone)
            continue;
        question_end(q, q->kind == QUESTION_CLOSE ? RESULT_OK : RESULT_CLOSED);
    }
    if (c->frames != NULL)
        frames_end(c->frames);
}
