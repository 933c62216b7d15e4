/*
 * A worker that is taken over: it stands where worker_run stands in a nursery that only tests have.
 * It reads which of attempts.def it is to try from its peer, tries, and tells the peer errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ipc/sandbox.h"
#include "worker/worker.h"

static char room[4096], more[4096];

/* getppid is not among a worker's calls; 1 is as good a victim. */
static const pid_t getppid_as_inherited = 1;

static long
pass_descriptor(int socket, int fd)
{
    char byte = 0;
    struct iovec iov = { &byte, 1 };
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .header = { CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };

    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    return sendmsg(socket, &message, 0);
}

static long
map(size_t size, int protection, int flags)
{
    void *at = mmap(NULL, size, protection, flags | MAP_ANONYMOUS, -1, 0);

    return at == MAP_FAILED ? -1 : 0;
}

static long
fork_and_leave(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid;
}

static long
set_limit(rlim_t value)
{
    struct rlimit limit = { value, value };

    return setrlimit(RLIMIT_NOFILE, &limit);
}

static long
raise_limit(void)
{
    return set_limit(4096);
}

static long
lower_limit(void)
{
    return set_limit(16);
}

#ifdef __x86_64__
static long
i386_call(void)
{
    long result;

    /* getpid by its number there */
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory");
    return result;
}
#endif

enum attempt {
#define ATTEMPT(name, outcome, error, expression, words) ATTEMPT_##name,
#include "tests/hostile/attempts.def"
#undef ATTEMPT
    ATTEMPT_COUNT
};

static long
try(const struct worker_start *start, enum attempt attempt)
{
    switch (attempt) {
#define ATTEMPT(name, outcome, error, expression, words) \
    case ATTEMPT_##name: \
        return expression;
#include "tests/hostile/attempts.def"
#undef ATTEMPT
    case ATTEMPT_COUNT:
        break;
    }
    errno = EINVAL;
    return -1;
}

_Noreturn void
worker_run(const struct worker_start *start)
{
    uint8_t number;
    int32_t answer;

    if (recv(start->peer, &number, 1, 0) != 1)
        _exit(1);
    answer = try(start, (enum attempt)number) == -1 ? errno : 0;
    (void)send(start->peer, &answer, sizeof answer, MSG_NOSIGNAL);
    _exit(0);
}
