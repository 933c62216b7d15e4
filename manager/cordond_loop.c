#include "manager/cordond_loop.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "manager/cordond_child.h"
#include "manager/cordond_descendants.h"
#include "manager/cordond_outbox.h"
#include "manager/cordond_pairs.h"
#include "manager/cordond_restarts.h"

enum {
    LEDGER_SIZE = 64 << 20, /* room for every record there can be; only what is written is there */
    STOP_LIMIT_MS = 10000, /* each of: until `finished`, until all are gone, until the killed are */
    HANG_UP_LIMIT_MS = 2000, /* from the manager's closed mailbox to its end */
    OUTBOX_LIMIT = 1000,     /* a manager that does not listen is not listened to */
    POLL_FIXED = 3,
};

enum tree_state { TREE_RUNNING, TREE_TERMINATING, TREE_ENDING, TREE_FORCED };

struct loop {
    enum tree_state state;
    int exit_status;
    int64_t deadline_ms; /* of a state that has one; -1 */

    const struct programs *programs;
    struct child *children; /* owned */
    struct child *manager;  /* one of children; NULL: it is gone */
    int mailbox;            /* owned: our end of the manager's; -1 after it hung up */
    struct outbox outbox;
    struct pairs *pairs; /* owned */
    bool owes_pairs;     /* asked for, and there was no descriptor left */
    struct restarts restarts;

    int signals;      /* owned: signalfd */
    int ready_fd;     /* owned; -1 once written */
    int until_closed; /* owned; -1 once its other end is closed */
    int ledger;       /* owned: memfd */

    struct pollfd *polls; /* owned */
    size_t poll_room;
    char buffer[MESSAGE_MAX + 1];
};

static void loop_end(struct loop *l, int exit_status);
static void end_the_others(struct loop *l);

/* --- To the manager ------------------------------------------------------------------------- */

static void
give_up_manager(struct loop *l, const char *why)
{
    log_error("the manager cannot be reached: %s; everything ends", why);
    loop_end(l, EXIT_FAILURE);
}

/* Takes m's descriptors. */
static void
tell_manager(struct loop *l, struct message *m)
{
    enum result result = outbox_send(&l->outbox, m);

    if (result == RESULT_OK || result == RESULT_CHANNEL_CLOSED)
        return; /* closed: its end will be noticed where ends are noticed */
    give_up_manager(l, result == RESULT_CHANNEL_FAILED ? posix_name(errno) : result_name(result));
}

static void
tell_started(struct loop *l, struct child *c)
{
    struct message m;

    message_init(&m, MESSAGE_STARTED);
    m.as.started.request = c->request;
    m.as.started.pid = (uint32_t)c->pid;
    if (c->board >= 0) {
        m.fds[m.fd_count++] = c->board;
        c->board = -1;
    }
    tell_manager(l, &m);
}

static void
tell_start_failed(struct loop *l, const struct child *c)
{
    struct message m;

    log_error("%s did not start errno=%s", program_name(c->kind), posix_name(c->error));
    message_init(&m, MESSAGE_START_FAILED);
    m.as.start_failed.request = c->request;
    m.as.start_failed.error = (uint32_t)c->error;
    tell_manager(l, &m);
}

static void
tell_ended(struct loop *l, const struct child *c)
{
    struct message m;

    message_init(&m, MESSAGE_PROCESS_ENDED);
    m.as.process_ended.request = c->request;
    m.as.process_ended.status = (uint32_t)c->status;
    tell_manager(l, &m);
}

static void
tell_orphan_ended(struct loop *l, pid_t pid, int status)
{
    struct message m;

    message_init(&m, MESSAGE_ORPHAN_ENDED);
    m.as.orphan_ended.pid = (uint32_t)pid;
    m.as.orphan_ended.status = (uint32_t)status;
    tell_manager(l, &m);
}

static void
tell_boot(struct loop *l)
{
    struct message m;
    int ledger = fcntl(l->ledger, F_DUPFD_CLOEXEC, 0);

    if (ledger < 0) {
        give_up_manager(l, posix_name(errno));
        return;
    }
    message_init(&m, MESSAGE_BOOT);
    m.as.boot.start = 1;
    m.as.boot.worker_uid = l->programs->change_user ? l->programs->of[PROCESS_NURSERY].uid
                                                    : (uint32_t)getuid();
    m.fds[m.fd_count++] = ledger;
    tell_manager(l, &m);
}

static void
send_pairs(struct loop *l)
{
    struct message m;
    enum result result = pairs_make(l->pairs, &m);

    l->owes_pairs = result != RESULT_OK;
    if (result == RESULT_OK)
        tell_manager(l, &m);
    else
        log_error("no mailbox pairs kept=%zu errno=%s", pairs_count(l->pairs), posix_name(errno));
}

/* --- Children ------------------------------------------------------------------------------- */

static void
log_ended(enum log_level level, const struct child *c, const char *and_now)
{
    if (WIFSIGNALED(c->status))
        log_line(level, "%s ended%s pid=%ld signal=SIG%s", program_name(c->kind), and_now,
                 (long)c->pid, sigabbrev_np(WTERMSIG(c->status)));
    else
        log_line(level, "%s ended%s pid=%ld exit_status=%d", program_name(c->kind), and_now,
                 (long)c->pid, WEXITSTATUS(c->status));
}

static bool
is_restarted(enum process_kind kind)
{
    return kind == PROCESS_KEEPER || kind == PROCESS_NURSERY;
}

/* An end nobody asked for: of the kinds that are started again, too many in a short time slow them. */
static void
count_unplanned(struct loop *l, const struct child *c)
{
    int64_t now_ms = clock_now_ms(), delay_ms;

    if (l->state != TREE_RUNNING || !is_restarted(c->kind))
        return;
    restarts_count(&l->restarts, now_ms);
    delay_ms = restarts_delay_ms(&l->restarts, now_ms);
    if (delay_ms > 0)
        log_error(
            "keeper and nursery end too often intensity=%u period_s=%lld next_start_in_ms=%lld",
            l->restarts.intensity, (long long)l->restarts.period_ms / 1000, (long long)delay_ms);
}

static void
on_manager_ended(struct loop *l, const struct child *c)
{
    bool is_planned = l->state >= TREE_ENDING;

    l->manager = NULL;
    l->outbox.mailbox = -1;
    fd_close(&l->mailbox);
    if (!c->was_started)
        log_error("the manager did not start errno=%s", posix_name(c->error));
    else if (!is_planned)
        log_ended(LOG_ERROR, c, ", so everything ends");
    if (is_planned)
        end_the_others(l);
    else
        loop_end(l, EXIT_FAILURE);
}

static void
on_child_ended(struct loop *l, const struct child *c)
{
    bool is_planned = c->status == 0 || l->state != TREE_RUNNING;

    if (c->kind == PROCESS_MANAGER) {
        on_manager_ended(l, c);
        return;
    }
    if (!c->was_started) {
        count_unplanned(l, c);
        if (c->pid == 0 && c->error != 0) /* not even forked */
            tell_start_failed(l, c);
        return;
    }
    log_ended(is_planned ? LOG_DEBUG : LOG_WARN, c, "");
    if (!is_planned)
        count_unplanned(l, c);
    tell_ended(l, c);
}

static void
on_child_state(struct child *c)
{
    struct loop *l = c->owner;

    switch (c->state) {
    case CHILD_RUNNING:
        log_debug("%s started pid=%ld", program_name(c->kind), (long)c->pid);
        if (c->kind != PROCESS_MANAGER)
            tell_started(l, c);
        break;
    case CHILD_FAILED:
        if (c->kind != PROCESS_MANAGER)
            tell_start_failed(l, c);
        break;
    case CHILD_ENDED:
        on_child_ended(l, c);
        break;
    default:
        break;
    }
}

/* Takes mailbox. NULL: no memory. */
static struct child *
add_child(struct loop *l, enum process_kind kind, uint64_t request, int mailbox)
{
    struct child *c = child_new(kind, request, mailbox, l->programs, on_child_state, l);

    if (c != NULL) {
        c->next = l->children;
        l->children = c;
    }
    return c;
}

static void
forget_ended(struct loop *l)
{
    struct child **at = &l->children;

    while (*at != NULL) {
        struct child *c = *at;

        if (c->state == CHILD_ENDED) {
            *at = c->next;
            child_free(c);
        } else {
            at = &c->next;
        }
    }
}

static void
start_due(struct loop *l)
{
    int64_t now_ms = clock_now_ms();

    for (struct child *c = l->children; c != NULL; c = c->next) {
        if (c->state == CHILD_WAITING && c->due_ms <= now_ms)
            child_step(c, CHILD_EVENT_START_DUE);
    }
}

static void
end_children(struct loop *l)
{
    for (struct child *c = l->children; c != NULL; c = c->next)
        child_step(c, CHILD_EVENT_END_ASKED);
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
        give_up_manager(l, "it asks for another manager");
        return;
    }
    c = add_child(l, kind, start->request, message_take_fd(m, 0));
    if (c == NULL) {
        give_up_manager(l, result_name(RESULT_NO_MEMORY));
        return;
    }
    if (is_restarted(kind))
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

/* false: there is nothing more, now or ever. */
static bool
receive_one(struct loop *l)
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
        give_up_manager(l, why != NULL ? why : result_name(result));
        return false;
    }
    assert(handlers[m.type] != NULL);
    handlers[m.type](l, &m);
    message_fini(&m);
    return true;
}

static void
receive_all(struct loop *l)
{
    while (l->mailbox >= 0 && l->outbox.count < OUTBOX_LIMIT && receive_one(l)) {}
}

/* --- The end -------------------------------------------------------------------------------- */

/* With our copies gone too, each worker sees its mailbox hang up and ends by itself. */
static void
end_the_others(struct loop *l)
{
    end_children(l);
    pairs_drop_all(l->pairs);
}

/* The manager first: it would take the ends of the others for faults, and say so. */
static void
loop_end(struct loop *l, int exit_status)
{
    if (l->state >= TREE_ENDING) {
        l->exit_status = l->exit_status != EXIT_SUCCESS ? l->exit_status : exit_status;
        return;
    }
    l->state = TREE_ENDING;
    l->exit_status = exit_status;
    l->deadline_ms = clock_now_ms() + STOP_LIMIT_MS;
    if (l->manager != NULL)
        child_step(l->manager, CHILD_EVENT_END_ASKED);
    else
        end_the_others(l);
}

static void
loop_force(struct loop *l, const char *why)
{
    log_warn("%s; what is left is killed", why);
    if (l->state < TREE_ENDING)
        loop_end(l, EXIT_FAILURE);
    l->state = TREE_FORCED;
    l->deadline_ms = clock_now_ms() + STOP_LIMIT_MS;
    end_the_others(l);
    descendants_kill_children();
}

static void
on_deadline(struct loop *l)
{
    if (l->state == TREE_RUNNING) {
        give_up_manager(l, "it has closed its mailbox");
        return;
    }
    if (l->state == TREE_FORCED) {
        log_error("processes are left that cannot be killed");
        l->exit_status = EXIT_FAILURE;
        return;
    }
    loop_force(l, l->state == TREE_TERMINATING ? "the manager has not stopped in time"
                                               : "not everybody has ended in time");
}

static void
begin_stop(struct loop *l)
{
    struct message m;

    l->state = TREE_TERMINATING;
    l->deadline_ms = clock_now_ms() + STOP_LIMIT_MS;
    message_init(&m, MESSAGE_TERMINATE);
    tell_manager(l, &m);
}

static void
on_stop_signal(struct loop *l, int number)
{
    if (l->state == TREE_FORCED)
        return;
    if (l->state != TREE_RUNNING) {
        loop_force(l, "a second signal came");
        return;
    }
    log_info("stopping signal=SIG%s", sigabbrev_np(number));
    begin_stop(l);
}

/* Whatever is written there means nothing. */
static void
check_until_closed(struct loop *l, const struct pollfd *poll)
{
    char byte;

    if (l->until_closed < 0 || poll->revents == 0 ||
        (poll->revents & POLLIN && read(l->until_closed, &byte, 1) > 0))
        return;
    fd_close(&l->until_closed);
    if (l->state != TREE_RUNNING)
        return;
    log_info("stopping reason=\"whoever started it is gone\"");
    begin_stop(l);
}

static void
on_reload_signal(struct loop *l)
{
    struct message m;

    if (l->state != TREE_RUNNING)
        return;
    message_init(&m, MESSAGE_RELOAD);
    tell_manager(l, &m);
}

/* --- Reaping -------------------------------------------------------------------------------- */

static struct child *
find_child(struct loop *l, pid_t pid)
{
    struct child *c = l->children;

    while (c != NULL && (c->pid != pid || c->state == CHILD_ENDED))
        c = c->next;
    return c;
}

static void
on_process_ended(struct loop *l, pid_t pid, int status)
{
    struct child *c = find_child(l, pid);

    if (c == NULL) {
        tell_orphan_ended(l, pid, status);
        return;
    }
    /* What the manager said last was said before it died. */
    while (c == l->manager && l->mailbox >= 0 && receive_one(l)) {}
    child_on_exit(c, status);
}

/* true: no process is left. */
static bool
reap(struct loop *l)
{
    for (;;) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);

        if (pid > 0)
            on_process_ended(l, pid, status);
        else
            return pid < 0 && errno == ECHILD;
    }
}

static void
on_signals(struct loop *l)
{
    struct signalfd_siginfo info;

    while (read(l->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        /* From the kernel SIGHUP says that the terminal is gone. */
        if (info.ssi_signo == SIGHUP && info.ssi_code != SI_KERNEL)
            on_reload_signal(l);
        else if (info.ssi_signo != SIGCHLD)
            on_stop_signal(l, (int)info.ssi_signo);
    }
}

/* --- One turn ------------------------------------------------------------------------------- */

static int64_t
next_deadline(const struct loop *l)
{
    int64_t at_ms = l->deadline_ms;

    if (l->mailbox >= 0 && l->outbox.retry_ms >= 0 && (at_ms < 0 || l->outbox.retry_ms < at_ms))
        at_ms = l->outbox.retry_ms;
    for (const struct child *c = l->children; c != NULL; c = c->next) {
        if (c->state == CHILD_WAITING && (at_ms < 0 || c->due_ms < at_ms))
            at_ms = c->due_ms;
    }
    return at_ms;
}

static bool
make_room(struct loop *l)
{
    size_t wanted = POLL_FIXED;
    struct pollfd *polls;

    for (const struct child *c = l->children; c != NULL; c = c->next)
        wanted++;
    if (wanted <= l->poll_room)
        return true;
    polls = realloc(l->polls, 2 * wanted * sizeof(*polls));
    if (polls == NULL)
        return false;
    l->polls = polls;
    l->poll_room = 2 * wanted;
    return true;
}

/* The fixed ones first, then one for each child that is starting. */
static nfds_t
fill_polls(struct loop *l)
{
    nfds_t count = POLL_FIXED;
    short events = l->outbox.count < OUTBOX_LIMIT ? POLLIN : 0;

    if (!outbox_is_empty(&l->outbox) && l->outbox.retry_ms < 0)
        events |= POLLOUT;
    l->polls[0] = (struct pollfd){ .fd = l->signals, .events = POLLIN };
    l->polls[1] = (struct pollfd){ .fd = l->mailbox, .events = events };
    l->polls[2] = (struct pollfd){ .fd = l->until_closed, .events = POLLIN };
    for (const struct child *c = l->children; c != NULL; c = c->next) {
        if (c->state == CHILD_STARTING)
            l->polls[count++] = (struct pollfd){ .fd = c->report, .events = POLLIN };
    }
    return count;
}

static void
flush_outbox(struct loop *l)
{
    enum result result = outbox_flush(&l->outbox);

    if (result == RESULT_CHANNEL_CLOSED)
        outbox_fini(&l->outbox);
    else if (result != RESULT_OK)
        give_up_manager(l, posix_name(errno));
}

static void
on_reports(struct loop *l)
{
    for (struct child *c = l->children; c != NULL; c = c->next) {
        if (c->state == CHILD_STARTING)
            child_on_report(c);
    }
}

/* false: no process is left, or none that will go. */
static bool
loop_turn(struct loop *l)
{
    nfds_t count;
    bool is_empty;

    start_due(l);
    forget_ended(l);
    if (!make_room(l)) {
        give_up_manager(l, result_name(RESULT_NO_MEMORY));
        return l->poll_room > 0;
    }
    count = fill_polls(l);
    if (poll(l->polls, count, clock_poll_timeout(next_deadline(l))) < 0 && errno != EINTR)
        log_error("poll failed errno=%s", posix_name(errno));
    if (l->mailbox >= 0 && !outbox_is_empty(&l->outbox))
        flush_outbox(l);
    receive_all(l);
    on_reports(l);
    on_signals(l);
    check_until_closed(l, &l->polls[2]);
    is_empty = reap(l);
    if (l->state == TREE_FORCED)
        descendants_kill_children(); /* whoever lost its parent just now */
    if (l->deadline_ms >= 0 && clock_now_ms() >= l->deadline_ms) {
        if (l->state == TREE_FORCED)
            is_empty = true;
        on_deadline(l);
    }
    return !is_empty;
}

/* --- The beginning -------------------------------------------------------------------------- */

static enum result
make_ledger(int *fd)
{
    int ledger = memfd_create("cordon-ledger", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (ledger < 0)
        return RESULT_POSIX;
    if (ftruncate(ledger, LEDGER_SIZE) != 0 || fcntl(ledger, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
        fd_close(&ledger);
        return RESULT_POSIX;
    }
    *fd = ledger;
    return RESULT_OK;
}

static enum result
start_manager(struct loop *l)
{
    int pair[2];
    enum result result = mailbox_pair(pair, MESSAGE_MAX);

    if (result != RESULT_OK)
        return result;
    l->mailbox = pair[0];
    outbox_init(&l->outbox, l->mailbox);
    l->manager = add_child(l, PROCESS_MANAGER, 0, pair[1]);
    if (l->manager == NULL)
        return RESULT_NO_MEMORY;
    tell_boot(l);
    return RESULT_OK;
}

static enum result
loop_init(struct loop *l, const struct loop_setup *setup)
{
    enum result result;

    *l = (struct loop){ .deadline_ms = -1,
                        .programs = setup->programs,
                        .mailbox = -1,
                        .ready_fd = setup->ready_fd,
                        .until_closed = setup->until_closed,
                        .ledger = -1 };
    outbox_init(&l->outbox, -1);
    l->signals = signalfd(-1, setup->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (l->signals < 0)
        return RESULT_POSIX;
    l->pairs = pairs_new();
    if (l->pairs == NULL)
        return RESULT_NO_MEMORY;
    result = restarts_init(&l->restarts, RESTARTS_INTENSITY, RESTARTS_PERIOD_S);
    if (result != RESULT_OK)
        return result;
    result = make_ledger(&l->ledger);
    return result == RESULT_OK ? start_manager(l) : result;
}

static void
loop_fini(struct loop *l)
{
    while (l->children != NULL) {
        struct child *c = l->children;

        l->children = c->next;
        child_free(c);
    }
    outbox_fini(&l->outbox);
    pairs_free(l->pairs);
    restarts_fini(&l->restarts);
    fd_close(&l->mailbox);
    fd_close(&l->signals);
    fd_close(&l->ready_fd);
    fd_close(&l->until_closed);
    fd_close(&l->ledger);
    free(l->polls);
}

int
loop_run(const struct loop_setup *setup)
{
    struct loop l;
    enum result result = loop_init(&l, setup);
    int exit_status = EXIT_FAILURE;

    if (result != RESULT_OK) {
        log_error("cannot begin: %s errno=%s", result_text(result), posix_name(errno));
    } else {
        while (loop_turn(&l)) {}
        exit_status = l.exit_status;
        log_info("stopped exit_status=%d", exit_status);
    }
    loop_fini(&l);
    return exit_status;
}
