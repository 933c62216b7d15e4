#include "manager/cordond_child.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ipc/board.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/process.h"
#include "manager/cordond_capabilities.h"

enum {
    ARGUMENTS_MAX = 8 + 2 * EXEC_USERS_MAX,
    FIRST_SPARE_FD = 10,
    MODEST_NOFILE = 1024,
    STATUS_NOT_EXECUTED = 127
};

/* clang-format off */
static const enum child_state next_state[CHILD_STATE_COUNT][CHILD_EVENT_COUNT] = {
    [CHILD_WAITING] = {
        [CHILD_EVENT_START_DUE]    = CHILD_STARTING,
        [CHILD_EVENT_END_ASKED]    = CHILD_ENDED,
    },
    [CHILD_STARTING] = {
        [CHILD_EVENT_NOT_FORKED]   = CHILD_ENDED,
        [CHILD_EVENT_EXECUTED]     = CHILD_RUNNING,
        [CHILD_EVENT_NOT_EXECUTED] = CHILD_FAILED,
        [CHILD_EVENT_END_ASKED]    = CHILD_ENDING,
        [CHILD_EVENT_EXITED]       = CHILD_ENDED,
    },
    [CHILD_RUNNING] = {
        [CHILD_EVENT_END_ASKED]    = CHILD_ENDING,
        [CHILD_EVENT_EXITED]       = CHILD_ENDED,
    },
    [CHILD_FAILED] = {
        [CHILD_EVENT_EXITED]       = CHILD_ENDED,
    },
    [CHILD_ENDING] = {
        [CHILD_EVENT_EXITED]       = CHILD_ENDED,
    },
};

static const char *const state_names[CHILD_STATE_COUNT] = {
    [CHILD_NONE] = "none", [CHILD_WAITING] = "waiting", [CHILD_STARTING] = "starting",
    [CHILD_RUNNING] = "running", [CHILD_FAILED] = "failed", [CHILD_ENDING] = "ending",
    [CHILD_ENDED] = "ended",
};

static const char *const event_names[CHILD_EVENT_COUNT] = {
    [CHILD_EVENT_NONE] = "none", [CHILD_EVENT_START_DUE] = "start_due",
    [CHILD_EVENT_NOT_FORKED] = "not_forked", [CHILD_EVENT_EXECUTED] = "executed",
    [CHILD_EVENT_NOT_EXECUTED] = "not_executed", [CHILD_EVENT_END_ASKED] = "end_asked",
    [CHILD_EVENT_EXITED] = "exited",
};
/* clang-format on */

const char *
child_state_name(enum child_state state)
{
    return state < CHILD_STATE_COUNT ? state_names[state] : "unknown";
}

struct child *
child_new(enum process_kind kind, uint64_t request, int mailbox, const struct programs *programs,
          void (*on_state)(struct child *c), void *owner)
{
    struct child *c = calloc(1, sizeof(*c));

    if (c == NULL) {
        fd_close(&mailbox);
        return NULL;
    }
    *c = (struct child){
        .state = CHILD_WAITING,
        .kind = kind,
        .request = request,
        .pidfd = -1,
        .mailbox = mailbox,
        .board = -1,
        .report = -1,
        .programs = programs,
        .on_state = on_state,
        .owner = owner,
    };
    return c;
}

void
child_free(struct child *c)
{
    if (c == NULL)
        return;
    fd_close(&c->pidfd);
    fd_close(&c->mailbox);
    fd_close(&c->board);
    fd_close(&c->report);
    free(c);
}

/* --- In the child, between fork and execve: each step returns 0 or errno -------------------- */

static int
leave_our_signals(void)
{
    sigset_t none;

    /* Of its own session, so that Ctrl-C at a terminal reaches cordond alone. */
    if (setsid() < 0)
        return errno;
    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0 ? 0 : errno;
}

/* A copy above all the numbers that have a meaning. */
static bool
move_up(int *fd)
{
    if (*fd >= 0)
        *fd = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_SPARE_FD);
    return *fd >= 0;
}

static int
place_descriptors(const struct child *c, int *report, int *binary)
{
    int mailbox = c->mailbox, board = c->board, null = c->programs->null;
    bool has_board = board >= 0;

    if (!move_up(&mailbox) || !move_up(&null) || !move_up(report) || !move_up(binary) ||
        (has_board && !move_up(&board)))
        return errno;
    if (dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
        dup2(mailbox, PROCESS_MAILBOX) < 0 || (has_board && dup2(board, PROCESS_BOARD) < 0))
        return errno;
    if (close_range(has_board ? PROCESS_BOARD + 1 : PROCESS_MAILBOX + 1, ~0U,
                    CLOSE_RANGE_CLOEXEC) != 0)
        return errno;
    return 0;
}

static int
limit_resources(const struct program *program)
{
    struct rlimit no_core = { 0, 0 }, files;

    if (setrlimit(RLIMIT_CORE, &no_core) != 0 || getrlimit(RLIMIT_NOFILE, &files) != 0)
        return errno;
    files.rlim_cur = files.rlim_max;
    if (!program->all_descriptors && files.rlim_cur > MODEST_NOFILE)
        files.rlim_cur = MODEST_NOFILE;
    return setrlimit(RLIMIT_NOFILE, &files) == 0 ? 0 : errno;
}

static int
change_user(const struct programs *programs, const struct program *program, uid_t uid, gid_t gid)
{
    if (!programs->change_user)
        return 0;
    if (program->may_bind_low && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0)
        return errno;
    if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        return errno;
    return 0;
}

static int
give_up_privileges(const struct program *program)
{
    uint64_t left = program->may_bind_low ? capabilities_of_manager : 0;

    if (capabilities_pass_on(left) != RESULT_OK || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return errno;
    return 0;
}

/* Only now: a change of user forgets the signal. */
static int
die_with_cordond(pid_t cordond)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return errno;
    /* It may have died before the line above; then nobody will send the signal. */
    if (getppid() != cordond)
        return ESRCH;
    return 0;
}

static int
execute(const struct program *program, int binary)
{
    char *arguments[ARGUMENTS_MAX + 2] = { (char *)(uintptr_t)program->title };
    size_t count = 1;

    for (char *const *a = program->arguments; a != NULL && *a != NULL; a++) {
        assert(count <= ARGUMENTS_MAX);
        arguments[count++] = *a;
    }
    execveat(binary, "", arguments, environ, AT_EMPTY_PATH);
    return errno;
}

static _Noreturn void
become(const struct child *c, pid_t cordond, int report)
{
    const struct program *program = &c->programs->of[c->kind];
    const struct exec_user *user = &c->programs->exec_users[c->user];
    bool is_launcher = c->kind == PROCESS_LAUNCHER;
    int binary = program->binary;
    int error = leave_our_signals();

    if (error == 0)
        error = place_descriptors(c, &report, &binary);
    if (error == 0)
        error = limit_resources(program);
    if (error == 0)
        error = change_user(c->programs, program, is_launcher ? user->uid : program->uid,
                            is_launcher ? user->gid : program->gid);
    if (error == 0)
        error = give_up_privileges(program);
    if (error == 0)
        error = die_with_cordond(cordond);
    if (error == 0)
        error = execute(program, binary);
    /* An int fits into an empty pipe.  Without a reader the status has to be enough. */
    (void)!write(report, &error, sizeof(error));
    _exit(STATUS_NOT_EXECUTED);
}

/* --- In cordond ----------------------------------------------------------------------------- */

static enum child_event
not_forked(struct child *c, int error)
{
    c->error = error;
    fd_close(&c->report);
    fd_close(&c->board);
    return CHILD_EVENT_NOT_FORKED;
}

static enum child_event
enter_starting(struct child *c)
{
    int pipe_fds[2];
    pid_t cordond = getpid();

    if (c->kind == PROCESS_LAUNCHER && c->user >= c->programs->exec_user_count)
        return not_forked(c, EPERM);
    if (c->kind == PROCESS_NURSERY && board_new(&c->board) != RESULT_OK)
        return not_forked(c, errno);
    if (pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return not_forked(c, errno);
    c->report = pipe_fds[0];
    c->pid = fork();
    if (c->pid == 0)
        become(c, cordond, pipe_fds[1]);
    if (c->pid < 0) {
        int error = errno;

        c->pid = 0;
        fd_close(&pipe_fds[1]);
        return not_forked(c, error);
    }
    fd_close(&pipe_fds[1]);
    fd_close(&c->mailbox);
    c->pidfd = pidfd_open(c->pid, 0);
    if (c->pidfd < 0)
        log_error("%s has no pidfd pid=%ld errno=%s", program_name(c->kind), (long)c->pid,
                  posix_name(errno));
    return CHILD_EVENT_NONE;
}

static enum child_event
enter_running(struct child *c)
{
    fd_close(&c->report);
    c->was_started = true;
    c->on_state(c);
    return CHILD_EVENT_NONE;
}

static enum child_event
enter_failed(struct child *c)
{
    fd_close(&c->report);
    c->on_state(c);
    return CHILD_EVENT_NONE;
}

/* An unreaped child's number is its own, so where there is no pidfd (no descriptors left) the number
 * does. */
static enum child_event
enter_ending(struct child *c)
{
    fd_close(&c->report);
    if (c->pidfd >= 0)
        (void)pidfd_send_signal(c->pidfd, SIGKILL, NULL, 0);
    else
        (void)kill(c->pid, SIGKILL);
    return CHILD_EVENT_NONE;
}

static enum child_event
enter_ended(struct child *c)
{
    fd_close(&c->pidfd);
    fd_close(&c->mailbox);
    c->on_state(c);
    return CHILD_EVENT_NONE;
}

static enum child_event (*const enter[CHILD_STATE_COUNT])(struct child *c) = {
    [CHILD_STARTING] = enter_starting, [CHILD_RUNNING] = enter_running,
    [CHILD_FAILED] = enter_failed,     [CHILD_ENDING] = enter_ending,
    [CHILD_ENDED] = enter_ended,
};

void
child_step(struct child *c, enum child_event event)
{
    while (event != CHILD_EVENT_NONE) {
        enum child_state next = next_state[c->state][event];

        log_debug("child=%s pid=%ld state=%s event=%s next=%s", program_name(c->kind), (long)c->pid,
                  state_names[c->state], event_names[event], state_names[next]);
        if (next == CHILD_NONE)
            return;
        c->state = next;
        event = enter[next](c);
    }
}

void
child_on_report(struct child *c)
{
    int error = 0;
    ssize_t got;

    if (c->report < 0)
        return;
    got = read(c->report, &error, sizeof(error));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    c->error = got == (ssize_t)sizeof(error) ? error : 0;
    child_step(c, c->error == 0 ? CHILD_EVENT_EXECUTED : CHILD_EVENT_NOT_EXECUTED);
}

void
child_on_exit(struct child *c, int status)
{
    /* The report is older than the end. */
    if (c->state == CHILD_STARTING)
        child_on_report(c);
    c->status = status;
    child_step(c, CHILD_EVENT_EXITED);
}
