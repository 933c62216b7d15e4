#include "worker/rehearsal.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/mailbox.h"
#include "ipc/message.h"
#include "ipc/process.h"
#include "ipc/walls.h"
#include "worker/facts.h"
#include "worker/library.h"
#include "worker/session.h"

enum { TURNS_MAX = 20, PATIENCE_MS = 1000 };

/* How the child ends. */
enum ending_of_play {
    PLAYED,
    PLAYED_WITHOUT_LIMITS,
    FAILED_IN_THE_MAIL,
    FAILED_IN_TLS_1_3,
    FAILED_IN_TLS_1_2,
    ENDINGS
};

static const char *const endings[ENDINGS] = {
    [FAILED_IN_THE_MAIL] = "a message to itself was lost",
    [FAILED_IN_TLS_1_3] = "a TLS 1.3 handshake with itself failed",
    [FAILED_IN_TLS_1_2] = "a TLS 1.2 handshake with itself failed",
};

static const char *const priorities[REHEARSAL_STAGES] = {
    "NORMAL:-VERS-ALL:+VERS-TLS1.3",
    "NORMAL:-VERS-ALL:+VERS-TLS1.2",
};

static const char already_read[] = "bytes that somebody has read before";

/* --- before the walls ------------------------------------------------------------------------- */

static bool
make_side(struct credentials *c, enum tls_role role, const char *priority,
          gnutls_certificate_credentials_t credentials)
{
    c->role = role;
    c->versions = library_versions();
    c->certificates = credentials;
    c->data_limit = PROCESS_WORKER_DATA;
    c->cpu_limit_s = PROCESS_WORKER_CPU_S;
    c->suite_count = sizeof c->suites / sizeof *c->suites;
    library_suites(c->suites, &c->suite_count);
    return gnutls_priority_init(&c->priority, priority, NULL) >= 0;
}

/* What the child will read first. */
static enum result
write_letter(int mailbox)
{
    struct message m;
    enum result result;

    message_init(&m, MESSAGE_GO);
    m.as.go.has_already_read_index = true;
    m.fd_count = 1;
    result = memfd_sealed(&m.fds[0], "already read", already_read, sizeof already_read);
    if (result == RESULT_OK) {
        result = mailbox_send(mailbox, &m);
        fd_close(&m.fds[0]);
    }
    return result;
}

static bool
make_pairs(struct rehearsal *r)
{
    int pair[2];

    if (mailbox_pair(pair, MESSAGE_MAX) != RESULT_OK)
        return false;
    r->fds[0] = pair[0];
    r->manager = pair[1];
    for (int i = 1; i < REHEARSAL_FDS; i += 2) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, &r->fds[i]) != 0)
            return false;
    }
    return write_letter(r->manager) == RESULT_OK;
}

enum result
rehearsal_init(struct rehearsal *r, gnutls_certificate_credentials_t credentials, const char **why)
{
    memset(r, 0, sizeof *r);
    *why = "there are no sockets for it";
    if (!make_pairs(r))
        return RESULT_POSIX;
    *why = "the TLS library does not know its own priorities";
    for (int i = 0; i < REHEARSAL_STAGES; i++) {
        if (!make_side(&r->servers[i], ROLE_SERVER, priorities[i], credentials) ||
            !make_side(&r->clients[i], ROLE_CLIENT, priorities[i], credentials))
            return RESULT_TLS_BROKEN;
    }
    return RESULT_OK;
}

void
rehearsal_fini(struct rehearsal *r)
{
    for (int i = 0; i < REHEARSAL_STAGES; i++) {
        gnutls_priority_deinit(r->servers[i].priority);
        gnutls_priority_deinit(r->clients[i].priority);
    }
    fd_close(&r->manager);
    for (int i = 0; i < REHEARSAL_FDS; i++)
        fd_close(&r->fds[i]);
}

/* --- inside them ------------------------------------------------------------------------------ */

static bool
read_letter(int mailbox)
{
    char buffer[MESSAGE_MAX + 1];
    struct message m;
    uint8_t *bytes;
    size_t size;

    if (mailbox_receive(mailbox, MANAGER_TO_WORKER, buffer, MESSAGE_MAX, &m, NULL) != RESULT_OK)
        return false;
    if (memfd_read(m.fds[0], sizeof already_read, &bytes, &size) != RESULT_OK)
        return false;
    message_fini(&m);
    free(bytes);
    return true;
}

static void
on_event(void *context, enum worker_event event)
{
    (void)context;
    (void)event;
}

static bool
open_side(struct session **out, const struct credentials *c, int socket)
{
    struct session_options options = { .credentials = c,
                                       .handle = "rehearsal",
                                       .on_event = on_event };
    struct records *records;

    return records_new(&records, socket) == RESULT_OK &&
           session_new(out, records, &options) == RESULT_OK;
}

static bool
shake_hands(struct session *client, struct session *server)
{
    enum result of_client = RESULT_WOULD_BLOCK, of_server = RESULT_WOULD_BLOCK;

    for (int i = 0; i < TURNS_MAX; i++) {
        if (of_client == RESULT_WOULD_BLOCK)
            of_client = session_handshake(client);
        if (of_server == RESULT_WOULD_BLOCK)
            of_server = session_handshake(server);
    }
    return of_client == RESULT_OK && of_server == RESULT_OK;
}

static bool
receive(struct session *s)
{
    struct pollfd ready = { records_socket(session_records(s)), POLLIN, 0 };
    uint8_t bytes[sizeof already_read];
    size_t size = sizeof bytes;
    enum result result = RESULT_WOULD_BLOCK;

    for (int i = 0; i < TURNS_MAX && result == RESULT_WOULD_BLOCK; i++) {
        if (!session_has_more(s))
            (void)poll(&ready, 1, PATIENCE_MS);
        size = sizeof bytes;
        result = session_receive(s, bytes, &size);
    }
    return result == RESULT_OK && size == sizeof already_read &&
           memcmp(bytes, already_read, size) == 0;
}

static bool
move_plaintext(struct session *from, struct session *to)
{
    return session_send(from, (const uint8_t *)already_read, sizeof already_read) == RESULT_OK &&
           session_flush(from) == RESULT_OK && receive(to);
}

static bool
tell_facts(const struct session *s, int mailbox)
{
    static struct facts facts;
    struct message m;

    message_init(&m, MESSAGE_ESTABLISHED);
    facts_fill(&facts, s, &m);
    return mailbox_send(mailbox, &m) == RESULT_OK;
}

static bool
say_goodbye(struct session *s)
{
    session_bye(s);
    return session_flush(s) == RESULT_OK;
}

static void
hang_up(struct session *s)
{
    struct linger now = { .l_onoff = 1, .l_linger = 0 };
    struct records *r = session_records(s);

    records_shutdown(r);
    (void)records_discard(r);
    (void)setsockopt(records_socket(r), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    session_free(s);
}

static bool
play_stage(struct rehearsal *r, int stage)
{
    struct session *server, *client;

    if (!open_side(&server, &r->servers[stage], r->fds[1 + 2 * stage]) ||
        !open_side(&client, &r->clients[stage], r->fds[2 + 2 * stage]) ||
        !shake_hands(client, server) || !move_plaintext(client, server) ||
        !move_plaintext(server, client) || !tell_facts(server, r->fds[0]) ||
        !tell_facts(client, r->fds[0]) || !say_goodbye(client) || !say_goodbye(server))
        return false;
    hang_up(client);
    hang_up(server);
    return true;
}

static bool
has_limit(__rlimit_resource_t resource)
{
    struct rlimit limit;

    return getrlimit(resource, &limit) == 0 && limit.rlim_max != RLIM_INFINITY;
}

/* The number of processes is tried: it does not count for every user. */
static bool
is_limited(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid < 0 && has_limit(RLIMIT_DATA) && has_limit(RLIMIT_FSIZE) &&
           has_limit(RLIMIT_NOFILE) && has_limit(RLIMIT_CPU);
}

_Noreturn void
rehearsal_play(struct rehearsal *r)
{
    if (!read_letter(r->fds[0]))
        _exit(FAILED_IN_THE_MAIL);
    if (!play_stage(r, 0))
        _exit(FAILED_IN_TLS_1_3);
    if (!play_stage(r, 1))
        _exit(FAILED_IN_TLS_1_2);
    _exit(is_limited() ? PLAYED : PLAYED_WITHOUT_LIMITS);
}

/* --- afterwards ------------------------------------------------------------------------------- */

bool
rehearsal_went_well(int status, const char **why)
{
    int ending = WIFEXITED(status) ? WEXITSTATUS(status) : ENDINGS;

    if (ending == PLAYED || ending == PLAYED_WITHOUT_LIMITS)
        return true;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        *why =
            "it made a system call that is not in ipc/sandbox_calls.c; the kernel's log says which";
    else if (ending < ENDINGS)
        *why = endings[ending];
    else
        *why = "it crashed";
    return false;
}

uint32_t
rehearsal_walls(int status)
{
    return WEXITSTATUS(status) == PLAYED ? WALL_BIT(WALL_LIMITS) : 0;
}
