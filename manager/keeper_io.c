#include "manager/keeper_io.h"

#include <stdlib.h>
#include <sys/epoll.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"

enum { TELL_TIMEOUT_MS = 5000 };

enum result
keeper_io_watch(struct keeper_io *io, struct keeper_watch *watch)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = watch };

    return epoll_ctl(io->epoll, EPOLL_CTL_ADD, watch->fd, &event) == 0 ? RESULT_OK : RESULT_POSIX;
}

void
keeper_io_close(struct keeper_io *io, struct keeper_watch *watch)
{
    (void)epoll_ctl(io->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    fd_close(&watch->fd);
}

void
keeper_io_tell(struct keeper_io *io, const struct message *m)
{
    enum result result = mailbox_send_wait(io->manager, m, clock_now_ms() + TELL_TIMEOUT_MS);

    if (result == RESULT_OK)
        return;
    log_error("manager does not take %s: %s", message_name(m->type), result_name(result));
    exit(result == RESULT_CHANNEL_CLOSED ? EXIT_SUCCESS : EXIT_FAILURE);
}
