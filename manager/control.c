#include "manager/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/secret.h"
#include "manager/descriptors.h"
#include "manager/in_flight.h"
#include "manager/manager.h"

enum {
    BACKLOG = 1024,
    ACCEPTS_PER_TURN = 64,
    PAUSE_MS = 100,
};

static struct {
    int fd;    /* owned; -1: not listening */
    int spare; /* owned; given up for a moment when there are no descriptors left */
    struct sockaddr_un address;
    dev_t device; /* of the socket in the file system */
    ino_t inode;
    uv_poll_t poll;
    uv_timer_t pause;
} control = { .fd = -1, .spare = -1 };

static bool fail(char *why, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool
fail(char *why, size_t size, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, size, format, arguments);
    va_end(arguments);
    return false;
}

/* --- accepting ----------------------------------------------------------------------------- */

static void on_readable(uv_poll_t *poll, int status, int events);

static void
on_pause_over(uv_timer_t *timer)
{
    (void)timer;
    if (control.fd >= 0)
        uv_poll_start(&control.poll, UV_READABLE, on_readable);
}

static void
pause_accepting(void)
{
    uv_poll_stop(&control.poll);
    uv_timer_start(&control.pause, on_pause_over, PAUSE_MS, 0);
}

/* One error line, for whoever cannot be a client now.  Takes fd. */
static void
turn_away(int fd, const char *which, uint32_t max)
{
    struct failure f;
    json_t *json;
    char *line;
    size_t size;

    failure_limit(&f, which, max);
    json = json_pack("{s:s, s:n, s:o}", "jsonrpc", "2.0", "id", "error", failure_json(&f));
    if (client_encode(json, &line, &size) == RESULT_OK) {
        (void)!send(fd, line, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        secret_free(line);
    }
    json_decref(json);
    failure_fini(&f);
    fd_close(&fd);
}

/* Out of descriptors: without the spare one the client could not even be sent away, and the
 * listening socket would stay readable for ever. */
static void
accept_with_spare(void)
{
    int fd;

    log_error("no descriptors are left for control clients");
    fd_close(&control.spare);
    fd = accept4(control.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        turn_away(fd, "descriptors", (uint32_t)clients_count());
    control.spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pause_accepting();
}

static bool
accept_one(void)
{
    int fd = accept4(control.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        accept_with_spare();
        return false;
    }
    if (descriptor_is_reserved(fd)) {
        log_error("no descriptors are left for control clients");
        turn_away(fd, "descriptors", (uint32_t)clients_count());
        pause_accepting();
        return false;
    }
    if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
        return true;
    if (fd < 0) {
        if (errno != EAGAIN) {
            log_error("control clients cannot be accepted error=%s", posix_name(errno));
            pause_accepting();
        }
        return false;
    }
    /* Who is gone and has left descriptors unread still takes its place. */
    if (clients_count() + in_flight_left() >= config.clients_max) {
        log_warn("a client was turned away clients_max=%u", config.clients_max);
        turn_away(fd, "clients", config.clients_max);
        return true;
    }
    client_new(fd);
    return true;
}

static void
on_readable(uv_poll_t *poll, int status, int events)
{
    (void)poll;
    (void)status;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        if (!accept_one())
            return;
    }
}

/* --- the socket ---------------------------------------------------------------------------- */

static bool
is_address(const char *path, char *why, size_t size)
{
    control.address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(control.address.sun_path))
        return fail(why, size, "%s: the path of a socket has at most %zu bytes", path,
                    sizeof(control.address.sun_path) - 1);
    strcpy(control.address.sun_path, path);
    return true;
}

/* A socket that nobody answers on was left by one that is dead. */
static bool
remove_stale(const char *path, char *why, size_t size)
{
    struct stat st;
    int error = 0;
    int fd;

    if (lstat(path, &st) != 0)
        return errno == ENOENT || fail(why, size, "%s: %s", path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return fail(why, size, "%s: something that is not a socket is there", path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return fail(why, size, "socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&control.address, sizeof(control.address)) != 0)
        error = errno;
    fd_close(&fd);
    if (error == ECONNREFUSED)
        return unlink(path) == 0 || fail(why, size, "%s: %s", path, strerror(errno));
    if (error == 0 || error == EAGAIN)
        return fail(why, size, "%s: another manager answers there", path);
    return fail(why, size, "%s: %s", path, strerror(error));
}

static bool
bind_socket(const char *path, char *why, size_t size)
{
    struct stat st;

    control.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (control.fd < 0)
        return fail(why, size, "socket: %s", strerror(errno));
    if (bind(control.fd, (const struct sockaddr *)&control.address, sizeof(control.address)) != 0)
        return fail(why, size, "%s: %s", path, strerror(errno));
    /* It is ours alone (umask 077) until here. */
    if (config.admin_group != (gid_t)-1 && chown(path, (uid_t)-1, config.admin_group) != 0)
        log_warn("the control socket cannot be given to admin_group error=%s", posix_name(errno));
    if (chmod(path, 0660) != 0 || listen(control.fd, BACKLOG) != 0 || lstat(path, &st) != 0)
        return fail(why, size, "%s: %s", path, strerror(errno));
    control.device = st.st_dev;
    control.inode = st.st_ino;
    return true;
}

bool
control_listen(const char *path, char *why, size_t why_size)
{
    if (!is_address(path, why, why_size) || !remove_stale(path, why, why_size))
        return false;
    if (!bind_socket(path, why, why_size)) {
        fd_close(&control.fd);
        return false;
    }
    control.spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
    uv_timer_init(manager_loop, &control.pause);
    if (uv_poll_init(manager_loop, &control.poll, control.fd) != 0 ||
        uv_poll_start(&control.poll, UV_READABLE, on_readable) != 0)
        return fail(why, why_size, "%s: the loop cannot wait for it", path);
    log_info("control socket listens path=\"%s\"", path);
    return true;
}

void
control_stop_listening(void)
{
    if (control.fd < 0)
        return;
    uv_timer_stop(&control.pause);
    uv_close((uv_handle_t *)&control.poll, NULL);
    fd_close(&control.fd);
    fd_close(&control.spare);
}

void
control_unlink(void)
{
    struct stat st;

    if (lstat(control.address.sun_path, &st) != 0)
        return;
    if (st.st_dev == control.device && st.st_ino == control.inode)
        unlink(control.address.sun_path);
}
