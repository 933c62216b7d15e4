#include "manager/connection_service.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/suites.h"
#include "manager/connection_exec.h"
#include "manager/deliver.h"
#include "manager/proxy.h"

/* --- a backend that cannot be had ----------------------------------------------------------- */

/* By the name of the error, as failures carry it. */
static const char *
hint_for(const char *error)
{
    static const struct {
        const char *error, *hint;
    } hints[] = {
        { "econnrefused", "nobody listens there: start the backend, or correct deliver.connect" },
        { "enoent", "there is no such socket: start the backend, or correct deliver.connect" },
        { "eacces", "Cordon's user may not connect to it: check the socket's mode and folder" },
        { "etimedout", "it does not accept: it is overloaded, or a firewall drops packets" },
        { "resolve", "the name is not known: correct deliver.connect, or check the name servers" },
    };

    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++) {
        if (strcmp(hints[i].error, error) == 0)
            return hints[i].hint;
    }
    return "check the backend's address and the network";
}

/* The peer is told by a fatal alert: it must not take this for an empty answer. */
static void
backend_failed(struct connection *c, struct failure *f)
{
    const char *error = json_string_value(json_object_get(f->fields, "posix"));
    const char *hint;

    if (error == NULL)
        error = result_name(f->reason);
    hint = hint_for(error);

    log_error("conn=%s backend cannot be reached listener=%s backend=\"%s\" error=%s hint=\"%s\"",
              c->handle, listener_handle(c->listener), c->deliver->target, error, hint);
    if (f->fields != NULL) {
        json_object_set_new(f->fields, "backend", json_string(c->deliver->target));
        json_object_set_new(f->fields, "hint", json_string(hint));
    }
    connection_decide(c, NULL, f);
    connection_ask(c, QUESTION_CLOSE, CLOSE_ALERT, NULL, -1, question_done);
    connection_step(c, CONNECTION_EVENT_CLOSE);
}

static void
backend_failed_by(struct connection *c, int error, const char *what)
{
    struct failure f;

    failure_posix(&f, error, what);
    backend_failed(c, &f);
}

void
connection_serve_late(struct connection *c)
{
    dial_cancel(c->dial);
    c->dial = NULL;
    exec_close(c->exec, false);
    c->exec = NULL;
    backend_failed_by(c, ETIMEDOUT, "reach the backend");
}

static void
on_not_connected(void *owner, struct failure *f)
{
    struct connection *c = owner;

    c->dial = NULL;
    backend_failed(c, f);
}

/* --- the backend's socket ------------------------------------------------------------------- */

/*
 * Until the worker has seen the peer's close_notify, whoever closes the last copy of this socket
 * resets it: neither a worker that is killed nor a peer that leaves while the backend is called
 * must look like one that has said everything.
 */
void
connection_serve_socket(int fd)
{
    const struct linger now = { .l_onoff = 1, .l_linger = 0 };
    const int one = 1;

    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void
send_data(struct connection *c, int fd, enum data_kind kind)
{
    struct message m;

    message_init(&m, MESSAGE_DATA);
    m.as.data.serial = 1;
    m.as.data.kind = kind;
    if (fd >= 0)
        m.fds[m.fd_count++] = fd;
    channel_send(c->channel, &m);
}

static const char *
version_for_openssl(uint32_t version)
{
    switch (version) {
    case TLS_1_3:
        return "TLSv1.3";
    case TLS_1_2:
        return "TLSv1.2";
    default:
        return NULL;
    }
}

/* A fresh socket takes the whole header at once. */
static bool
send_proxy_header(const struct connection *c, int fd)
{
    const struct facts *known = &c->facts;
    const struct suite *suite = known->suite <= UINT16_MAX ? suite_by_code((uint16_t)known->suite)
                                                           : NULL;
    const struct proxy_facts facts = {
        .source = &c->peername,
        .destination = &c->sockname,
        .alpn = known->alpn,
        .authority = known->server_name,
        .unique_id = c->handle,
        .version = version_for_openssl(known->version),
        .cipher = suite == NULL            ? NULL
                  : suite->openssl != NULL ? suite->openssl
                                           : suite->iana,
        .common_name = known->common_name,
        .has_certificate = known->peer_certificate > 0,
        .is_verified = known->verified,
    };
    uint8_t header[PROXY_WRITTEN_MAX];
    size_t size = proxy_write(header, &facts);
    ssize_t sent = send(fd, header, size, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent >= 0 && (size_t)sent < size)
        errno = ENOBUFS;
    return sent == (ssize_t)size;
}

static void
on_connected(void *owner, int fd)
{
    struct connection *c = owner;

    c->dial = NULL;
    if (c->deliver->proxy_header && !send_proxy_header(c, fd)) {
        int error = errno;

        fd_close(&fd);
        backend_failed_by(c, error, "send the PROXY header to the backend");
        return;
    }
    send_data(c, fd, DATA_SOCKET);
    fd_close(&fd);
    connection_step(c, CONNECTION_EVENT_DELIVERED);
}

static enum connection_event
serve_connect(struct connection *c)
{
    static const struct dial_events events = { connection_serve_socket, on_connected,
                                               on_not_connected };
    const struct deliver *d = c->deliver;

    connection_wait(c, d->connect_timeout_ms);
    c->dial = d->path[0] != '\0' ? dial_open_path(d->path, &events, c)
                                 : dial_open(d->host, d->port, d->connect_timeout_ms, &events, c);
    return CONNECTION_EVENT_NONE;
}

static void
on_running(void *owner, int fd)
{
    struct connection *c = owner;

    if (c->state != CONNECTION_DELIVERING)
        return;
    send_data(c, fd, DATA_PAIR);
    connection_step(c, CONNECTION_EVENT_DELIVERED);
}

static void
on_not_running(void *owner, int error)
{
    struct connection *c = owner;

    c->exec = NULL;
    if (c->state == CONNECTION_DELIVERING)
        backend_failed_by(c, error, "start the program");
}

static enum connection_event
serve_exec(struct connection *c)
{
    static const struct exec_events events = { on_running, on_not_running };

    connection_wait(c, c->deliver->connect_timeout_ms);
    c->exec = exec_open(c, &events, c);
    if (c->exec == NULL)
        backend_failed_by(c, errno, "start the program");
    return CONNECTION_EVENT_NONE;
}

enum connection_event
connection_serve(struct connection *c)
{
    c->is_given = true;
    switch (c->deliver->kind) {
    case DELIVER_ECHO:
        send_data(c, -1, DATA_ECHO);
        return CONNECTION_EVENT_DELIVERED;
    case DELIVER_CLIENT:
        send_data(c, c->plain, DATA_SOCKET);
        fd_close(&c->plain);
        return CONNECTION_EVENT_DELIVERED;
    case DELIVER_EXEC:
        return serve_exec(c);
    default:
        return serve_connect(c);
    }
}
