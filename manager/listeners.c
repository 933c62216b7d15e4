#include "manager/listeners.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "manager/arrivals.h"
#include "manager/connection.h"
#include "manager/connection_service.h"
#include "manager/descriptors.h"
#include "manager/events.h"
#include "manager/ledger.h"
#include "manager/manager.h"
#include "manager/map.h"

enum {
    ACCEPTS_A_TURN = 16,
    DEFER_ACCEPT_S = 5,
    PAUSE_MS = 1000,    /* when no descriptor is free */
    ACCEPT_MAX_MS = 10, /* see accept_foreign */
};

enum listener_mode { MODE_OPEN, MODE_TRANSPORT, MODE_HANDSHAKE };

/* A call that waits for a connection. */
struct waiting_accept {
    TAILQ_ENTRY(waiting_accept) entry;
    struct listener *listener;
    struct request *request;
};

struct listener {
    uint64_t number;
    char handle[40];
    char service[SERVICE_NAME_MAX + 1]; /* "": it is none */
    unsigned references;
    struct owner *owner; /* NULL: closed */
    uid_t uid;
    int fd;          /* owned; -1 */
    bool is_foreign; /* a client made it, and may still hold it */
    int epoll;       /* owned; watches fd: libuv would make fd itself O_NONBLOCK */
    uv_poll_t poll;
    uv_timer_t pause;
    bool is_paused;
    bool is_owner_behind; /* and will tell when it is not any more */
    struct address address;
    struct options options;
    struct context *context;  /* a reference */
    struct key *password_key; /* a reference; NULL: its key has no password */
    struct listener_files files, refused_files;
    struct deliver *deliver; /* a reference; NULL */
    struct arrivals *arrivals; /* owned; NULL: no accept_proxy, or closed */
    bool is_auto;
    enum listener_mode mode;
    unsigned handshakes_max, accept_queue;
    unsigned handshaking, ready_count;
    uint64_t accepted;
    int64_t opened_ms;
    TAILQ_HEAD(, waiting_accept) waiting;
    size_t waiting_count;
    TAILQ_HEAD(, connection) ready;
    int ledger_slot;
    TAILQ_ENTRY(listener) entry;
};

static TAILQ_HEAD(, listener) listeners = TAILQ_HEAD_INITIALIZER(listeners);
static struct map listeners_by_number;
static uint64_t last_number;
static int spare_fd = -1; /* given up for a moment when no other is free */

static void listener_poll(struct listener *l);

/* --- questions --- */

const char *
listener_handle(const struct listener *l)
{
    return l->handle;
}

uint64_t
listener_number(const struct listener *l)
{
    return l->number;
}

struct listener *
listener_by_number(uint64_t number)
{
    return map_get(&listeners_by_number, number);
}

size_t
listeners_count(void)
{
    return listeners_by_number.count;
}

struct listener *
listener_first(void)
{
    return TAILQ_FIRST(&listeners);
}

struct listener *
listener_after(const struct listener *l)
{
    return TAILQ_NEXT(l, entry);
}

struct owner *
listener_owner(const struct listener *l)
{
    return l->owner;
}

uid_t
listener_uid(const struct listener *l)
{
    return l->uid;
}

void
listener_set_owner(struct listener *l, struct owner *o)
{
    l->owner = o;
}

struct options *
listener_options(struct listener *l)
{
    return &l->options;
}

struct context *
listener_context(struct listener *l)
{
    return l->context;
}

const struct key *
listener_password_key(const struct listener *l)
{
    return l->password_key;
}

const struct listener_files *
listener_files(const struct listener *l)
{
    return &l->files;
}

struct listener_files *
listener_refused_files(struct listener *l)
{
    return &l->refused_files;
}

bool
listener_is_auto(const struct listener *l)
{
    return l->is_auto;
}

struct deliver *
listener_deliver(const struct listener *l)
{
    return l->deliver;
}

json_t *
listener_address(const struct listener *l)
{
    return address_json(&l->address);
}

json_t *
listener_row(const struct listener *l)
{
    struct client *client = owner_client(l->owner);

    return json_pack("{s:s, s:s?, s:s?, s:I, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "listener",
                     l->handle, "owner", client != NULL ? client_handle(client) : NULL, "service",
                     l->service[0] != '\0' ? l->service : NULL, "uid", (json_int_t)l->uid,
                     "address", address_json(&l->address), "accept", l->is_auto ? "auto" : "demand",
                     "waiting", (json_int_t)l->waiting_count, "handshaking",
                     (json_int_t)l->handshaking, "ready", (json_int_t)l->ready_count, "accepted",
                     (json_int_t)l->accepted, "opened", (json_int_t)l->opened_ms, "deliver",
                     deliver_row(l->deliver));
}

/* --- the socket --- */

/* Who connects and says nothing costs no process, not even an accept; 0: it may wait for the server. */
static void
set_defer_accept(int fd, int seconds)
{
    setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds));
}

static int
socket_of_family(int family, bool reuseaddr, const char **what)
{
    int one = 1, zero = 0;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    *what = "socket";
    if (fd < 0)
        return -1;
    if (descriptor_is_reserved(fd)) {
        close(fd);
        errno = EMFILE;
        return -1;
    }
    if (family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, reuseaddr ? &one : &zero, sizeof(one));
    set_defer_accept(fd, DEFER_ACCEPT_S);
    return fd;
}

static int
bind_or_close(int fd, const void *address, socklen_t size, const char **what)
{
    int error;

    if (fd < 0)
        return -1;
    *what = "bind";
    if (bind(fd, address, size) == 0)
        return fd;
    error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* -1: errno, and *what is the call that failed.  EINVAL with *what "address": it is none. */
static int
socket_at(const char *address, uint16_t port, bool reuseaddr, const char **what)
{
    struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
    int fd;

    if (address == NULL) {
        fd = bind_or_close(socket_of_family(AF_INET6, reuseaddr, what), &in6, sizeof(in6), what);
        /* A machine without IPv6. */
        if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
            fd = bind_or_close(socket_of_family(AF_INET, reuseaddr, what), &in, sizeof(in), what);
        return fd;
    }
    if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
        return bind_or_close(socket_of_family(AF_INET, reuseaddr, what), &in, sizeof(in), what);
    if (inet_pton(AF_INET6, address, &in6.sin6_addr) == 1)
        return bind_or_close(socket_of_family(AF_INET6, reuseaddr, what), &in6, sizeof(in6), what);
    *what = "address";
    errno = EINVAL;
    return -1;
}

/* What to do about it, where that is known. */
static const char *
hint_for(int error)
{
    switch (error) {
    case EACCES:
        return ": ports below 1024 need a cordond that root has started";
    case EADDRINUSE:
        return ": somebody listens there already";
    case EADDRNOTAVAIL:
        return ": this machine does not have the address";
    default:
        return "";
    }
}

int
listener_bind(const json_t *listen, bool reuseaddr, struct failure *f)
{
    const char *address = json_string_value(json_object_get(listen, "address"));
    unsigned port = (unsigned)json_integer_value(json_object_get(listen, "port"));
    const char *what;
    int fd = socket_at(address, (uint16_t)port, reuseaddr, &what);
    int error = errno;

    if (fd >= 0)
        return fd;
    if (strcmp(what, "address") == 0) {
        failure_param(f, "listen.address", "it is not an IPv4 or IPv6 address");
        return -1;
    }
    failure_posix(f, error, what);
    snprintf(f->message, sizeof(f->message), "%s to %s port %u: %s%s", what,
             address != NULL ? address : "all addresses", port, strerror(error), hint_for(error));
    return -1;
}

static void
on_alarm(int number)
{
    (void)number;
}

/*
 * A socket that a client made may block, and the connection that poll announced may have been taken by
 * the client or have gone meanwhile.  Its O_NONBLOCK and SO_RCVTIMEO are the client's too, and accept4 has no
 * flag for it, so a timer that fires again and again interrupts it: it cannot hang.
 */
static int
accept_foreign(int fd)
{
    static timer_t timer;
    static bool has_timer;
    const struct itimerspec on = { { 0, ACCEPT_MAX_MS * 1000000L },
                                   { 0, ACCEPT_MAX_MS * 1000000L } };
    const struct itimerspec off = { { 0, 0 }, { 0, 0 } };
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    int peer, error;

    if (!has_timer) {
        struct sigaction action = { .sa_handler = on_alarm }; /* without SA_RESTART */
        struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };

        event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
        sigemptyset(&action.sa_mask);
        sigaction(SIGALRM, &action, NULL);
        if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
            return -1;
        has_timer = true;
    }
    if (poll(&ready, 1, 0) <= 0 || !(ready.revents & POLLIN)) {
        errno = EAGAIN;
        return -1;
    }
    timer_settime(timer, 0, &on, NULL);
    peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    error = errno == EINTR ? EAGAIN : errno;
    timer_settime(timer, 0, &off, NULL);
    errno = error;
    return peer;
}

static int
listener_accept_one(struct listener *l)
{
    if (l->is_foreign)
        return accept_foreign(l->fd);
    return accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/* --- who gets what --- */

/* Its owner does not take what is accepted for it; its connections would pile up here. */
static bool
is_owner_behind(const struct listener *l)
{
    const struct client *client = l->is_auto && l->deliver == NULL ? owner_client(l->owner) : NULL;

    return client != NULL && client_is_full(client);
}

static bool
wants_more(const struct listener *l)
{
    size_t coming;

    if (l->owner == NULL || l->is_paused)
        return false;
    if (l->mode == MODE_TRANSPORT)
        return l->waiting_count > arrivals_count(l->arrivals);
    coming = l->handshaking + arrivals_count(l->arrivals);
    if (l->mode != MODE_HANDSHAKE || coming >= l->handshakes_max)
        return false;
    if (l->is_auto)
        return !is_owner_behind(l);
    return l->ready_count + coming < l->accept_queue + l->waiting_count;
}

static struct request *
take_waiting(struct listener *l)
{
    struct waiting_accept *w = TAILQ_FIRST(&l->waiting);
    struct request *r;

    if (w == NULL)
        return NULL;
    r = w->request;
    TAILQ_REMOVE(&l->waiting, w, entry);
    l->waiting_count--;
    free(w);
    return r;
}

static void
set_nodelay(int fd, bool nodelay)
{
    int value = nodelay;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof(value));
}

/* Plain in, TLS out: the caller waits until the server is reached and agrees. */
static void
begin_outwards(struct listener *l, int plain, const struct proxy_input *said)
{
    struct connection_options options;
    struct address caller;
    struct connection *c;
    char text[160];

    connection_options_for(&options, &l->options, l->deliver->host);
    connection_serve_socket(plain);
    c = connection_new(owner_client(l->owner), ROLE_CLIENT, &options, l, -1, NULL);
    c->plain = plain;
    strcpy(c->host, l->deliver->host);
    c->port = l->deliver->port;
    c->is_unasked = true;
    l->accepted++;
    l->handshaking++;
    connection_set_context(c, l->context);
    address_of_peer(plain, &caller);
    address_text(said != NULL && said->has_addresses ? &said->source : &caller, text, sizeof(text));
    log_info("conn=%s plain caller=%s host=\"%s\" port=%u", c->handle, text, l->deliver->target,
             l->deliver->port);
    connection_step(c, CONNECTION_EVENT_DIAL);
}

/* Takes peer.  said: by a proxy; NULL: nothing. */
static void
begin_connection(struct listener *l, int peer, const struct proxy_input *said)
{
    struct connection_options options;
    struct connection *c;
    struct request *r;

    if (l->deliver != NULL && l->deliver->kind == DELIVER_CLIENT) {
        begin_outwards(l, peer, said);
        return;
    }
    connection_options_from(&options, &l->options);
    set_nodelay(peer, options.nodelay);
    c = connection_new(owner_client(l->owner), ROLE_SERVER, &options, l, peer, said);
    l->accepted++;
    connection_set_context(c, l->context);
    if (l->mode == MODE_HANDSHAKE) {
        c->is_unasked = true;
        l->handshaking++;
        connection_step(c, CONNECTION_EVENT_SPAWN);
        return;
    }
    r = take_waiting(l);
    connection_step(c, CONNECTION_EVENT_WAIT);
    request_reply(
        r, json_pack("{s:s, s:o}", "conn", c->handle, "peername", address_json(&c->peername)));
}

bool
listener_offer(struct listener *l, struct connection *c)
{
    if (l->owner == NULL)
        return false;
    if (l->is_auto)
        return true;
    c->request = take_waiting(l);
    if (c->request != NULL)
        return true;
    TAILQ_INSERT_TAIL(&l->ready, c, listener_entry);
    l->ready_count++;
    return false;
}

void
listener_handshake_over(struct listener *l)
{
    l->handshaking--;
    listener_poll(l);
}

void
listener_forget(struct listener *l, struct connection *c)
{
    struct connection *other;

    TAILQ_FOREACH(other, &l->ready, listener_entry)
    {
        if (other == c) {
            TAILQ_REMOVE(&l->ready, c, listener_entry);
            l->ready_count--;
            listener_poll(l);
            return;
        }
    }
}

/* --- accepting --- */

static void
on_pause_over(uv_timer_t *timer)
{
    struct listener *l = timer->data;

    l->is_paused = false;
    listener_poll(l);
}

static void
listener_pause(struct listener *l, const char *why)
{
    log_warn("listener=%s pauses why=\"%s\" pause_ms=%d", l->handle, why, PAUSE_MS);
    l->is_paused = true;
    uv_timer_start(&l->pause, on_pause_over, PAUSE_MS, 0);
}

/* One caller is let in and out again, so that it does not wait for nothing. */
static void
shed_one(struct listener *l)
{
    int peer;

    fd_close(&spare_fd);
    peer = listener_accept_one(l);
    fd_close(&peer);
    spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void
on_arrived(void *owner, int fd, const struct proxy_input *said)
{
    struct listener *l = owner;
    struct failure f;

    if (!connections_have_room(&f)) {
        failure_fini(&f);
        fd_close(&fd);
    } else if (l->mode == MODE_TRANSPORT && l->waiting_count == 0) {
        /* Whoever waited for it has given up meanwhile. */
        fd_close(&fd);
    } else {
        begin_connection(l, fd, said);
    }
    listener_poll(l);
}

static void
on_lost(void *owner, const struct address *by, const char *why)
{
    struct listener *l = owner;
    char text[160];

    address_text(by, text, sizeof(text));
    log_warn("listener=%s a proxy is turned away peer=%s why=\"%s\"", l->handle, text, why);
    listener_poll(l);
}

/* Who has been accepted: its connection begins, once it is known for whom it calls.  Takes peer. */
static void
welcome(struct listener *l, int peer)
{
    struct address by;

    if (!l->options.accept_proxy) {
        begin_connection(l, peer, NULL);
        return;
    }
    address_of_peer(peer, &by);
    if (proxy_trusts(&l->options.trusted_proxies, &by)) {
        arrivals_add(l->arrivals, peer);
        return;
    }
    fd_close(&peer);
    on_lost(l, &by, "it is not one of trusted_proxies");
}

/* False: no more this turn. */
static bool
accept_next(struct listener *l)
{
    struct failure f;
    int peer, error;

    if (!connections_have_room(&f)) {
        failure_fini(&f);
        listener_pause(l, "there are connections_max already");
        return false;
    }
    peer = listener_accept_one(l);
    if (descriptor_is_reserved(peer)) {
        fd_close(&peer);
        listener_pause(l, "no descriptors are left");
        return false;
    }
    if (peer >= 0) {
        welcome(l, peer);
        return true;
    }
    error = errno;
    if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
        shed_one(l);
        listener_pause(l, strerror(error));
        return false;
    }
    /* ECONNABORTED and the network's errors are about that one caller; see accept(2). */
    if (error == EAGAIN)
        return false;
    if (error == EBADF || error == EINVAL || error == ENOTSOCK || error == EOPNOTSUPP) {
        log_error("listener=%s cannot accept error=%s", l->handle, posix_name(error));
        listener_close(l);
        return false;
    }
    return true;
}

static void
on_ready(uv_poll_t *poll, int status, int events)
{
    struct listener *l = poll->data;

    (void)status, (void)events;
    listener_hold(l);
    for (int i = 0; i < ACCEPTS_A_TURN && wants_more(l); i++) {
        if (!accept_next(l))
            break;
    }
    listener_poll(l);
    listener_release(l);
}

static void
on_owner_drained(void *data)
{
    struct listener *l = data;

    l->is_owner_behind = false;
    listener_poll(l);
}

static void
wait_for_owner(struct listener *l)
{
    if (!l->is_owner_behind)
        log_info("listener=%s waits why=\"its owner does not take its connections\"", l->handle);
    l->is_owner_behind = true;
    client_on_drained(owner_client(l->owner), l, on_owner_drained, l);
}

static void
listener_poll(struct listener *l)
{
    /* libuv starts anew, with two system calls, even when nothing is new. */
    if (l->owner == NULL || (uv_is_active((uv_handle_t *)&l->poll) != 0) == wants_more(l))
        return;
    if (is_owner_behind(l))
        wait_for_owner(l);
    if (wants_more(l))
        uv_poll_start(&l->poll, UV_READABLE, on_ready);
    else
        uv_poll_stop(&l->poll);
}

/* --- calls that wait --- */

static void
on_abandoned(struct request *r, enum result why, void *data)
{
    struct waiting_accept *w = data;
    struct listener *l = w->listener;
    struct failure f;

    TAILQ_REMOVE(&l->waiting, w, entry);
    l->waiting_count--;
    free(w);
    failure_set(&f, why, NULL, NULL);
    request_fail(r, &f);
    listener_poll(l);
}

static bool
mode_fits(struct listener *l, bool with_handshake, struct failure *f)
{
    enum listener_mode wanted = with_handshake ? MODE_HANDSHAKE : MODE_TRANSPORT;

    if (l->is_auto) {
        failure_bad_state(f, "auto", "demand", NULL);
        return false;
    }
    if (l->mode == MODE_OPEN)
        l->mode = wanted;
    if (l->mode == wanted)
        return true;
    failure_bad_state(f, l->mode == MODE_TRANSPORT ? "transport_accept" : "accept",
                      wanted == MODE_TRANSPORT ? "transport_accept" : "accept", NULL);
    return false;
}

bool
listener_wait(struct listener *l, struct request *r, bool with_handshake, int64_t timeout_ms,
              struct failure *f)
{
    struct waiting_accept *w;
    struct connection *c;

    if (!mode_fits(l, with_handshake, f))
        return false;
    c = TAILQ_FIRST(&l->ready);
    if (c != NULL) {
        listener_forget(l, c);
        c->request = r;
        connection_step(c, CONNECTION_EVENT_WANTED);
        return true;
    }
    w = calloc(1, sizeof(*w));
    assert(w != NULL);
    w->listener = l;
    w->request = r;
    TAILQ_INSERT_TAIL(&l->waiting, w, entry);
    l->waiting_count++;
    request_wait(r, timeout_ms, on_abandoned, w);
    listener_poll(l);
    return true;
}

/* --- birth and death --- */

static void
listener_record(struct listener *l)
{
    struct ledger_record record = { .number = l->number,
                                    .owner = owner_number(l->owner),
                                    .context = context_number(l->context),
                                    .uid = l->uid,
                                    .step = l->mode,
                                    .deadline_ms = -1 };

    if (ledger_put(LEDGER_LISTENER, &l->ledger_slot, &record) != RESULT_OK)
        log_error("listener=%s has no place in the ledger", l->handle);
}

static void
remember_loaded(struct listener *l, const struct context_loaded *loaded)
{
    struct key *old = l->password_key;

    l->files.cacertfile = loaded->cacertfile;
    l->password_key = NULL;
    if (loaded->key != NULL) { /* a client may do without */
        l->files.certfile = loaded->key->certfile;
        l->files.keyfile = loaded->key->keyfile;
        if (l->options.has_password)
            l->password_key = key_hold(loaded->key);
    }
    key_release(old);
}

void
listener_swap_context(struct listener *l, struct context *context,
                      const struct context_loaded *loaded)
{
    struct context *old = l->context;

    l->context = context;
    remember_loaded(l, loaded);
    listener_record(l);
    context_release(old);
}

void
listeners_open(void)
{
    spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* A proxy that has begun may finish, though its successors are not asked any more. */
static void
take_plan(struct listener *l, struct listen_plan *plan)
{
    static const struct arrivals_events arrivals_events = { on_arrived, on_lost };
    bool is_plain = plan->deliver != NULL && plan->deliver->kind == DELIVER_CLIENT;

    l->options = plan->options;
    l->deliver = plan->deliver;
    l->is_auto = plan->is_auto || plan->deliver != NULL;
    l->handshakes_max = plan->handshakes_max;
    l->accept_queue = plan->accept_queue;
    options_init(&plan->options);
    plan->deliver = NULL;
    if (l->options.accept_proxy && l->arrivals == NULL)
        l->arrivals = arrivals_new(&arrivals_events, l);
    if (!l->is_foreign)
        set_defer_accept(l->fd, is_plain ? 0 : DEFER_ACCEPT_S);
}

void
listener_swap_service(struct listener *l, const char *service, struct listen_plan *plan,
                      struct context *context, const struct context_loaded *loaded)
{
    struct deliver *old = l->deliver;

    options_fini(&l->options);
    take_plan(l, plan);
    deliver_release(old);
    snprintf(l->service, sizeof(l->service), "%s", service);
    /* Linux takes another length of the queue from a socket that listens. */
    (void)listen(l->fd, l->options.backlog);
    listener_swap_context(l, context, loaded);
    listener_poll(l);
}

const char *
listener_service(const struct listener *l)
{
    return l->service;
}

struct listener *
listener_new(struct client *client, const struct listener_parameters *p, struct listen_plan *plan,
             struct context *context, int *error)
{
    struct epoll_event event = { .events = EPOLLIN };
    struct listener *l;
    int status, fd = p->fd, epoll;

    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0 || (!p->is_foreign && listen(fd, plan->options.backlog) < 0) ||
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        *error = errno;
        fd_close(&epoll);
        fd_close(&fd);
        listen_plan_fini(plan);
        context_release(context);
        return NULL;
    }
    l = calloc(1, sizeof(*l));
    assert(l != NULL);
    l->number = ++last_number;
    snprintf(l->handle, sizeof(l->handle), "l%u.%llu", manager_start_number(),
             (unsigned long long)l->number);
    l->references = 1;
    l->fd = fd;
    l->is_foreign = p->is_foreign;
    l->epoll = epoll;
    take_plan(l, plan);
    l->context = context;
    remember_loaded(l, p->loaded);
    l->uid = client != NULL ? client_uid(client) : geteuid();
    if (p->service != NULL)
        snprintf(l->service, sizeof(l->service), "%s", p->service);
    l->mode = l->is_auto ? MODE_HANDSHAKE : MODE_OPEN;
    l->ledger_slot = LEDGER_NO_SLOT;
    address_of_socket(fd, &l->address);
    l->opened_ms = clock_unix_ms();
    TAILQ_INIT(&l->waiting);
    TAILQ_INIT(&l->ready);
    status = uv_poll_init(manager_loop, &l->poll, epoll);
    status |= uv_timer_init(manager_loop, &l->pause);
    assert(status == 0);
    l->poll.data = l->pause.data = l;
    TAILQ_INSERT_TAIL(&listeners, l, entry);
    map_put(&listeners_by_number, l->number, l);
    owner_add_listener(client, l);
    tree_keep(KEPT_LISTENER, l->number, fd);
    listener_record(l);
    events_publish("listener_opened", l->uid, l->handle, json_pack("{s:s}", "listener", l->handle));
    listener_poll(l);
    return l;
}

struct listener *
listener_hold(struct listener *l)
{
    l->references++;
    return l;
}

void
listener_release(struct listener *l)
{
    if (l == NULL || --l->references > 0)
        return;
    options_fini(&l->options);
    context_release(l->context);
    deliver_release(l->deliver);
    key_release(l->password_key);
    free(l);
}

static void
on_handle_closed(uv_handle_t *handle)
{
    listener_release(handle->data);
}

/* At once, though connections may keep l for long: libuv, closing the handle after its descriptor,
 * would take out of its epoll whoever had got the number by then. */
static void
close_handles(struct listener *l)
{
    listener_hold(l);
    uv_close((uv_handle_t *)&l->poll, on_handle_closed);
    listener_hold(l);
    uv_close((uv_handle_t *)&l->pause, on_handle_closed);
}

static void
end_waiting(struct listener *l)
{
    struct request *r;
    struct failure f;

    while ((r = take_waiting(l)) != NULL) {
        failure_set(&f, RESULT_CLOSED, NULL, NULL);
        request_fail(r, &f);
    }
}

void
listener_close(struct listener *l)
{
    struct connection *c;

    assert(l->owner != NULL);
    listener_hold(l);
    if (l->is_owner_behind && owner_client(l->owner) != NULL)
        client_on_drained(owner_client(l->owner), l, NULL, NULL);
    owner_remove_listener(l);
    TAILQ_REMOVE(&listeners, l, entry);
    map_take(&listeners_by_number, l->number);
    ledger_erase(LEDGER_LISTENER, &l->ledger_slot);
    close_handles(l);
    arrivals_free(l->arrivals);
    l->arrivals = NULL;
    /* One that a client made is only let go: the client may still want it. */
    if (!l->is_foreign)
        shutdown(l->fd, SHUT_RDWR);
    fd_close(&l->epoll);
    fd_close(&l->fd);
    tree_drop(KEPT_LISTENER, l->number);
    end_waiting(l);
    while ((c = TAILQ_FIRST(&l->ready)) != NULL) {
        TAILQ_REMOVE(&l->ready, c, listener_entry);
        l->ready_count--;
        connection_end(c, "local", NULL);
    }
    events_publish("listener_closed", l->uid, l->handle, json_pack("{s:s}", "listener", l->handle));
    listener_release(l);
    listener_release(l);
}
