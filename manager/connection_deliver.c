#include "manager/connection_deliver.h"

#include <errno.h>
#include <time.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "manager/connection.h"
#include "manager/connection_service.h"
#include "manager/frames.h"

/* The connection may be gone when the line is: it is found again by its number. */
static void
on_written(void *data, bool ok)
{
    struct connection *c = connection_by_number((uint64_t)(uintptr_t)data);

    if (c == NULL)
        return;
    if (ok)
        connection_step(c, CONNECTION_EVENT_DELIVERED);
    else
        connection_end(c, "owner_gone", NULL);
}

static json_t *
delivery_line(const struct connection *c, bool is_handshake, bool is_event)
{
    json_t *line = json_object();

    if (is_event)
        json_object_set_new(line, "listener", json_string(listener_handle(c->listener)));
    if (!is_handshake)
        json_object_set_new(line, "conn", json_string(c->handle));
    json_object_set_new(line, "info", connection_info(c));
    if (c->options.delivery == DELIVERY_DESCRIPTOR)
        json_object_set_new(line, "data", json_pack("{s:i}", "fd_index", 0));
    return line;
}

static void
write_line(struct connection *c, int owner_end)
{
    struct request *r = c->request;
    bool is_handshake = !c->is_unasked && c->listener != NULL;
    json_t *line = delivery_line(c, is_handshake, r == NULL);
    void *number = (void *)(uintptr_t)c->number;

    c->request = NULL;
    c->is_given = true;
    if (r == NULL) {
        client_event(owner_client(c->owner), "ssl_accepted", line, owner_end,
                     owner_end >= 0 ? on_written : NULL, number);
        fd_close(&owner_end);
    } else if (owner_end >= 0) {
        request_reply_fd(r, line, owner_end, on_written, number);
    } else {
        request_reply(r, line);
    }
}

enum connection_event
connection_deliver(struct connection *c)
{
    int pair[2];
    struct message m;
    struct failure f;

    if (c->deliver != NULL)
        return connection_serve(c);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        failure_posix(&f, errno, "socketpair");
        connection_decide(c, NULL, &f);
        return CONNECTION_EVENT_CLOSE;
    }
    c->data_cookie = fd_cookie(pair[0]);
    message_init(&m, MESSAGE_DATA);
    m.as.data.serial = 1;
    m.fds[0] = pair[1];
    m.fd_count = 1;
    channel_send(c->channel, &m);
    fd_close(&pair[1]);
    if (c->options.delivery == DELIVERY_DESCRIPTOR) {
        write_line(c, pair[0]);
        return CONNECTION_EVENT_NONE;
    }
    c->frames = frames_open(c, pair[0]);
    write_line(c, -1);
    return CONNECTION_EVENT_DELIVERED;
}
