#include "ipc/fd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/secret.h"

enum { READ_ALL_MS = 1000 };

union control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(FD_MAX_RECEIVED * sizeof(int))];
};

void
fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void
close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

/* Copies out what the control buffer holds; at most FD_MAX_RECEIVED. */
static size_t
collect_fds(struct msghdr *message, int *fds)
{
    size_t count = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        size_t size;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size = c->cmsg_len - CMSG_LEN(0);
        assert(count + size / sizeof(int) <= FD_MAX_RECEIVED);
        memcpy(fds + count, CMSG_DATA(c), size);
        count += size / sizeof(int);
    }
    return count;
}

enum result
fd_receive(int socket, void *bytes, size_t *size, int *fds, size_t *fd_count, int flags)
{
    struct iovec iov = { bytes, *size };
    union control control;
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    int received[FD_MAX_RECEIVED];
    size_t count;
    ssize_t got;

    memset(&control, 0, sizeof control);
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    do {
        got = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? RESULT_WOULD_BLOCK : RESULT_CHANNEL_FAILED;
    count = collect_fds(&message, received);
    if (message.msg_flags & MSG_TRUNC) {
        close_all(received, count);
        return RESULT_MESSAGE_TOO_LONG;
    }
    if (message.msg_flags & MSG_CTRUNC || count > *fd_count) {
        close_all(received, count);
        return RESULT_DESCRIPTORS;
    }
    memcpy(fds, received, count * sizeof *fds);
    *fd_count = count;
    *size = (size_t)got;
    return RESULT_OK;
}

enum result
fd_send(int socket, const void *bytes, size_t *size, const int *fds, size_t fd_count, int flags)
{
    struct iovec iov = { (void *)bytes, *size };
    union control control;
    struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t sent;

    assert(fd_count <= FD_MAX_RECEIVED);
    if (fd_count > 0) {
        memset(&control, 0, sizeof control.header);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof(int));
    }
    /* A worker's filter knows only the one that cannot pass descriptors on. */
    do {
        sent = fd_count > 0 ? sendmsg(socket, &message, flags | MSG_NOSIGNAL)
                            : send(socket, bytes, *size, flags | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        if (errno == EAGAIN || errno == ENOBUFS)
            return RESULT_WOULD_BLOCK;
        if (errno == ETOOMANYREFS)
            return RESULT_CHANNEL_BUSY;
        if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
            return RESULT_CHANNEL_CLOSED;
        return RESULT_CHANNEL_FAILED;
    }
    *size = (size_t)sent;
    return RESULT_OK;
}

static int
socket_option(int fd, int option, int missing)
{
    int value;
    socklen_t size = sizeof value;

    return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : missing;
}

static bool
is_tcp_or_unix_stream(int fd)
{
    int domain = socket_option(fd, SO_DOMAIN, -1);

    if (socket_option(fd, SO_TYPE, -1) != SOCK_STREAM)
        return false;
    if (domain == AF_UNIX)
        return true;
    return (domain == AF_INET || domain == AF_INET6) &&
           socket_option(fd, SO_PROTOCOL, -1) == IPPROTO_TCP;
}

bool
fd_is_connected_stream(int fd)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;

    return is_tcp_or_unix_stream(fd) && getpeername(fd, (struct sockaddr *)&peer, &size) == 0;
}

bool
fd_is_listening_stream(int fd)
{
    return is_tcp_or_unix_stream(fd) && socket_option(fd, SO_ACCEPTCONN, 0) == 1;
}

bool
fd_is_seqpacket(int fd)
{
    return socket_option(fd, SO_DOMAIN, -1) == AF_UNIX &&
           socket_option(fd, SO_TYPE, -1) == SOCK_SEQPACKET;
}

bool
fd_is_regular_file(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

uint64_t
fd_cookie(int fd)
{
    uint64_t cookie;
    socklen_t size = sizeof cookie;

    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

enum result
fd_set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return RESULT_POSIX;
    return RESULT_OK;
}

void
fd_disarm_linger(int fd)
{
    struct linger linger;
    socklen_t size = sizeof linger;

    if (getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &size) == 0 && linger.l_onoff &&
        linger.l_linger > 0) {
        linger.l_onoff = 0;
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
}

static bool
write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

enum result
memfd_sealed(int *fd, const char *name, const void *bytes, size_t size)
{
    int made = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (made < 0)
        return RESULT_POSIX;
    if (!write_all(made, bytes, size) ||
        fcntl(made, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
        fd_close(&made);
        return RESULT_POSIX;
    }
    *fd = made;
    return RESULT_OK;
}

enum result
memfd_read(int fd, size_t max, uint8_t **bytes, size_t *size)
{
    int wanted = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat status;
    uint8_t *copy;
    size_t at = 0;

    if (seals < 0 || (seals & wanted) != wanted || fstat(fd, &status) < 0 ||
        (uint64_t)status.st_size > max)
        return RESULT_NOT_SEALED;
    copy = malloc((size_t)status.st_size + 1);
    if (copy == NULL)
        return RESULT_NO_MEMORY;
    while (at < (size_t)status.st_size) {
        ssize_t got = pread(fd, copy + at, (size_t)status.st_size - at, (off_t)at);

        if (got <= 0) {
            secret_free(copy);
            return RESULT_NOT_SEALED;
        }
        at += (size_t)got;
    }
    copy[at] = '\0';
    *bytes = copy;
    *size = at;
    return RESULT_OK;
}

/* Reads what is there now: pread for files, which have a start; else read, which poll announced. */
static ssize_t
read_some(int fd, bool is_file, uint8_t *bytes, size_t size, size_t at, int64_t deadline_ms)
{
    struct pollfd ready = { .fd = fd, .events = POLLIN };

    if (is_file)
        return pread(fd, bytes, size, (off_t)at);
    if (poll(&ready, 1, clock_poll_timeout(deadline_ms)) == 0) {
        errno = ETIMEDOUT;
        return -1;
    }
    return read(fd, bytes, size);
}

enum result
fd_read_all(int fd, size_t max, uint8_t **bytes, size_t *size)
{
    int64_t deadline_ms = clock_now_ms() + READ_ALL_MS;
    bool is_file = fd_is_regular_file(fd);
    uint8_t *copy = malloc(max + 2);
    size_t at = 0;
    ssize_t got;
    int error;

    if (copy == NULL)
        return RESULT_NO_MEMORY;
    do {
        got = read_some(fd, is_file, copy + at, max + 1 - at, at, deadline_ms);
        if (got > 0)
            at += (size_t)got;
    } while ((got > 0 && at <= max) || (got < 0 && errno == EINTR));
    if (got >= 0 && at <= max) {
        copy[at] = '\0';
        *bytes = copy;
        *size = at;
        return RESULT_OK;
    }
    error = errno;
    secret_free(copy);
    errno = error;
    if (got > 0)
        return RESULT_LIMIT;
    return error == ETIMEDOUT ? RESULT_TIMEOUT : RESULT_POSIX;
}
