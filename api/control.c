#include "api/control.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/fd.h"

#define SYSTEM_PLACE "/run/cordon/control.sock"

enum {
    LINE_MAX_OUT = 64 * 1024,
    LINE_MAX_IN = 1024 * 1024,
    CHUNK = 64 * 1024,
    FDS_UNCLAIMED_MAX = 64
};

struct control {
    int fd;        /* owned */
    int interrupt; /* borrowed; -1 */

    char *bytes; /* what was received and is not a message yet */
    size_t size;
    size_t searched; /* there is no newline before this */
    size_t room;
    bool is_line_cut; /* the last line was not JSON */

    int fds[FDS_UNCLAIMED_MAX]; /* owned; nobody's yet, oldest first */
    size_t fd_count;
    size_t fds_in_chunk; /* so many of them came with the last recvmsg */

    int *claimed; /* owned; those of messages given out */
    size_t claimed_count;
    size_t claimed_by_last; /* so many of them belong to the last message */

    char failure[160];
};

static bool
connect_to(int *out, const char *path, char *why, size_t why_size)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        snprintf(why, why_size, "%s: the path of a socket has at most %zu bytes", path,
                 sizeof(address.sun_path) - 1);
        errno = ENAMETOOLONG;
        return false;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        int error = errno;

        snprintf(why, why_size, "%s: %s", path, strerror(error));
        if (fd >= 0)
            close(fd);
        errno = error;
        return false;
    }
    *out = fd;
    return true;
}

bool
control_usual_place(char *path, size_t size)
{
    const char *named = getenv("CORDON_SOCKET");
    const char *runtime = getenv("XDG_RUNTIME_DIR");

    if (named && *named)
        return snprintf(path, size, "%s", named) < (int)size;
    if (geteuid() == 0)
        return snprintf(path, size, "%s", SYSTEM_PLACE) < (int)size;
    return runtime && *runtime == '/' &&
           snprintf(path, size, "%s/cordon/control.sock", runtime) < (int)size;
}

bool
control_is_there(const char *path)
{
    char why[256];
    int fd;

    if (connect_to(&fd, path, why, sizeof(why)))
        close(fd);
    else if (errno == ENOENT || errno == ECONNREFUSED)
        return false;
    return true;
}

/* Where the socket is when nobody says where: ours, else the system's. */
static bool
connect_to_usual_place(int *out, char *why, size_t why_size)
{
    const char *named = getenv("CORDON_SOCKET");
    char path[256];

    if (control_usual_place(path, sizeof(path)) && connect_to(out, path, why, why_size))
        return true;
    return (!named || !*named) && connect_to(out, SYSTEM_PLACE, why, why_size);
}

struct control *
control_open(const char *path, char *why, size_t why_size)
{
    struct control *control = calloc(1, sizeof(*control));
    bool is_open;

    if (!control) {
        snprintf(why, why_size, "out of memory");
        return NULL;
    }
    control->fd = -1;
    control->interrupt = -1;
    if (path)
        is_open = connect_to(&control->fd, path, why, why_size);
    else
        is_open = connect_to_usual_place(&control->fd, why, why_size);
    if (!is_open) {
        control_free(control);
        return NULL;
    }
    return control;
}

static void
drop_unclaimed(struct control *control, size_t keep)
{
    size_t dropped = control->fd_count - keep;

    for (size_t i = 0; i < dropped; i++)
        close(control->fds[i]);
    memmove(control->fds, control->fds + dropped, keep * sizeof(control->fds[0]));
    control->fd_count = keep;
}

void
control_free(struct control *control)
{
    if (!control)
        return;
    if (control->fd >= 0)
        close(control->fd);
    drop_unclaimed(control, 0);
    for (size_t i = 0; i < control->claimed_count; i++)
        fd_close(&control->claimed[i]);
    free(control->claimed);
    free(control->bytes);
    free(control);
}

int
control_fd(const struct control *control)
{
    return control->fd;
}

const char *
control_failure(const struct control *control)
{
    return control->failure;
}

/* Gives result, with a sentence that says why. */
static enum result
fail(struct control *control, enum result result, const char *why)
{
    snprintf(control->failure, sizeof(control->failure), "%s", why);
    return result;
}

/* What a failed call of fd_send or fd_receive means. */
static enum result
fail_transport(struct control *control, enum result result)
{
    bool is_posix = result == RESULT_CHANNEL_FAILED;

    return fail(control, result, is_posix ? strerror(errno) : result_text(result));
}

/* The descriptors go with the first byte. */
static enum result
send_all(struct control *control, const char *bytes, size_t size, const int *fds, size_t fd_count)
{
    while (size > 0) {
        size_t sent = size;
        enum result result = fd_send(control->fd, bytes, &sent, fds, fd_count, 0);

        if (result != RESULT_OK)
            return fail_transport(control, result);
        bytes += sent;
        size -= sent;
        fd_count = 0;
    }
    return RESULT_OK;
}

enum result
control_send(struct control *control, const json_t *message, const int *fds, size_t fd_count)
{
    enum result result;
    char *line;
    size_t size;

    if (fd_count > FDS_UNCLAIMED_MAX)
        return fail(control, RESULT_LIMIT, "more than 64 descriptors");
    line = json_dumps(message, JSON_COMPACT | JSON_ENSURE_ASCII);
    if (!line)
        return fail(control, RESULT_NO_MEMORY, result_text(RESULT_NO_MEMORY));
    size = strlen(line);
    if (size > LINE_MAX_OUT) {
        free(line);
        return fail(control, RESULT_LIMIT, "the request is longer than 65,536 bytes");
    }
    line[size] = '\n'; /* in place of the NUL */
    result = send_all(control, line, size + 1, fds, fd_count);
    free(line);
    return result;
}

static enum result
make_room(struct control *control)
{
    size_t room = control->size + CHUNK;
    char *bytes;

    if (room <= control->room)
        return RESULT_OK;
    bytes = realloc(control->bytes, room);
    if (!bytes)
        return fail(control, RESULT_NO_MEMORY, result_text(RESULT_NO_MEMORY));
    control->bytes = bytes;
    control->room = room;
    return RESULT_OK;
}

static enum result
read_chunk(struct control *control)
{
    size_t size = CHUNK;
    size_t fd_count = FDS_UNCLAIMED_MAX - control->fd_count;
    enum result result = make_room(control);

    if (result != RESULT_OK)
        return result;
    result = fd_receive(control->fd, control->bytes + control->size, &size,
                        control->fds + control->fd_count, &fd_count, MSG_DONTWAIT);
    if (result == RESULT_WOULD_BLOCK)
        return result;
    if (result != RESULT_OK)
        return fail_transport(control, result);
    control->fds_in_chunk = fd_count;
    control->fd_count += fd_count;
    control->size += size;
    if (size == 0)
        return fail(control, RESULT_CHANNEL_CLOSED, "the manager hung up");
    return RESULT_OK;
}

/* Gives one parsed line, or NULL when it is not a JSON object. */
static json_t *
take_line(struct control *control, size_t size)
{
    json_t *message = json_loadb(control->bytes, size, 0, NULL);

    control->size -= size + 1;
    control->searched = 0;
    memmove(control->bytes, control->bytes + size + 1, control->size);
    if (!json_is_object(message)) {
        json_decref(message);
        return NULL;
    }
    return message;
}

static bool
is_restarted(const json_t *message)
{
    const char *method = json_string_value(json_object_get(message, "method"));

    return method && strcmp(method, "restarted") == 0;
}

/* The message's descriptors move from the queue to the claimed ones. */
static enum result
claim_fds(struct control *control, const json_t *message)
{
    json_int_t wanted = json_integer_value(json_object_get(message, "fds"));
    size_t count = (size_t)wanted;
    int *claimed;

    control->claimed_by_last = 0;
    if (wanted == 0)
        return RESULT_OK;
    if (wanted < 0 || count > control->fd_count)
        return fail(control, RESULT_DESCRIPTORS, "a message names descriptors that did not come");
    claimed = realloc(control->claimed, (control->claimed_count + count) * sizeof(claimed[0]));
    if (!claimed)
        return fail(control, RESULT_NO_MEMORY, result_text(RESULT_NO_MEMORY));
    memcpy(claimed + control->claimed_count, control->fds, count * sizeof(claimed[0]));
    control->claimed = claimed;
    control->claimed_count += count;
    control->claimed_by_last = count;
    control->fd_count -= count;
    memmove(control->fds, control->fds + count, control->fd_count * sizeof(control->fds[0]));
    return RESULT_OK;
}

/*
 * Whether the message may be given out.  recvmsg stops behind a chunk that
 * carries descriptors, so those of the last chunk belong to its last bytes:
 * to the event `restarted` itself only if nothing follows it.
 */
static enum result
admit(struct control *control, const json_t *message)
{
    if (is_restarted(message)) {
        size_t fresh = control->size > 0 ? control->fds_in_chunk : 0;

        drop_unclaimed(control, fresh < control->fd_count ? fresh : control->fd_count);
        control->is_line_cut = false;
    }
    if (control->is_line_cut)
        return fail(control, RESULT_PARSE_ERROR, "the manager sent a line that is no JSON object");
    return claim_fds(control, message);
}

/* Where the first line ends, or NULL while none is complete. */
static char *
find_newline(struct control *control)
{
    char *newline;

    if (control->size == control->searched)
        return NULL; /* also when there is no buffer yet */
    newline = memchr(control->bytes + control->searched, '\n', control->size - control->searched);
    if (!newline)
        control->searched = control->size;
    return newline;
}

/* Takes the first line, of size bytes.  *message is NULL when it is to be passed over. */
static enum result
parse_line(struct control *control, size_t size, json_t **message)
{
    json_t *parsed = take_line(control, size);
    enum result result;

    *message = NULL;
    if (!parsed && size > 0 && control->is_line_cut)
        return fail(control, RESULT_PARSE_ERROR, "the manager sent lines that are no JSON objects");
    if (!parsed) {
        control->is_line_cut = control->is_line_cut || size > 0;
        return RESULT_OK;
    }
    result = admit(control, parsed);
    if (result == RESULT_OK)
        *message = parsed;
    else
        json_decref(parsed);
    return result;
}

enum result
control_receive(struct control *control, json_t **message)
{
    for (;;) {
        char *newline = find_newline(control);
        json_t *parsed = NULL;
        enum result result;

        if (newline)
            result = parse_line(control, (size_t)(newline - control->bytes), &parsed);
        else if (control->size > LINE_MAX_IN)
            result = fail(control, RESULT_LINE_TOO_LONG, "the manager sent a line over 1 MiB");
        else
            result = read_chunk(control);
        if (parsed)
            *message = parsed;
        if (parsed || result != RESULT_OK)
            return result;
    }
}

enum result
control_wait(struct control *control, json_t **message)
{
    struct pollfd wait[] = { { .fd = control->fd, .events = POLLIN },
                             { .fd = control->interrupt, .events = POLLIN } };

    for (;;) {
        enum result result = control_receive(control, message);

        if (result != RESULT_WOULD_BLOCK)
            return result;
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            return fail(control, RESULT_CHANNEL_FAILED, strerror(errno));
        if (wait[1].revents)
            return fail(control, RESULT_CANCELLED, "interrupted");
    }
}

void
control_set_interrupt(struct control *control, int fd)
{
    control->interrupt = fd;
}

int
control_take_fd(struct control *control, const json_t *data)
{
    json_int_t index = json_integer_value(json_object_get(data, "fd_index"));
    size_t first = control->claimed_count - control->claimed_by_last;
    int fd;

    if (!json_is_object(data) || index < 0 || (size_t)index >= control->claimed_by_last)
        return -1;
    fd = control->claimed[first + (size_t)index];
    control->claimed[first + (size_t)index] = -1;
    return fd;
}
