#include "tests/harness/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "tests/harness/harness.h"

enum { CHUNK = 65536, QUEUE_FDS = 1024 };

struct kept_line {
    struct kept_line *next;
    struct harness_line line;
};

struct harness_client {
    int socket; /* owned */
    int64_t last_id;
    bool has_ended;
    char *bytes; /* owned; what has come and is not yet a line */
    size_t size, room;
    int fds[QUEUE_FDS]; /* owned; first in, first out */
    size_t fd_count;
    struct kept_line *first, **last; /* owned: events and other replies */
};

/* --- Lines ---------------------------------------------------------------------------------- */

void
harness_line_fini(struct harness_line *line)
{
    for (size_t i = 0; i < line->fd_count; i++)
        fd_close(&line->fds[i]);
    json_decref(line->json);
    *line = (struct harness_line){ 0 };
}

int
harness_line_take_fd(struct harness_line *line, size_t index)
{
    int fd = index < line->fd_count ? line->fds[index] : -1;

    if (fd >= 0)
        line->fds[index] = -1;
    return fd;
}

/* --- Opening -------------------------------------------------------------------------------- */

struct harness_client *
harness_client_open(const char *socket_path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct harness_client *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return NULL;
    c->last = &c->first;
    c->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    if (c->socket >= 0 &&
        connect(c->socket, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return c;
    harness_client_close(c);
    return NULL;
}

void
harness_client_close(struct harness_client *c)
{
    if (c == NULL)
        return;
    while (c->first != NULL) {
        struct kept_line *kept = c->first;

        c->first = kept->next;
        harness_line_fini(&kept->line);
        free(kept);
    }
    for (size_t i = 0; i < c->fd_count; i++)
        fd_close(&c->fds[i]);
    fd_close(&c->socket);
    free(c->bytes);
    free(c);
}

int
harness_client_fd(const struct harness_client *c)
{
    return c->socket;
}

/* --- Sending -------------------------------------------------------------------------------- */

bool
harness_client_send(struct harness_client *c, const void *bytes, size_t size, const int *fds,
                    size_t fd_count, int64_t deadline_ms)
{
    const char *at = bytes;

    while (size > 0) {
        size_t sent = size;
        enum result result;

        if (!harness_wait_fd(c->socket, POLLOUT, deadline_ms))
            return false;
        result = fd_send(c->socket, at, &sent, fds, fd_count, MSG_DONTWAIT);
        if (result == RESULT_WOULD_BLOCK)
            continue;
        if (result != RESULT_OK)
            return false;
        at += sent;
        size -= sent;
        fd_count = 0; /* they went with the first byte */
    }
    return true;
}

int64_t
harness_client_request(struct harness_client *c, const char *method, json_t *params, const int *fds,
                       size_t fd_count)
{
    int64_t id = ++c->last_id;
    json_t *request =
        json_pack("{s:s, s:I, s:s}", "jsonrpc", "2.0", "id", (json_int_t)id, "method", method);
    char *text;
    size_t size;
    bool is_sent;

    if (params != NULL)
        json_object_set_new(request, "params", params);
    if (fd_count > 0)
        json_object_set_new(request, "fds", json_integer((json_int_t)fd_count));
    text = json_dumps(request, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(request);
    if (text == NULL)
        return -1;
    size = strlen(text);
    text[size++] = '\n'; /* in the NUL's place */
    is_sent = harness_client_send(c, text, size, fds, fd_count, harness_deadline(HARNESS_WAIT_MS));
    free(text);
    return is_sent ? id : -1;
}

/* --- Receiving ------------------------------------------------------------------------------ */

/* More bytes and descriptors from the socket; false: none, for ever or until the deadline. */
static bool
receive_more(struct harness_client *c, int64_t deadline_ms)
{
    size_t size = CHUNK, fd_count = QUEUE_FDS - c->fd_count;
    enum result result;

    if (c->has_ended || !harness_wait_fd(c->socket, POLLIN, deadline_ms))
        return false;
    if (c->room < c->size + CHUNK) {
        c->room = 2 * (c->size + CHUNK);
        c->bytes = realloc(c->bytes, c->room);
        if (c->bytes == NULL)
            abort();
    }
    if (fd_count > FD_MAX_RECEIVED)
        fd_count = FD_MAX_RECEIVED;
    result = fd_receive(c->socket, c->bytes + c->size, &size, &c->fds[c->fd_count], &fd_count,
                        MSG_DONTWAIT);
    if (result == RESULT_WOULD_BLOCK)
        return true;
    if (result != RESULT_OK || size == 0) {
        c->has_ended = true;
        return false;
    }
    c->size += size;
    c->fd_count += fd_count;
    return true;
}

static void
take_descriptors(struct harness_client *c, struct harness_line *line)
{
    size_t wanted = (size_t)json_integer_value(json_object_get(line->json, "fds"));

    if (wanted > c->fd_count || wanted > HARNESS_LINE_FDS) {
        fprintf(stderr, "a line announces %zu descriptors, %zu are there\n", wanted, c->fd_count);
        wanted = wanted > HARNESS_LINE_FDS ? HARNESS_LINE_FDS : c->fd_count;
    }
    memcpy(line->fds, c->fds, wanted * sizeof(*c->fds));
    line->fd_count = wanted;
    c->fd_count -= wanted;
    memmove(c->fds, c->fds + wanted, c->fd_count * sizeof(*c->fds));
}

/* The first whole line of what has come. */
static bool
cut_line(struct harness_client *c, struct harness_line *line)
{
    char *end = c->size > 0 ? memchr(c->bytes, '\n', c->size) : NULL;
    json_error_t error;
    size_t size;

    if (end == NULL)
        return false;
    size = (size_t)(end - c->bytes) + 1;
    *line = (struct harness_line){ 0 };
    line->json = json_loadb(c->bytes, size, JSON_REJECT_DUPLICATES, &error);
    if (line->json == NULL)
        fprintf(stderr, "a line from Cordon is not JSON: %s: %.*s\n", error.text, (int)size,
                c->bytes);
    take_descriptors(c, line);
    c->size -= size;
    memmove(c->bytes, c->bytes + size, c->size);
    return line->json != NULL;
}

static bool
new_line(struct harness_client *c, struct harness_line *line, int64_t deadline_ms)
{
    while (!cut_line(c, line)) {
        if (!receive_more(c, deadline_ms))
            return false;
    }
    return true;
}

static void
keep(struct harness_client *c, const struct harness_line *line)
{
    struct kept_line *kept = calloc(1, sizeof(*kept));

    if (kept == NULL)
        abort();
    kept->line = *line;
    *c->last = kept;
    c->last = &kept->next;
}

struct wanted {
    int64_t id;         /* of a reply; -1: an event is wanted, -2: anything */
    const char *method; /* of an event */
    const char *conn;
};

static bool
is_wanted(const struct harness_line *line, const struct wanted *w)
{
    const char *method = json_string_value(json_object_get(line->json, "method"));
    const json_t *id = json_object_get(line->json, "id");
    const char *conn =
        json_string_value(json_object_get(json_object_get(line->json, "params"), "conn"));

    if (w->id == -2)
        return true;
    if (w->id >= 0)
        return method == NULL && json_is_integer(id) && json_integer_value(id) == w->id;
    return method != NULL && strcmp(method, w->method) == 0 &&
           (w->conn == NULL || (conn != NULL && strcmp(conn, w->conn) == 0));
}

static bool
take_kept(struct harness_client *c, const struct wanted *w, struct harness_line *line)
{
    for (struct kept_line **at = &c->first; *at != NULL; at = &(*at)->next) {
        struct kept_line *kept = *at;

        if (!is_wanted(&kept->line, w))
            continue;
        *line = kept->line;
        *at = kept->next;
        if (c->last == &kept->next)
            c->last = at;
        free(kept);
        return true;
    }
    return false;
}

static bool
await(struct harness_client *c, const struct wanted *w, struct harness_line *line,
      int64_t deadline_ms)
{
    *line = (struct harness_line){ 0 };
    if (take_kept(c, w, line))
        return true;
    while (new_line(c, line, deadline_ms)) {
        if (is_wanted(line, w))
            return true;
        keep(c, line);
    }
    *line = (struct harness_line){ 0 };
    return false;
}

bool
harness_client_line(struct harness_client *c, struct harness_line *line, int64_t deadline_ms)
{
    return await(c, &(struct wanted){ .id = -2 }, line, deadline_ms);
}

bool
harness_client_reply(struct harness_client *c, int64_t id, struct harness_line *line,
                     int64_t deadline_ms)
{
    return await(c, &(struct wanted){ .id = id }, line, deadline_ms);
}

bool
harness_client_event(struct harness_client *c, const char *method, const char *conn,
                     struct harness_line *line, int64_t deadline_ms)
{
    return await(c, &(struct wanted){ .id = -1, .method = method, .conn = conn }, line,
                 deadline_ms);
}

bool
harness_client_has_event(struct harness_client *c, const char *method, const char *conn)
{
    struct wanted w = { .id = -1, .method = method, .conn = conn };
    struct harness_line line;

    while (new_line(c, &line, 0))
        keep(c, &line);
    for (const struct kept_line *kept = c->first; kept != NULL; kept = kept->next) {
        if (is_wanted(&kept->line, &w))
            return true;
    }
    return false;
}

bool
harness_client_call(struct harness_client *c, const char *method, json_t *params, const int *fds,
                    size_t fd_count, struct harness_line *line)
{
    int64_t id = harness_client_request(c, method, params, fds, fd_count);

    *line = (struct harness_line){ 0 };
    return id >= 0 && harness_client_reply(c, id, line, harness_deadline(HARNESS_WAIT_MS));
}

bool
harness_client_ended(struct harness_client *c, int64_t deadline_ms)
{
    struct harness_line line;

    while (new_line(c, &line, deadline_ms))
        keep(c, &line);
    return c->has_ended;
}
