#include "tests/harness/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "tests/harness/harness.h"

enum { WORDS_MAX = 64, CHUNK = 65536 };

struct harness_peer {
    pid_t pid;
    int pidfd, input, output; /* owned */
    bool has_ended;
    int status;
    char *text; /* owned; NUL behind it */
    size_t size, room;
};

static _Noreturn void
run(const char *const argv[], int input, int output)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        _exit(126);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

struct harness_peer *
harness_peer_start(const char *const argv[])
{
    struct harness_peer *p = calloc(1, sizeof(*p));
    int input[2] = { -1, -1 }, output[2] = { -1, -1 };

    if (p == NULL || pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) {
        fd_close(&input[0]);
        fd_close(&input[1]);
        free(p);
        return NULL;
    }
    p->pid = fork();
    if (p->pid == 0)
        run(argv, input[0], output[1]);
    fd_close(&input[0]);
    fd_close(&output[1]);
    p->input = input[1];
    p->output = output[0];
    p->pidfd = p->pid > 0 ? pidfd_open(p->pid, 0) : -1;
    if (p->pidfd >= 0 && fd_set_nonblocking(p->output) == RESULT_OK)
        return p;
    harness_peer_free(p);
    return NULL;
}

struct harness_peer *
harness_peer_run(const char *format, ...)
{
    const char *words[WORDS_MAX + 1] = { NULL };
    size_t count = 0;
    char *text, *rest = NULL;
    va_list arguments;
    struct harness_peer *p = NULL;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        text = NULL;
    va_end(arguments);
    for (char *word = text != NULL ? strtok_r(text, " ", &rest) : NULL;
         word != NULL && count < WORDS_MAX; word = strtok_r(NULL, " ", &rest))
        words[count++] = word;
    if (count > 0)
        p = harness_peer_start(words);
    free(text);
    return p;
}

bool
harness_peer_write(struct harness_peer *p, const void *bytes, size_t size)
{
    return p->input >= 0 &&
           harness_write_all(p->input, bytes, size, harness_deadline(HARNESS_WAIT_MS));
}

void
harness_peer_close_input(struct harness_peer *p)
{
    fd_close(&p->input);
}

/* What there is now; true: there was something. */
static bool
read_output(struct harness_peer *p)
{
    bool is_new = false;

    for (;;) {
        ssize_t got;

        if (p->room < p->size + CHUNK + 1) {
            p->room = 2 * (p->size + CHUNK + 1);
            p->text = realloc(p->text, p->room);
            if (p->text == NULL)
                abort();
        }
        got = p->output >= 0 ? read(p->output, p->text + p->size, CHUNK) : 0;
        if (got == 0)
            fd_close(&p->output);
        p->size += got > 0 ? (size_t)got : 0;
        p->text[p->size] = '\0';
        if (got <= 0)
            return is_new;
        is_new = true;
    }
}

bool
harness_peer_wait_output(struct harness_peer *p, const char *pattern, int64_t deadline_ms)
{
    regex_t compiled;
    bool matches = false;

    if (regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE) != 0)
        return false;
    for (;;) {
        (void)read_output(p);
        matches = regexec(&compiled, p->text, 0, NULL, 0) == 0;
        if (matches || p->output < 0 || !harness_wait_fd(p->output, POLLIN, deadline_ms))
            break;
    }
    regfree(&compiled);
    return matches;
}

int
harness_peer_wait(struct harness_peer *p, int64_t deadline_ms)
{
    while (!p->has_ended) {
        struct pollfd both[2] = { { .fd = p->pidfd, .events = POLLIN },
                                  { .fd = p->output, .events = POLLIN } };
        int64_t left_ms = deadline_ms - harness_now_ms();

        if (left_ms <= 0 || poll(both, 2, (int)left_ms) <= 0)
            return -1;
        (void)read_output(p);
        if (both[0].revents != 0)
            p->has_ended = waitpid(p->pid, &p->status, WNOHANG) == p->pid;
    }
    (void)read_output(p);
    return p->status;
}

const char *
harness_peer_output(struct harness_peer *p)
{
    (void)read_output(p);
    return p->text;
}

pid_t
harness_peer_pid(const struct harness_peer *p)
{
    return p->pid;
}

void
harness_peer_free(struct harness_peer *p)
{
    if (p == NULL)
        return;
    if (!p->has_ended && p->pidfd >= 0) {
        (void)pidfd_send_signal(p->pidfd, SIGKILL, NULL, 0);
        (void)waitpid(p->pid, &p->status, 0);
    }
    fd_close(&p->input);
    fd_close(&p->output);
    fd_close(&p->pidfd);
    free(p->text);
    free(p);
}
