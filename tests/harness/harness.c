#include "tests/harness/harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/fd.h"

enum { LOOK_AGAIN_MS = 20 };

int64_t
harness_now_ms(void)
{
    return clock_now_ms();
}

int64_t
harness_deadline(int64_t wait_ms)
{
    return clock_now_ms() + wait_ms;
}

bool
harness_wait_fd(int fd, short events, int64_t deadline_ms)
{
    struct pollfd one = { .fd = fd, .events = events };
    int got;

    do
        got = poll(&one, 1, clock_poll_timeout(deadline_ms));
    while (got < 0 && errno == EINTR);
    return got > 0;
}

bool
harness_wait_until(bool (*condition)(void *context), void *context, int64_t deadline_ms)
{
    while (!condition(context)) {
        if (clock_now_ms() >= deadline_ms)
            return condition(context);
        poll(NULL, 0, LOOK_AGAIN_MS);
    }
    return true;
}

bool
harness_is_full(void)
{
    const char *full = getenv("CORDON_FULL");

    return full != NULL && strcmp(full, "1") == 0;
}

size_t
harness_count(size_t few, size_t full)
{
    const char *text = getenv("CORDON_SCALE");
    size_t scale = text != NULL ? strtoul(text, NULL, 10) : 1;
    size_t count = scale > 1 ? full / scale : full;

    if (!harness_is_full())
        return few;
    return count > few ? count : few;
}

const char *
harness_root(void)
{
    const char *root = getenv("CORDON_ROOT");

    if (root != NULL)
        return root;
    fputs("CORDON_ROOT has to name the folder with bin/ and libexec/\n", stderr);
    exit(EXIT_FAILURE);
}

/* --- Files ---------------------------------------------------------------------------------- */

char *
harness_read_file(const char *path, size_t *size)
{
    size_t room = 1 << 16, used = 0;
    char *text = malloc(room);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : 1;

    while (text != NULL && got > 0) {
        if (used + 1 == room) {
            char *more = realloc(text, 2 * room);

            if (more == NULL)
                break;
            text = more;
            room *= 2;
        }
        got = read(fd, text + used, room - used - 1);
        used += got > 0 ? (size_t)got : 0;
    }
    fd_close(&fd);
    if (text == NULL || got < 0) {
        free(text);
        return NULL;
    }
    text[used] = '\0';
    if (size != NULL)
        *size = used;
    return text;
}

bool
harness_write_file(const char *path, const void *bytes, size_t size, unsigned mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    bool is_written = fd >= 0 && fchmod(fd, mode) == 0 && write(fd, bytes, size) == (ssize_t)size;

    fd_close(&fd);
    return is_written;
}

char *
harness_make_folder(void)
{
    char *folder = strdup("/tmp/cordon-test-XXXXXX");

    if (folder == NULL || mkdtemp(folder) == NULL || chmod(folder, 0755) != 0) {
        perror("a folder below /tmp");
        exit(EXIT_FAILURE);
    }
    return folder;
}

static int
remove_entry(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info, (void)kind, (void)at;
    (void)remove(path);
    return 0;
}

void
harness_remove_folder(char *folder)
{
    if (folder != NULL)
        (void)nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(folder);
}

long
harness_uid(const char *user)
{
    const struct passwd *entry = getpwnam(user);

    return entry != NULL ? (long)entry->pw_uid : -1;
}

/* --- Sockets -------------------------------------------------------------------------------- */

int
harness_listen_tcp(uint16_t *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && bind(fd, (const struct sockaddr *)&address, size) == 0 &&
        listen(fd, 1024) == 0 && getsockname(fd, (struct sockaddr *)&address, &size) == 0) {
        *port = ntohs(address.sin_port);
        return fd;
    }
    fd_close(&fd);
    return -1;
}

int
harness_connect_tcp(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        fd_close(&fd);
    return fd;
}

bool
harness_tcp_pair(int pair[2])
{
    uint16_t port = 0;
    int listener = harness_listen_tcp(&port);

    pair[0] = listener < 0 ? -1 : harness_connect_tcp(port);
    pair[1] = pair[0] < 0 ? -1 : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    fd_close(&listener);
    if (pair[1] < 0)
        fd_close(&pair[0]);
    return pair[1] >= 0;
}

bool
harness_write_all(int fd, const void *bytes, size_t size, int64_t deadline_ms)
{
    const uint8_t *at = bytes;

    while (size > 0) {
        ssize_t sent;

        if (!harness_wait_fd(fd, POLLOUT, deadline_ms))
            return false;
        sent = send(fd, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == ENOTSOCK)
            sent = write(fd, at, size);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        at += sent > 0 ? sent : 0;
        size -= sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

bool
harness_read_all(int fd, void *bytes, size_t size, int64_t deadline_ms)
{
    uint8_t *at = bytes;

    while (size > 0) {
        ssize_t got;

        if (!harness_wait_fd(fd, POLLIN, deadline_ms))
            return false;
        got = read(fd, at, size);
        if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        at += got > 0 ? got : 0;
        size -= got > 0 ? (size_t)got : 0;
    }
    return true;
}

bool
harness_read_end(int fd, int64_t deadline_ms)
{
    char byte;

    return harness_wait_fd(fd, POLLIN, deadline_ms) && read(fd, &byte, 1) == 0;
}

size_t
harness_own_descriptors(void)
{
    size_t count = 0;
    DIR *entries = opendir("/proc/self/fd");

    while (entries != NULL && readdir(entries) != NULL)
        count++;
    if (entries != NULL)
        closedir(entries);
    return count > 3 ? count - 3 : 0; /* ., .., and the folder's own */
}
