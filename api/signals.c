#include "api/signals.h"

#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

int
signals_open(const int *more)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    for (; more && *more; more++)
        sigaddset(&signals, *more);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
}

int
signals_read(int fd, int *code)
{
    struct signalfd_siginfo info;

    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return 0;
    *code = info.ssi_code;
    return (int)info.ssi_signo;
}
