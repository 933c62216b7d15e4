/*
 * The launcher: becomes the program of a service, for one connection.
 *
 * cordond has given it its user, session, limits and an empty signal mask, and nothing of the
 * manager's.  What it hands on is one socket, as stdin and stdout; stderr is /dev/null,
 * because whoever connects could fill a log.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/clock.h"
#include "ipc/fd.h"
#include "ipc/mailbox.h"
#include "ipc/process.h"

enum { REQUEST_TIMEOUT_MS = 60000, ANSWER_TIMEOUT_MS = 5000, STRINGS_MAX = 256 };

static bool
say(int error)
{
    struct message m;

    message_init(&m, MESSAGE_LAUNCHED);
    m.as.launched.error = (uint32_t)error;
    m.as.launched.has_error = true;
    return mailbox_send_wait(PROCESS_MAILBOX, &m, clock_now_ms() + ANSWER_TIMEOUT_MS) == RESULT_OK;
}

/* Each ends with a NUL; the first argument_count are arguments, the rest is environment.  false: there are
 * too many, or too few. */
static bool
split(char *bytes, size_t size, size_t argument_count, char **arguments, char **environment)
{
    size_t count = 0, variables = 0;

    for (char *at = bytes; at < bytes + size; at += strlen(at) + 1, count++) {
        if (count >= STRINGS_MAX)
            return false;
        if (count < argument_count)
            arguments[count] = at;
        else
            environment[variables++] = at;
    }
    return argument_count > 0 && count >= argument_count;
}

/* 0, or errno. */
static int
place_descriptors(int socket)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (null < 0 || dup2(socket, STDIN_FILENO) < 0 || dup2(socket, STDOUT_FILENO) < 0 ||
        dup2(null, STDERR_FILENO) < 0 ||
        close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
        return errno;
    return 0;
}

/* What process_begin set for ourselves. */
static void
be_ordinary(void)
{
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGXFSZ, SIG_DFL);
    umask(022);
}

/* Returns errno: it did not work. */
static int
launch(struct message *m)
{
    static char *arguments[STRINGS_MAX + 1], *environment[STRINGS_MAX + 1];
    int socket = message_take_fd(m, 0), strings = message_take_fd(m, 1);
    uint8_t *bytes;
    size_t size;
    int error;

    if (memfd_read(strings, LAUNCH_MAX, &bytes, &size) != RESULT_OK ||
        !split((char *)bytes, size, m->as.launch.argument_count, arguments, environment))
        return E2BIG;
    error = place_descriptors(socket);
    if (error != 0)
        return error;
    if (!say(0))
        return EPIPE;
    be_ordinary();
    execve(arguments[0], arguments, environment);
    return errno;
}

int
main(void)
{
    static char buffer[MESSAGE_MAX + 1];
    struct message request;

    process_begin("launcher", false, PROCESS_MAILBOX);
    if (mailbox_receive_wait(PROCESS_MAILBOX, MANAGER_TO_LAUNCHER, buffer, MESSAGE_MAX, &request,
                             NULL, clock_now_ms() + REQUEST_TIMEOUT_MS) != RESULT_OK)
        return EXIT_FAILURE;
    (void)say(launch(&request));
    return EXIT_FAILURE;
}
