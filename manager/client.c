#include "manager/client_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/message.h"
#include "manager/events.h"
#include "manager/manager.h"

enum {
    LEFT_MS = 1000, /* how often to look for what clients have left unread */
    GROUPS_MAX = 256,
    BUCKETS = 1024,
};

TAILQ_HEAD(client_queue, client);

static struct client_queue clients = TAILQ_HEAD_INITIALIZER(clients);
static LIST_HEAD(, client) buckets[BUCKETS];
static size_t client_count;
static uint64_t last_number;
static uv_timer_t end_timer, left_timer;
static void (*on_all_ended)(void);

/* --- facts ------------------------------------------------------------------------------------- */

uint64_t
client_number(const struct client *c)
{
    return c->number;
}

const char *
client_handle(const struct client *c)
{
    return c->handle;
}

uid_t
client_uid(const struct client *c)
{
    return c->uid;
}

bool
client_is_operator(const struct client *c)
{
    /* What the kernel shows for a uid of another namespace matches nobody. */
    return c->uid != 65534 && (c->uid == geteuid() || c->uid == 0);
}

bool
client_is_administrator(const struct client *c)
{
    return client_is_operator(c) || c->is_in_admin_group;
}

bool
client_is_gone(const struct client *c)
{
    return c->state == CLIENT_GONE;
}

struct client *
client_by_number(uint64_t number)
{
    struct client *c;

    LIST_FOREACH(c, &buckets[number % BUCKETS], in_bucket)
    {
        if (c->number == number)
            return c;
    }
    return NULL;
}

size_t
clients_count(void)
{
    return client_count;
}

struct client *
clients_after(uint64_t number)
{
    struct client *c;

    TAILQ_FOREACH(c, &clients, in_order)
    {
        if (c->number > number)
            return c;
    }
    return NULL;
}

struct line_reader *
client_reader(struct client *c)
{
    return &c->reader;
}

struct request_list *
client_requests(struct client *c)
{
    return &c->requests;
}

size_t
client_request_count(const struct client *c)
{
    return c->request_count;
}

void
client_set_name(struct client *c, const char *name)
{
    log_escape(c->name, sizeof(c->name), name, strlen(name));
    log_info("client=%s name=\"%s\"", c->handle, c->name);
}

json_t *
client_row(const struct client *c)
{
    uint32_t connections = 0, listeners = 0;

    connections_count(c, &connections, &listeners);
    return json_pack("{s:s, s:s?, s:I, s:I, s:I, s:I, s:I, s:I}", "client", c->handle, "name",
                     c->name[0] ? c->name : NULL, "uid", (json_int_t)c->uid, "pid",
                     (json_int_t)c->pid, "connections", (json_int_t)connections, "listeners",
                     (json_int_t)listeners, "requests", (json_int_t)c->request_count, "opened",
                     (json_int_t)c->opened_ms);
}

/* --- coming and going -------------------------------------------------------------------------- */

static bool
is_in_group(int fd, gid_t first, gid_t wanted)
{
    gid_t groups[GROUPS_MAX];
    socklen_t size = sizeof(groups);

    if (wanted == (gid_t)-1)
        return false;
    if (first == wanted)
        return true;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) != 0)
        return false;
    for (size_t i = 0; i < size / sizeof(groups[0]); i++) {
        if (groups[i] == wanted)
            return true;
    }
    return false;
}

static void
on_handle_closed(uv_handle_t *handle)
{
    struct client *c = handle->data;

    if (--c->handles_open == 0 && c->request_count == 0)
        free(c);
}

static bool
open_handles(struct client *c)
{
    uv_timer_init(manager_loop, &c->timer);
    c->timer.data = c;
    c->handles_open = 1;
    if (uv_poll_init(manager_loop, &c->poll, c->fd) != 0)
        return false;
    c->poll.data = c;
    c->handles_open = 2;
    return true;
}

static void
on_left_timer(uv_timer_t *timer)
{
    in_flight_look();
    if (in_flight_left() == 0)
        uv_timer_stop(timer);
}

static void
close_handles(struct client *c)
{
    if (c->handles_open == 2)
        uv_close((uv_handle_t *)&c->poll, on_handle_closed);
    uv_close((uv_handle_t *)&c->timer, on_handle_closed);
    /* cordond lets go of its copy later; the client's end of file is now. */
    shutdown(c->fd, SHUT_RDWR);
    c->fd = -1;
    in_flight_leave(&c->in_flight);
    if (in_flight_left() > 0 && !uv_is_active((uv_handle_t *)&left_timer))
        uv_timer_start(&left_timer, on_left_timer, LEFT_MS, LEFT_MS);
}

static int64_t
now_since_1970_ms(void)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    return (int64_t)now.tv_sec * 1000 + now.tv_usec / 1000;
}

static void
enter(struct client *c)
{
    c->number = ++last_number;
    snprintf(c->handle, sizeof(c->handle), "k%" PRIu32 ".%" PRIu64, manager_start_number(),
             c->number);
    TAILQ_INSERT_TAIL(&clients, c, in_order);
    LIST_INSERT_HEAD(&buckets[c->number % BUCKETS], c, in_bucket);
    client_count++;
    ledger_client_open(c->number, c->uid);
    tree_keep(KEPT_CLIENT, c->number, c->fd);
    log_info("client=%s opened uid=%u pid=%d", c->handle, (unsigned)c->uid, (int)c->pid);
    events_publish("client_opened", c->uid, c->handle, json_object());
}

void
client_new(int fd)
{
    struct client *c = calloc(1, sizeof(*c));
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (!c || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
        log_error("a client could not be taken in error=%s", posix_name(errno));
        fd_close(&fd);
        free(c);
        return;
    }
    c->fd = fd;
    in_flight_init(&c->in_flight, fd);
    c->uid = peer.uid;
    c->pid = peer.pid;
    c->is_in_admin_group = is_in_group(fd, peer.gid, config.admin_group);
    c->opened_ms = now_since_1970_ms();
    line_reader_init(&c->reader);
    STAILQ_INIT(&c->out);
    LIST_INIT(&c->waiters);
    LIST_INIT(&c->requests);
    if (!open_handles(c)) {
        log_error("a client could not be taken in reason=poll");
        c->state = CLIENT_GONE;
        close_handles(c);
        return;
    }
    enter(c);
    client_update_poll(c);
}

void
client_end(struct client *c, const char *why)
{
    if (c->state >= CLIENT_ENDING)
        return;
    log_info("client=%s ends why=\"%s\"", c->handle, why);
    c->state = CLIENT_ENDING;
    client_wake(c);
}

static void
leave(struct client *c)
{
    c->state = CLIENT_GONE;
    TAILQ_REMOVE(&clients, c, in_order);
    LIST_REMOVE(c, in_bucket);
    client_count--;
    client_unwake(c);
    ledger_client_close(c->number);
    tree_drop(KEPT_CLIENT, c->number);
    line_reader_fini(&c->reader);
}

static void
on_end_timer(uv_timer_t *timer)
{
    void (*on_done)(void) = on_all_ended;
    struct client *c;

    (void)timer;
    while ((c = TAILQ_FIRST(&clients)))
        client_gone(c, "Cordon stops");
    on_all_ended = NULL;
    uv_timer_stop(&end_timer);
    if (on_done)
        on_done();
}

void
client_gone(struct client *c, const char *why)
{
    if (c->state == CLIENT_GONE)
        return;
    log_info("client=%s closed why=\"%s\"", c->handle, why);
    leave(c);
    events_client_gone(c);
    c->request_count++; /* holds the client until its handles close */
    requests_abandon(c, RESULT_CLOSED);
    connections_client_gone(c);
    client_forget_output(c);
    events_publish("client_closed", c->uid, c->handle, json_object());
    c->request_count--;
    close_handles(c);
    if (client_count == 0 && on_all_ended)
        uv_timer_start(&end_timer, on_end_timer, 0, 0);
}

void
client_request_opened(struct client *c)
{
    c->request_count++;
}

void
client_request_closed(struct client *c)
{
    c->request_count--;
    if (c->state != CLIENT_GONE)
        client_wake(c); /* it may have been its last */
    else if (c->request_count == 0 && c->handles_open == 0)
        free(c);
}

void
clients_open(void)
{
    client_poll_open();
    uv_timer_init(manager_loop, &end_timer);
    uv_timer_init(manager_loop, &left_timer);
    uv_unref((uv_handle_t *)&left_timer);
}

void
clients_end_all(uint64_t limit_ms, void (*on_done)(void))
{
    struct client *c;

    on_all_ended = on_done;
    TAILQ_FOREACH(c, &clients, in_order)
    {
        requests_abandon(c, RESULT_SHUTTING_DOWN);
        client_end(c, "Cordon stops");
    }
    uv_timer_start(&end_timer, on_end_timer, client_count ? limit_ms : 0, 0);
}
