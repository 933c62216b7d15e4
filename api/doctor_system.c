/*
 * The kernel, its settings and our limits.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "api/doctor.h"

enum {
    DESCRIPTORS_RESERVED = 512, /* of the manager, beside 3 a connection (manager/main.c) */
    KEEPER_HEAP_KIB = 1024,     /* what the keeper keeps in memory, keys and all */
    BACKLOG = 1024,             /* default of ssl.listen */
};

/* -1: there is no such number. */
static long long
read_number(const char *path)
{
    char text[64], *end;
    long long number;

    if (!doctor_read_line(path, text, sizeof(text)))
        return -1;
    number = strtoll(text, &end, 10);
    return end == text ? -1 : number;
}

static void
check_kernel(struct doctor *d)
{
    struct utsname name;
    unsigned major = 0, minor = 0;

    if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
        doctor_find(d, FINDING_WARN, "kernel", "its version cannot be read");
    else if (major < 5 || (major == 5 && minor < 11))
        doctor_find(d, FINDING_BAD, "kernel", "%s: Linux 5.11 or later is needed", name.release);
    else
        doctor_find(d, FINDING_OK, "kernel", "%s", name.release);
}

/* A container's filter may forbid what the kernel has. */
static void
check_calls(struct doctor *d)
{
    int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int pidfd_error = errno;
    int memfd = memfd_create("doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int memfd_error = errno;
    bool can_close = syscall(SYS_close_range, ~0U, ~0U, 0) == 0;

    if (pidfd < 0 || memfd < 0 || !can_close)
        doctor_find(d, FINDING_BAD, "calls",
                    "%s: %s: a container's filter may forbid it; allow pidfd_open, memfd_create "
                    "and close_range",
                    pidfd < 0   ? "pidfd_open"
                    : memfd < 0 ? "memfd_create"
                                : "close_range",
                    strerror(pidfd < 0   ? pidfd_error
                             : memfd < 0 ? memfd_error
                                         : errno));
    else
        doctor_find(d, FINDING_OK, "calls", "pidfd_open, memfd_create and close_range work");
    if (pidfd >= 0)
        close(pidfd);
    if (memfd >= 0)
        close(memfd);
}

/* --- Limits --------------------------------------------------------------------------------- */

static void
check_descriptors(struct doctor *d)
{
    struct rlimit files;
    unsigned long long room;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    room = files.rlim_max > DESCRIPTORS_RESERVED ? (files.rlim_max - DESCRIPTORS_RESERVED) / 3 : 0;
    if (room >= DOCTOR_CONNECTIONS)
        doctor_find(d, FINDING_OK, "descriptors", "%llu: enough for connections_max %d",
                    (unsigned long long)files.rlim_max, DOCTOR_CONNECTIONS);
    else
        doctor_find(d, room < 16 ? FINDING_BAD : FINDING_WARN, "descriptors",
                    "a cordond started from here has room for %llu connections, not %d: raise "
                    "LimitNOFILE (ulimit -Hn) from %llu to %d, or lower connections_max",
                    room, DOCTOR_CONNECTIONS, (unsigned long long)files.rlim_max,
                    3 * DOCTOR_CONNECTIONS + DESCRIPTORS_RESERVED);
}

static void
check_locked_memory(struct doctor *d)
{
    struct rlimit locked;

    if (getrlimit(RLIMIT_MEMLOCK, &locked) != 0)
        return;
    if (locked.rlim_max < (rlim_t)KEEPER_HEAP_KIB * 1024)
        doctor_find(d, FINDING_WARN, "memlock",
                    "private keys may be written to swap: raise LimitMEMLOCK (ulimit -Hl) from "
                    "%llu KiB to %d KiB",
                    (unsigned long long)locked.rlim_max / 1024, KEEPER_HEAP_KIB);
    else
        doctor_find(d, FINDING_OK, "memlock", "the keeper's memory may be locked");
}

/* A connection is a process. */
static void
check_processes(struct doctor *d)
{
    long long pids = read_number("/proc/sys/kernel/pid_max");
    long long threads = read_number("/proc/sys/kernel/threads-max");
    long long group = read_number("/sys/fs/cgroup/pids.max"); /* "max" is no number */
    struct rlimit own;
    long long least = pids;
    const char *which = "kernel.pid_max";

    if (threads >= 0 && threads < least) {
        least = threads;
        which = "kernel.threads-max";
    }
    if (group >= 0 && group < least) {
        least = group;
        which = "pids.max of the control group (TasksMax)";
    }
    if (getrlimit(RLIMIT_NPROC, &own) == 0 && own.rlim_max != RLIM_INFINITY &&
        (long long)own.rlim_max < least) {
        least = (long long)own.rlim_max;
        which = "RLIMIT_NPROC (LimitNPROC, ulimit -Hu)";
    }
    if (least < DOCTOR_CONNECTIONS)
        doctor_find(d, FINDING_WARN, "processes",
                    "each connection is a process, and %s allows %lld: raise it to %d, or lower "
                    "connections_max",
                    which, least, DOCTOR_CONNECTIONS + 100);
    else
        doctor_find(d, FINDING_OK, "processes", "%lld: enough for a process per connection", least);
}

/* --- Settings ------------------------------------------------------------------------------- */

static void
check_core_dumps(struct doctor *d)
{
    long long dumpable = read_number("/proc/sys/fs/suid_dumpable");
    char pattern[256] = "";

    doctor_read_line("/proc/sys/kernel/core_pattern", pattern, sizeof(pattern));
    /* A program behind a pipe is started whatever RLIMIT_CORE says; not being dumpable helps, unless
     * suid_dumpable says that root's program may have those too. */
    if (pattern[0] == '|' && dumpable == 2)
        doctor_find(d, FINDING_WARN, "core",
                    "a crash hands memory with keys to \"%.80s\": set fs.suid_dumpable=0",
                    pattern + 1);
    else
        doctor_find(d, FINDING_OK, "core", "no process of Cordon leaves a core file");
}

static void
check_ptrace(struct doctor *d)
{
    long long scope = read_number("/proc/sys/kernel/yama/ptrace_scope");

    if (scope >= 1)
        doctor_find(d, FINDING_OK, "ptrace", "kernel.yama.ptrace_scope is %lld", scope);
    else
        doctor_find(d, FINDING_WARN, "ptrace",
                    "nothing but not being dumpable keeps a user's other programs out of Cordon's "
                    "memory: set kernel.yama.ptrace_scope=1");
}

static void
check_seccomp(struct doctor *d)
{
    if (access("/proc/sys/kernel/seccomp/actions_avail", R_OK) == 0)
        doctor_find(d, FINDING_OK, "seccomp", "the kernel has system call filters");
    else
        doctor_find(d, FINDING_BAD, "seccomp",
                    "the kernel has no system call filters, and without them there is no worker: "
                    "build it with CONFIG_SECCOMP_FILTER");
}

static void
check_namespaces(struct doctor *d)
{
    long long most = read_number("/proc/sys/user/max_user_namespaces");
    long long unprivileged = read_number("/proc/sys/kernel/unprivileged_userns_clone");
    long long confined = read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");

    if (most == 0 || unprivileged == 0 || confined == 1)
        doctor_find(d, FINDING_WARN, "namespaces",
                    "users may not make user namespaces, so workers see the machine's files, "
                    "network and IPC: set %s",
                    most == 0           ? "user.max_user_namespaces above 0"
                    : unprivileged == 0 ? "kernel.unprivileged_userns_clone=1"
                                        : "kernel.apparmor_restrict_unprivileged_userns=0");
    else
        doctor_find(d, FINDING_OK, "namespaces", "users may make user namespaces");
}

static void
check_network(struct doctor *d)
{
    long long backlog = read_number("/proc/sys/net/core/somaxconn");
    long long cookies = read_number("/proc/sys/net/ipv4/tcp_syncookies");

    if (backlog >= 0 && backlog < BACKLOG)
        doctor_find(d, FINDING_WARN, "backlog",
                    "the kernel cuts the backlog of listeners to %lld: set net.core.somaxconn=%d",
                    backlog, 4 * BACKLOG);
    else
        doctor_find(d, FINDING_OK, "backlog", "net.core.somaxconn is %lld", backlog);
    if (cookies == 0)
        doctor_find(d, FINDING_WARN, "syncookies",
                    "a flood of SYN fills the backlog: set net.ipv4.tcp_syncookies=1");
    else
        doctor_find(d, FINDING_OK, "syncookies", "a flood of SYN is borne");
}

static void
check_random(struct doctor *d)
{
    char byte;

    if (getrandom(&byte, 1, GRND_NONBLOCK) == 1)
        doctor_find(d, FINDING_OK, "random", "the kernel's random numbers are seeded");
    else
        doctor_find(d, FINDING_BAD, "random",
                    "the kernel's random numbers are not seeded yet: every process will wait for "
                    "them");
}

/* Certificates are judged by it. */
static void
check_clock(struct doctor *d)
{
    struct timespec now;
    struct timex clock = { .modes = 0 };
    struct stat program;

    clock_gettime(CLOCK_REALTIME, &now);
    if (stat("/proc/self/exe", &program) == 0 && now.tv_sec < program.st_mtim.tv_sec - 86400)
        doctor_find(d, FINDING_BAD, "clock",
                    "it is earlier than when this program was built: certificates will be refused; "
                    "set it");
    else if (adjtimex(&clock) == TIME_ERROR)
        doctor_find(d, FINDING_WARN, "clock",
                    "nothing keeps it right: run a time service (chrony, systemd-timesyncd)");
    else
        doctor_find(d, FINDING_OK, "clock", "it is kept right");
}

void
doctor_check_system(struct doctor *d)
{
    check_kernel(d);
    check_calls(d);
    check_descriptors(d);
    check_processes(d);
    check_locked_memory(d);
    check_core_dumps(d);
    check_ptrace(d);
    check_seccomp(d);
    check_namespaces(d);
    check_network(d);
    check_random(d);
    check_clock(d);
}
