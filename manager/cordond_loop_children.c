#include "manager/cordond_loop_parts.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"

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

bool
loop_is_restarted(enum process_kind kind)
{
    return kind == PROCESS_KEEPER || kind == PROCESS_NURSERY;
}

/* An end nobody asked for: of the kinds that are started again, too many in a short time slow them. */
static void
count_unplanned(struct loop *l, const struct child *c)
{
    int64_t now_ms = clock_now_ms(), delay_ms;

    if (l->state != TREE_RUNNING || !loop_is_restarted(c->kind))
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
        loop_end_the_others(l);
    else
        loop_end(l, EXIT_FAILURE);
}

static void
on_child_ended(struct loop *l, const struct child *c)
{
    /* How a program ended the manager says: its connection is known there. */
    bool is_planned = c->status == 0 || c->kind == PROCESS_LAUNCHER || l->state != TREE_RUNNING;

    if (c->kind == PROCESS_MANAGER) {
        on_manager_ended(l, c);
        return;
    }
    if (!c->was_started) {
        count_unplanned(l, c);
        if (c->pid == 0 && c->error != 0) /* not even forked */
            loop_tell_start_failed(l, c);
        return;
    }
    log_ended(is_planned ? LOG_DEBUG : LOG_WARN, c, "");
    if (!is_planned)
        count_unplanned(l, c);
    loop_tell_ended(l, c);
}

static void
on_child_state(struct child *c)
{
    struct loop *l = c->owner;

    switch (c->state) {
    case CHILD_RUNNING:
        log_debug("%s started pid=%ld", program_name(c->kind), (long)c->pid);
        if (c->kind != PROCESS_MANAGER)
            loop_tell_started(l, c);
        break;
    case CHILD_FAILED:
        if (c->kind != PROCESS_MANAGER)
            loop_tell_start_failed(l, c);
        break;
    case CHILD_ENDED:
        on_child_ended(l, c);
        break;
    default:
        break;
    }
}

struct child *
loop_add_child(struct loop *l, enum process_kind kind, uint64_t request, int mailbox)
{
    struct child *c = child_new(kind, request, mailbox, l->programs, on_child_state, l);

    if (c != NULL) {
        c->next = l->children;
        l->children = c;
    }
    return c;
}

void
loop_forget_ended(struct loop *l)
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

void
loop_start_due(struct loop *l)
{
    int64_t now_ms = clock_now_ms();

    for (struct child *c = l->children; c != NULL; c = c->next) {
        if (c->state == CHILD_WAITING && c->due_ms <= now_ms)
            child_step(c, CHILD_EVENT_START_DUE);
    }
}

void
loop_end_children(struct loop *l)
{
    for (struct child *c = l->children; c != NULL; c = c->next)
        child_step(c, CHILD_EVENT_END_ASKED);
}
