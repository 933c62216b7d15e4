#include "manager/dial.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <uv.h>

#include "ipc/fd.h"
#include "ipc/message.h"
#include "manager/descriptors.h"
#include "manager/helpers.h"
#include "manager/manager.h"

enum { ADDRESSES_MAX = 64, ADDRESS_SIZE = 17, STAGGER_MS = 250, QUEUE_FULL_MS = 20 };

/* One address that is being called. */
struct call {
    struct dial *dial;
    int fd;       /* owned; -1 */
    bool is_open; /* its poll handle is in the loop */
    uv_poll_t poll;
};

struct dial {
    char host[256]; /* or the path of a Unix socket */
    uint16_t port;
    const struct dial_events *events;
    void *owner;
    struct helper *resolver;
    uint8_t addresses[ADDRESSES_MAX][ADDRESS_SIZE]; /* 4 or 6, then the address */
    size_t count, next;
    struct call calls[ADDRESSES_MAX];
    size_t open_calls;    /* that have neither failed nor won */
    struct call *settled; /* was answered at once, and hears of it from the loop */
    int last_error;
    uv_timer_t stagger;
    bool is_over;
    int closing; /* libuv handles that are not yet closed */
};

static void dial_next(struct dial *d);

static void
on_handle_closed(uv_handle_t *handle)
{
    struct dial *d = handle->data;

    if (--d->closing == 0)
        free(d);
}

static void
on_poll_closed(uv_handle_t *handle)
{
    struct call *call = handle->data;
    struct dial *d = call->dial;

    call->is_open = false;
    if (--d->closing == 0)
        free(d);
}

static void
call_close(struct call *call)
{
    if (call->is_open && !uv_is_closing((uv_handle_t *)&call->poll)) {
        call->dial->closing++;
        uv_close((uv_handle_t *)&call->poll, on_poll_closed);
    }
    fd_close(&call->fd);
}

/* Nothing of it calls back after this; it is freed when libuv is done with its handles. */
static void
dial_close(struct dial *d)
{
    assert(!d->is_over);
    d->is_over = true;
    helper_cancel(d->resolver);
    for (size_t i = 0; i < d->next; i++)
        call_close(&d->calls[i]);
    uv_close((uv_handle_t *)&d->stagger, on_handle_closed);
}

void
dial_cancel(struct dial *d)
{
    if (d != NULL)
        dial_close(d);
}

static void
dial_fail(struct dial *d)
{
    struct failure f;

    failure_posix(&f, d->last_error, "connect");
    dial_close(d);
    d->events->on_failed(d->owner, &f);
}

static void
call_failed(struct call *call, int error)
{
    struct dial *d = call->dial;

    d->last_error = error;
    d->open_calls--;
    call_close(call);
    dial_next(d);
}

static void
call_answered(struct call *call, int status)
{
    struct dial *d = call->dial;
    int error = 0, fd;
    socklen_t size = sizeof(error);

    /* An error of the socket comes as UV_EBADF; the socket itself knows better. */
    if (getsockopt(call->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    if (error == 0 && status < 0)
        error = -status;
    if (error != 0) {
        call_failed(call, error);
        return;
    }
    /* It leaves the loop before it is given away. */
    if (call->is_open)
        uv_poll_stop(&call->poll);
    fd = call->fd;
    call->fd = -1;
    dial_close(d);
    d->events->on_connected(d->owner, fd);
}

static void
on_writable(uv_poll_t *poll, int status, int events)
{
    (void)events;
    call_answered(poll->data, status);
}

static void
on_settled(uv_timer_t *timer)
{
    struct dial *d = timer->data;
    struct call *call = d->settled;

    d->settled = NULL;
    call_answered(call, 0);
}

static socklen_t
address_of(const struct dial *d, size_t i, struct sockaddr_storage *out)
{
    const uint8_t *address = d->addresses[i];

    memset(out, 0, sizeof(*out));
    if (address[0] == 4) {
        struct sockaddr_in *in = (struct sockaddr_in *)out;

        in->sin_family = AF_INET;
        in->sin_port = htons(d->port);
        memcpy(&in->sin_addr, address + 1, 4);
        return sizeof(*in);
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(d->port);
    memcpy(&in6->sin6_addr, address + 1, 16);
    return sizeof(*in6);
}

static bool
is_answered(int fd)
{
    struct pollfd ready = { .fd = fd, .events = POLLOUT };

    return poll(&ready, 1, 0) == 1;
}

/* 0, or errno. */
static int
call_start(struct call *call, size_t i)
{
    struct sockaddr_storage address;
    socklen_t size = address_of(call->dial, i, &address);

    call->fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (call->fd < 0)
        return errno;
    if (descriptor_is_reserved(call->fd))
        return EMFILE;
    if (call->dial->events->on_socket != NULL)
        call->dial->events->on_socket(call->fd);
    if (connect(call->fd, (struct sockaddr *)&address, size) < 0 && errno != EINPROGRESS)
        return errno;
    /* This machine's own addresses answer at once: not worth a place in the loop. */
    if (is_answered(call->fd)) {
        call->dial->settled = call;
        uv_timer_start(&call->dial->stagger, on_settled, 0, 0);
        return 0;
    }
    if (uv_poll_init(manager_loop, &call->poll, call->fd) != 0)
        return ENOMEM;
    call->is_open = true;
    call->poll.data = call;
    uv_poll_start(&call->poll, UV_WRITABLE, on_writable);
    return 0;
}

static void
on_stagger(uv_timer_t *timer)
{
    struct dial *d = timer->data;

    if (d->count == 0 || (d->next == d->count && d->open_calls == 0))
        dial_fail(d);
    else
        dial_next(d);
}

/* Calls the next address; those that fail at once make room for the one behind them. */
static void
dial_next(struct dial *d)
{
    if (d->settled != NULL)
        return;
    while (d->next < d->count) {
        struct call *call = &d->calls[d->next];
        int error;

        call->dial = d;
        call->fd = -1;
        error = call_start(call, d->next++);
        if (error == 0) {
            d->open_calls++;
            if (d->next < d->count && d->settled == NULL)
                uv_timer_start(&d->stagger, on_stagger, STAGGER_MS, 0);
            return;
        }
        d->last_error = error;
        call_close(call);
    }
    /* From the loop, for the caller may be dial_open. */
    if (d->open_calls == 0)
        uv_timer_start(&d->stagger, on_stagger, 0, 0);
}

/* --- a Unix socket -------------------------------------------------------------------------- */

/* 0, or errno; then nothing is left behind. */
static int
connect_path(const char *path, int *fd)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int error;

    memcpy(address.sun_path, path, strlen(path) + 1);
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return errno;
    if (descriptor_is_reserved(*fd)) {
        fd_close(fd);
        return EMFILE;
    }
    if (connect(*fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return 0;
    error = errno;
    fd_close(fd);
    return error;
}

/* The kernel does not say when the queue of a Unix socket has room again. */
static void
on_path_due(uv_timer_t *timer)
{
    struct dial *d = timer->data;
    int fd;

    d->last_error = connect_path(d->host, &fd);
    if (d->last_error == EAGAIN) {
        uv_timer_start(timer, on_path_due, QUEUE_FULL_MS, 0);
        return;
    }
    if (d->last_error != 0) {
        dial_fail(d);
        return;
    }
    dial_close(d);
    d->events->on_connected(d->owner, fd);
}

/* --- names and addresses -------------------------------------------------------------------- */

/* RFC 8305: the families in turn, beginning with the first one's. */
static void
take_addresses(struct dial *d, const uint8_t *list, size_t count)
{
    size_t of_family[2][ADDRESSES_MAX], counts[2] = { 0, 0 }, taken[2] = { 0, 0 };
    int family = list[0] == 4 ? 0 : 1;

    for (size_t i = 0; i < count; i++) {
        int f = list[i * ADDRESS_SIZE] == 4 ? 0 : 1;

        of_family[f][counts[f]++] = i;
    }
    while (d->count < count) {
        if (taken[family] < counts[family])
            memcpy(d->addresses[d->count++],
                   list + of_family[family][taken[family]++] * ADDRESS_SIZE, ADDRESS_SIZE);
        family = !family;
    }
}

static void
fail_resolve(struct dial *d, const char *why)
{
    struct failure f;

    failure_set(&f, RESULT_RESOLVE, NULL, "{s:s, s:s}", "host", d->host, "why", why);
    dial_close(d);
    d->events->on_failed(d->owner, &f);
}

static void
on_resolved(void *owner, struct message *answer)
{
    struct dial *d = owner;
    const struct bytes *list = &answer->as.resolved.addresses;

    d->resolver = NULL;
    if (answer->type == MESSAGE_RESOLVE_FAILED) {
        fail_resolve(d, answer->as.resolve_failed.why);
        return;
    }
    if (answer->type != MESSAGE_RESOLVED || list->size == 0 || list->size % ADDRESS_SIZE != 0 ||
        list->size > (size_t)ADDRESSES_MAX * ADDRESS_SIZE) {
        fail_resolve(d, "it has no address");
        return;
    }
    take_addresses(d, list->data, list->size / ADDRESS_SIZE);
    dial_next(d);
}

static void
on_not_resolved(void *owner, enum result result, const char *why)
{
    struct dial *d = owner;

    (void)result;
    d->resolver = NULL;
    fail_resolve(d, why);
}

static bool
literal(const char *host, uint8_t address[ADDRESS_SIZE])
{
    if (inet_pton(AF_INET, host, address + 1) == 1)
        address[0] = 4;
    else if (inet_pton(AF_INET6, host, address + 1) == 1)
        address[0] = 6;
    else
        return false;
    return true;
}

bool
host_is_address(const char *host)
{
    uint8_t address[ADDRESS_SIZE];

    return literal(host, address);
}

static struct dial *
dial_new(const char *host, const struct dial_events *events, void *owner)
{
    struct dial *d = calloc(1, sizeof(*d));
    int status;

    assert(d != NULL && strlen(host) < sizeof(d->host));
    strcpy(d->host, host);
    d->events = events;
    d->owner = owner;
    d->last_error = EHOSTUNREACH;
    status = uv_timer_init(manager_loop, &d->stagger);
    assert(status == 0);
    d->stagger.data = d;
    d->closing = 1; /* the timer */
    return d;
}

struct dial *
dial_open_path(const char *path, const struct dial_events *events, void *owner)
{
    struct dial *d = dial_new(path, events, owner);

    assert(strlen(path) < sizeof(((struct sockaddr_un *)NULL)->sun_path));
    uv_timer_start(&d->stagger, on_path_due, 0, 0);
    return d;
}

struct dial *
dial_open(const char *host, uint16_t port, int64_t timeout_ms, const struct dial_events *events,
          void *owner)
{
    static const struct helper_events resolver = { on_resolved, on_not_resolved };
    struct dial *d = dial_new(host, events, owner);
    struct message m;

    d->port = port;
    if (literal(host, d->addresses[0])) {
        d->count = 1;
        dial_next(d);
        return d;
    }
    message_init(&m, MESSAGE_RESOLVE);
    m.as.resolve.host = d->host;
    d->resolver = helper_ask(PROCESS_RESOLVER, &m, timeout_ms, &resolver, d);
    return d;
}
