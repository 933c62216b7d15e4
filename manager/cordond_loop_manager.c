#include "manager/cordond_loop_parts.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "manager/cordond_descendants.h"

enum { HANG_UP_LIMIT_MS = 2000 }; /* from the manager's closed mailbox to its end */

/* --- To the manager ------------------------------------------------------------------------- */

void
loop_give_up_manager(struct loop *l, const char *why)
{
    log_error("the manager cannot be reached: %s; everything ends", why);
    loop_end(l, EXIT_FAILURE);
}

void
loop_tell_manager(struct loop *l, struct message *m)
{
    enum result result = outbox_send(&l->outbox, m);

    if (result == RESULT_OK || result == RESULT_CHANNEL_CLOSED)
        return; /* closed: its end will be noticed where ends are noticed */
    loop_give_up_manager(l,
                         result == RESULT_CHANNEL_FAILED ? posix_name(errno) : result_name(result));
}

void
loop_tell_started(struct loop *l, struct child *c)
{
    struct message m;

    message_init(&m, MESSAGE_STARTED);
    m.as.started.request = c->request;
    m.as.started.pid = (uint32_t)c->pid;
    if (c->board >= 0) {
        m.fds[m.fd_count++] = c->board;
        c->board = -1;
    }
    if (c->kind == PROCESS_LAUNCHER && c->pidfd >= 0) {
        m.fds[m.fd_count] = fcntl(c->pidfd, F_DUPFD_CLOEXEC, 0);
        m.fd_count += m.fds[m.fd_count] >= 0 ? 1 : 0;
    }
    loop_tell_manager(l, &m);
}

void
loop_tell_start_failed(struct loop *l, const struct child *c)
{
    struct message m;

    log_error("%s did not start errno=%s", program_name(c->kind), posix_name(c->error));
    message_init(&m, MESSAGE_START_FAILED);
    m.as.start_failed.request = c->request;
    m.as.start_failed.error = (uint32_t)c->error;
    loop_tell_manager(l, &m);
}

void
loop_tell_ended(struct loop *l, const struct child *c)
{
    struct message m;

    message_init(&m, MESSAGE_PROCESS_ENDED);
    m.as.process_ended.request = c->request;
    m.as.process_ended.status = (uint32_t)c->status;
    loop_tell_manager(l, &m);
}

void
loop_tell_orphan_ended(struct loop *l, pid_t pid, int status)
{
    struct message m;

    message_init(&m, MESSAGE_ORPHAN_ENDED);
    m.as.orphan_ended.pid = (uint32_t)pid;
    m.as.orphan_ended.status = (uint32_t)status;
    loop_tell_manager(l, &m);
}

void
loop_tell_boot(struct loop *l)
{
    struct message m;
    int ledger = fcntl(l->ledger, F_DUPFD_CLOEXEC, 0);

    if (ledger < 0) {
        loop_give_up_manager(l, posix_name(errno));
        return;
    }
    message_init(&m, MESSAGE_BOOT);
    m.as.boot.start = 1;
    m.as.boot.worker_uid = l->programs->change_user ? l->programs->of[PROCESS_NURSERY].uid
                                                    : (uint32_t)getuid();
    m.fds[m.fd_count++] = ledger;
    loop_tell_manager(l, &m);
}

static void
send_pairs(struct loop *l)
{
    struct message m;
    enum result result = pairs_make(l->pairs, &m);

    l->owes_pairs = result != RESULT_OK;
    if (result == RESULT_OK)
        loop_tell_manager(l, &m);
    else
        log_error("no mailbox pairs kept=%zu errno=%s", pairs_count(l->pairs), posix_name(errno));
}

void
loop_flush_outbox(struct loop *l)
{
    enum result result = outbox_flush(&l->outbox);

    if (result == RESULT_CHANNEL_CLOSED)
        outbox_fini(&l->outbox);
    else if (result != RESULT_OK)
        loop_give_up_manager(l, posix_name(errno));
}

/* --- From the manager ----------------------------------------------------------------------- */

static void
handle_ready(struct loop *l, struct message *m)
{
    const struct message_ready *ready = &m->as.ready;

    if (restarts_configure(&l->restarts, ready->restart_intensity, ready->restart_period_s) !=
        RESULT_OK)
        log_error("no memory restart_intensity=%u it_stays=%u", ready->restart_intensity,
                  l->restarts.intensity);
    if (l->ready_fd >= 0 && write(l->ready_fd, "\n", 1) != 1)
        log_warn("--ready-fd cannot be written errno=%s", posix_name(errno));
    fd_close(&l->ready_fd);
    log_info("ready");
}

static void
handle_want_pairs(struct loop *l, struct message *m)
{
    (void)m;
    send_pairs(l);
}

static void
handle_start(struct loop *l, struct message *m)
{
    const struct message_start *start = &m->as.start;
    enum process_kind kind = start->kind;
    int64_t now_ms = clock_now_ms(), delay_ms = 0;
    struct child *c;

    if (l->state != TREE_RUNNING)
        return;
    if (kind == PROCESS_MANAGER) {
        loop_give_up_manager(l, "it asks for another manager");
        return;
    }
    c = loop_add_child(l, kind, start->request, message_take_fd(m, 0));
    if (c == NULL) {
        loop_give_up_manager(l, result_name(RESULT_NO_MEMORY));
        return;
    }
    c->user = start->user;
    if (loop_is_restarted(kind))
        delay_ms = restarts_delay_ms(&l->restarts, now_ms);
    c->due_ms = delay_ms > 0 ? restarts_last_ms(&l->restarts) + delay_ms : now_ms;
}

static void
handle_keep(struct loop *l, struct message *m)
{
    const struct message_keep *keep = &m->as.keep;

    if (pairs_keep(l->pairs, keep->kind, keep->number, message_take_fd(m, 0)) != RESULT_OK)
        log_error("a descriptor is not kept number=%llu reason=no_memory",
                  (unsigned long long)keep->number);
}

static void
handle_drop(struct loop *l, struct message *m)
{
    const struct message_drop *drop = &m->as.drop;

    for (size_t at = 0; at + 8 <= drop->numbers.size; at += 8) {
        uint64_t number = 0;

        for (size_t i = 0; i < 8; i++)
            number = number << 8 | drop->numbers.data[at + i];
        pairs_drop(l->pairs, drop->kind, number);
    }
    if (l->owes_pairs)
        send_pairs(l);
}

static void
handle_signal(struct loop *l, struct message *m)
{
    int pidfd = message_take_fd(m, 0);
    enum result result = descendant_signal(pidfd, (int)m->as.signal.number);

    (void)l;
    if (result == RESULT_REFUSED)
        log_error("a signal is not sent: the pidfd is not of one of our processes number=%u",
                  m->as.signal.number);
    else if (result == RESULT_POSIX)
        log_error("a signal is not sent number=%u errno=%s", m->as.signal.number,
                  posix_name(errno));
    fd_close(&pidfd);
}

static void
handle_logging(struct loop *l, struct message *m)
{
    (void)l;
    log_set_level((enum log_level)m->as.logging.level);
    log_set_format((enum log_format)m->as.logging.format);
}

static void
handle_finished(struct loop *l, struct message *m)
{
    (void)m;
    log_info("everything is closed");
    loop_end(l, EXIT_SUCCESS);
}

static void (*const handlers[MESSAGE_TYPE_COUNT])(struct loop *l, struct message *m) = {
    [MESSAGE_READY] = handle_ready,       [MESSAGE_WANT_PAIRS] = handle_want_pairs,
    [MESSAGE_START] = handle_start,       [MESSAGE_KEEP] = handle_keep,
    [MESSAGE_DROP] = handle_drop,         [MESSAGE_SIGNAL] = handle_signal,
    [MESSAGE_LOGGING] = handle_logging,   [MESSAGE_FINISHED] = handle_finished,
};

bool
loop_receive_one(struct loop *l)
{
    struct message m;
    const char *why = NULL;
    enum result result =
        mailbox_receive(l->mailbox, MANAGER_TO_CORDOND, l->buffer, MESSAGE_MAX, &m, &why);

    if (result == RESULT_WOULD_BLOCK)
        return false;
    if (result == RESULT_CHANNEL_CLOSED) {
        fd_close(&l->mailbox);
        l->outbox.mailbox = -1;
        /* Most likely it is dying, and how it died is what people want to read. */
        if (l->state == TREE_RUNNING)
            l->deadline_ms = clock_now_ms() + HANG_UP_LIMIT_MS;
        return false;
    }
    if (result != RESULT_OK) {
        loop_give_up_manager(l, why != NULL ? why : result_name(result));
        return false;
    }
    assert(handlers[m.type] != NULL);
    handlers[m.type](l, &m);
    message_fini(&m);
    return true;
}

void
loop_receive_all(struct loop *l)
{
    while (l->mailbox >= 0 && l->outbox.count < OUTBOX_LIMIT && loop_receive_one(l)) {}
}
