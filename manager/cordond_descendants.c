#include "manager/cordond_descendants.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/types.h>
#include <unistd.h>

#include "ipc/fd.h"

/* A whole small file of /proc, NUL at its end.  false: it is not there. */
static bool
read_proc(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = -1;

    if (fd >= 0)
        got = read(fd, text, size - 1);
    fd_close(&fd);
    if (got <= 0)
        return false;
    text[got] = '\0';
    return true;
}

/* The process behind a pidfd; -1: it has been reaped; 0: this is no pidfd. */
static pid_t
pid_of(int pidfd)
{
    char path[64], text[1024];
    const char *line;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    if (!read_proc(path, text, sizeof(text)))
        return 0;
    line = strstr(text, "\nPid:");
    return line != NULL ? (pid_t)strtol(line + strlen("\nPid:"), NULL, 10) : 0;
}

/* -1: there is no such process. */
static pid_t
parent_of(pid_t pid)
{
    char path[64], text[1024];
    const char *after_name;
    long parent;

    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    if (!read_proc(path, text, sizeof(text)))
        return -1;
    /* "12 (a name, with anything in it) S 1 ..." */
    after_name = strrchr(text, ')');
    if (after_name == NULL || sscanf(after_name + 1, " %*c %ld", &parent) != 1)
        return -1;
    return (pid_t)parent;
}

static bool
is_below_us(pid_t pid)
{
    pid_t us = getpid();
    pid_t parent = parent_of(pid);

    return parent > 0 && (parent == us || parent_of(parent) == us);
}

enum result
descendant_signal(int pidfd, int number)
{
    pid_t pid = pid_of(pidfd);
    bool is_below;

    if (pid == 0)
        return RESULT_REFUSED;
    if (pid < 0)
        return RESULT_CLOSED;
    is_below = is_below_us(pid);
    /* Had it ended meanwhile, the number could be another's, and is_below be about that one. */
    if (pid_of(pidfd) != pid)
        return RESULT_CLOSED;
    if (!is_below)
        return RESULT_REFUSED;
    if (pidfd_send_signal(pidfd, number, NULL, 0) == 0)
        return RESULT_OK;
    return errno == ESRCH ? RESULT_CLOSED : RESULT_POSIX;
}

static bool
kill_if_ours(pid_t pid)
{
    int pidfd;
    bool is_ours = parent_of(pid) == getpid();

    if (!is_ours)
        return false;
    /* Only we reap our children, so the number stays this child's. */
    pidfd = pidfd_open(pid, 0);
    if (pidfd >= 0)
        (void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    fd_close(&pidfd);
    return true;
}

size_t
descendants_kill_children(void)
{
    size_t count = 0;
    const struct dirent *entry;
    DIR *proc = opendir("/proc");

    while (proc != NULL && (entry = readdir(proc)) != NULL) {
        if (isdigit((unsigned char)entry->d_name[0]) &&
            kill_if_ours((pid_t)strtol(entry->d_name, NULL, 10)))
            count++;
    }
    if (proc != NULL)
        closedir(proc);
    return count;
}
