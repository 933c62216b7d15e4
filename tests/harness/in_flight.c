#include "tests/harness/in_flight.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fd.h"

enum { UID_OF_NOBODY_ELSE = 65501 };

static bool
send_some(int socket, size_t count)
{
    int fds[FD_MAX_RECEIVED];
    size_t size = 1;

    for (size_t i = 0; i < count; i++)
        fds[i] = STDERR_FILENO;
    return fd_send(socket, "", &size, fds, count, MSG_DONTWAIT) == RESULT_OK;
}

bool
harness_in_flight_fill(int pair[2], size_t count)
{
    pair[0] = pair[1] = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    while (count > 0) {
        size_t some = count < FD_MAX_RECEIVED ? count : FD_MAX_RECEIVED;

        if (!send_some(pair[0], some))
            return false;
        count -= some;
    }
    return true;
}

static _Noreturn void
fill_and_wait(uid_t uid, size_t count, int ready)
{
    int pair[2];

    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || setresuid(uid, uid, uid) != 0 ||
        !harness_in_flight_fill(pair, count) || write(ready, "\n", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

pid_t
harness_in_flight_start(uid_t uid, size_t count)
{
    int ready[2];
    char byte;
    pid_t pid;

    if (pipe2(ready, O_CLOEXEC) != 0)
        return -1;
    pid = fork();
    if (pid == 0)
        fill_and_wait(uid, count, ready[1]);
    fd_close(&ready[1]);
    if (pid > 0 && read(ready[0], &byte, 1) != 1) {
        harness_in_flight_stop(pid);
        pid = -1;
    }
    fd_close(&ready[0]);
    return pid;
}

void
harness_in_flight_stop(pid_t pid)
{
    if (pid <= 0) /* it did not start; -1 would be every process there is */
        return;
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
}

int
harness_in_flight_run(bool (*test)(void))
{
    const struct rlimit few = { HARNESS_IN_FLIGHT_MAX, HARNESS_IN_FLIGHT_MAX };
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        if ((geteuid() == 0 &&
             setresuid(UID_OF_NOBODY_ELSE, UID_OF_NOBODY_ELSE, UID_OF_NOBODY_ELSE) != 0) ||
            setrlimit(RLIMIT_NOFILE, &few) != 0)
            _exit(2);
        _exit(test() ? 1 : 0);
    }
    return waitpid(pid, &status, 0) == pid ? status : -1;
}
