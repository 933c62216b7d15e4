#include "api/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    LINE_MAX_OUT = 64 * 1024,
    LINE_MAX_IN = 1024 * 1024,
    CHUNK = 64 * 1024,
    FDS_UNCLAIMED_MAX = 64,
    FDS_PER_MESSAGE = 253 /* the kernel's SCM_MAX_FD */
};

struct control {
    int fd; /* owned */

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
        return false;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        snprintf(why, why_size, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return false;
    }
    *out = fd;
    return true;
}

/* Where the socket is when nobody says where. */
static bool
connect_to_usual_place(int *out, char *why, size_t why_size)
{
    const char *named = getenv("CORDON_SOCKET");
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char path[256];

    if (named && *named)
        return connect_to(out, named, why, why_size);
    if (geteuid() != 0 && runtime && *runtime) {
        snprintf(path, sizeof(path), "%s/cordon/control.sock", runtime);
        if (connect_to(out, path, why, why_size))
            return true;
    }
    return connect_to(out, "/run/cordon/control.sock", why, why_size);
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
        close(control->claimed[i]);
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

static bool
fail(struct control *control, const char *why)
{
    snprintf(control->failure, sizeof(control->failure), "%s", why);
    return false;
}

static ssize_t
send_with_fds(int fd, const char *bytes, size_t size, const int *fds, size_t fd_count)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * FDS_UNCLAIMED_MAX)];
        struct cmsghdr align;
    } rights = { .bytes = { 0 } };
    struct iovec part = { .iov_base = (char *)bytes, .iov_len = size };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

    if (fd_count > 0) {
        message.msg_control = rights.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        CMSG_FIRSTHDR(&message)->cmsg_level = SOL_SOCKET;
        CMSG_FIRSTHDR(&message)->cmsg_type = SCM_RIGHTS;
        CMSG_FIRSTHDR(&message)->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, sizeof(int) * fd_count);
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* The descriptors go with the first byte. */
static bool
send_all(struct control *control, const char *bytes, size_t size, const int *fds, size_t fd_count)
{
    while (size > 0) {
        ssize_t sent = send_with_fds(control->fd, bytes, size, fds, fd_count);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return fail(control, strerror(errno));
        bytes += sent;
        size -= (size_t)sent;
        fd_count = 0;
    }
    return true;
}

bool
control_send(struct control *control, const json_t *message, const int *fds, size_t fd_count)
{
    char *line;
    size_t size;
    bool is_sent;

    if (fd_count > FDS_UNCLAIMED_MAX)
        return fail(control, "more than 64 descriptors");
    line = json_dumps(message, JSON_COMPACT | JSON_ENSURE_ASCII);
    if (!line)
        return fail(control, "out of memory");
    size = strlen(line);
    if (size > LINE_MAX_OUT) {
        free(line);
        return fail(control, "the request is longer than 65536 bytes");
    }
    line[size] = '\n'; /* in place of the NUL */
    is_sent = send_all(control, line, size + 1, fds, fd_count);
    free(line);
    return is_sent;
}

/* Takes the descriptors; those that are too many are closed. */
static bool
queue_fds(struct control *control, struct msghdr *received)
{
    bool is_room = true;

    control->fds_in_chunk = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(received); c; c = CMSG_NXTHDR(received, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (control->fd_count < FDS_UNCLAIMED_MAX) {
                control->fds[control->fd_count++] = fd;
                control->fds_in_chunk++;
            } else {
                close(fd);
                is_room = false;
            }
        }
    }
    return is_room;
}

static bool
make_room(struct control *control)
{
    size_t room = control->size + CHUNK;
    char *bytes;

    if (room <= control->room)
        return true;
    bytes = realloc(control->bytes, room);
    if (!bytes)
        return fail(control, "out of memory");
    control->bytes = bytes;
    control->room = room;
    return true;
}

static enum control_status
read_chunk(struct control *control)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * FDS_PER_MESSAGE)];
        struct cmsghdr align;
    } rights = { .bytes = { 0 } };
    struct iovec part;
    struct msghdr message = { .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = rights.bytes,
                              .msg_controllen = sizeof(rights.bytes) };
    ssize_t got;

    if (!make_room(control))
        return CONTROL_GONE;
    part = (struct iovec){ .iov_base = control->bytes + control->size, .iov_len = CHUNK };
    do
        got = recvmsg(control->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return CONTROL_NOTHING;
    if (got <= 0) {
        fail(control, got == 0 ? "the manager hung up" : strerror(errno));
        return CONTROL_GONE;
    }
    control->size += (size_t)got;
    if (!queue_fds(control, &message) || (message.msg_flags & MSG_CTRUNC)) {
        fail(control, "more descriptors came than there is room for");
        return CONTROL_GONE;
    }
    return CONTROL_MESSAGE;
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
static bool
claim_fds(struct control *control, const json_t *message)
{
    json_int_t wanted = json_integer_value(json_object_get(message, "fds"));
    int *claimed;

    if (wanted == 0)
        return true;
    if (wanted < 0 || (size_t)wanted > control->fd_count)
        return fail(control, "a message names descriptors that did not come");
    claimed = realloc(control->claimed,
                      (control->claimed_count + (size_t)wanted) * sizeof(control->claimed[0]));
    if (!claimed)
        return fail(control, "out of memory");
    memcpy(claimed + control->claimed_count, control->fds, (size_t)wanted * sizeof(claimed[0]));
    control->claimed = claimed;
    control->claimed_count += (size_t)wanted;
    control->fd_count -= (size_t)wanted;
    memmove(control->fds, control->fds + wanted, control->fd_count * sizeof(control->fds[0]));
    return true;
}

/*
 * Whether the message may be given out.  recvmsg stops behind a chunk that
 * carries descriptors, so those of the last chunk belong to its last bytes:
 * to the event `restarted` itself only if nothing follows it.
 */
static bool
admit(struct control *control, const json_t *message)
{
    if (is_restarted(message)) {
        size_t fresh = control->size > 0 ? control->fds_in_chunk : 0;

        drop_unclaimed(control, fresh < control->fd_count ? fresh : control->fd_count);
        control->is_line_cut = false;
    }
    if (control->is_line_cut)
        return fail(control, "the manager sent a line that is not a JSON object");
    return claim_fds(control, message);
}

/* Where the first line ends, or NULL while none is complete. */
static char *
find_newline(struct control *control)
{
    char *newline = NULL;

    if (control->size > control->searched)
        newline =
            memchr(control->bytes + control->searched, '\n', control->size - control->searched);
    if (!newline)
        control->searched = control->size;
    return newline;
}

/* Takes the first line, of size bytes.  Gives a message, or NULL and whether that is fine. */
static json_t *
parse_line(struct control *control, size_t size, bool *is_fine)
{
    json_t *message = take_line(control, size);

    *is_fine = true;
    if (!message && size > 0) {
        *is_fine = !control->is_line_cut || fail(control, "the manager sent lines of no JSON");
        control->is_line_cut = true;
    }
    if (message && !admit(control, message)) {
        *is_fine = false;
        json_decref(message);
        message = NULL;
    }
    return message;
}

enum control_status
control_receive(struct control *control, json_t **message)
{
    for (;;) {
        char *newline = find_newline(control);
        enum control_status status;

        if (newline) {
            bool is_fine;
            json_t *parsed = parse_line(control, (size_t)(newline - control->bytes), &is_fine);

            if (parsed)
                *message = parsed;
            if (parsed || !is_fine)
                return parsed ? CONTROL_MESSAGE : CONTROL_GONE;
            continue;
        }
        if (control->size > LINE_MAX_IN) {
            fail(control, "the manager sent a line longer than 1 MiB");
            return CONTROL_GONE;
        }
        status = read_chunk(control);
        if (status != CONTROL_MESSAGE)
            return status;
    }
}
