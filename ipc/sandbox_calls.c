#include "ipc/sandbox_calls.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "ipc/sandbox.h"

/* clang-format off */

/* Arguments are counted from 0.  Of an int the kernel reads 32 bits. */
#define INT(argument, value)      { argument, UINT32_MAX, value }
#define LACKS(argument, bits)     { argument, bits, 0 }
#define ONLY(argument, bits)      { argument, (uint32_t)~(uint32_t)(bits), 0 }
#define NO_POINTER(argument)      { argument, UINT64_MAX, 0 }
#define SOCKET_OPTION(level, option) { INT(1, level), INT(2, option) }
#define ANYHOW                    { { 0, 0, 0 } }
#define END                       { NULL, { { 0, 0, 0 } } }

enum { FORK = CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD }; /* as glibc does it */

/* What every process of ours does to live: memory of its own, time, chance, waiting, the end. */
#define LIFE \
    { "brk", ANYHOW }, \
    { "munmap", ANYHOW }, \
    { "madvise", ANYHOW }, \
    { "mmap", { LACKS(2, PROT_EXEC), { 3, MAP_TYPE, MAP_PRIVATE } } }, \
    { "mremap", { INT(3, MREMAP_MAYMOVE) } }, \
    { "futex", { INT(1, FUTEX_WAKE_PRIVATE) } }, \
    { "clock_gettime", ANYHOW }, \
    { "gettimeofday", ANYHOW }, \
    { "time", ANYHOW }, \
    { "getrandom", ANYHOW }, \
    { "poll", ANYHOW }, \
    { "ppoll", ANYHOW }, \
    { "restart_syscall", ANYHOW }, /* of a poll, after SIGCONT */ \
    { "close", ANYHOW }, \
    { "exit_group", ANYHOW }

/* A mailbox, and the sealed memfds that come over it. */
#define MAIL \
    { "recvmsg", ANYHOW }, \
    { "sendto", { ONLY(3, MSG_DONTWAIT | MSG_NOSIGNAL), NO_POINTER(4) } }, \
    { "fcntl", { INT(1, F_GET_SEALS) } }, \
    { "fstat", ANYHOW }, \
    { "newfstatat", { INT(3, AT_EMPTY_PATH) } }, /* glibc's fstat */ \
    { "pread64", ANYHOW }

/*
 * A worker's connection; and, below, what only the nursery needs and what a child does before it
 * listens to anybody.  RLIMIT_NPROC 0 makes clone fail in a worker.
 *
 * Not here, among others: open, socket, socketpair, connect, accept, dup, fcntl but for seals,
 * memfd_create, prctl but for its name, kill, ptrace, execve, mprotect.  abort() ends a worker by its tgkill.
 */
const struct sandbox_call sandbox_worker_calls[] = {
    LIFE,
    MAIL,
    { "read",            ANYHOW },
    { "write",           ANYHOW },
    { "recvfrom",        ANYHOW },
    { "shutdown",        ANYHOW },
    { "ioctl",           { INT(1, SIOCOUTQ) } },
    { "setsockopt",      SOCKET_OPTION(SOL_SOCKET, SO_LINGER) },
    { "getsockopt",      SOCKET_OPTION(SOL_SOCKET, SO_LINGER) },
    { "getsockopt",      SOCKET_OPTION(SOL_SOCKET, SO_ERROR) },

    { "sendmsg",         { INT(0, SANDBOX_SENDMSG_FD) } },
    { "clone",           { { 0, UINT64_MAX, FORK } } },
    { "wait4",           ANYHOW },
    { "pidfd_open",      { INT(1, 0) } },
    { "rt_sigprocmask",  ANYHOW },
    { "set_robust_list", ANYHOW },
    { "close_range",     ANYHOW },
    { "prctl",           { INT(0, PR_SET_NAME) } },
    { "prlimit64",       { INT(0, 0) } }, /* its own */
    END
};

/* Reads one memfd, answers, ends. */
const struct sandbox_call sandbox_checker_calls[] = {
    LIFE,
    MAIL,
    END
};

const struct sandbox_call sandbox_key_decoder_calls[] = {
    LIFE,
    MAIL,
    END
};

/* Opens files for reading only; has no sockets but those that it is sent. */
const struct sandbox_call sandbox_keeper_calls[] = {
    LIFE,
    MAIL,
    { "epoll_ctl",       ANYHOW },
    { "epoll_pwait",     ANYHOW },
    { "epoll_wait",      ANYHOW },
    { "fcntl",           { INT(1, F_ADD_SEALS) } },
    { "fcntl",           { INT(1, F_GETFL) } },
    { "geteuid",         ANYHOW },
    { "getsockopt",      SOCKET_OPTION(SOL_SOCKET, SO_LINGER) },
    { "setsockopt",      SOCKET_OPTION(SOL_SOCKET, SO_LINGER) },
    { "lseek",           ANYHOW },
    { "memfd_create",    ANYHOW },
    { "mlock",           ANYHOW },
    { "newfstatat",      ANYHOW }, /* have the files changed? */
    { "openat",          { ONLY(2, O_NOCTTY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW) } },
    { "read",            ANYHOW },
    { "sendmsg",         ANYHOW },
    { "shutdown",        ANYHOW },
    { "write",           ANYHOW },
    END
};

/* getaddrinfo, with whatever name services the machine has; it may load them. */
const struct sandbox_call sandbox_resolver_calls[] = {
    LIFE,
    MAIL,
    { "access",          ANYHOW },
    { "bind",            ANYHOW },
    { "clock_nanosleep", ANYHOW },
    { "connect",         ANYHOW },
    { "faccessat",       ANYHOW },
    { "faccessat2",      ANYHOW },
    { "fcntl",           ANYHOW },
    { "futex",           ANYHOW },
    { "getegid",         ANYHOW },
    { "geteuid",         ANYHOW },
    { "getgid",          ANYHOW },
    { "getpeername",     ANYHOW },
    { "getpid",          ANYHOW },
    { "getsockname",     ANYHOW },
    { "getsockopt",      ANYHOW },
    { "gettid",          ANYHOW },
    { "getuid",          ANYHOW },
    { "ioctl",           { INT(1, FIONREAD) } },
    { "lseek",           ANYHOW },
    { "mmap",            ANYHOW },
    { "mprotect",        ANYHOW },
    { "newfstatat",      ANYHOW },
    { "openat",          { ONLY(2, O_CLOEXEC | O_NOFOLLOW | O_DIRECTORY | O_NONBLOCK | O_NOCTTY) } },
    { "read",            ANYHOW },
    { "readlink",        ANYHOW },
    { "readlinkat",      ANYHOW },
    { "readv",           ANYHOW },
    { "recvfrom",        ANYHOW },
    { "rt_sigaction",    ANYHOW },
    { "rt_sigprocmask",  ANYHOW },
    { "rt_sigreturn",    ANYHOW },
    { "sendmmsg",        ANYHOW },
    { "sendmsg",         ANYHOW },
    { "sendto",          ANYHOW },
    { "setsockopt",      ANYHOW },
    { "shutdown",        ANYHOW },
    { "socket",          ANYHOW },
    { "stat",            ANYHOW },
    { "statfs",          ANYHOW },
    { "statx",           ANYHOW },
    { "sysinfo",         ANYHOW },
    { "uname",           ANYHOW },
    { "write",           ANYHOW },
    { "writev",          ANYHOW },
    END
};

/* Sockets of all kinds, files that the configuration names, its loop.  It starts nothing. */
const struct sandbox_call sandbox_manager_calls[] = {
    LIFE,
    MAIL,
    { "accept4",         ANYHOW },
    { "bind",            ANYHOW },
    { "chmod",           ANYHOW },
    { "chown",           { INT(1, UINT32_MAX) } }, /* the group only */
    { "connect",         ANYHOW },
    { "epoll_create1",   ANYHOW },
    { "epoll_ctl",       ANYHOW },
    { "epoll_pwait",     ANYHOW },
    { "epoll_wait",      ANYHOW },
    { "eventfd2",        ANYHOW },
    { "fchmodat",        ANYHOW },
    { "fchownat",        { INT(2, UINT32_MAX) } },
    { "fcntl",           ANYHOW },
    { "ftruncate",       ANYHOW },
    { "futex",           ANYHOW },
    { "getegid",         ANYHOW },
    { "geteuid",         ANYHOW },
    { "getgid",          ANYHOW },
    { "getpeername",     ANYHOW },
    { "getpid",          ANYHOW },
    { "getsockname",     ANYHOW },
    { "getsockopt",      ANYHOW },
    { "gettid",          ANYHOW },
    { "getuid",          ANYHOW },
    { "ioctl",           { INT(1, FIONBIO) } },
    { "ioctl",           { INT(1, SIOCINQ) } },
    { "ioctl",           { INT(1, SIOCOUTQ) } },
    { "listen",          ANYHOW },
    { "lseek",           ANYHOW },
    { "memfd_create",    ANYHOW },
    { "mmap",            { LACKS(2, PROT_EXEC) } }, /* the ledger is shared */
    { "mprotect",        { LACKS(2, PROT_EXEC) } },
    { "newfstatat",      ANYHOW },
    { "openat",          ANYHOW },
    { "pidfd_open",      ANYHOW },
    { "pipe2",           ANYHOW },
    { "prlimit64",       { INT(0, 0) } },
    { "pwrite64",        ANYHOW },
    { "read",            ANYHOW },
    { "readlink",        ANYHOW },
    { "readlinkat",      ANYHOW },
    { "readv",           ANYHOW },
    { "recvfrom",        ANYHOW },
    { "rt_sigaction",    ANYHOW },
    { "rt_sigprocmask",  ANYHOW },
    { "rt_sigreturn",    ANYHOW },
    { "sendmsg",         ANYHOW },
    { "sendto",          ANYHOW },
    { "setsockopt",      ANYHOW },
    { "shutdown",        ANYHOW },
    { "socket",          ANYHOW },
    { "socketpair",      ANYHOW },
    { "stat",            ANYHOW },
    { "statx",           ANYHOW },
    { "tgkill",          { INT(2, SIGABRT) } }, /* abort() */
    { "timer_create",    ANYHOW },
    { "timer_delete",    ANYHOW },
    { "timer_settime",   ANYHOW },
    { "umask",           ANYHOW },
    { "uname",           ANYHOW },
    { "unlink",          ANYHOW },
    { "unlinkat",        ANYHOW },
    { "write",           ANYHOW },
    { "writev",          ANYHOW },
    END
};

/* clang-format on */
