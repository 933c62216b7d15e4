#include "manager/channel.h"

#include <assert.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "ipc/secret.h"
#include "manager/manager.h"

enum { MESSAGES_A_TURN = 16 };

/* A message that waits until the other end has read some. */
struct waiting {
    STAILQ_ENTRY(waiting) entry;
    size_t fd_count;
    int fds[MESSAGE_MAX_FDS]; /* owned duplicates */
    size_t size;
    char bytes[];
};

struct channel {
    uv_poll_t poll;
    int polled;      /* what poll waits for */
    uv_timer_t soon; /* tells of an end that was found while sending; sends again when it is busy */
    int closing;     /* libuv handles that are not yet closed */
    int mailbox;     /* owned */
    const struct channel_kind *kind;
    void *owner;
    bool is_closed, is_ended;
    bool is_busy; /* no descriptor can be sent for a moment: see fd_send */
    enum result end;
    const char *why;
    STAILQ_HEAD(, waiting) queue;
    size_t queued;
    void (*on_sent)(void); /* NULL: nobody waits for that */
};

/* One at a time is read, so one buffer is enough for all. */
static char buffer[MESSAGE_MAX_LARGE + 1];

static void on_ready(uv_poll_t *poll, int status, int events);

static void
waiting_free(struct waiting *w)
{
    for (size_t i = 0; i < w->fd_count; i++)
        fd_close(&w->fds[i]);
    secret_wipe(w->bytes, w->size);
    free(w);
}

static void
channel_poll(struct channel *c)
{
    int events = UV_READABLE | (STAILQ_EMPTY(&c->queue) || c->is_busy ? 0 : UV_WRITABLE);

    if (c->is_ended || c->is_closed)
        return;
    /* libuv starts anew, with two system calls, even when nothing is new. */
    if (uv_is_active((uv_handle_t *)&c->poll) && events == c->polled)
        return;
    c->polled = events;
    uv_poll_start(&c->poll, events, on_ready);
}

static void
on_soon(uv_timer_t *timer)
{
    struct channel *c = timer->data;

    c->kind->on_end(c->owner, c->end, c->why);
}

/* Reads no more, and tells the owner from the loop: the caller may be the owner itself. */
static void
channel_end(struct channel *c, enum result result, const char *why)
{
    if (c->is_ended || c->is_closed)
        return;
    c->is_ended = true;
    c->end = result;
    c->why = why != NULL ? why : result_text(result);
    uv_poll_stop(&c->poll);
    uv_timer_start(&c->soon, on_soon, 0, 0);
}

static void
channel_read(struct channel *c)
{
    for (int i = 0; i < MESSAGES_A_TURN && !c->is_closed && !c->is_ended; i++) {
        struct message m;
        const char *why = NULL;
        enum result result =
            mailbox_receive(c->mailbox, c->kind->receives, buffer, c->kind->message_max, &m, &why);

        if (result == RESULT_WOULD_BLOCK)
            return;
        if (result != RESULT_OK) {
            channel_end(c, result, why);
            return;
        }
        c->kind->on_message(c->owner, &m);
        message_fini(&m);
    }
}

static void on_pause_over(uv_timer_t *timer);

static void
channel_pause(struct channel *c)
{
    c->is_busy = true;
    uv_timer_start(&c->soon, on_pause_over, FD_BUSY_RETRY_MS, 0);
}

static void
tell_if_sent(struct channel *c)
{
    void (*on_sent)(void) = c->on_sent;

    if (on_sent == NULL || !STAILQ_EMPTY(&c->queue) || c->is_ended)
        return;
    c->on_sent = NULL;
    on_sent();
}

static void
channel_flush(struct channel *c)
{
    while (!STAILQ_EMPTY(&c->queue) && !c->is_ended) {
        struct waiting *w = STAILQ_FIRST(&c->queue);
        size_t size = w->size;
        enum result result =
            fd_send(c->mailbox, w->bytes, &size, w->fds, w->fd_count, MSG_DONTWAIT);

        if (result == RESULT_CHANNEL_BUSY)
            channel_pause(c);
        if (result == RESULT_WOULD_BLOCK || result == RESULT_CHANNEL_BUSY)
            break;
        /* A closed one is found when it is read to its end: its last words count. */
        if (result != RESULT_OK && result != RESULT_CHANNEL_CLOSED)
            channel_end(c, result, NULL);
        STAILQ_REMOVE_HEAD(&c->queue, entry);
        c->queued--;
        waiting_free(w);
    }
    tell_if_sent(c);
}

static void
on_pause_over(uv_timer_t *timer)
{
    struct channel *c = timer->data;

    c->is_busy = false;
    channel_flush(c);
    channel_poll(c);
}

static void
on_ready(uv_poll_t *poll, int status, int events)
{
    struct channel *c = poll->data;

    /* An error of the socket comes as UV_EBADF: the other end was closed with messages unread.  What it said
     * before is still to be read. */
    if (status >= 0 && (events & UV_WRITABLE))
        channel_flush(c);
    if (status < 0 || (events & UV_READABLE))
        channel_read(c);
    channel_poll(c);
}

struct channel *
channel_open(int mailbox, const struct channel_kind *kind, void *owner)
{
    struct channel *c = calloc(1, sizeof(*c));
    int status;

    assert(c != NULL && kind->message_max <= MESSAGE_MAX_LARGE);
    STAILQ_INIT(&c->queue);
    c->mailbox = mailbox;
    c->kind = kind;
    c->owner = owner;
    status = uv_poll_init(manager_loop, &c->poll, mailbox);
    assert(status == 0);
    status = uv_timer_init(manager_loop, &c->soon);
    assert(status == 0);
    c->poll.data = c->soon.data = c;
    channel_poll(c);
    return c;
}

static void
channel_enqueue(struct channel *c, const char *bytes, size_t size, const struct message *m)
{
    struct waiting *w = malloc(sizeof(*w) + size);

    assert(w != NULL);
    memcpy(w->bytes, bytes, size);
    w->size = size;
    for (w->fd_count = 0; w->fd_count < m->fd_count; w->fd_count++) {
        int copy = fcntl(m->fds[w->fd_count], F_DUPFD_CLOEXEC, 3);

        if (copy < 0) {
            waiting_free(w);
            channel_end(c, RESULT_CHANNEL_FAILED, "no descriptor is free for a copy");
            return;
        }
        w->fds[w->fd_count] = copy;
    }
    STAILQ_INSERT_TAIL(&c->queue, w, entry);
    c->queued++;
    channel_poll(c);
}

void
channel_send(struct channel *c, const struct message *m)
{
    static char bytes[MESSAGE_MAX_LARGE + 1];
    size_t size = c->kind->message_max, sent;
    enum result result = message_encode(m, bytes, &size);

    assert(!c->is_closed);
    if (result != RESULT_OK) {
        log_error("%s message cannot be written type=%s reason=%s", c->kind->name,
                  message_name(m->type), result_name(result));
        channel_end(c, result, "a message to it cannot be written");
        return;
    }
    sent = size;
    result = RESULT_WOULD_BLOCK;
    if (STAILQ_EMPTY(&c->queue))
        result = fd_send(c->mailbox, bytes, &sent, m->fds, m->fd_count, MSG_DONTWAIT);
    if (result == RESULT_CHANNEL_BUSY) {
        channel_pause(c);
        result = RESULT_WOULD_BLOCK;
    }
    if (result == RESULT_WOULD_BLOCK && c->queued >= c->kind->queue_max)
        channel_end(c, RESULT_LIMIT, "it does not read its messages");
    else if (result == RESULT_WOULD_BLOCK)
        channel_enqueue(c, bytes, size, m);
    else if (result != RESULT_OK && result != RESULT_CHANNEL_CLOSED)
        channel_end(c, result, NULL);
    secret_wipe(bytes, size);
}

void
channel_when_sent(struct channel *c, void (*on_sent)(void))
{
    c->on_sent = on_sent;
    tell_if_sent(c);
}

void
channel_finish(struct channel *c)
{
    shutdown(c->mailbox, SHUT_WR);
}

static void
on_handle_closed(uv_handle_t *handle)
{
    struct channel *c = handle->data;

    if (--c->closing == 0)
        free(c);
}

void
channel_close(struct channel *c)
{
    if (c == NULL)
        return;
    assert(!c->is_closed);
    c->is_closed = true;
    while (!STAILQ_EMPTY(&c->queue)) {
        struct waiting *w = STAILQ_FIRST(&c->queue);

        STAILQ_REMOVE_HEAD(&c->queue, entry);
        waiting_free(w);
    }
    /* Closing the handle takes the mailbox out of the loop, so it comes before close(2). */
    c->closing = 2;
    uv_close((uv_handle_t *)&c->poll, on_handle_closed);
    uv_close((uv_handle_t *)&c->soon, on_handle_closed);
    shutdown(c->mailbox, SHUT_RDWR);
    fd_close(&c->mailbox);
}
