#include "ipc/log.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/log_record.h"

enum { WIRE_MAX = 1000 };

static const char *process_name = "cordon";
static enum log_level max_level = LOG_INFO;
static enum log_format line_format;
static bool to_journal;
static void (*to_sink)(enum log_level, const char *);
static void (*to_tap)(enum log_level, const char *, const char *);
static unsigned long lost;

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARN] = "warn",
    [LOG_INFO] = "info",
    [LOG_DEBUG] = "debug",
};

static const char *const format_names[] = {
    [LOG_TEXT] = "text",
    [LOG_JSON] = "json",
};

/* syslog(3)'s, with which the journal keeps a line. */
static const char *const priorities[] = {
    [LOG_ERROR] = "<3>",
    [LOG_WARN] = "<4>",
    [LOG_INFO] = "<6>",
    [LOG_DEBUG] = "<7>",
};

/* $JOURNAL_STREAM names a device and an inode; a stderr that was redirected since is another. */
static bool
is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat is;
    char here[64];

    if (stream == NULL || fstat(STDERR_FILENO, &is) != 0)
        return false;
    snprintf(here, sizeof here, "%ju:%ju", (uintmax_t)is.st_dev, (uintmax_t)is.st_ino);
    return strcmp(here, stream) == 0;
}

void
log_open(const char *process)
{
    process_name = process;
    to_journal = is_journal();
}

void
log_set_format(enum log_format format)
{
    line_format = format;
}

enum log_format
log_get_format(void)
{
    return line_format;
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

const char *
log_format_name(enum log_format format)
{
    return (unsigned)format <= LOG_JSON ? format_names[format] : "unknown";
}

bool
log_format_parse(const char *name, enum log_format *format)
{
    for (unsigned i = 0; i <= LOG_JSON; i++) {
        if (strcmp(format_names[i], name) == 0) {
            *format = (enum log_format)i;
            return true;
        }
    }
    return false;
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

/* A whole line with its end; size has room for both. */
static size_t
compose(char *line, size_t size, enum log_level level, const char *process,
        const struct log_record *r)
{
    char time[CLOCK_UTC_SIZE];
    size_t used = 0;

    clock_utc_text(time);
    if (to_journal)
        used = (size_t)snprintf(line, size, "%s", priorities[level]);
    if (line_format == LOG_JSON) {
        log_record_json(r, time, log_level_name(level), process, line + used, size - used - 1);
    } else {
        used += (size_t)snprintf(line + used, size - used, "%s%s%s %.40s ", to_journal ? "" : time,
                                 to_journal ? "" : " ", log_level_name(level), process);
        log_record_text(r, line + used, size - used - 1);
    }
    used += strlen(line + used);
    line[used++] = '\n';
    return used;
}

static void format_record(struct log_record *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
format_record(struct log_record *r, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    log_record_format(r, format, arguments);
    va_end(arguments);
}

static bool
write_lost(void)
{
    struct log_record r;
    char line[LOG_LINE_MAX];

    format_record(&r, "log lines were lost count=%lu", lost);
    return write_stderr(line, compose(line, sizeof line, LOG_WARN, process_name, &r));
}

static void
write_record(enum log_level level, const char *process, const struct log_record *r)
{
    char line[LOG_LINE_MAX];

    if (lost > 0 && !write_lost()) {
        lost++;
        return;
    }
    lost = 0;
    if (!write_stderr(line, compose(line, sizeof line, level, process, r)))
        lost++;
}

static void
tell(enum log_level level, const char *process, const struct log_record *r)
{
    char text[LOG_LINE_MAX];

    write_record(level, process, r);
    if (to_tap == NULL)
        return;
    log_record_text(r, text, sizeof text);
    to_tap(level, process, text);
}

void
log_forward(enum log_level level, const char *process, const char *line)
{
    struct log_record r;

    if (level > max_level)
        return;
    log_record_parse(&r, line);
    tell(level, process, &r);
}

void
log_line(enum log_level level, const char *format, ...)
{
    struct log_record r;
    int error = errno;
    va_list arguments;

    if (level > max_level)
        return;
    va_start(arguments, format);
    log_record_format(&r, format, arguments);
    va_end(arguments);
    if (to_sink != NULL) {
        char text[WIRE_MAX + 1];

        log_record_text(&r, text, sizeof text);
        to_sink(level, text);
    } else {
        tell(level, process_name, &r);
    }
    errno = error;
}

static bool
is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool
is_escape(const char *text, size_t size)
{
    return size >= 4 && text[0] == '\\' && text[1] == 'x' && is_hex(text[2]) && is_hex(text[3]);
}

static void
escape(char *out, size_t out_size, const char *bytes, size_t size, bool is_again)
{
    size_t at = 0;

    if (out_size == 0)
        return;
    for (size_t i = 0; i < size; i++) {
        bool is_plain = bytes[i] >= 0x20 && bytes[i] < 0x7f && bytes[i] != '"' &&
                        (bytes[i] != '\\' || (is_again && is_escape(bytes + i, size - i)));
        size_t need = is_plain ? 1 : 4;

        if (at + need + 1 > out_size)
            break;
        if (is_plain)
            out[at] = bytes[i];
        else
            snprintf(out + at, 5, "\\x%02x", (unsigned)(unsigned char)bytes[i]);
        at += need;
    }
    out[at] = '\0';
}

void
log_escape(char *out, size_t out_size, const void *bytes, size_t size)
{
    escape(out, out_size, bytes, size, false);
}

void
log_escape_again(char *out, size_t out_size, const char *text)
{
    escape(out, out_size, text, strlen(text), true);
}
