#include "manager/helpers.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "manager/channel.h"
#include "manager/manager.h"
#include "manager/tree.h"

/* Processes of one kind: more questions than these wait. */
enum { PROCESSES_MAX = 64 };

struct helper {
    enum process_kind kind;
    int theirs; /* owned: its process's end of the mailbox; -1 once that was asked for */
    TAILQ_ENTRY(helper) entry; /* until then */
    struct channel *channel;
    struct child *child;
    uv_timer_t deadline;
    const struct helper_events *events;
    void *owner;
};

static TAILQ_HEAD(, helper) waiting = TAILQ_HEAD_INITIALIZER(waiting);

static void
on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void
helper_free(struct helper *h)
{
    if (h->theirs >= 0)
        TAILQ_REMOVE(&waiting, h, entry);
    fd_close(&h->theirs);
    channel_close(h->channel);
    child_forget(h->child);
    uv_close((uv_handle_t *)&h->deadline, on_timer_closed);
}

static void
helper_fail(struct helper *h, enum result result, const char *why)
{
    helper_free(h);
    h->events->on_failed(h->owner, result, why);
}

static void
on_message(void *owner, struct message *m)
{
    struct helper *h = owner;

    if (m->type == MESSAGE_LOG) {
        log_forward((enum log_level)m->as.log.level,
                    h->kind == PROCESS_CHECKER ? "checker" : "resolver", m->as.log.line);
        return;
    }
    helper_free(h);
    h->events->on_answer(h->owner, m);
}

static void
on_end(void *owner, enum result result, const char *why)
{
    struct helper *h = owner;

    helper_fail(h, result, result == RESULT_CHANNEL_CLOSED ? "its process died" : why);
}

static void
on_deadline(uv_timer_t *timer)
{
    helper_fail(timer->data, RESULT_TIMEOUT, "it took too long");
}

static void
on_started(void *owner, uint32_t pid, int board)
{
    (void)owner, (void)pid;
    fd_close(&board);
}

static void
on_ended(void *owner, int error, int status)
{
    struct helper *h = owner;

    (void)status;
    h->child = NULL;
    /* If it ran, its last words are in the mailbox, and the mailbox's end comes after them. */
    if (error != 0)
        helper_fail(h, RESULT_POSIX, "it could not be started");
}

static const struct channel_kind checker_channel = {
    .name = "checker",
    .receives = CHECKER_TO_MANAGER,
    .message_max = MESSAGE_MAX,
    .queue_max = 4,
    .on_message = on_message,
    .on_end = on_end,
};
static const struct channel_kind resolver_channel = {
    .name = "resolver",
    .receives = RESOLVER_TO_MANAGER,
    .message_max = MESSAGE_MAX,
    .queue_max = 4,
    .on_message = on_message,
    .on_end = on_end,
};
static const struct child_events child_events = { on_started, on_ended };

static void
helper_start(struct helper *h)
{
    int theirs = h->theirs;

    TAILQ_REMOVE(&waiting, h, entry);
    h->theirs = -1;
    h->child = tree_start(h->kind, 0, theirs, &child_events, h);
}

void
helpers_start(enum process_kind kind)
{
    struct helper *h, *next;

    for (h = TAILQ_FIRST(&waiting); h != NULL && tree_count(kind) < PROCESSES_MAX; h = next) {
        next = TAILQ_NEXT(h, entry);
        if (h->kind == kind)
            helper_start(h);
    }
}

static void
on_no_pair(uv_timer_t *timer)
{
    struct helper *h = timer->data;

    helper_fail(h, RESULT_POSIX, "no descriptor is free for its mailbox");
}

struct helper *
helper_ask(enum process_kind kind, const struct message *question, int64_t timeout_ms,
           const struct helper_events *events, void *owner)
{
    struct helper *h = calloc(1, sizeof(*h));
    int pair[2], status;

    assert(h != NULL && (kind == PROCESS_CHECKER || kind == PROCESS_RESOLVER));
    h->kind = kind;
    h->theirs = -1;
    h->events = events;
    h->owner = owner;
    status = uv_timer_init(manager_loop, &h->deadline);
    assert(status == 0);
    h->deadline.data = h;
    if (mailbox_pair(pair, MESSAGE_MAX) != RESULT_OK) {
        uv_timer_start(&h->deadline, on_no_pair, 0, 0);
        return h;
    }
    if (timeout_ms >= 0)
        uv_timer_start(&h->deadline, on_deadline, (uint64_t)timeout_ms, 0);
    h->channel =
        channel_open(pair[0], kind == PROCESS_CHECKER ? &checker_channel : &resolver_channel, h);
    channel_send(h->channel, question);
    h->theirs = pair[1];
    TAILQ_INSERT_TAIL(&waiting, h, entry);
    helpers_start(kind);
    return h;
}

void
helper_cancel(struct helper *h)
{
    if (h != NULL)
        helper_free(h);
}

enum result
helper_key_decoder(int *channel)
{
    int pair[2];
    enum result result = mailbox_pair(pair, MESSAGE_MAX_LARGE);

    if (result != RESULT_OK)
        return result;
    child_forget(tree_start(PROCESS_KEY_DECODER, 0, pair[1], &child_events, NULL));
    *channel = pair[0];
    return RESULT_OK;
}
