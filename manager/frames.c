#include "manager/frames.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "ipc/digest.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "manager/connection.h"
#include "manager/manager.h"

enum {
    HEADER = 4,
    FRAMES_A_TURN = 8,
    CATCH_UP_MAX = 64,
    SENDS_MAX = 64,
    KEPT_MAX = 4 * FRAME_MAX, /* then the worker waits */
};

/* Something to send: on its way to the pair, then until `sent`. */
struct sending {
    STAILQ_ENTRY(sending) entry;
    struct frames *frames;
    struct request *request; /* NULL: nobody waits any more */
    size_t written;
    size_t size; /* with its header */
    uint8_t bytes[];
};

struct frames {
    struct connection *connection;
    int fd; /* owned; -1: the worker's end is closed */
    uv_poll_t poll;
    bool is_poll_closed, is_released; /* with both it is freed */
    bool is_active;
    bool is_paused; /* the owner's queue is full */

    uint8_t in[HEADER + FRAME_MAX];
    size_t in_size;
    uint64_t received; /* bytes read from the pair */
    uint8_t *kept;     /* read and not yet given to the owner; owned */
    size_t kept_size;

    STAILQ_HEAD(, sending) to_write, to_confirm;
    unsigned sends;

    struct request *receiver; /* who waits for data; NULL */
    uint32_t wanted;          /* bytes; 0: what there is */
    uint32_t asked;           /* number of the worker's open receive; 0: none */
    uint32_t last_asked;
    bool has_verdict; /* the worker has said received; the frame may still be on its way */
    uint64_t verdict_in;

    bool is_over;
};

static void on_ready(uv_poll_t *poll, int status, int events);

/* Neither the owner nor we take more for now. */
static bool
is_full(const struct frames *f)
{
    return f->is_paused || f->kept_size >= KEPT_MAX;
}

static void
frames_poll(struct frames *f)
{
    int events = 0;

    if (f->fd < 0)
        return;
    if (!is_full(f))
        events |= UV_READABLE;
    if (!STAILQ_EMPTY(&f->to_write))
        events |= UV_WRITABLE;
    if (events != 0)
        uv_poll_start(&f->poll, events, on_ready);
    else
        uv_poll_stop(&f->poll);
}

/* --- towards the owner --- */

uint64_t
frames_in(const struct frames *f)
{
    return f->received - f->kept_size;
}

static json_t *
data_json(const struct connection *c, const uint8_t *bytes, size_t size)
{
    json_t *json;
    char *text;

    if (c->options.mode_list) {
        json = json_array();
        for (size_t i = 0; i < size; i++)
            json_array_append_new(json, json_integer(bytes[i]));
        return json;
    }
    text = base64_text(bytes, size);
    assert(text != NULL);
    json = json_string(text);
    free(text);
    return json;
}

static void
on_drained(void *data)
{
    struct frames *f = data;

    f->is_paused = false;
    frames_poll(f);
}

static struct client *
frames_client(const struct frames *f)
{
    return f->connection->owner != NULL ? owner_client(f->connection->owner) : NULL;
}

static void
deliver(struct frames *f, const uint8_t *bytes, size_t size, uint64_t in)
{
    struct client *client = frames_client(f);

    if (client == NULL || size == 0)
        return;
    client_event(client, "ssl",
                 json_pack("{s:s, s:o, s:I}", "conn", f->connection->handle, "data",
                           data_json(f->connection, bytes, size), "in", (json_int_t)in),
                 -1, NULL, NULL);
    if (client_is_full(client) && !f->is_paused) {
        f->is_paused = true;
        client_on_drained(client, f, on_drained, f);
    }
}

static void
keep(struct frames *f, const uint8_t *bytes, size_t size)
{
    f->kept = realloc(f->kept, f->kept_size + size);
    assert(f->kept != NULL);
    memcpy(f->kept + f->kept_size, bytes, size);
    f->kept_size += size;
}

static void
unkeep(struct frames *f, size_t size)
{
    f->kept_size -= size;
    memmove(f->kept, f->kept + size, f->kept_size);
    if (f->kept_size == 0) {
        free(f->kept);
        f->kept = NULL;
    }
}

/* Gives the receiver what it waits for, if that is there. */
static bool
receiver_served(struct frames *f)
{
    struct request *r = f->receiver;
    size_t size = f->wanted != 0 ? f->wanted : f->kept_size;
    json_t *data;

    if (r == NULL || f->kept_size == 0 || size > f->kept_size)
        return false;
    if (size > FRAME_MAX)
        size = FRAME_MAX;
    data = data_json(f->connection, f->kept, size);
    unkeep(f, size);
    frames_poll(f);
    f->receiver = NULL;
    request_reply(r, json_pack("{s:o, s:I}", "data", data, "in", (json_int_t)frames_in(f)));
    return true;
}

static void
receiver_fail(struct frames *f, struct failure *failure)
{
    struct request *r = f->receiver;

    f->receiver = NULL;
    if (r != NULL)
        request_fail(r, failure);
    else
        failure_fini(failure);
}

static void
ask_to_receive(struct frames *f)
{
    struct connection *c = f->connection;
    struct message m;

    if (f->receiver == NULL || f->asked != 0 || c->channel == NULL || c->has_goodbye)
        return;
    f->asked = ++f->last_asked;
    f->has_verdict = false;
    message_init(&m, MESSAGE_RECEIVE);
    m.as.receive.request = f->asked;
    m.as.receive.length = f->wanted != 0 ? f->wanted - (uint32_t)f->kept_size : 0;
    channel_send(c->channel, &m);
}

/* The worker's answer and the frame come on two channels: both must be here. */
static void
receive_settle(struct frames *f)
{
    if (f->asked != 0 && f->has_verdict && f->received >= f->verdict_in) {
        f->asked = 0;
        if (!receiver_served(f))
            ask_to_receive(f);
    }
}

static void
frame_arrived(struct frames *f, const uint8_t *bytes, size_t size)
{
    f->received += size;
    if (f->is_active && f->kept_size == 0)
        deliver(f, bytes, size, f->received);
    else
        keep(f, bytes, size);
}

static void
on_poll_closed(uv_handle_t *handle)
{
    struct frames *f = handle->data;

    f->is_poll_closed = true;
    if (f->is_released)
        free(f);
}

/* The handle goes before its descriptor: libuv, closing it later, would take out of its epoll
 * whoever had got the number by then. */
static void
frames_closed(struct frames *f)
{
    if (f->fd < 0)
        return;
    uv_close((uv_handle_t *)&f->poll, on_poll_closed);
    fd_close(&f->fd);
}

/* Cuts the frames out of what was read.  False: the worker does not keep to the form. */
static bool
frames_cut(struct frames *f)
{
    size_t at = 0;

    while (f->in_size - at >= HEADER) {
        const uint8_t *h = f->in + at;
        size_t size = (size_t)h[0] << 24 | (size_t)h[1] << 16 | (size_t)h[2] << 8 | h[3];

        if (size == 0 || size > FRAME_MAX)
            return false;
        if (f->in_size - at < HEADER + size)
            break;
        frame_arrived(f, h + HEADER, size);
        at += HEADER + size;
    }
    f->in_size -= at;
    memmove(f->in, f->in + at, f->in_size);
    return true;
}

/* False: nothing more is there. */
static bool
frames_read(struct frames *f)
{
    ssize_t size;

    if (f->fd < 0)
        return false;
    size = recv(f->fd, f->in + f->in_size, sizeof(f->in) - f->in_size, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (size <= 0) {
        frames_closed(f);
        return false;
    }
    f->in_size += (size_t)size;
    if (!frames_cut(f)) {
        log_warn("conn=%s worker's data has no form", f->connection->handle);
        frames_closed(f);
        connection_kill(f->connection, "its data frames have no form");
        return false;
    }
    return true;
}

static void
frames_write(struct frames *f)
{
    struct sending *s;

    while (f->fd >= 0 && (s = STAILQ_FIRST(&f->to_write)) != NULL) {
        ssize_t size =
            send(f->fd, s->bytes + s->written, s->size - s->written, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (size < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (size < 0) {
            /* Its mailbox tells why; they wait for that. */
            STAILQ_CONCAT(&f->to_confirm, &f->to_write);
            return;
        }
        s->written += (size_t)size;
        if (s->written < s->size)
            return;
        STAILQ_REMOVE_HEAD(&f->to_write, entry);
        STAILQ_INSERT_TAIL(&f->to_confirm, s, entry);
    }
}

static void
on_ready(uv_poll_t *poll, int status, int events)
{
    struct frames *f = poll->data;

    /* An error of the socket comes as UV_EBADF, and is found again when it is read. */
    if (status < 0)
        events = UV_READABLE;
    if (events & UV_WRITABLE)
        frames_write(f);
    if (events & UV_READABLE) {
        for (int i = 0; i < FRAMES_A_TURN && !is_full(f); i++) {
            if (!frames_read(f))
                break;
        }
        receive_settle(f);
    }
    if (frames_are_flushed(f))
        connection_ask_next(f->connection);
    frames_poll(f);
}

/* An honest worker has written everything before it said so; another one does not keep us here. */
void
frames_catch_up(struct frames *f, uint64_t in)
{
    for (int i = 0; i < CATCH_UP_MAX && f->received < in && f->kept_size < KEPT_MAX; i++) {
        if (!frames_read(f))
            break;
    }
    receive_settle(f);
    frames_poll(f);
}

/* --- ssl.send --- */

static void
sending_free(struct sending *s)
{
    s->frames->sends--;
    free(s);
}

static void
on_send_abandoned(struct request *r, enum result why, void *data)
{
    struct sending *s = data;
    struct failure failure;

    s->request = NULL;
    failure_set(&failure, why, NULL, NULL);
    request_fail(r, &failure);
}

void
frames_send(struct frames *f, struct request *r, uint8_t *bytes, size_t size, int64_t timeout_ms)
{
    struct sending *s;
    struct failure failure;

    assert(size > 0 && size <= SEND_MAX);
    if (f->sends == SENDS_MAX) {
        free(bytes);
        failure_limit(&failure, "sends of a connection that wait", SENDS_MAX);
        request_fail(r, &failure);
        return;
    }
    s = calloc(1, sizeof(*s) + HEADER + size);
    assert(s != NULL);
    s->frames = f;
    s->request = r;
    s->size = HEADER + size;
    s->bytes[2] = (uint8_t)(size >> 8);
    s->bytes[3] = (uint8_t)size;
    memcpy(s->bytes + HEADER, bytes, size);
    free(bytes);
    f->sends++;
    STAILQ_INSERT_TAIL(&f->to_write, s, entry);
    request_wait(r, timeout_ms, on_send_abandoned, s);
    frames_write(f);
    frames_poll(f);
}

bool
frames_are_flushed(const struct frames *f)
{
    return STAILQ_EMPTY(&f->to_write) || f->fd < 0;
}

bool
frames_sent(struct frames *f, uint64_t out)
{
    struct sending *s = STAILQ_FIRST(&f->to_confirm);
    struct request *r;

    if (s == NULL)
        return false;
    STAILQ_REMOVE_HEAD(&f->to_confirm, entry);
    r = s->request;
    f->connection->out = out;
    sending_free(s);
    if (r != NULL)
        request_reply(r, json_pack("{s:I}", "out", (json_int_t)out));
    return true;
}

/* --- ssl.recv --- */

static void
cancel_receive(struct frames *f)
{
    struct message m;

    if (f->asked == 0 || f->has_verdict || f->connection->channel == NULL)
        return;
    message_init(&m, MESSAGE_RECEIVE_CANCEL);
    m.as.receive_cancel.request = f->asked;
    channel_send(f->connection->channel, &m);
}

/* Whatever comes all the same is kept for the next one. */
static void
on_receive_abandoned(struct request *r, enum result why, void *data)
{
    struct frames *f = data;
    struct failure failure;

    assert(f->receiver == r);
    failure_set(&failure, why, NULL, NULL);
    receiver_fail(f, &failure);
    cancel_receive(f);
}

void
frames_receive(struct frames *f, struct request *r, uint32_t length, int64_t timeout_ms)
{
    struct failure failure;

    if (f->receiver != NULL) {
        failure_bad_state(&failure, "receiving", "connection", NULL);
        request_fail(r, &failure);
        return;
    }
    f->receiver = r;
    f->wanted = length;
    if (receiver_served(f))
        return;
    request_wait(r, timeout_ms, on_receive_abandoned, f);
    ask_to_receive(f);
}

bool
frames_received(struct frames *f, const struct message_received *m)
{
    struct failure failure;

    if (f->asked == 0 || m->request != f->asked || f->has_verdict)
        return false;
    f->has_verdict = true;
    f->verdict_in = m->reason == RESULT_OK ? m->in : 0;
    f->connection->in = m->in;
    if (m->reason == RESULT_CLOSED) {
        f->asked = 0;
        failure_set(&failure, RESULT_CLOSED, NULL, NULL);
        receiver_fail(f, &failure);
        return true;
    }
    frames_catch_up(f, f->verdict_in);
    return true;
}

/* --- active --- */

void
frames_refuse_receiver(struct frames *f)
{
    struct failure failure;

    if (f->receiver == NULL)
        return;
    failure_posix(&failure, EINVAL, "recv");
    receiver_fail(f, &failure);
    cancel_receive(f);
}

void
frames_set_active(struct frames *f, bool is_active)
{
    if (is_active && f->kept_size > 0) {
        size_t size = f->kept_size;
        uint8_t *bytes = f->kept;

        f->kept = NULL;
        f->kept_size = 0;
        for (size_t at = 0; at < size; at += FRAME_MAX) {
            size_t some = size - at < FRAME_MAX ? size - at : FRAME_MAX;

            deliver(f, bytes + at, some, f->received - size + at + some);
        }
        free(bytes);
    }
    f->is_active = is_active;
    frames_poll(f);
}

/* The owner of an active connection learns of it by the last event, so the connection ends; one that is
 * passive learns it from its next recv. */
void
frames_peer_ended(struct frames *f)
{
    struct connection *c = f->connection;

    if (!f->is_active)
        return;
    if (c->close_how == NULL)
        c->close_how = "close_notify";
    connection_end(c, NULL, NULL);
}

/* --- the end --- */

void
frames_drain(struct frames *f)
{
    frames_catch_up(f, UINT64_MAX);
}

static void
fail_sendings(struct frames *f)
{
    struct sending *s;

    while ((s = STAILQ_FIRST(&f->to_write)) != NULL) {
        STAILQ_REMOVE_HEAD(&f->to_write, entry);
        STAILQ_INSERT_TAIL(&f->to_confirm, s, entry);
    }
    while ((s = STAILQ_FIRST(&f->to_confirm)) != NULL) {
        struct request *r = s->request;
        struct failure failure;

        STAILQ_REMOVE_HEAD(&f->to_confirm, entry);
        sending_free(s);
        if (r == NULL)
            continue;
        failure_closed(f->connection, &failure);
        request_fail(r, &failure);
    }
}

void
frames_end(struct frames *f)
{
    struct failure failure;

    if (f->is_over)
        return;
    f->is_over = true;
    frames_closed(f); /* after the last event there is no data */
    if (frames_client(f) != NULL)
        client_on_drained(frames_client(f), f, NULL, NULL);
    failure_closed(f->connection, &failure);
    receiver_fail(f, &failure);
    fail_sendings(f);
}

struct frames *
frames_open(struct connection *c, int fd)
{
    struct frames *f = calloc(1, sizeof(*f));
    int status;

    assert(f != NULL);
    f->connection = c;
    f->fd = fd;
    f->is_active = c->options.active;
    STAILQ_INIT(&f->to_write);
    STAILQ_INIT(&f->to_confirm);
    status = uv_poll_init(manager_loop, &f->poll, fd);
    assert(status == 0);
    f->poll.data = f;
    frames_poll(f);
    return f;
}

void
frames_close(struct frames *f)
{
    if (f == NULL)
        return;
    frames_end(f);
    free(f->kept);
    frames_closed(f);
    f->is_released = true;
    if (f->is_poll_closed)
        free(f);
}
