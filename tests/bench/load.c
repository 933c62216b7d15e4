/*
 * The load of scripts/bench: one thread, one epoll loop, OpenSSL.
 *
 *   load backend               serves plain TCP behind the servers under test: the first byte of
 *                              a connection asks for an echo, for bytes without end, or for
 *                              none; prints the port, ends when stdin does
 *   load handshakes OPTIONS    closed loop: connect, shake hands, 64 bytes there and back, close
 *   load echo OPTIONS          64 bytes there and back, again and again, on open connections
 *   load send OPTIONS          bytes to the server as fast as it takes them
 *   load receive OPTIONS       bytes from the server as fast as it sends them
 *   load idle OPTIONS          opens connections, uses each once, prints how many, holds them
 *                              until stdin ends
 *
 *   --port N            the server, on 127.0.0.1
 *   --clients N         connections at a time                           (1)
 *   --seconds S         what is measured                                (1)
 *   --warmup S          what is not, before it                          (0.3)
 *   --count N           handshakes: end after so many instead
 *   --pause MS          handshakes: wait between two of one client      (0)
 *   --tls 1.2|1.3       and nothing else                                (1.3)
 *   --group NAME        of the key exchange, and no other               (X25519)
 *   --resume            handshakes: each but a client's first resumes the one before
 *   --cpu-file FILE     cpu.stat or cpuacct.usage of the server's control group
 *   --core N            the core that belongs to the server
 *
 * Group and cipher suite (AES-128-GCM) are fixed, so that all servers work alike.  What is measured is a
 * window of a steady state: it begins after the warm-up with everything in motion, so neither
 * the beginning nor the end of the run is in it.  CPU time is read at both its edges, here,
 * because here is known where they are.  The result is one line of JSON.  Exit status: 0, 1 if
 * connections failed, 2 usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The first byte of a connection: what it wants of the backend. */
enum { WANT_ECHO = 'E', WANT_SOURCE = 'R', WANT_SINK = 'W' };

enum {
    ECHO_SIZE = 64,
    BULK_SIZE = 65536,
    EVENTS = 256,
    BACKLOG = 4096,
    SILENCE_MS = 20 * 1000, /* nothing happens for so long: the server hangs */
    REASONS_SHOWN = 3,
};

enum mode { MODE_HANDSHAKES, MODE_ECHO, MODE_SEND, MODE_RECEIVE, MODE_IDLE };

static const char *const mode_names[] = { "handshakes", "echo", "send", "receive", "idle" };

enum phase {
    PHASE_PAUSING,
    PHASE_CONNECTING,
    PHASE_SHAKING_HANDS,
    PHASE_ASKING,    /* its 64 bytes are on their way out */
    PHASE_LISTENING, /* and back */
    PHASE_SENDING,
    PHASE_RECEIVING,
    PHASE_RESTING,
    PHASE_LEAVING, /* close_notify is sent; the server's end of file is awaited */
};

struct client {
    int fd;
    SSL *tls;
    enum phase phase;
    SSL_SESSION *session; /* owned; the newest one, to resume */
    double started, asked, resumes_at;
    size_t got;
    bool is_ready; /* used once */
    uint32_t watched; /* events in epoll */
};

struct samples {
    double *values;
    size_t count, room;
};

/* CPU time in seconds, as far as it is known: else negative. */
struct cpu {
    double group, core, own;
};

static struct {
    enum mode mode;
    uint16_t port;
    long clients, count, core;
    double seconds, warmup, pause;
    bool resume, tls12;
    const char *cpu_file, *group;
} options = { .clients = 1, .seconds = 1, .warmup = 0.3, .core = -1, .group = "X25519" };

static struct {
    SSL_CTX *context;
    int epoll;
    struct client *clients;
    bool in_window, is_over;
    double window_from, window_to;
    struct cpu cpu_from, cpu_to;
    long ready; /* connections that have been used once */
    unsigned long done, resumed, failed, tickets;
    uint64_t bytes;
    struct samples setup, exchange; /* until the handshake is done; until the 64 bytes are back */
    char protocol[16], suite[64], group[32];
} load;

static _Noreturn void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void
fatal(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static double
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- what is measured ----------------------------------------------------------------------- */

static void
samples_add(struct samples *s, double value)
{
    if (s->count == s->room) {
        s->room = s->room == 0 ? 4096 : 2 * s->room;
        s->values = realloc(s->values, s->room * sizeof *s->values);
        if (s->values == NULL)
            fatal("no memory");
    }
    s->values[s->count++] = value;
}

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Prints the percentiles in microseconds. */
static void
samples_print(struct samples *s, const char *name)
{
    if (s->count == 0)
        return;
    qsort(s->values, s->count, sizeof *s->values, compare);
    printf(", \"%s_p50_us\": %.1f, \"%s_p99_us\": %.1f", name, 1e6 * s->values[s->count / 2], name,
           1e6 * s->values[s->count * 99 / 100]);
}

/* cpu.stat of a version 2 group, or cpuacct.usage of a version 1 group. */
static double
group_seconds(const char *path)
{
    FILE *file = fopen(path, "re");
    unsigned long long value;
    double seconds = -1;

    if (file == NULL)
        fatal("%s: %s", path, strerror(errno));
    if (fscanf(file, "usage_usec %llu", &value) == 1)
        seconds = (double)value / 1e6;
    else if (fseek(file, 0, SEEK_SET) == 0 && fscanf(file, "%llu", &value) == 1)
        seconds = (double)value / 1e9;
    else
        fatal("%s: neither cpu.stat nor cpuacct.usage", path);
    fclose(file);
    return seconds;
}

/* All that the core did but wait: user, nice, system, interrupts. */
static double
core_seconds(long core)
{
    FILE *file = fopen("/proc/stat", "re");
    char line[512], name[32];
    unsigned long long user, nice, system, idle, wait, irq, softirq;
    double seconds = -1;

    if (file == NULL)
        fatal("/proc/stat: %s", strerror(errno));
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "cpu%31s %llu %llu %llu %llu %llu %llu %llu", name, &user, &nice, &system,
                   &idle, &wait, &irq, &softirq) == 8 &&
            name[0] >= '0' && name[0] <= '9' && strtol(name, NULL, 10) == core)
            seconds = (double)(user + nice + system + irq + softirq) / (double)sysconf(_SC_CLK_TCK);
    }
    fclose(file);
    return seconds;
}

static struct cpu
cpu_now(void)
{
    struct cpu cpu = { .group = -1, .core = -1 };
    struct rusage own;

    if (options.cpu_file != NULL)
        cpu.group = group_seconds(options.cpu_file);
    if (options.core >= 0)
        cpu.core = core_seconds(options.core);
    getrusage(RUSAGE_SELF, &own);
    cpu.own = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
              (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
    return cpu;
}

static void
window_open(void)
{
    load.in_window = true;
    load.cpu_from = cpu_now();
    load.window_from = now();
}

static void
window_close(void)
{
    load.window_to = now();
    load.cpu_to = cpu_now();
    load.in_window = false;
    load.is_over = true;
}

static void
print_result(void)
{
    printf("{\"mode\": \"%s\", \"clients\": %ld, \"seconds\": %.4f, \"done\": %lu, "
           "\"resumed\": %lu, \"failed\": %lu, \"tickets\": %lu, \"bytes\": %llu",
           mode_names[options.mode], options.clients, load.window_to - load.window_from, load.done,
           load.resumed, load.failed, load.tickets, (unsigned long long)load.bytes);
    samples_print(&load.setup, "setup");
    samples_print(&load.exchange, "exchange");
    if (load.cpu_from.group >= 0)
        printf(", \"group_cpu\": %.6f", load.cpu_to.group - load.cpu_from.group);
    if (load.cpu_from.core >= 0)
        printf(", \"core_cpu\": %.6f", load.cpu_to.core - load.cpu_from.core);
    printf(", \"own_cpu\": %.6f, \"protocol\": \"%s\", \"suite\": \"%s\", \"group\": \"%s\"}\n",
           load.cpu_to.own - load.cpu_from.own, load.protocol, load.suite, load.group);
}

/* --- one connection ------------------------------------------------------------------------- */

static void client_step(struct client *c);

static void
client_watch(struct client *c, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = c };

    if (events == c->watched)
        return;
    if (epoll_ctl(load.epoll, c->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &event) != 0)
        fatal("epoll_ctl: %s", strerror(errno));
    c->watched = events;
}

static void
client_close(struct client *c)
{
    SSL_free(c->tls);
    c->tls = NULL;
    if (c->fd >= 0)
        close(c->fd); /* and so it leaves epoll */
    c->fd = -1;
    c->watched = 0;
}

static void client_open(struct client *c);

static void
client_again(struct client *c)
{
    client_close(c);
    if (load.is_over)
        return;
    c->phase = PHASE_PAUSING;
    c->resumes_at = now() + options.pause;
    if (options.pause == 0)
        client_open(c);
}

/* The connection failed, and this run with it; a closed loop goes on, to count. */
static void
client_fail(struct client *c, const char *what, const char *why)
{
    if (load.failed++ < REASONS_SHOWN)
        fprintf(stderr, "load: connection to 127.0.0.1:%u: %s: %s\n", options.port, what, why);
    if (load.done == 0 && load.failed >= 10 + (unsigned long)options.clients)
        fatal("nothing but failures");
    if (options.mode != MODE_HANDSHAKES)
        exit(1);
    client_again(c);
}

static void
client_fail_tls(struct client *c, const char *what, int code)
{
    unsigned long error = ERR_peek_error(); /* SSL_get_error looks at it too */
    const char *why = ERR_reason_error_string(error);

    switch (SSL_get_error(c->tls, code)) {
    case SSL_ERROR_ZERO_RETURN:
        client_fail(c, what, "the server said goodbye");
        break;
    case SSL_ERROR_SYSCALL:
        client_fail(c, what, errno != 0 ? strerror(errno) : "end of file");
        break;
    default:
        client_fail(c, what, why != NULL ? why : "a TLS error without a name");
        break;
    }
    ERR_clear_error();
}

/* true: the call has to be repeated when the socket is ready; false: it failed. */
static bool
client_has_to_wait(struct client *c, int code)
{
    switch (SSL_get_error(c->tls, code)) {
    case SSL_ERROR_WANT_READ:
        client_watch(c, EPOLLIN);
        return true;
    case SSL_ERROR_WANT_WRITE:
        client_watch(c, EPOLLOUT);
        return true;
    default:
        return false;
    }
}

static void
client_open(struct client *c)
{
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(options.port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1;

    c->started = now();
    c->got = 0;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fatal("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->tls = SSL_new(load.context);
    if (c->tls == NULL || SSL_set_fd(c->tls, c->fd) != 1)
        fatal("no memory for a connection");
    SSL_set_app_data(c->tls, c);
    SSL_set_connect_state(c->tls);
    if (options.resume && c->session != NULL)
        SSL_set_session(c->tls, c->session);
    c->phase = PHASE_CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0)
        client_step(c);
    else if (errno == EINPROGRESS)
        client_watch(c, EPOLLOUT);
    else
        client_fail(c, "connect", strerror(errno));
}

static void
note_parameters(struct client *c)
{
    EVP_PKEY *key = NULL;

    snprintf(load.group, sizeof load.group, "none");
    if (SSL_get_peer_tmp_key(c->tls, &key) == 1 &&
        EVP_PKEY_get_group_name(key, load.group, sizeof load.group, NULL) != 1)
        snprintf(load.group, sizeof load.group, "%s", EVP_PKEY_get0_type_name(key));
    EVP_PKEY_free(key);
    snprintf(load.protocol, sizeof load.protocol, "%s", SSL_get_version(c->tls));
    snprintf(load.suite, sizeof load.suite, "%s", SSL_get_cipher_name(c->tls));
}

static void
client_ready(void)
{
    if (++load.ready == options.clients && options.mode == MODE_IDLE)
        load.is_over = true;
}

/* --- the phases: each true when the next one can be tried at once ---------------------------- */

static bool
end_connecting(struct client *c)
{
    int error = 0;
    socklen_t size = sizeof error;

    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        client_fail(c, "connect", strerror(error));
        return false;
    }
    c->phase = PHASE_SHAKING_HANDS;
    return true;
}

static bool
shake_hands(struct client *c)
{
    int code;

    errno = 0;
    code = SSL_do_handshake(c->tls);
    if (code != 1) {
        if (!client_has_to_wait(c, code))
            client_fail_tls(c, "handshake", code);
        return false;
    }
    if (load.in_window)
        samples_add(&load.setup, now() - c->started);
    if (load.protocol[0] == '\0')
        note_parameters(c);
    c->phase = options.mode == MODE_SEND ? PHASE_SENDING : PHASE_ASKING;
    if (c->phase == PHASE_SENDING)
        client_ready();
    return true;
}

static bool
ask(struct client *c)
{
    char question[ECHO_SIZE];
    int code;

    memset(question, options.mode == MODE_RECEIVE ? WANT_SOURCE : WANT_ECHO, sizeof question);
    errno = 0;
    c->asked = now();
    code = SSL_write(c->tls, question, sizeof question);
    if (code != ECHO_SIZE) {
        if (!client_has_to_wait(c, code))
            client_fail_tls(c, "write", code);
        return false;
    }
    c->got = 0;
    c->phase = options.mode == MODE_RECEIVE ? PHASE_RECEIVING : PHASE_LISTENING;
    if (c->phase == PHASE_RECEIVING)
        client_ready();
    return true;
}

/* The 64 bytes are back. */
static void
note_exchange(struct client *c)
{
    if (options.mode == MODE_HANDSHAKES) {
        c->phase = PHASE_LEAVING;
        if (load.in_window)
            samples_add(&load.exchange, now() - c->started);
        (void)SSL_shutdown(c->tls);
        shutdown(c->fd, SHUT_WR);
        return;
    }
    if (!c->is_ready)
        client_ready();
    c->is_ready = true;
    if (options.mode == MODE_IDLE) {
        c->phase = PHASE_RESTING;
        client_watch(c, EPOLLIN);
        return;
    }
    if (load.in_window) {
        samples_add(&load.exchange, now() - c->asked);
        load.done++;
    }
    c->phase = PHASE_ASKING;
}

static bool
listen_to(struct client *c)
{
    char answer[ECHO_SIZE];
    int code;

    errno = 0;
    code = SSL_read(c->tls, answer, (int)(sizeof answer - c->got));
    if (code <= 0) {
        if (!client_has_to_wait(c, code))
            client_fail_tls(c, "read", code);
        return false;
    }
    c->got += (size_t)code;
    if (c->got == sizeof answer)
        note_exchange(c);
    return c->phase != PHASE_RESTING;
}

static bool
send_bulk(struct client *c)
{
    static char bytes[BULK_SIZE];
    int code;

    memset(bytes, WANT_SINK, bytes[0] == WANT_SINK ? 0 : sizeof bytes);
    errno = 0;
    code = SSL_write(c->tls, bytes, sizeof bytes);
    if (code <= 0) {
        if (!client_has_to_wait(c, code))
            client_fail_tls(c, "write", code);
        return false;
    }
    if (load.in_window)
        load.bytes += (uint64_t)code;
    return !load.is_over;
}

static bool
receive_bulk(struct client *c)
{
    static char bytes[BULK_SIZE];
    int code;

    errno = 0;
    code = SSL_read(c->tls, bytes, sizeof bytes);
    if (code <= 0) {
        if (!client_has_to_wait(c, code))
            client_fail_tls(c, "read", code);
        return false;
    }
    if (load.in_window)
        load.bytes += (uint64_t)code;
    return !load.is_over;
}

/* An idle connection is only heard of when it ends, or to get a ticket. */
static bool
rest(struct client *c)
{
    char byte;
    int code;

    errno = 0;
    code = SSL_read(c->tls, &byte, 1);
    if (code > 0 || !client_has_to_wait(c, code))
        client_fail(c, "idle", "the server did not leave it alone");
    return false;
}

/* Waits until the server has closed too, so that its whole work is inside the closed loop. */
static bool
leave(struct client *c)
{
    char bytes[1024];
    ssize_t got;

    do {
        got = recv(c->fd, bytes, sizeof bytes, 0);
    } while (got > 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        client_watch(c, EPOLLIN);
        return false;
    }
    if (load.in_window) {
        load.done++;
        load.resumed += (unsigned long)SSL_session_reused(c->tls);
    }
    if (options.count > 0 && (long)load.done == options.count)
        window_close();
    client_again(c);
    return false;
}

static bool
client_try(struct client *c)
{
    switch (c->phase) {
    case PHASE_CONNECTING:
        return end_connecting(c);
    case PHASE_SHAKING_HANDS:
        return shake_hands(c);
    case PHASE_ASKING:
        return ask(c);
    case PHASE_LISTENING:
        return listen_to(c);
    case PHASE_SENDING:
        return send_bulk(c);
    case PHASE_RECEIVING:
        return receive_bulk(c);
    case PHASE_RESTING:
        return rest(c);
    case PHASE_LEAVING:
        return leave(c);
    case PHASE_PAUSING:
        break;
    }
    return false;
}

static void
client_step(struct client *c)
{
    /* Not for ever: a server that is always ready must not keep us from the others. */
    for (int i = 0; i < 16; i++) {
        if (!client_try(c))
            return;
    }
    client_watch(c, c->phase == PHASE_ASKING || c->phase == PHASE_SENDING ? EPOLLOUT : EPOLLIN);
}

/* --- the loop ------------------------------------------------------------------------------- */

static int
on_new_session(SSL *tls, SSL_SESSION *session)
{
    struct client *c = SSL_get_app_data(tls);

    load.tickets += (unsigned long)SSL_SESSION_has_ticket(session);
    if (!options.resume)
        return 0;
    SSL_SESSION_free(c->session);
    c->session = session; /* ours now */
    return 1;
}

static void
make_context(void)
{
    int version = options.tls12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    char groups[64];

    /* In TLS 1.2 the group of the certificate's key must be in the list too. */
    snprintf(groups, sizeof groups, "%s%s", options.group,
             options.tls12 && strcmp(options.group, "P-256") != 0 ? ":P-256" : "");

    if (context == NULL || SSL_CTX_set_min_proto_version(context, version) != 1 ||
        SSL_CTX_set_max_proto_version(context, version) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set_cipher_list(context, "ECDHE-ECDSA-AES128-GCM-SHA256:"
                                         "ECDHE-RSA-AES128-GCM-SHA256") != 1 ||
        SSL_CTX_set1_groups_list(context, groups) != 1)
        fatal("OpenSSL does not know our version, suites or group");
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL); /* the server's work is measured */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_new_session);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (!options.resume)
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    load.context = context;
}

/* When something other than a socket wants attention; negative: nothing does. */
static double
next_time(double window_at)
{
    double next = window_at;

    for (long i = 0; options.pause > 0 && i < options.clients; i++) {
        const struct client *c = &load.clients[i];

        if (c->phase == PHASE_PAUSING && (next < 0 || c->resumes_at < next))
            next = c->resumes_at;
    }
    return next;
}

static void
wake_pausing(void)
{
    for (long i = 0; i < options.clients; i++) {
        struct client *c = &load.clients[i];

        if (c->phase == PHASE_PAUSING && c->resumes_at <= now())
            client_open(c);
    }
}

static int
wait_ms(double next)
{
    double left = next - now();

    if (next < 0 || left > SILENCE_MS / 1e3)
        return SILENCE_MS;
    return left <= 0 ? 0 : (int)(left * 1e3) + 1;
}

static void
run(void)
{
    struct epoll_event events[EVENTS];
    double window_at = -1;
    int count;

    for (long i = 0; i < options.clients; i++)
        client_open(&load.clients[i]);
    if (options.mode == MODE_HANDSHAKES && options.count > 0)
        window_open();
    while (!load.is_over) {
        bool is_going = options.mode == MODE_HANDSHAKES || load.ready == options.clients;

        /* The warm-up begins when every connection has got somewhere. */
        if (is_going && options.count == 0 && window_at < 0)
            window_at = now() + options.warmup;
        count = epoll_wait(load.epoll, events, EVENTS, wait_ms(next_time(window_at)));
        if (count < 0 && errno != EINTR)
            fatal("epoll_wait: %s", strerror(errno));
        if (count == 0 && next_time(window_at) < 0)
            fatal("the server has been silent for %d s", SILENCE_MS / 1000);
        for (int i = 0; i < count; i++)
            client_step(events[i].data.ptr);
        if (options.pause > 0)
            wake_pausing();
        if (window_at >= 0 && now() >= window_at && load.in_window) {
            window_close();
        } else if (window_at >= 0 && now() >= window_at) {
            window_open();
            window_at = now() + options.seconds;
        }
    }
}

/* --- the backend ---------------------------------------------------------------------------- */

/* The listener, or one of its connections. */
struct plain {
    LIST_ENTRY(plain) entry;
    int fd;
    char wants;        /* 0 before its first byte */
    size_t start, end; /* what echo has not yet sent */
    char bytes[4096];
};

static LIST_HEAD(, plain) plains = LIST_HEAD_INITIALIZER(plains);

static struct plain *
plain_new(int epoll, int fd)
{
    struct plain *p = calloc(1, sizeof *p);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = p };

    if (p == NULL || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        fatal("the backend: %s", strerror(errno));
    p->fd = fd;
    LIST_INSERT_HEAD(&plains, p, entry);
    return p;
}

static void
plain_end(struct plain *p)
{
    LIST_REMOVE(p, entry);
    close(p->fd);
    free(p);
}

static void
plain_watch(int epoll, struct plain *p, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = p };

    (void)epoll_ctl(epoll, EPOLL_CTL_MOD, p->fd, &event);
}

static void
plain_accept(int epoll, int listener)
{
    int one = 1, fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        plain_new(epoll, fd);
    }
}

static bool
is_alive(ssize_t count)
{
    return count > 0 || (count < 0 && (errno == EAGAIN || errno == EINTR));
}

/* Each false: the connection has ended. */
static bool
plain_read(struct plain *p)
{
    ssize_t count = recv(p->fd, p->bytes, sizeof p->bytes, 0);

    if (count <= 0)
        return is_alive(count);
    if (p->wants == 0)
        p->wants = p->bytes[0];
    if (p->wants == WANT_ECHO) {
        p->start = 0;
        p->end = (size_t)count;
    }
    return true;
}

static bool
plain_write(int epoll, struct plain *p)
{
    ssize_t count = send(p->fd, p->bytes + p->start, p->end - p->start, MSG_NOSIGNAL);

    if (!is_alive(count))
        return false;
    if (count > 0)
        p->start += (size_t)count;
    plain_watch(epoll, p, p->start == p->end ? EPOLLIN : EPOLLOUT);
    return true;
}

static bool
plain_bulk(int epoll, struct plain *p, uint32_t events)
{
    static char bytes[4 * BULK_SIZE];

    if ((events & EPOLLIN) != 0 && !is_alive(recv(p->fd, bytes, sizeof bytes, 0)))
        return false;
    if (p->wants != WANT_SOURCE)
        return true;
    plain_watch(epoll, p, EPOLLIN | EPOLLOUT);
    return is_alive(send(p->fd, bytes, sizeof bytes, MSG_NOSIGNAL));
}

static bool
plain_step(int epoll, struct plain *p, uint32_t events)
{
    if ((events & EPOLLERR) != 0)
        return false;
    if (p->wants == WANT_SOURCE || p->wants == WANT_SINK)
        return plain_bulk(epoll, p, events);
    if (p->start == p->end && !plain_read(p))
        return false;
    if (p->wants == WANT_SOURCE)
        return plain_bulk(epoll, p, 0);
    return p->start == p->end || plain_write(epoll, p);
}

static int
plain_listen(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        fatal("a listening socket: %s", strerror(errno));
    printf("{\"port\": %u}\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* Ends with stdin, that is with whoever started it. */
static void
serve_plain(void)
{
    struct epoll_event events[EVENTS];
    int epoll = epoll_create1(EPOLL_CLOEXEC), count;
    struct plain *listener = plain_new(epoll, plain_listen());
    struct plain *input = plain_new(epoll, STDIN_FILENO);
    bool is_over = false;

    while (!is_over && ((count = epoll_wait(epoll, events, EVENTS, -1)) >= 0 || errno == EINTR)) {
        for (int i = 0; i < count; i++) {
            struct plain *p = events[i].data.ptr;

            if (p == listener)
                plain_accept(epoll, p->fd);
            else if (p == input)
                is_over = true;
            else if (!plain_step(epoll, p, events[i].events))
                plain_end(p);
        }
    }
    while (!LIST_EMPTY(&plains))
        plain_end(LIST_FIRST(&plains));
    close(epoll);
}

/* --- the command line ----------------------------------------------------------------------- */

static double
number(const char *text, double least)
{
    char *end;
    double value = strtod(text, &end);

    if (*text == '\0' || *end != '\0' || value < least) {
        fprintf(stderr, "load: %s: a number of at least %g is needed\n", text, least);
        exit(2);
    }
    return value;
}

static void
usage(void)
{
    fputs("usage: load backend | handshakes | echo | send | receive | idle, --port N, ...\n"
          "       (see the top of tests/bench/load.c)\n",
          stderr);
    exit(2);
}

static enum mode
mode_of(const char *name)
{
    for (size_t i = 0; i < sizeof mode_names / sizeof mode_names[0]; i++) {
        if (strcmp(name, mode_names[i]) == 0)
            return (enum mode)i;
    }
    usage();
    return MODE_IDLE;
}

static void
set_tls(const char *version)
{
    if (strcmp(version, "1.2") != 0 && strcmp(version, "1.3") != 0)
        usage();
    options.tls12 = strcmp(version, "1.2") == 0;
}

static void
read_options(int argc, char **argv)
{
    /* clang-format off */
    static const struct option known[] = {
        { "port", required_argument, NULL, 'p' },
        { "clients", required_argument, NULL, 'c' },
        { "seconds", required_argument, NULL, 's' },
        { "warmup", required_argument, NULL, 'w' },
        { "count", required_argument, NULL, 'n' },
        { "pause", required_argument, NULL, 'z' },
        { "tls", required_argument, NULL, 't' },
        { "group", required_argument, NULL, 'g' },
        { "resume", no_argument, NULL, 'r' },
        { "cpu-file", required_argument, NULL, 'f' },
        { "core", required_argument, NULL, 'k' },
        { NULL, 0, NULL, 0 },
    };
    /* clang-format on */
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) >= 0) {
        switch (option) {
        case 'p':
            options.port = (uint16_t)number(optarg, 1);
            break;
        case 'c':
            options.clients = (long)number(optarg, 1);
            break;
        case 's':
            options.seconds = number(optarg, 0);
            break;
        case 'w':
            options.warmup = number(optarg, 0);
            break;
        case 'n':
            options.count = (long)number(optarg, 1);
            break;
        case 'z':
            options.pause = number(optarg, 0) / 1e3;
            break;
        case 't':
            set_tls(optarg);
            break;
        case 'g':
            options.group = optarg;
            break;
        case 'r':
            options.resume = true;
            break;
        case 'f':
            options.cpu_file = optarg;
            break;
        case 'k':
            options.core = (long)number(optarg, 0);
            break;
        default:
            usage();
        }
    }
    if (options.port == 0 || optind != argc)
        usage();
}

static void
hold(void)
{
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };

    printf("{\"held\": %ld}\n", load.ready);
    fflush(stdout);
    while (poll(&input, 1, -1) < 0 && errno == EINTR) {}
}

int
main(int argc, char **argv)
{
    struct rlimit files;

    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    if (argc < 2)
        usage();
    if (strcmp(argv[1], "backend") == 0) {
        serve_plain();
        return 0;
    }
    options.mode = mode_of(argv[1]);
    read_options(argc - 1, argv + 1);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.clients = calloc((size_t)options.clients, sizeof *load.clients);
    if (load.epoll < 0 || load.clients == NULL)
        fatal("no memory");
    make_context();
    run();
    if (options.mode == MODE_IDLE)
        hold();
    else
        print_result();
    return load.failed > 0 ? 1 : 0;
}
