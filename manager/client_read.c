#include "manager/client_parts.h"

#include <poll.h>
#include <sys/socket.h>

#include "ipc/fd.h"
#include "manager/descriptors.h"

enum {
    REPLIES_FULL = 1 << 20, /* above this the client is not read */
    READS_PER_TURN = 8,
    LINGER_READS = 256,
};

bool
client_is_reading(const struct client *c)
{
    return c->state == CLIENT_OPEN && c->reply_bytes <= REPLIES_FULL;
}

bool
client_is_discarding(const struct client *c)
{
    return (c->state == CLIENT_ENDING || c->state == CLIENT_LINGERING) &&
           c->discards < LINGER_READS;
}

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

void
client_handle_lines(struct client *c)
{
    char *line;
    size_t size;

    while (client_is_reading(c)) {
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
        client_handle_lines(c);
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

    while (client_is_discarding(c)) {
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

void
client_read(struct client *c)
{
    for (int i = 0; i < READS_PER_TURN && client_is_reading(c); i++) {
        if (!receive_once(c))
            break;
    }
    discard(c);
}
