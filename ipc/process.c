#include "ipc/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"

extern char **environ;

/* The memory that ps shows: argv's strings and, behind them, the environment's. */
static char *title;
static size_t title_size, title_used, title_fixed; /* fixed: without what was appended */

static _Noreturn void
started_by_hand(const char *name)
{
    fprintf(stderr,
            "%s: this program is started by cordond and does nothing by itself; run cordond\n",
            name);
    exit(2);
}

/* What no process of the tree ever wants to happen to its memory. */
static void
close_to_others(void)
{
    struct rlimit none = { 0, 0 };

    (void)setrlimit(RLIMIT_CORE, &none);
    if (prctl(PR_SET_DUMPABLE, 0) != 0 || prctl(PR_GET_DUMPABLE) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        fprintf(stderr, "cordon: prctl: %s\n", strerror(errno));
        exit(1);
    }
}

void
process_begin(const char *name, bool log_on_stderr, int last_fd)
{
    char comm[16];

    if (!fd_is_seqpacket(PROCESS_MAILBOX))
        started_by_hand(name);
    snprintf(comm, sizeof comm, "cordon-%s", name);
    (void)prctl(PR_SET_NAME, comm);
    close_to_others();
    (void)close_range((unsigned)last_fd + 1, ~0U, 0);
    for (int fd = PROCESS_MAILBOX; fd <= last_fd; fd++)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    umask(077);
    log_open(name);
    if (!log_on_stderr)
        mailbox_log_to(PROCESS_MAILBOX);
}

/* Moves the environment away, so that its place can hold a longer title. */
static bool
move_environment(size_t count)
{
    char **moved = calloc(count + 1, sizeof *moved);

    if (moved == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        moved[i] = strdup(environ[i]);
        if (moved[i] == NULL)
            return false;
    }
    environ = moved;
    return true;
}

void
process_title_init(int argc, char **argv)
{
    char *end;
    size_t count = 0;

    if (argc == 0)
        return;
    end = argv[argc - 1] + strlen(argv[argc - 1]) + 1;
    for (; environ[count] != NULL; count++) {
        if (environ[count] == end)
            end += strlen(environ[count]) + 1;
    }
    if (!move_environment(count))
        return;
    title = argv[0];
    title_size = title_used = (size_t)(end - argv[0]);
}

/* Ends it behind `used` characters. */
static void
title_end(size_t used)
{
    if (used < title_used)
        memset(title + used, 0, title_used - used);
    title_used = used;
}

void
process_title(const char *format, ...)
{
    va_list arguments;
    int size;

    if (title_size < 2)
        return;
    va_start(arguments, format);
    size = vsnprintf(title, title_size, format, arguments);
    va_end(arguments);
    title_fixed = size < 0 ? 0 : (size_t)size < title_size ? (size_t)size : title_size - 1;
    title_end(title_fixed);
}

static size_t
title_put(size_t at, const char *word)
{
    size_t size = strlen(word);

    if (at + 1 + size >= title_size)
        return at;
    title[at] = ' ';
    memcpy(title + at + 1, word, size);
    return at + 1 + size;
}

void
process_title_append(const char *word, const char *another)
{
    size_t at = title_fixed;

    if (title_size < 2)
        return;
    at = title_put(at, word);
    if (another != NULL)
        at = title_put(at, another);
    title_end(at);
}

void
process_keep_only(const int *keep, size_t count)
{
    unsigned next = STDERR_FILENO + 1;

    for (size_t i = 0; i < count; i++) {
        if ((unsigned)keep[i] > next)
            (void)close_range(next, (unsigned)keep[i] - 1, 0);
        if ((unsigned)keep[i] >= next)
            next = (unsigned)keep[i] + 1;
    }
    (void)close_range(next, ~0U, 0);
}

static void
limit(__rlimit_resource_t resource, rlim_t value)
{
    struct rlimit wanted = { value, value };

    if (setrlimit(resource, &wanted) != 0)
        log_warn("a limit could not be set resource=%d error=%s", (int)resource, posix_name(errno));
}

/* The sanitizers map terabytes of shadow memory and report on stderr, which may be a file. */
static void
limit_memory(rlim_t data)
{
#ifndef CORDON_SANITIZED
    limit(RLIMIT_DATA, data);
    limit(RLIMIT_FSIZE, 0);
#else
    (void)data;
#endif
}

void
process_limit_worker(uint64_t data, uint32_t cpu_s)
{
    limit_memory((rlim_t)data);
    limit(RLIMIT_CPU, (rlim_t)cpu_s);
    limit(RLIMIT_NOFILE, 32);
    limit(RLIMIT_NPROC, 0);
}

void
process_limit_helper(void)
{
    limit_memory((rlim_t)128 << 20);
    limit(RLIMIT_CPU, 5);
    limit(RLIMIT_NOFILE, 64);
    limit(RLIMIT_NPROC, 0);
}
