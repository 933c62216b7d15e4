#include "tests/harness/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <regex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "tests/harness/harness.h"

enum { UID_NOBODY = 65534, READY_FD = 9, STOP_WAIT_MS = 40000, LEFT_MAX = 4096 };

struct harness_tree {
    pid_t pid;
    int pidfd; /* owned */
    bool is_running;
    int status; /* once it is not */
    char *folder;
    char socket[PATH_MAX], log[PATH_MAX], config[PATH_MAX], root[PATH_MAX];
};

/* --- Starting ------------------------------------------------------------------------------- */

static bool
enter_namespace(const char *passwd)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount(passwd, "/etc/passwd", NULL, MS_BIND, NULL) == 0;
}

static bool
become_nobody(void)
{
    return setgroups(0, NULL) == 0 && setresgid(UID_NOBODY, UID_NOBODY, UID_NOBODY) == 0 &&
           setresuid(UID_NOBODY, UID_NOBODY, UID_NOBODY) == 0;
}

static bool
limit_descriptors(unsigned count)
{
    const struct rlimit limit = { count, count };

    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

static _Noreturn void
run_cordond(const struct harness_tree *t, const struct harness_tree_options *o, int log, int ready)
{
    char program[PATH_MAX + 16];
    const char *arguments[12] = { program };
    size_t count = 1;
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    snprintf(program, sizeof(program), "%s/bin/cordond", t->root);
    arguments[count++] = "--ready-fd";
    arguments[count++] = "9";
    arguments[count++] = "--log-level";
    arguments[count++] = o->log_level != NULL ? o->log_level : "debug";
    if (!o->default_socket) {
        arguments[count++] = "--socket";
        arguments[count++] = t->socket;
    }
    if (o->log_format != NULL) {
        arguments[count++] = "--log-format";
        arguments[count++] = o->log_format;
    }
    if (o->config != NULL) {
        arguments[count++] = "--config";
        arguments[count++] = t->config;
    }
    unsetenv("CORDON_SOCKET");
    setenv("XDG_RUNTIME_DIR", t->folder, 1);
    /* A test that is killed takes its tree along. */
    if ((o->passwd != NULL && !enter_namespace(o->passwd)) || (o->as_nobody && !become_nobody()) ||
        dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0 || dup2(ready, READY_FD) < 0 ||
        (o->descriptors > 0 && !limit_descriptors(o->descriptors)) ||
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        _exit(126);
    execv(program, (char *const *)(uintptr_t)arguments);
    dprintf(STDERR_FILENO, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

/* The build tree may be where only root can go; a copy of the programs is not. */
static bool
copy_programs(struct harness_tree *t)
{
    char command[4 * PATH_MAX + 64];

    snprintf(t->root, sizeof(t->root), "%s/programs", t->folder);
    snprintf(command, sizeof(command), "mkdir '%s' && cp -R '%s/bin' '%s/libexec' '%s'", t->root,
             harness_root(), harness_root(), t->root);
    return system(command) == 0;
}

/* The folder holds the socket, so it is the manager's. */
static bool
prepare_folder(struct harness_tree *t, const struct harness_tree_options *o)
{
    long owner = o->as_nobody ? UID_NOBODY : harness_uid("cordon");

    t->folder = harness_make_folder();
    snprintf(t->log, sizeof(t->log), "%s/log", t->folder);
    snprintf(t->config, sizeof(t->config), "%s/cordon.json", t->folder);
    snprintf(t->socket, sizeof(t->socket), "%s/%scontrol.sock", t->folder,
             o->default_socket ? "cordon/" : "");
    snprintf(t->root, sizeof(t->root), "%s", harness_root());
    if (o->as_nobody && !copy_programs(t))
        return false;
    if (o->config != NULL && !harness_write_file(t->config, o->config, strlen(o->config), 0644))
        return false;
    return geteuid() != 0 || owner < 0 || chown(t->folder, (uid_t)owner, (gid_t)-1) == 0;
}

/* true: the newline came. */
static bool
wait_ready(int ready)
{
    char byte;

    return harness_wait_fd(ready, POLLIN, harness_deadline(HARNESS_WAIT_MS)) &&
           read(ready, &byte, 1) == 1;
}

static bool
launch(struct harness_tree *t, const struct harness_tree_options *o, int *ready)
{
    int pipe_fds[2] = { -1, -1 };
    int log = o->log_fd > 0 ? fcntl(o->log_fd, F_DUPFD_CLOEXEC, READY_FD + 1)
                            : open(t->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (log < 0 || pipe2(pipe_fds, O_CLOEXEC) != 0) {
        fd_close(&log);
        return false;
    }
    t->pid = fork();
    if (t->pid == 0)
        run_cordond(t, o, log, pipe_fds[1]);
    fd_close(&log);
    fd_close(&pipe_fds[1]);
    *ready = pipe_fds[0];
    t->is_running = t->pid > 0;
    t->pidfd = t->pid > 0 ? pidfd_open(t->pid, 0) : -1;
    return t->pidfd >= 0;
}

static void
print_log(const struct harness_tree *t)
{
    char *log = harness_tree_log(t);

    fprintf(stderr, "--- the log of cordond\n%s---\n", log != NULL ? log : "");
    free(log);
}

struct harness_tree *
harness_tree_start(const struct harness_tree_options *options)
{
    static const struct harness_tree_options none = { 0 };
    const struct harness_tree_options *o = options != NULL ? options : &none;
    struct harness_tree *t = calloc(1, sizeof(*t));
    int ready = -1;
    bool is_ready;

    if (t == NULL)
        return NULL;
    (void)harness_root(); /* or it ends here, with a message */
    t->pidfd = -1;
    /* Whatever cordond leaves behind comes to us, so that we can see it and reap it. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    is_ready = prepare_folder(t, o) && launch(t, o, &ready) &&
               (o->expect_failure || wait_ready(ready));
    fd_close(&ready);
    if (is_ready)
        return t;
    print_log(t);
    harness_tree_free(t);
    return NULL;
}

/* --- Stopping ------------------------------------------------------------------------------- */

int
harness_tree_wait(struct harness_tree *t, int64_t deadline_ms)
{
    if (!t->is_running)
        return t->status;
    if (!harness_wait_fd(t->pidfd, POLLIN, deadline_ms))
        return -1;
    if (waitpid(t->pid, &t->status, 0) != t->pid)
        return -1;
    t->is_running = false;
    return t->status;
}

int
harness_tree_stop(struct harness_tree *t)
{
    int status;

    if (t->is_running)
        (void)pidfd_send_signal(t->pidfd, SIGTERM, NULL, 0);
    status = harness_tree_wait(t, harness_deadline(STOP_WAIT_MS));
    if (status == -1) {
        (void)pidfd_send_signal(t->pidfd, SIGKILL, NULL, 0);
        (void)harness_tree_wait(t, harness_deadline(STOP_WAIT_MS));
    }
    return status;
}

/* Its orphans are our children now: those whose command line says that they are Cordon's. */
static size_t
list_orphans(struct process *found)
{
    size_t count = processes_below(getpid(), found, LEFT_MAX), kept = 0;

    for (size_t i = 0; i < count && i < LEFT_MAX; i++) {
        if (found[i].state == 'Z' && found[i].parent == getpid())
            (void)waitpid(found[i].pid, NULL, WNOHANG);
        else if (strncmp(found[i].title, "cordon ", strlen("cordon ")) == 0)
            found[kept++] = found[i];
    }
    return kept;
}

static bool
has_no_orphans(void *context)
{
    return list_orphans(context) == 0;
}

bool
harness_tree_nothing_left(struct harness_tree *t, int64_t deadline_ms)
{
    struct process *found = calloc(LEFT_MAX, sizeof(*found));
    bool is_gone = found != NULL && harness_wait_until(has_no_orphans, found, deadline_ms);
    size_t count = is_gone || found == NULL ? 0 : list_orphans(found);

    (void)t;
    for (size_t i = 0; i < count; i++)
        fprintf(stderr, "left: pid %d parent %d %s\n", found[i].pid, found[i].parent,
                found[i].title);
    free(found);
    return is_gone;
}

void
harness_tree_free(struct harness_tree *t)
{
    if (t == NULL)
        return;
    if (t->is_running && t->pidfd >= 0) {
        (void)pidfd_send_signal(t->pidfd, SIGKILL, NULL, 0);
        (void)harness_tree_wait(t, harness_deadline(STOP_WAIT_MS));
    }
    fd_close(&t->pidfd);
    harness_remove_folder(t->folder);
    free(t);
}

/* --- Looking -------------------------------------------------------------------------------- */

pid_t
harness_tree_pid(const struct harness_tree *t)
{
    return t->pid;
}

bool
harness_tree_is_running(const struct harness_tree *t)
{
    return t->is_running;
}

const char *
harness_tree_socket(const struct harness_tree *t)
{
    return t->socket;
}

const char *
harness_tree_folder(const struct harness_tree *t)
{
    return t->folder;
}

pid_t
harness_tree_process(const struct harness_tree *t, const char *title)
{
    return process_named(t->pid, title);
}

bool
harness_tree_signal(const struct harness_tree *t, pid_t pid, int number)
{
    if (pid == t->pid)
        return pidfd_send_signal(t->pidfd, number, NULL, 0) == 0;
    return process_signal(t->pid, pid, number);
}

char *
harness_tree_log(const struct harness_tree *t)
{
    return harness_read_file(t->log, NULL);
}

size_t
harness_tree_log_size(const struct harness_tree *t)
{
    struct stat info;

    return stat(t->log, &info) == 0 ? (size_t)info.st_size : 0;
}

static bool
log_matches(const struct harness_tree *t, const regex_t *pattern, size_t from)
{
    size_t size = 0;
    char *log = harness_read_file(t->log, &size);
    bool matches = log != NULL && from <= size && regexec(pattern, log + from, 0, NULL, 0) == 0;

    free(log);
    return matches;
}

bool
harness_tree_wait_log(const struct harness_tree *t, const char *pattern, size_t from,
                      int64_t deadline_ms)
{
    regex_t compiled;
    int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    bool matches = false;
    char events[4096];

    if (watch < 0 || inotify_add_watch(watch, t->log, IN_MODIFY) < 0 ||
        regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE) != 0) {
        fd_close(&watch);
        return false;
    }
    while (!(matches = log_matches(t, &compiled, from)) &&
           harness_wait_fd(watch, POLLIN, deadline_ms)) {
        while (read(watch, events, sizeof(events)) > 0) {}
    }
    regfree(&compiled);
    fd_close(&watch);
    return matches;
}
