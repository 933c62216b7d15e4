/*
 * The nursery: has the TLS library warm and the contexts built, holds no
 * secret, and forks a worker for each connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "ipc/board.h"
#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "ipc/message.h"
#include "ipc/process.h"
#include "ipc/sandbox.h"
#include "ipc/walls.h"
#include "worker/credentials.h"
#include "worker/heap.h"
#include "worker/library.h"
#include "worker/rehearsal.h"
#include "worker/selftest.h"
#include "worker/text.h"
#include "worker/worker.h"

enum {
    MAX_SUITES = 256,
    MAILBOX = SANDBOX_SENDMSG_FD, /* the manager's; where it lies once the walls stand */
};

/* Behind the library's version: a static one is as new as the last build. */
#ifdef CORDON_STATIC
static const char linked[] = ", linked statically";
#else
static const char linked[] = "";
#endif

struct child {
    pid_t pid;
    uint64_t connection;
};

struct nursery {
    int signals; /* owned */
    struct board_page *board;
    uint32_t fork_count;
    struct credentials *contexts; /* owned; the last one used first */
    bool is_settled;              /* the heap, since the contexts last changed */
    size_t child_count;
    struct child children[BOARD_PAGES];
    char buffer[MESSAGE_MAX + 1];
};

/* Untouched pages cost nothing, and the workers inherit none. */
static struct nursery nursery;

static _Noreturn void
die(const char *what, const char *why)
{
    log_error("%s why=\"%s\"", what, why);
    exit(1);
}

/* The manager never waits, so it will be read; without a manager there is no nursery. */
static void
tell_manager(const struct message *m)
{
    enum result result = mailbox_send_wait(MAILBOX, m, -1);

    if (result == RESULT_CHANNEL_CLOSED)
        exit(0);
    if (result != RESULT_OK)
        die("a message could not be sent", result_text(result));
}

/* --- contexts --------------------------------------------------------------------------------- */

/* Moves it to the front of the list, where it mostly is: a page written to is a page copied, after
 * a fork.  NULL: there is none. */
static struct credentials *
find_context(struct nursery *n, uint64_t number)
{
    if (n->contexts != NULL && n->contexts->number == number)
        return n->contexts;
    for (struct credentials **at = &n->contexts; *at != NULL; at = &(*at)->next) {
        struct credentials *found = *at;

        if (found->number != number)
            continue;
        *at = found->next;
        found->next = n->contexts;
        n->contexts = found;
        return found;
    }
    return NULL;
}

static void
handle_context_drop(struct nursery *n, struct message *m)
{
    struct credentials *found = find_context(n, m->as.context_drop.context);

    if (found == NULL)
        return;
    n->contexts = found->next;
    credentials_free(found);
    n->is_settled = false;
}

static void
tell_context_failed(uint64_t number, const struct credentials_fault *fault)
{
    struct message m;

    message_init(&m, MESSAGE_CONTEXT_FAILED);
    m.as.context_failed.context = number;
    m.as.context_failed.option = fault->option;
    m.as.context_failed.why = fault->why;
    tell_manager(&m);
}

static void
handle_context(struct nursery *n, struct message *m)
{
    struct credentials_fault fault = { "options", "there is not enough memory" };
    struct credentials *made;
    struct message answer;

    n->is_settled = false;
    if (credentials_new(&made, m, &fault) != RESULT_OK) {
        tell_context_failed(m->as.context.context, &fault);
        return;
    }
    made->next = n->contexts;
    n->contexts = made;
    message_init(&answer, MESSAGE_CONTEXT_READY);
    answer.as.context_ready.context = made->number;
    tell_manager(&answer);
}

/* --- the child -------------------------------------------------------------------------------- */

/* Siblings share what they inherit; the stack's canary at least is each one's own.  Whoever calls
 * this never returns to a function that has read the old one. */
static inline __attribute__((always_inline)) void
renew_canary(void)
{
#if defined(__x86_64__) && !defined(CORDON_SANITIZED)
    uint64_t canary;

    if (getrandom(&canary, sizeof canary, 0) != (ssize_t)sizeof canary)
        _exit(1);
    canary &= ~(uint64_t)0xff; /* a NUL stops string functions, as in the C library's own */
    __asm__ volatile("movq %0, %%fs:0x28" : : "r"(canary) : "memory");
#endif
}

/* Of the board only the own page stays. */
static void
keep_own_page(struct board_page *board, uint32_t page)
{
    char *base = (char *)board;
    size_t before = (size_t)page * BOARD_PAGE_SIZE;
    size_t after = (size_t)(BOARD_PAGES - page - 1) * BOARD_PAGE_SIZE;

    if (before > 0)
        (void)munmap(base, before);
    if (after > 0)
        (void)munmap(base + before + BOARD_PAGE_SIZE, after);
}

static int
compare_fds(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void
reset_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * What is inherited the nursery has put up (ipc/sandbox.h); what belongs to one worker is put up
 * here, before it reads its first message.
 */
static inline __attribute__((always_inline)) void
become_worker(struct nursery *n, const struct credentials *limits, uint32_t page, int *fds,
              size_t count)
{
    renew_canary();
    gnutls_rnd_refresh();
    reset_signals();
    keep_own_page(n->board, page);
    qsort(fds, count, sizeof *fds, compare_fds);
    process_keep_only(fds, count);
    process_limit_worker(limits->data_limit, limits->cpu_limit_s);
    (void)prctl(PR_SET_NAME, "cordon-worker");
}

static _Noreturn void
child_main(struct nursery *n, const struct worker_start *start, uint32_t page)
{
    int fds[3] = { start->peer, start->mailbox, start->keeper };

    become_worker(n, start->credentials, page, fds, start->keeper >= 0 ? 3 : 2);
    process_title("cordon worker %s %s%s%s", start->handle,
                  start->credentials->role == ROLE_SERVER ? "server" : "client",
                  start->peer_name[0] != '\0' ? " " : "", start->peer_name);
    log_open("worker");
    mailbox_log_to(start->mailbox);
    worker_run(start);
}

/* --- forking ---------------------------------------------------------------------------------- */

static void
tell_fork_failed(uint64_t connection, int error)
{
    struct message m;

    message_init(&m, MESSAGE_FORK_FAILED);
    m.as.fork_failed.connection = connection;
    m.as.fork_failed.error = (uint32_t)error;
    tell_manager(&m);
}

/* The child is ours and not yet waited for, so its number means nobody else. */
static void
tell_forked(uint64_t connection, pid_t pid, uint32_t page)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct message m;

    if (pidfd < 0)
        die("pidfd_open failed", strerror(errno));
    message_init(&m, MESSAGE_FORKED);
    m.as.forked.connection = connection;
    m.as.forked.pid = (uint32_t)pid;
    m.as.forked.page = page;
    m.fds[0] = pidfd;
    m.fd_count = 1;
    tell_manager(&m);
    fd_close(&pidfd);
}

static void
fork_worker(struct nursery *n, const struct worker_start *start)
{
    uint32_t page = n->fork_count;
    pid_t pid;

    if (!n->is_settled)
        heap_settle();
    n->is_settled = true;
    pid = fork();
    if (pid == 0)
        child_main(n, start, page);
    if (pid < 0) {
        tell_fork_failed(start->connection, errno);
        return;
    }
    n->fork_count++;
    n->children[n->child_count++] = (struct child){ pid, start->connection };
    tell_forked(start->connection, pid, page);
}

static void
handle_spawn(struct nursery *n, struct message *m)
{
    const struct message_spawn *spawn = &m->as.spawn;
    struct worker_start start = {
        .connection = spawn->connection,
        .credentials = find_context(n, spawn->context),
        .peer = m->fds[0],
        .mailbox = m->fds[1],
        .keeper = m->fd_count > 2 ? m->fds[2] : -1,
    };

    snprintf(start.handle, sizeof start.handle, "%s", spawn->handle);
    if (spawn->peer != NULL)
        log_escape_again(start.peer_name, sizeof start.peer_name, spawn->peer);
    if (start.credentials == NULL) {
        tell_fork_failed(spawn->connection, ENOENT);
        return;
    }
    if (n->fork_count == BOARD_PAGES) {
        tell_fork_failed(spawn->connection, ENOSPC);
        return;
    }
    start.page = (struct board_page *)((char *)n->board + (size_t)n->fork_count * BOARD_PAGE_SIZE);
    fork_worker(n, &start);
}

static void
tell_exited(uint64_t connection, int status)
{
    struct message m;

    message_init(&m, MESSAGE_EXITED);
    m.as.exited.connection = connection;
    m.as.exited.status = (uint32_t)status;
    tell_manager(&m);
}

static void
note_exit(struct nursery *n, pid_t pid, int status)
{
    for (size_t i = 0; i < n->child_count; i++) {
        if (n->children[i].pid != pid)
            continue;
        tell_exited(n->children[i].connection, status);
        n->children[i] = n->children[--n->child_count];
        return;
    }
}

static void
reap(struct nursery *n)
{
    struct signalfd_siginfo unused;
    int status;
    pid_t pid;

    while (read(n->signals, &unused, sizeof unused) > 0) {}
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        note_exit(n, pid, status);
}

/* --- the loop --------------------------------------------------------------------------------- */

static void
handle_retire(struct nursery *n, struct message *m)
{
    (void)n;
    (void)m;
    /* The workers live on; cordond waits for them. */
    _exit(0);
}

/* Of the workers to come, too. */
static void
handle_logging(struct nursery *n, struct message *m)
{
    (void)n;
    log_set_level((enum log_level)m->as.logging.level);
}

static void
handle_duty(struct nursery *n, struct message *m)
{
    (void)n;
    process_title("cordon nursery %llu%s", (unsigned long long)m->as.duty.generation,
                  m->as.duty.spare ? " (spare)" : "");
}

static void (*const handlers[MESSAGE_TYPE_COUNT])(struct nursery *, struct message *) = {
    [MESSAGE_DUTY] = handle_duty,       [MESSAGE_LOGGING] = handle_logging,
    [MESSAGE_CONTEXT] = handle_context, [MESSAGE_CONTEXT_DROP] = handle_context_drop,
    [MESSAGE_SPAWN] = handle_spawn,     [MESSAGE_RETIRE] = handle_retire,
};

/* Reads one message.  The route has let through none without a handler. */
static bool
serve_one(struct nursery *n)
{
    struct message m;
    const char *why;
    enum result result =
        mailbox_receive(MAILBOX, MANAGER_TO_NURSERY, n->buffer, MESSAGE_MAX, &m, &why);

    if (result == RESULT_WOULD_BLOCK)
        return false;
    if (result == RESULT_CHANNEL_CLOSED)
        exit(0);
    if (result != RESULT_OK)
        die("a message of the manager cannot be read", why != NULL ? why : result_text(result));
    handlers[m.type](n, &m);
    message_fini(&m);
    return true;
}

static _Noreturn void
serve(struct nursery *n)
{
    for (;;) {
        struct pollfd fds[2] = { { MAILBOX, POLLIN, 0 }, { n->signals, POLLIN, 0 } };

        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[1].revents != 0)
            reap(n);
        while (serve_one(n)) {}
    }
}

/* --- the start -------------------------------------------------------------------------------- */

static int
open_signals(void)
{
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &mask, NULL) != 0)
        return -1;
    return signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

static struct board_page *
map_board(void)
{
    void *board = mmap(NULL, (size_t)BOARD_PAGES * BOARD_PAGE_SIZE, PROT_READ | PROT_WRITE,
                       MAP_SHARED, PROCESS_BOARD, 0);

    if (board == MAP_FAILED)
        die("the board cannot be mapped", strerror(errno));
    close(PROCESS_BOARD);
    return board;
}

/* --- the walls -------------------------------------------------------------------------------- */

/* To the one descriptor over which the walls let descriptors pass. */
static void
move_mailbox(void)
{
    if (fcntl(PROCESS_MAILBOX, F_DUPFD_CLOEXEC, MAILBOX) != MAILBOX)
        die("the mailbox cannot be moved", strerror(errno));
    close(PROCESS_MAILBOX);
    mailbox_log_to(MAILBOX);
}

/* It may be a terminal or the log's own pipe: no place for a worker.  Lines go over the mailbox; the
 * sanitizers' reports do not. */
static void
leave_stderr(void)
{
#ifndef CORDON_SANITIZED
    if (dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
        die("no standard error", strerror(errno));
#endif
}

static _Noreturn void
rehearsing_child(struct nursery *n, struct rehearsal *r)
{
    int fds[REHEARSAL_FDS];

    memcpy(fds, r->fds, sizeof fds);
    become_worker(n, &r->servers[0], 0, fds, REHEARSAL_FDS);
    rehearsal_play(r);
}

/*
 * A worker's work, done once inside the walls: what is missing from them is known before there is
 * a peer.  Returns the walls that stand.
 */
static uint32_t
rehearse(struct nursery *n, struct rehearsal *r, uint32_t walls)
{
    const char *why;
    int status;
    pid_t pid = fork();

    if (pid == 0)
        rehearsing_child(n, r);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        die("the rehearsal cannot begin", strerror(errno));
    if (!rehearsal_went_well(status, &why))
        die("the rehearsal inside the walls failed", why);
    rehearsal_fini(r);
    return walls | rehearsal_walls(status);
}

/* Enters everything that is inherited.  Before it the whole machine is there, after it only what
 * the manager sends. */
static uint32_t
enter_walls(struct nursery *n, gnutls_certificate_credentials_t credentials)
{
    static struct rehearsal rehearsal;
    const char *why;

    if (rehearsal_init(&rehearsal, credentials, &why) != RESULT_OK)
        die("no rehearsal", why);
    move_mailbox();
    leave_stderr();
    return rehearse(n, &rehearsal, sandbox_enter(SANDBOX_NURSERY));
}

/* --- ready ------------------------------------------------------------------------------------ */

static void
tell_ready(uint32_t walls, uid_t uid)
{
    uint16_t codes[MAX_SUITES];
    uint8_t bytes[2 * MAX_SUITES];
    size_t count = MAX_SUITES;
    char library[100];
    struct message m;

    library_suites(codes, &count);
    for (size_t i = 0; i < count; i++) {
        bytes[2 * i] = (uint8_t)(codes[i] >> 8);
        bytes[2 * i + 1] = (uint8_t)codes[i];
    }
    snprintf(library, sizeof library, "GnuTLS %s%s", gnutls_check_version(NULL), linked);
    message_init(&m, MESSAGE_NURSERY_READY);
    m.as.nursery_ready.library = library;
    m.as.nursery_ready.versions = library_versions();
    m.as.nursery_ready.suites = (struct bytes){ bytes, 2 * count };
    m.as.nursery_ready.walls = walls;
    m.as.nursery_ready.uid = uid;
    tell_manager(&m);
}

int
main(int argc, char **argv)
{
    gnutls_certificate_credentials_t credentials;
    uid_t uid = geteuid(); /* inside its user namespace it has no name */
    uint32_t walls;
    const char *why;

    library_clean_environment(argv);
    process_title_init(argc, argv);
    process_title("cordon nursery");
    process_begin("nursery", false, PROCESS_BOARD);
#ifdef CORDON_STATIC
    text_to_large_pages();
#endif
    heap_init();
    nursery.board = map_board();
    nursery.signals = open_signals();
    if (nursery.signals < 0)
        die("no signalfd", strerror(errno));
    if (gnutls_global_init() < 0)
        die("the TLS library does not start", gnutls_check_version(NULL));
    if (selftest_credentials(&credentials, &why) != RESULT_OK ||
        selftest_run(credentials, &why) != RESULT_OK)
        die("the self-test failed", why);
    walls = enter_walls(&nursery, credentials);
    gnutls_certificate_free_credentials(credentials);
    tell_ready(walls, uid);
    serve(&nursery);
}
