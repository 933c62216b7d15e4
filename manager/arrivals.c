#include "manager/arrivals.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <uv.h>

#include "ipc/fd.h"
#include "manager/manager.h"

enum { DEADLINE_MS = 5000 };

struct arrival {
    TAILQ_ENTRY(arrival) entry;
    struct arrivals *arrivals;
    int fd; /* owned; -1 */
    struct proxy_input input;
    uv_poll_t poll;
    uv_timer_t deadline;
    int closing; /* libuv handles that are not yet closed */
};

struct arrivals {
    const struct arrivals_events *events;
    void *owner;
    TAILQ_HEAD(, arrival) waiting;
    size_t count;
};

struct arrivals *
arrivals_new(const struct arrivals_events *events, void *owner)
{
    struct arrivals *a = calloc(1, sizeof(*a));

    assert(a != NULL);
    a->events = events;
    a->owner = owner;
    TAILQ_INIT(&a->waiting);
    return a;
}

size_t
arrivals_count(const struct arrivals *a)
{
    return a != NULL ? a->count : 0;
}

static void
on_handle_closed(uv_handle_t *handle)
{
    struct arrival *one = handle->data;

    if (--one->closing == 0)
        free(one);
}

/* It leaves the loop, and gives its descriptor. */
static int
arrival_end(struct arrival *one)
{
    int fd = one->fd;

    TAILQ_REMOVE(&one->arrivals->waiting, one, entry);
    one->arrivals->count--;
    uv_poll_stop(&one->poll);
    uv_close((uv_handle_t *)&one->poll, on_handle_closed);
    uv_close((uv_handle_t *)&one->deadline, on_handle_closed);
    return fd;
}

void
arrivals_free(struct arrivals *a)
{
    struct arrival *one;

    if (a == NULL)
        return;
    while ((one = TAILQ_FIRST(&a->waiting)) != NULL) {
        int fd = arrival_end(one);

        fd_close(&fd);
    }
    free(a);
}

static void
lose(struct arrivals *a, int fd, const char *why)
{
    struct address by;

    address_of_peer(fd, &by);
    fd_close(&fd);
    a->events->on_lost(a->owner, &by, why);
}

static const char *
why_not(enum result result, const char *why)
{
    if (result == RESULT_MALFORMED)
        return why;
    return result == RESULT_CLOSED ? "it ends before its PROXY header does" : result_text(result);
}

static void
on_readable(uv_poll_t *poll, int status, int events)
{
    struct arrival *one = poll->data;
    struct arrivals *a = one->arrivals;
    struct proxy_input said;
    const char *why = NULL;
    enum result result = proxy_read(&one->input, one->fd, &why);
    int fd;

    (void)status, (void)events;
    if (result == RESULT_WOULD_BLOCK)
        return;
    said = one->input;
    fd = arrival_end(one);
    if (result == RESULT_OK)
        a->events->on_arrived(a->owner, fd, &said);
    else
        lose(a, fd, why_not(result, why));
}

static void
on_deadline(uv_timer_t *timer)
{
    struct arrival *one = timer->data;
    struct arrivals *a = one->arrivals;

    lose(a, arrival_end(one), "its PROXY header did not come within 5 s");
}

static void
wait_for_rest(struct arrivals *a, int fd, const struct proxy_input *input)
{
    struct arrival *one = calloc(1, sizeof(*one));
    int status;

    assert(one != NULL);
    one->arrivals = a;
    one->fd = fd;
    one->input = *input;
    one->closing = 2;
    status = uv_poll_init(manager_loop, &one->poll, fd);
    status |= uv_timer_init(manager_loop, &one->deadline);
    assert(status == 0);
    one->poll.data = one->deadline.data = one;
    TAILQ_INSERT_TAIL(&a->waiting, one, entry);
    a->count++;
    uv_poll_start(&one->poll, UV_READABLE, on_readable);
    uv_timer_start(&one->deadline, on_deadline, DEADLINE_MS, 0);
}

void
arrivals_add(struct arrivals *a, int fd)
{
    struct proxy_input input = { .size = 0 };
    const char *why = NULL;
    enum result result = proxy_read(&input, fd, &why);

    if (result == RESULT_WOULD_BLOCK)
        wait_for_rest(a, fd, &input);
    else if (result == RESULT_OK)
        a->events->on_arrived(a->owner, fd, &input);
    else
        lose(a, fd, why_not(result, why));
}
