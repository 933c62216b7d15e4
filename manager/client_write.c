#include "manager/client_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/secret.h"
#include "manager/manager.h"

enum {
    LINE_OUT_MAX = 1 << 20,
    DATA_FULL = 256 << 10,    /* above this data waits in the workers */
    DESCRIPTORS_FULL = 64,    /* the same, and listeners that accept unasked wait */
    BYTES_PER_TURN = 1 << 20, /* then it is the others' turn */
    PROGRESS_MS = 30000,
    RETRY_MIN_MS = 1, /* a client that reads has read by then */
    RETRY_MAX_MS = 128,
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

void
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
    client_settle(c);
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

void
client_forget_output(struct client *c)
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
