#include "manager/connection_exec.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "ipc/suites.h"
#include "manager/descriptors.h"
#include "manager/manager.h"

enum { GOODBYE_MS = 10000, HANG_UP_MS = 5000 };

struct exec {
    char handle[40];
    const struct exec_events *events;
    void *owner; /* borrowed; NULL: the connection is over, or it has failed */
    struct channel *channel;
    struct child *child; /* NULL: it has ended */
    int pidfd;           /* owned; -1 */
    int fd;              /* owned: a copy of the worker's end; -1 */
    bool expects_pidfd;
    bool is_ready;       /* the launcher has said that it executes */
    bool is_running;
    bool is_killed, is_hung_up;
    uv_timer_t timer;
};

/* --- what the program is told --------------------------------------------------------------- */

/* Strings with a NUL behind each. */
struct strings {
    char bytes[LAUNCH_MAX];
    size_t size;
};

/* The one door to environments: what is not printable ASCII is a question mark. */
static void
add_string(struct strings *s, const char *name, const char *text)
{
    size_t room = sizeof(s->bytes) - s->size;
    int size = snprintf(s->bytes + s->size, room, "%s=%s", name, text);

    if (size < 0 || (size_t)size >= room)
        return;
    for (char *at = s->bytes + s->size; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~')
            *at = '?';
    }
    s->size += (size_t)size + 1;
}

static void
add_known(struct strings *s, const char *name, const char *text)
{
    if (text != NULL && text[0] != '\0')
        add_string(s, name, text);
}

/* As UCSPI has it, for programs that know TCP and for those that know TLS. */
static void
add_address(struct strings *s, const char *which, const struct address *a)
{
    static const char *const layers[] = { "TCP", "SSL" };
    json_t *json = address_json(a);
    const char *ip = json_string_value(json_object_get(json, "address"));
    char name[32], port[16];

    snprintf(port, sizeof(port), "%d", (int)json_integer_value(json_object_get(json, "port")));
    for (size_t i = 0; ip != NULL && i < sizeof(layers) / sizeof(layers[0]); i++) {
        snprintf(name, sizeof(name), "%s%sIP", layers[i], which);
        add_string(s, name, ip);
        snprintf(name, sizeof(name), "%s%sPORT", layers[i], which);
        add_string(s, name, port);
    }
    json_decref(json);
}

static const char *
version_word(uint32_t version)
{
    return version == TLS_1_3 ? "TLSv1.3" : version == TLS_1_2 ? "TLSv1.2" : NULL;
}

static void
add_tls(struct strings *s, const struct facts *f)
{
    const struct suite *suite = f->suite <= UINT16_MAX ? suite_by_code((uint16_t)f->suite) : NULL;

    add_known(s, "SSL_PROTOCOL", version_word(f->version));
    if (suite != NULL)
        add_string(s, "SSL_CIPHER", suite->openssl != NULL ? suite->openssl : suite->iana);
    add_known(s, "SSL_TLS_SNI_SERVERNAME", f->server_name);
    add_known(s, "SSL_ALPN", f->alpn);
    if (f->peer_certificate == 0)
        return;
    add_known(s, "SSL_PEER_CERT_SUBJECT", f->subject);
    add_known(s, "SSL_PEER_CERT_SUBJECT_CN", f->common_name);
    add_known(s, "SSL_PEER_CERT_SHA256", f->sha256);
    add_string(s, "SSL_PEER_CERT_VERIFIED", f->verified ? "1" : "0");
}

/* Gives the sealed memfd; -1: errno. */
static int
strings_for(const struct connection *c)
{
    struct strings *s = calloc(1, sizeof(*s));
    enum result result;
    size_t i;
    json_t *argument;
    int memfd = -1;

    assert(s != NULL);
    json_array_foreach (c->deliver->exec, i, argument) {
        size_t size = json_string_length(argument) + 1;

        assert(s->size + size <= sizeof(s->bytes)); /* 64 of 1 KiB */
        memcpy(s->bytes + s->size, json_string_value(argument), size);
        s->size += size;
    }
    add_string(s, "PATH", "/usr/local/bin:/usr/bin:/bin");
    add_string(s, "PROTO", "SSL");
    add_string(s, "CORDON_CONN", c->handle);
    add_address(s, "REMOTE", &c->peername);
    add_address(s, "LOCAL", &c->sockname);
    add_tls(s, &c->facts);
    result = memfd_sealed(&memfd, "launch", s->bytes, s->size);
    free(s);
    return result == RESULT_OK ? memfd : -1;
}

/* --- its life ------------------------------------------------------------------------------- */

static void
on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* Once the process has ended and the connection does not need it. */
static void
free_if_done(struct exec *e)
{
    if (e->child != NULL || e->owner != NULL)
        return;
    channel_close(e->channel);
    e->channel = NULL;
    fd_close(&e->pidfd);
    fd_close(&e->fd);
    uv_close((uv_handle_t *)&e->timer, on_timer_closed);
}

static void
exec_signal(struct exec *e, int number)
{
    if (e->pidfd >= 0)
        tree_signal(e->pidfd, number);
}

static void
exec_kill(struct exec *e)
{
    e->is_killed = true;
    exec_signal(e, SIGKILL);
}

static void
on_late(uv_timer_t *timer)
{
    struct exec *e = timer->data;

    if (e->is_hung_up) {
        exec_kill(e);
        return;
    }
    e->is_hung_up = true;
    log_info("conn=%s program is told to end signal=SIGHUP", e->handle);
    exec_signal(e, SIGHUP);
    uv_timer_start(timer, on_late, HANG_UP_MS, 0);
}

void
exec_close(struct exec *e, bool is_clean)
{
    if (e == NULL)
        return;
    e->owner = NULL;
    if (is_clean && e->child != NULL) {
        fd_close(&e->fd); /* whatever it still writes is refused */
        uv_timer_start(&e->timer, on_late, GOODBYE_MS, 0);
    } else if (e->child != NULL) {
        exec_kill(e);
    }
    free_if_done(e);
}

static void
exec_fail(struct exec *e, int error)
{
    void *owner = e->owner;

    if (owner == NULL || e->is_running)
        return;
    exec_close(e, false);
    e->events->on_failed(owner, error);
}

/* --- the launcher --------------------------------------------------------------------------- */

static void
on_message(void *owner, struct message *m)
{
    struct exec *e = owner;

    if (m->type == MESSAGE_LOG)
        log_forward((enum log_level)m->as.log.level, "launcher", m->as.log.line);
    else if (m->type == MESSAGE_LAUNCHED && m->as.launched.error == 0)
        e->is_ready = true;
    else if (m->type == MESSAGE_LAUNCHED)
        exec_fail(e, (int)m->as.launched.error);
}

/* execve closes its end of the mailbox, when it works. */
static void
on_end(void *owner, enum result result, const char *why)
{
    struct exec *e = owner;

    (void)why;
    channel_close(e->channel);
    e->channel = NULL;
    if (e->owner == NULL || e->is_running)
        return;
    if (result != RESULT_CHANNEL_CLOSED || !e->is_ready) {
        exec_fail(e, ECHILD);
        return;
    }
    e->is_running = true;
    e->events->on_running(e->owner, e->fd);
    if (e->child == NULL)
        fd_close(&e->fd);
}

static void
expect_no_pidfd(struct exec *e)
{
    if (e->expects_pidfd)
        descriptors_expect(-1);
    e->expects_pidfd = false;
}

static void
on_started(void *owner, uint32_t pid, int pidfd)
{
    struct exec *e = owner;

    e->pidfd = pidfd;
    expect_no_pidfd(e);
    log_debug("conn=%s program started pid=%u", e->handle, pid);
    if (e->is_killed)
        exec_kill(e);
}

static void
on_ended(void *owner, int error, int status)
{
    struct exec *e = owner;

    e->child = NULL;
    expect_no_pidfd(e);
    if (e->is_running) /* else the worker does not have it yet */
        fd_close(&e->fd);
    if (error != 0 && e->owner != NULL) {
        exec_fail(e, error);
        return;
    }
    if (error != 0)
        log_info("conn=%s program did not start error=%s", e->handle, posix_name(error));
    else if (WIFSIGNALED(status))
        log_info("conn=%s program ended signal=SIG%s", e->handle,
                 sigabbrev_np(WTERMSIG(status)) != NULL ? sigabbrev_np(WTERMSIG(status)) : "?");
    else
        log_info("conn=%s program ended exit_status=%d", e->handle, WEXITSTATUS(status));
    free_if_done(e);
}

static bool
make_descriptors(const struct connection *c, int mailbox[2], int pair[2], int *strings)
{
    if (mailbox_pair(mailbox, MESSAGE_MAX) != RESULT_OK)
        return false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    *strings = strings_for(c);
    return *strings >= 0;
}

struct exec *
exec_open(const struct connection *c, const struct exec_events *events, void *owner)
{
    static const struct channel_kind launcher_channel = { .name = "launcher",
                                                          .receives = LAUNCHER_TO_MANAGER,
                                                          .message_max = MESSAGE_MAX,
                                                          .queue_max = 4,
                                                          .on_message = on_message,
                                                          .on_end = on_end };
    static const struct child_events child_events = { on_started, on_ended };
    int mailbox[2] = { -1, -1 }, pair[2] = { -1, -1 }, strings = -1, status;
    struct failure f;
    struct exec *e;
    struct message m;

    if (!descriptors_have_room(&f)) {
        failure_fini(&f);
        errno = EMFILE;
        return NULL;
    }
    if (!make_descriptors(c, mailbox, pair, &strings)) {
        int error = errno;

        fd_close(&mailbox[0]), fd_close(&mailbox[1]);
        fd_close(&pair[0]), fd_close(&pair[1]);
        errno = error;
        return NULL;
    }
    e = calloc(1, sizeof(*e));
    assert(e != NULL);
    snprintf(e->handle, sizeof(e->handle), "%s", c->handle);
    e->events = events;
    e->owner = owner;
    e->pidfd = -1;
    e->fd = pair[0];
    e->expects_pidfd = true;
    descriptors_expect(1);
    status = uv_timer_init(manager_loop, &e->timer);
    assert(status == 0);
    e->timer.data = e;
    e->channel = channel_open(mailbox[0], &launcher_channel, e);
    e->child = tree_launch(c->deliver->user, mailbox[1], &child_events, e);
    message_init(&m, MESSAGE_LAUNCH);
    m.as.launch.argument_count = (uint32_t)json_array_size(c->deliver->exec);
    m.fds[0] = pair[1];
    m.fds[1] = strings;
    m.fd_count = 2;
    channel_send(e->channel, &m);
    fd_close(&pair[1]);
    fd_close(&strings);
    return e;
}
