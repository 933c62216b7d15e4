#include "manager/cordond_loop_parts.h"

#include <errno.h>
#include <fcntl.h>
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
#include "manager/cordond_descendants.h"

enum {
    LEDGER_SIZE = 64 << 20, /* room for every record there can be; only what is written is there */
    STOP_LIMIT_MS = 10000, /* each of: until `finished`, until all are gone, until the killed are */
    POLL_FIXED = 3,
};

/* --- The end -------------------------------------------------------------------------------- */

void
loop_end_the_others(struct loop *l)
{
    loop_end_children(l);
    pairs_drop_all(l->pairs);
}

void
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
        loop_end_the_others(l);
}

static void
loop_force(struct loop *l, const char *why)
{
    log_warn("%s; what is left is killed", why);
    if (l->state < TREE_ENDING)
        loop_end(l, EXIT_FAILURE);
    l->state = TREE_FORCED;
    l->deadline_ms = clock_now_ms() + STOP_LIMIT_MS;
    loop_end_the_others(l);
    descendants_kill_children();
}

static void
on_deadline(struct loop *l)
{
    if (l->state == TREE_RUNNING) {
        loop_give_up_manager(l, "it has closed its mailbox");
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
    loop_tell_manager(l, &m);
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
    loop_tell_manager(l, &m);
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
        loop_tell_orphan_ended(l, pid, status);
        return;
    }
    /* What the manager said last was said before it died. */
    while (c == l->manager && l->mailbox >= 0 && loop_receive_one(l)) {}
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

    loop_start_due(l);
    loop_forget_ended(l);
    if (!make_room(l)) {
        loop_give_up_manager(l, result_name(RESULT_NO_MEMORY));
        return l->poll_room > 0;
    }
    count = fill_polls(l);
    if (poll(l->polls, count, clock_poll_timeout(next_deadline(l))) < 0 && errno != EINTR)
        log_error("poll failed errno=%s", posix_name(errno));
    if (l->mailbox >= 0 && !outbox_is_empty(&l->outbox))
        loop_flush_outbox(l);
    loop_receive_all(l);
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
    l->manager = loop_add_child(l, PROCESS_MANAGER, 0, pair[1]);
    if (l->manager == NULL)
        return RESULT_NO_MEMORY;
    loop_tell_boot(l);
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
