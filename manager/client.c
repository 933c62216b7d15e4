#include "manager/client.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/message.h"
#include "ipc/secret.h"
#include "manager/control.h"
#include "manager/descriptors.h"
#include "manager/events.h"
#include "manager/in_flight.h"
#include "manager/manager.h"

enum {
    LINE_OUT_MAX = 1 << 20,
    REPLIES_FULL = 1 << 20,   /* above this the client is not read */
    DATA_FULL = 256 << 10,    /* above this data waits in the workers */
    DESCRIPTORS_FULL = 64,    /* the same, and listeners that accept unasked wait */
    BYTES_PER_TURN = 1 << 20, /* then it is the others' turn */
    READS_PER_TURN = 8,
    PROGRESS_MS = 30000,
    RETRY_MIN_MS = 1, /* a client that reads has read by then */
    RETRY_MAX_MS = 128,
    LEFT_MS = 1000, /* how often to look for what clients have left unread */
    LINGER_MS = 1000,
    LINGER_READS = 256,
    GROUPS_MAX = 256,
    BUCKETS = 1024,
};

struct out_line {
    STAILQ_ENTRY(out_line) next;
    char *bytes; /* owned */
    size_t size, sent;
    int fd;        /* owned; -1 when there is none, or it is with the kernel */
    bool is_reply; /* counts for the limit of replies */
    bool must;     /* the client has 30 s to make progress */
    client_written_cb on_written;
    void *data;
};

struct waiter {
    LIST_ENTRY(waiter) next;
    const void *key;
    void (*on_drained)(void *data);
    void *data;
};

enum client_state {
    CLIENT_OPEN,
    CLIENT_HALF_CLOSED, /* it has shut its write side; its last replies go out */
    CLIENT_ENDING,      /* what it says is not heard any more; what is queued goes out */
    CLIENT_LINGERING,   /* all is out; it may say the rest before it notices */
    CLIENT_GONE,        /* only its requests and handles are left */
};

struct client {
    TAILQ_ENTRY(client) in_order;
    LIST_ENTRY(client) in_bucket;
    uint64_t number;
    char handle[40];
    char name[80]; /* escaped; empty: it has not said one */
    uid_t uid;
    pid_t pid;
    bool is_in_admin_group;
    int64_t opened_ms; /* since 1970 */
    int fd;            /* owned */

    enum client_state state;
    uv_poll_t poll;
    uv_timer_t timer; /* no progress, or a moment to wait before the next try */
    unsigned handles_open;
    int polled;      /* what poll waits for */
    bool is_blocked; /* the kernel takes nothing more */
    struct in_flight in_flight;
    uint64_t retry_ms; /* 0: no descriptor waits for others to be read */
    uint64_t stalled_ms; /* since when one waits */
    bool is_waking;  /* in the list of those to be flushed */
    TAILQ_ENTRY(client) in_waking;

    struct line_reader reader;
    STAILQ_HEAD(, out_line) out;
    size_t out_bytes, reply_bytes, out_fds;
    size_t must_count;
    LIST_HEAD(, waiter) waiters;

    struct request_list requests; /* owned by request.c */
    size_t request_count;
    int discards; /* reads since it was ended */
};

TAILQ_HEAD(client_queue, client);

static struct client_queue clients = TAILQ_HEAD_INITIALIZER(clients);
static struct client_queue waking = TAILQ_HEAD_INITIALIZER(waking);
static LIST_HEAD(, client) buckets[BUCKETS];
static size_t client_count;
static uint64_t last_number;
static uv_prepare_t before_poll;
static uv_timer_t end_timer, left_timer;
static void (*on_all_ended)(void);

static void client_gone(struct client *c, const char *why);
static void client_flush(struct client *c);
static void settle(struct client *c);

/* --- facts --------------------------------------------------------------------------------- */

uint64_t
client_number(const struct client *c)
{
    return c->number;
}

const char *
client_handle(const struct client *c)
{
    return c->handle;
}

uid_t
client_uid(const struct client *c)
{
    return c->uid;
}

bool
client_is_operator(const struct client *c)
{
    /* What the kernel shows for a uid of another namespace matches nobody. */
    return c->uid != 65534 && (c->uid == geteuid() || c->uid == 0);
}

bool
client_is_administrator(const struct client *c)
{
    return client_is_operator(c) || c->is_in_admin_group;
}

bool
client_is_gone(const struct client *c)
{
    return c->state == CLIENT_GONE;
}

struct client *
client_by_number(uint64_t number)
{
    struct client *c;

    LIST_FOREACH(c, &buckets[number % BUCKETS], in_bucket)
    {
        if (c->number == number)
            return c;
    }
    return NULL;
}

size_t
clients_count(void)
{
    return client_count;
}

struct client *
clients_after(uint64_t number)
{
    struct client *c;

    TAILQ_FOREACH(c, &clients, in_order)
    {
        if (c->number > number)
            return c;
    }
    return NULL;
}

struct line_reader *
client_reader(struct client *c)
{
    return &c->reader;
}

struct request_list *
client_requests(struct client *c)
{
    return &c->requests;
}

size_t
client_request_count(const struct client *c)
{
    return c->request_count;
}

void
client_set_name(struct client *c, const char *name)
{
    log_escape(c->name, sizeof(c->name), name, strlen(name));
    log_info("client=%s name=\"%s\"", c->handle, c->name);
}

json_t *
client_row(const struct client *c)
{
    uint32_t connections = 0, listeners = 0;

    connections_count(c, &connections, &listeners);
    return json_pack("{s:s, s:s?, s:I, s:I, s:I, s:I, s:I, s:I}", "client", c->handle, "name",
                     c->name[0] ? c->name : NULL, "uid", (json_int_t)c->uid, "pid",
                     (json_int_t)c->pid, "connections", (json_int_t)connections, "listeners",
                     (json_int_t)listeners, "requests", (json_int_t)c->request_count, "opened",
                     (json_int_t)c->opened_ms);
}

/* --- waiting for the socket ---------------------------------------------------------------- */

static void on_poll(uv_poll_t *poll, int status, int events);

static bool
is_reading(const struct client *c)
{
    return c->state == CLIENT_OPEN && c->reply_bytes <= REPLIES_FULL;
}

static bool
is_discarding(const struct client *c)
{
    return (c->state == CLIENT_ENDING || c->state == CLIENT_LINGERING) &&
           c->discards < LINGER_READS;
}

/*
 * UV_PRIORITIZED never happens on a Unix stream socket; it is there so that a client whom we
 * neither read nor write is still heard to hang up: libuv reports that as what is waited for.
 */
static void
update_poll(struct client *c)
{
    int events = UV_PRIORITIZED;

    if (is_reading(c) || is_discarding(c))
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
            settle(c);
        else
            client_flush(c);
    }
    TAILQ_FOREACH(c, &waking, in_waking)
    {
        c->is_blocked = true;
        update_poll(c);
    }
}

/* --- writing ------------------------------------------------------------------------------- */

enum result
client_encode(const json_t *json, char **line, size_t *size)
{
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENSURE_ASCII);

    if (!text)
        return RESULT_NO_MEMORY;
    *size = strlen(text);
    if (*size >= LINE_OUT_MAX) {
        secret_free(text);
        return RESULT_LINE_TOO_LONG;
    }
    text[(*size)++] = '\n'; /* in the place of the NUL */
    *line = text;
    return RESULT_OK;
}

/* Takes bytes and fd. */
static struct out_line *
queue_line(struct client *c, char *bytes, size_t size, int fd)
{
    struct out_line *line = calloc(1, sizeof(*line));

    if (!line) {
        secret_free(bytes);
        fd_close(&fd);
        return NULL;
    }
    line->bytes = bytes;
    line->size = size;
    line->fd = fd;
    c->out_bytes += size;
    c->out_fds += fd >= 0;
    STAILQ_INSERT_TAIL(&c->out, line, next);
    return line;
}

static void
free_line(struct client *c, struct out_line *line, bool is_written)
{
    client_written_cb on_written = line->on_written;
    void *data = line->data;

    STAILQ_REMOVE_HEAD(&c->out, next);
    c->out_bytes -= line->size - line->sent;
    c->reply_bytes -= line->is_reply ? line->size : 0;
    c->must_count -= line->must;
    c->out_fds -= line->fd >= 0;
    secret_free(line->bytes);
    fd_close(&line->fd);
    free(line);
    if (on_written)
        on_written(data, is_written);
}

/* An answer that cannot be made is a client that would wait for ever. */
static void
give_up(struct client *c, enum result result, int fd, client_written_cb on_written, void *data)
{
    log_error("client=%s a line could not be written reason=%s", c->handle, result_name(result));
    fd_close(&fd);
    if (on_written)
        on_written(data, false);
    client_end(c, "a line could not be written");
}

void
client_reply(struct client *c, json_t *reply, int fd, client_written_cb on_written, void *data)
{
    struct out_line *line = NULL;
    char *bytes;
    size_t size;
    enum result result = RESULT_CLOSED;

    if (c->state != CLIENT_GONE)
        result = client_encode(reply, &bytes, &size);
    json_decref(reply);
    if (result == RESULT_OK) {
        line = queue_line(c, bytes, size, fd);
        result = line ? RESULT_OK : RESULT_NO_MEMORY;
        fd = -1;
    }
    if (c->state == CLIENT_GONE) {
        fd_close(&fd);
        if (on_written)
            on_written(data, false);
        return;
    }
    if (!line) {
        give_up(c, result, fd, on_written, data);
        return;
    }
    line->is_reply = line->must = true;
    line->on_written = on_written;
    line->data = data;
    c->reply_bytes += size;
    c->must_count++;
    client_wake(c);
}

void
client_event(struct client *c, const char *method, json_t *params, int fd,
             client_written_cb on_written, void *data)
{
    json_t *json = json_pack("{s:s, s:s, s:i, s:o}", "jsonrpc", "2.0", "method", method, "fds",
                             fd >= 0 ? 1 : 0, "params", params);
    struct out_line *line = NULL;
    char *bytes;
    size_t size;
    enum result result = RESULT_NO_MEMORY;
    int copy = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

    if (fd < 0)
        json_object_del(json, "fds");
    if (json && c->state != CLIENT_GONE && (fd < 0 || copy >= 0))
        result = client_encode(json, &bytes, &size);
    json_decref(json);
    if (result == RESULT_OK) {
        line = queue_line(c, bytes, size, copy);
        copy = -1;
    }
    if (c->state == CLIENT_GONE) {
        fd_close(&copy);
        if (on_written)
            on_written(data, false);
        return;
    }
    if (!line) {
        give_up(c, result, copy, on_written, data);
        return;
    }
    /* Data may wait as long as it likes: its worker waits with it. */
    line->must = strcmp(method, "ssl") != 0;
    line->on_written = on_written;
    line->data = data;
    c->must_count += line->must;
    client_wake(c);
}

/* Events of subscriptions come when nothing else waits. */
static struct out_line *
next_line(struct client *c)
{
    char *bytes;
    size_t size;

    if (STAILQ_EMPTY(&c->out) && c->state == CLIENT_OPEN && events_next(c, &bytes, &size))
        return queue_line(c, bytes, size, -1);
    return STAILQ_FIRST(&c->out);
}

static enum result
write_some(struct client *c, struct out_line *line)
{
    size_t size = line->size - line->sent;
    enum result result;

    if (line->fd >= 0 && !in_flight_has_room(&c->in_flight))
        return RESULT_CHANNEL_BUSY;
    result =
        fd_send(c->fd, line->bytes + line->sent, &size, &line->fd, line->fd >= 0, MSG_DONTWAIT);
    if (result != RESULT_OK)
        return result;
    /* The descriptor has gone with the first byte. */
    if (line->fd >= 0) {
        in_flight_sent(&c->in_flight);
        c->out_fds--;
    }
    fd_close(&line->fd);
    line->sent += size;
    c->out_bytes -= size;
    if (line->sent == line->size)
        free_line(c, line, true);
    return RESULT_OK;
}

static void
on_no_progress(uv_timer_t *timer)
{
    struct client *c = timer->data;

    log_warn("client=%s ended: it has not read for %d s while replies wait bytes=%zu", c->handle,
             PROGRESS_MS / 1000, c->out_bytes);
    client_gone(c, "it does not read");
}

static void
on_retry(uv_timer_t *timer)
{
    struct client *c = timer->data;

    c->retry_ms = c->retry_ms < RETRY_MAX_MS ? 2 * c->retry_ms : RETRY_MAX_MS;
    client_wake(c);
}

/* Nothing tells when descriptors were read; who leaves them unread is asked less and less often. */
static void
retry_later(struct client *c, bool has_progress)
{
    uint64_t now_ms = uv_now(manager_loop);
    bool must = c->must_count > 0 || c->state == CLIENT_ENDING;

    if (has_progress || c->retry_ms == 0) {
        c->stalled_ms = now_ms;
        c->retry_ms = RETRY_MIN_MS;
    }
    if (must && now_ms - c->stalled_ms >= PROGRESS_MS)
        uv_timer_start(&c->timer, on_no_progress, 0, 0);
    else
        uv_timer_start(&c->timer, on_retry, c->retry_ms, 0);
}

static void
watch_progress(struct client *c, bool has_progress)
{
    if (!c->is_blocked || (c->must_count == 0 && c->state != CLIENT_ENDING))
        uv_timer_stop(&c->timer);
    else if (has_progress || !uv_is_active((uv_handle_t *)&c->timer))
        uv_timer_start(&c->timer, on_no_progress, PROGRESS_MS, 0);
}

static void
tell_drained(struct client *c)
{
    struct waiter *w;

    while (!client_is_full(c) && (w = LIST_FIRST(&c->waiters))) {
        void (*on_drained)(void *) = w->on_drained;
        void *data = w->data;

        LIST_REMOVE(w, next);
        free(w);
        on_drained(data);
    }
}

static void handle_lines(struct client *c);

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

/* What a client whose queue has moved may do next: end, or be read again. */
static void
settle(struct client *c)
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
    handle_lines(c);
    update_poll(c);
}

static void
client_flush(struct client *c)
{
    enum result result = RESULT_OK;
    size_t budget = BYTES_PER_TURN;
    bool has_progress = false;
    struct out_line *line;

    while (result == RESULT_OK && budget > 0 && (line = next_line(c))) {
        size_t before = line->size - line->sent;

        result = write_some(c, line);
        has_progress |= result == RESULT_OK;
        budget -= before < budget ? before : budget;
    }
    if (result == RESULT_CHANNEL_CLOSED || result == RESULT_CHANNEL_FAILED) {
        client_gone(c, "hung up");
        return;
    }
    c->is_blocked = result == RESULT_WOULD_BLOCK || budget == 0;
    if (result == RESULT_CHANNEL_BUSY) {
        retry_later(c, has_progress);
    } else if (c->state != CLIENT_LINGERING) {
        c->retry_ms = 0;
        watch_progress(c, has_progress);
    }
    tell_drained(c);
    settle(c);
}

bool
client_is_full(const struct client *c)
{
    bool is_full = c->out_bytes > DATA_FULL || c->out_fds >= DESCRIPTORS_FULL;

    return is_full && c->state != CLIENT_GONE;
}

void
client_on_drained(struct client *c, const void *key, void (*on_drained)(void *data), void *data)
{
    struct waiter *w;

    LIST_FOREACH(w, &c->waiters, next)
    {
        if (w->key == key)
            break;
    }
    if (w) {
        LIST_REMOVE(w, next);
        free(w);
    }
    if (!on_drained || c->state == CLIENT_GONE)
        return;
    w = calloc(1, sizeof(*w));
    if (!w) {
        give_up(c, RESULT_NO_MEMORY, -1, NULL, NULL);
        return;
    }
    *w = (struct waiter){ .key = key, .on_drained = on_drained, .data = data };
    LIST_INSERT_HEAD(&c->waiters, w, next);
    client_wake(c);
}

/* --- reading ------------------------------------------------------------------------------- */

static void
refuse_and_end(struct client *c, struct failure *f)
{
    const char *reason = result_text(f->reason);

    request_refuse_line(c, f);
    client_end(c, reason);
}

static void
refuse_too_long(struct client *c)
{
    struct failure f;

    failure_set(&f, RESULT_LINE_TOO_LONG,
                "a line has at most 65,536 bytes; what is larger goes by descriptor", "{s:i}",
                "max", LINE_SIZE_MAX);
    refuse_and_end(c, &f);
}

static void
refuse_descriptors(struct client *c, const char *why)
{
    struct failure f;

    failure_set(&f, RESULT_DESCRIPTORS, why, "{s:s}", "why", why);
    refuse_and_end(c, &f);
}

static void
handle_lines(struct client *c)
{
    char *line;
    size_t size;

    while (is_reading(c)) {
        enum result result = line_reader_next(&c->reader, &line, &size);

        if (result == RESULT_OK)
            request_handle_line(c, line, size);
        else if (result == RESULT_LINE_TOO_LONG)
            refuse_too_long(c);
        else if (result == RESULT_DESCRIPTORS)
            refuse_descriptors(c,
                               "more than 64 descriptors are waiting for a line that names them");
        else
            return;
    }
}

static bool
has_hung_up(const struct client *c)
{
    struct pollfd p = { .fd = c->fd };

    return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

/* It has shut its write side, or both. */
static void
handle_end_of_file(struct client *c)
{
    struct failure f;

    if (has_hung_up(c)) {
        client_gone(c, "hung up");
        return;
    }
    if (c->reader.start != c->reader.end) {
        failure_set(&f, RESULT_PARSE_ERROR, "the last line has no newline", "{s:I, s:s}",
                    "position", (json_int_t)(c->reader.end - c->reader.start), "why",
                    "the last line has no newline");
        request_refuse_line(c, &f);
    }
    c->state = CLIENT_HALF_CLOSED;
    line_reader_fini(&c->reader);
}

static bool
has_reserved(const struct line_reader *reader)
{
    for (size_t i = 0; i < reader->fd_count; i++) {
        if (descriptor_is_reserved(reader->fds[i]))
            return true;
    }
    return false;
}

static bool
receive_once(struct client *c)
{
    enum result result = line_reader_receive(&c->reader, c->fd);

    switch (result) {
    case RESULT_OK:
        if (has_reserved(&c->reader)) {
            refuse_descriptors(c, "there is no room in Cordon for the descriptors");
            return false;
        }
        handle_lines(c);
        return true;
    case RESULT_WOULD_BLOCK:
        return false;
    case RESULT_CHANNEL_CLOSED:
        handle_end_of_file(c);
        return false;
    case RESULT_DESCRIPTORS:
        refuse_descriptors(c, "descriptors were lost on the way: too many, or Cordon has no room");
        return false;
    default:
        client_gone(c, result_name(result));
        return false;
    }
}

/* Reads for a client that was refused, so that it can finish writing. */
static void
discard(struct client *c)
{
    char bytes[16384];
    int fds[FD_MAX_RECEIVED];

    while (is_discarding(c)) {
        size_t size = sizeof(bytes);
        size_t count = FD_MAX_RECEIVED;
        enum result result = fd_receive(c->fd, bytes, &size, fds, &count, MSG_DONTWAIT);

        c->discards++;
        if (result == RESULT_WOULD_BLOCK)
            return;
        for (size_t i = 0; result == RESULT_OK && i < count; i++)
            fd_close(&fds[i]);
        if (result == RESULT_CHANNEL_FAILED || (result == RESULT_OK && size == 0))
            c->discards = LINGER_READS;
    }
    if (c->state == CLIENT_LINGERING)
        client_gone(c, "refused");
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
        for (int i = 0; i < READS_PER_TURN && is_reading(c); i++) {
            if (!receive_once(c))
                break;
        }
        discard(c);
        if (c->state != CLIENT_GONE)
            settle(c);
    }
    if ((events & UV_WRITABLE) && c->state != CLIENT_GONE)
        client_flush(c);
}

/* --- coming and going ---------------------------------------------------------------------- */

static bool
is_in_group(int fd, gid_t first, gid_t wanted)
{
    gid_t groups[GROUPS_MAX];
    socklen_t size = sizeof(groups);

    if (wanted == (gid_t)-1)
        return false;
    if (first == wanted)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0)
        return false;
    for (size_t i = 0; i < size / sizeof(groups[0]); i++) {
        if (groups[i] == wanted)
            return true;
    }
    return false;
}

static void
on_handle_closed(uv_handle_t *handle)
{
    struct client *c = handle->data;

    if (--c->handles_open == 0 && c->request_count == 0)
        free(c);
}

static bool
open_handles(struct client *c)
{
    uv_timer_init(manager_loop, &c->timer);
    c->timer.data = c;
    c->handles_open = 1;
    if (uv_poll_init(manager_loop, &c->poll, c->fd) != 0)
        return false;
    c->poll.data = c;
    c->handles_open = 2;
    return true;
}

static void
on_left_timer(uv_timer_t *timer)
{
    in_flight_look();
    if (in_flight_left() == 0)
        uv_timer_stop(timer);
}

static void
close_handles(struct client *c)
{
    if (c->handles_open == 2)
        uv_close((uv_handle_t *)&c->poll, on_handle_closed);
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
    /* cordond lets go of its copy later; the client's end of file is now. */
    shutdown(c->fd, SHUT_RDWR);
    c->fd = -1;
    in_flight_leave(&c->in_flight);
    if (in_flight_left() > 0 && !uv_is_active((uv_handle_t *)&left_timer))
        uv_timer_start(&left_timer, on_left_timer, LEFT_MS, LEFT_MS);
}

static int64_t
now_since_1970_ms(void)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    return (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
}

static void
enter(struct client *c)
{
    c->number = ++last_number;
    snprintf(c->handle, sizeof(c->handle), "k%" PRIu32 ".%" PRIu64, manager_start_number(),
             c->number);
    TAILQ_INSERT_TAIL(&clients, c, in_order);
    LIST_INSERT_HEAD(&buckets[c->number % BUCKETS], c, in_bucket);
    client_count++;
    ledger_client_open(c->number, c->uid);
    tree_keep(KEPT_CLIENT, c->number, c->fd);
    log_info("client=%s opened uid=%u pid=%d", c->handle, (unsigned)c->uid, (int)c->pid);
    events_publish("client_opened", c->uid, c->handle, json_object());
}

void
client_new(int fd)
{
    struct client *c = calloc(1, sizeof(*c));
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (!c || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
        log_error("a client could not be taken in error=%s", posix_name(errno));
        fd_close(&fd);
        free(c);
        return;
    }
    c->fd = fd;
    in_flight_init(&c->in_flight, fd);
    c->uid = peer.uid;
    c->pid = peer.pid;
    c->is_in_admin_group = is_in_group(fd, peer.gid, config.admin_group);
    c->opened_ms = now_since_1970_ms();
    line_reader_init(&c->reader);
    STAILQ_INIT(&c->out);
    LIST_INIT(&c->waiters);
    LIST_INIT(&c->requests);
    if (!open_handles(c)) {
        log_error("a client could not be taken in reason=poll");
        c->state = CLIENT_GONE;
        close_handles(c);
        return;
    }
    enter(c);
    update_poll(c);
}

void
client_end(struct client *c, const char *why)
{
    if (c->state >= CLIENT_ENDING)
        return;
    log_info("client=%s ends why=\"%s\"", c->handle, why);
    c->state = CLIENT_ENDING;
    client_wake(c);
}

static void
leave(struct client *c)
{
    c->state = CLIENT_GONE;
    TAILQ_REMOVE(&clients, c, in_order);
    LIST_REMOVE(c, in_bucket);
    client_count--;
    if (c->is_waking)
        TAILQ_REMOVE(&waking, c, in_waking);
    c->is_waking = false;
    ledger_client_close(c->number);
    tree_drop(KEPT_CLIENT, c->number);
    line_reader_fini(&c->reader);
}

static void
forget_output(struct client *c)
{
    struct out_line *line;
    struct waiter *w;

    while ((line = STAILQ_FIRST(&c->out)))
        free_line(c, line, false);
    while ((w = LIST_FIRST(&c->waiters))) {
        LIST_REMOVE(w, next);
        free(w);
    }
}

static void
on_end_timer(uv_timer_t *timer)
{
    void (*on_done)(void) = on_all_ended;
    struct client *c;

    (void)timer;
    while ((c = TAILQ_FIRST(&clients)))
        client_gone(c, "Cordon stops");
    on_all_ended = NULL;
    uv_timer_stop(&end_timer);
    if (on_done)
        on_done();
}

/* Only from the loop's callbacks: see control.h. */
static void
client_gone(struct client *c, const char *why)
{
    if (c->state == CLIENT_GONE)
        return;
    log_info("client=%s closed why=\"%s\"", c->handle, why);
    leave(c);
    events_client_gone(c);
    c->request_count++; /* holds the client until its handles close */
    requests_abandon(c, RESULT_CLOSED);
    connections_client_gone(c);
    forget_output(c);
    events_publish("client_closed", c->uid, c->handle, json_object());
    c->request_count--;
    close_handles(c);
    if (client_count == 0 && on_all_ended)
        uv_timer_start(&end_timer, on_end_timer, 0, 0);
}

void
client_request_opened(struct client *c)
{
    c->request_count++;
}

void
client_request_closed(struct client *c)
{
    c->request_count--;
    if (c->state != CLIENT_GONE)
        client_wake(c); /* it may have been its last */
    else if (c->request_count == 0 && c->handles_open == 0)
        free(c);
}

void
clients_open(void)
{
    uv_prepare_init(manager_loop, &before_poll);
    uv_prepare_start(&before_poll, on_before_poll);
    uv_timer_init(manager_loop, &end_timer);
    uv_timer_init(manager_loop, &left_timer);
    uv_unref((uv_handle_t *)&left_timer);
}

void
clients_end_all(uint64_t limit_ms, void (*on_done)(void))
{
    struct client *c;

    on_all_ended = on_done;
    TAILQ_FOREACH(c, &clients, in_order)
    {
        requests_abandon(c, RESULT_SHUTTING_DOWN);
        client_end(c, "Cordon stops");
    }
    uv_timer_start(&end_timer, on_end_timer, client_count ? limit_ms : 0, 0);
}
