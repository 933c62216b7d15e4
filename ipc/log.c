#include "ipc/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LINE_MAX_SIZE = 1400, TEXT_MAX_SIZE = 1000 };

static const char *process_name = "cordon";
static enum log_level max_level = LOG_INFO;
static void (*to_sink)(enum log_level, const char *);
static void (*to_tap)(enum log_level, const char *, const char *);
static unsigned long lost;

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

void
log_open(const char *process)
{
    process_name = process;
}

void
log_set_level(enum log_level level)
{
    max_level = level;
}

enum log_level
log_get_level(void)
{
    return max_level;
}

void
log_set_sink(void (*sink)(enum log_level, const char *))
{
    to_sink = sink;
}

void
log_set_tap(void (*tap)(enum log_level, const char *, const char *))
{
    to_tap = tap;
}

const char *
log_level_name(enum log_level level)
{
    return (unsigned)level <= LOG_DEBUG ? level_names[level] : "unknown";
}

bool
log_level_parse(const char *name, enum log_level *level)
{
    for (unsigned i = 0; i <= LOG_DEBUG; i++) {
        if (strcmp(level_names[i], name) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

/* stderr is shared with others, so it cannot be made non-blocking: a socket is sent to without
 * waiting; a pipe that poll calls writable takes a line of less than PIPE_BUF whole. */
static bool
write_stderr(const char *line, size_t size)
{
    struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };
    ssize_t sent = send(STDERR_FILENO, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent >= 0)
        return (size_t)sent == size;
    if (errno != ENOTSOCK)
        return false;
    if (poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT))
        return false;
    return write(STDERR_FILENO, line, size) == (ssize_t)size;
}

static void
write_line(enum log_level level, const char *process, const char *text)
{
    char line[LINE_MAX_SIZE];
    int size;

    if (lost > 0) {
        size = snprintf(line, sizeof line, "warn %s log lines were lost count=%lu\n", process_name,
                        lost);
        if (!write_stderr(line, (size_t)size)) {
            lost++;
            return;
        }
        lost = 0;
    }
    size = snprintf(line, sizeof line, "%s %s %s\n", log_level_name(level), process, text);
    if (size >= (int)sizeof line) {
        size = sizeof line - 1;
        line[size - 1] = '\n';
    }
    if (!write_stderr(line, (size_t)size))
        lost++;
}

/* The one door to logs and terminals: what is not printable ASCII, a line break above all, becomes
 * \xHH, whoever said it. */
static void
make_printable(char *out, size_t out_size, const char *text)
{
    size_t at = 0;

    for (; *text != '\0'; text++) {
        bool is_plain = *text >= 0x20 && *text < 0x7f;

        if (at + (is_plain ? 1 : 4) + 1 > out_size)
            break;
        if (is_plain)
            out[at++] = *text;
        else
            at += (size_t)snprintf(out + at, 5, "\\x%02x", (unsigned)(unsigned char)*text);
    }
    out[at] = '\0';
}

void
log_forward(enum log_level level, const char *process, const char *line)
{
    char printable[TEXT_MAX_SIZE + 200];

    if (level > max_level)
        return;
    make_printable(printable, sizeof(printable), line);
    write_line(level, process, printable);
    if (to_tap != NULL)
        to_tap(level, process, printable);
}

void
log_line(enum log_level level, const char *format, ...)
{
    char text[TEXT_MAX_SIZE];
    int error = errno;
    va_list arguments;

    if (level > max_level)
        return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (to_sink != NULL)
        to_sink(level, text);
    else
        log_forward(level, process_name, text);
    errno = error;
}

void
log_escape(char *out, size_t out_size, const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    size_t at = 0;

    if (out_size == 0)
        return;
    for (size_t i = 0; i < size; i++) {
        bool is_plain = p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\';
        size_t need = is_plain ? 1 : 4;

        if (at + need + 1 > out_size)
            break;
        if (is_plain)
            out[at] = (char)p[i];
        else
            snprintf(out + at, 5, "\\x%02x", p[i]);
        at += need;
    }
    out[at] = '\0';
}
