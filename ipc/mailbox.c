#include "ipc/mailbox.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/secret.h"

enum { MAILBOX_BUFFER = 32768 };

/* Where log lines go; -1: nowhere yet. */
static int log_mailbox = -1;
static unsigned long log_lost;

enum result
mailbox_pair(int pair[2], size_t message_max)
{
    int buffer = message_max > MESSAGE_MAX ? 2 * MESSAGE_MAX_LARGE : MAILBOX_BUFFER;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return RESULT_POSIX;
    for (int i = 0; i < 2; i++)
        (void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    return RESULT_OK;
}

static bool
has_secret(enum message_type type)
{
    return type == MESSAGE_DECODE || type == MESSAGE_DECODED || type == MESSAGE_KEY_LOAD;
}

static enum result
encode_and_send(int mailbox, const struct message *m, char *buffer, size_t room)
{
    size_t size = room;
    enum result result = message_encode(m, buffer, &size);

    if (result == RESULT_OK) {
        size_t sent = size;

        result = fd_send(mailbox, buffer, &sent, m->fds, m->fd_count, MSG_DONTWAIT);
    }
    return result;
}

/* A function of its own, so that only the few messages that need it touch so much stack. */
static __attribute__((noinline)) enum result
send_large(int mailbox, const struct message *m)
{
    char buffer[MESSAGE_MAX_LARGE];
    enum result result = encode_and_send(mailbox, m, buffer, sizeof buffer);

    secret_wipe(buffer, sizeof buffer);
    return result;
}

enum result
mailbox_send(int mailbox, const struct message *m)
{
    char buffer[MESSAGE_MAX];
    enum result result;

    if (has_secret(m->type))
        return send_large(mailbox, m);
    result = encode_and_send(mailbox, m, buffer, sizeof buffer);
    if (result == RESULT_MESSAGE_TOO_LONG && m->type == MESSAGE_SIGN)
        result = send_large(mailbox, m);
    return result;
}

static enum result
wait_for(int mailbox, short events, int64_t deadline_ms)
{
    struct pollfd ready = { .fd = mailbox, .events = events };
    int count;

    do {
        count = poll(&ready, 1, clock_poll_timeout(deadline_ms));
    } while (count < 0 && errno == EINTR);
    if (count < 0)
        return RESULT_CHANNEL_FAILED;
    return count == 0 ? RESULT_TIMEOUT : RESULT_OK;
}

/* For what has no event. */
static enum result
wait_a_little(int64_t deadline_ms)
{
    int left_ms = clock_poll_timeout(deadline_ms);

    if (left_ms == 0)
        return RESULT_TIMEOUT;
    (void)poll(NULL, 0, left_ms > 0 && left_ms < FD_BUSY_RETRY_MS ? left_ms : FD_BUSY_RETRY_MS);
    return RESULT_OK;
}

enum result
mailbox_send_wait(int mailbox, const struct message *m, int64_t deadline_ms)
{
    for (;;) {
        enum result result = mailbox_send(mailbox, m);

        if (result == RESULT_WOULD_BLOCK)
            result = wait_for(mailbox, POLLOUT, deadline_ms);
        else if (result == RESULT_CHANNEL_BUSY)
            result = wait_a_little(deadline_ms);
        else
            return result;
        if (result != RESULT_OK)
            return result;
    }
}

enum result
mailbox_receive(int mailbox, enum route route, char *buffer, size_t size, struct message *m,
                const char **why)
{
    int fds[MESSAGE_MAX_FDS];
    size_t fd_count = MESSAGE_MAX_FDS;
    size_t got = size;
    enum result result;

    m->fd_count = 0;
    if (why != NULL)
        *why = NULL;
    result = fd_receive(mailbox, buffer, &got, fds, &fd_count, MSG_DONTWAIT);
    /* The other end was closed with messages unread: what it said before comes after this error. */
    if (result == RESULT_CHANNEL_FAILED && errno == ECONNRESET) {
        got = size;
        fd_count = MESSAGE_MAX_FDS;
        result = fd_receive(mailbox, buffer, &got, fds, &fd_count, MSG_DONTWAIT);
    }
    if (result == RESULT_DESCRIPTORS) {
        if (why != NULL)
            *why = "descriptors were lost or too many";
        return RESULT_MESSAGE_DESCRIPTORS;
    }
    if (result == RESULT_CHANNEL_FAILED && errno == ECONNRESET)
        return RESULT_CHANNEL_CLOSED;
    if (result == RESULT_MESSAGE_TOO_LONG && why != NULL)
        *why = "longer than the channel allows";
    if (result != RESULT_OK)
        return result;
    if (got == 0 && fd_count == 0)
        return RESULT_CHANNEL_CLOSED;
    return message_decode(m, route, buffer, got, fds, fd_count, why);
}

enum result
mailbox_receive_wait(int mailbox, enum route route, char *buffer, size_t size, struct message *m,
                     const char **why, int64_t deadline_ms)
{
    enum result result;

    while ((result = mailbox_receive(mailbox, route, buffer, size, m, why)) == RESULT_WOULD_BLOCK) {
        result = wait_for(mailbox, POLLIN, deadline_ms);
        if (result != RESULT_OK)
            return result;
    }
    return result;
}

static bool
send_log(enum log_level level, const char *line)
{
    struct message m;

    message_init(&m, MESSAGE_LOG);
    m.as.log.level = level;
    m.as.log.line = line;
    return mailbox_send(log_mailbox, &m) == RESULT_OK;
}

static void
log_to_mailbox(enum log_level level, const char *line)
{
    char lost[64];

    if (log_lost > 0) {
        snprintf(lost, sizeof lost, "log lines were lost count=%lu", log_lost);
        if (!send_log(LOG_WARN, lost)) {
            log_lost++;
            return;
        }
        log_lost = 0;
    }
    if (!send_log(level, line))
        log_lost++;
}

void
mailbox_log_to(int mailbox)
{
    log_mailbox = mailbox;
    log_lost = 0;
    log_set_sink(mailbox >= 0 ? log_to_mailbox : NULL);
}
