#include "manager/client_parts.h"

#include <sys/socket.h>

#include "manager/manager.h"

enum { LINGER_MS = 1000 };

TAILQ_HEAD(client_queue, client);

static struct client_queue waking = TAILQ_HEAD_INITIALIZER(waking);
static uv_prepare_t before_poll;

static void on_poll(uv_poll_t *poll, int status, int events);

/*
 * UV_PRIORITIZED never happens on a Unix stream socket; it is there so that a client whom we
 * neither read nor write is still heard to hang up: libuv reports that as what is waited for.
 */
void
client_update_poll(struct client *c)
{
    int events = UV_PRIORITIZED;

    if (client_is_reading(c) || client_is_discarding(c))
        events |= UV_READABLE;
    if (c->is_blocked)
        events |= UV_WRITABLE;
    if (events == c->polled)
        return;
    c->polled = events;
    uv_poll_start(&c->poll, events, on_poll);
}

void
client_wake(struct client *c)
{
    if (c->is_waking || c->state == CLIENT_GONE)
        return;
    c->is_waking = true;
    TAILQ_INSERT_TAIL(&waking, c, in_waking);
}

void
client_unwake(struct client *c)
{
    if (c->is_waking)
        TAILQ_REMOVE(&waking, c, in_waking);
    c->is_waking = false;
}

/* Those woken while this runs are flushed when the loop has looked at the others. */
static void
on_before_poll(uv_prepare_t *prepare)
{
    struct client *c;
    size_t count = 0;

    (void)prepare;
    TAILQ_FOREACH(c, &waking, in_waking)
    count++;
    for (; count > 0 && (c = TAILQ_FIRST(&waking)); count--) {
        TAILQ_REMOVE(&waking, c, in_waking);
        c->is_waking = false;
        if (c->is_blocked)
            client_settle(c);
        else
            client_flush(c);
    }
    TAILQ_FOREACH(c, &waking, in_waking)
    {
        c->is_blocked = true;
        client_update_poll(c);
    }
}

static void
on_linger_over(uv_timer_t *timer)
{
    client_gone(timer->data, "refused");
}

/*
 * Closing at once would reset a client that is still writing, and it might never read why it was
 * refused.
 */
static void
linger(struct client *c)
{
    c->state = CLIENT_LINGERING;
    shutdown(c->fd, SHUT_WR);
    uv_timer_start(&c->timer, on_linger_over, LINGER_MS, 0);
}

void
client_settle(struct client *c)
{
    bool is_empty = STAILQ_EMPTY(&c->out);

    if (c->state == CLIENT_ENDING && is_empty)
        linger(c);
    if (c->state == CLIENT_HALF_CLOSED && is_empty && c->request_count == 0) {
        client_gone(c, "done");
        return;
    }
    if (c->state == CLIENT_GONE)
        return;
    client_handle_lines(c);
    client_update_poll(c);
}

static void
on_poll(uv_poll_t *handle, int status, int events)
{
    struct client *c = handle->data;

    if (status < 0 || (events & UV_PRIORITIZED)) {
        client_gone(c, "hung up");
        return;
    }
    if (events & UV_READABLE) {
        client_read(c);
        if (c->state != CLIENT_GONE)
            client_settle(c);
    }
    if ((events & UV_WRITABLE) && c->state != CLIENT_GONE)
        client_flush(c);
}

void
client_poll_open(void)
{
    uv_prepare_init(manager_loop, &before_poll);
    uv_prepare_start(&before_poll, on_before_poll);
}
