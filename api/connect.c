/*
 * `cordon connect`: a TLS connection's plaintext on standard input and output.
 *
 * Nothing here waits for one side while the other has something: what cannot be written stays in
 * its buffer, and its source is not read meanwhile.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/ask.h"
#include "api/files.h"
#include "api/output.h"
#include "api/own_tree.h"
#include "api/signals.h"
#include "api/tls_options.h"
#include "ipc/fd.h"

enum { BUFFER_SIZE = 64 * 1024, HOST_SIZE = 256 };

/* clang-format off */
static const struct option_row options[] = {
    { "servername", "NAME", "the name to ask for, and that the certificate must be for\n"
                            "(else HOST)", NULL, false },
    { "insecure", NULL, "do not verify the server's certificate", NULL, false },
    { "alpn", "LIST", "application protocols to offer, as h2,http/1.1", "h2 http/1.1", false },
    { "timeout", "SECONDS", "for name lookup, connection and handshake in all (60)", NULL, false },
    { "info", NULL, "say on standard error what was agreed", NULL, false },
    TLS_OPTION_ROWS,
    { NULL, NULL, NULL, NULL, false },
};

static const struct tls_option own_options[] = {
    { "servername", "server_name_indication", false },
    { "servername", "verify_hostname", false },
    { "alpn", "alpn_advertised_protocols", true },
    { NULL, NULL, false },
};
/* clang-format on */

/* Bytes on their way. */
struct buffer {
    size_t start, end; /* what is in it */
    char bytes[BUFFER_SIZE];
};

struct relay {
    const struct arguments *a;
    struct control *control; /* borrowed */
    int signals;             /* borrowed */
    int data;                /* owned: the connection's plaintext */
    struct buffer up, down;
    size_t output_chunk;               /* standard output takes so much without waiting */
    bool input_ended, is_write_shut;   /* towards the peer */
    bool data_ended;                   /* from the peer */
    json_t *ending;                    /* owned: its last event; NULL: it lives */
    bool has_failed;                   /* and the user has been told; then with */
    enum exit_status status;
};

enum { POLL_INPUT, POLL_DATA, POLL_OUTPUT, POLL_CONTROL, POLL_SIGNALS, POLL_COUNT };

static bool
is_empty(const struct buffer *b)
{
    return b->start == b->end;
}

static void
took(struct buffer *b, size_t size)
{
    b->start += size;
    if (is_empty(b))
        b->start = b->end = 0;
}

static void
fail(struct relay *r, enum exit_status status)
{
    r->has_failed = true;
    r->status = status;
}

/* --- Towards the peer ----------------------------------------------------------------------- */

static void
read_input(struct relay *r)
{
    ssize_t got = read(STDIN_FILENO, r->up.bytes, BUFFER_SIZE);

    if (got > 0) {
        r->up.end = (size_t)got;
    } else if (got == 0) {
        r->input_ended = true;
    } else if (errno != EINTR && errno != EAGAIN) {
        fail(r, output_fail(r->a, EXIT_FAILED, "posix", "standard input: %s", strerror(errno)));
    }
}

static void
write_data(struct relay *r)
{
    ssize_t sent = send(r->data, r->up.bytes + r->up.start, r->up.end - r->up.start,
                        MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent >= 0) {
        took(&r->up, (size_t)sent);
    } else if (errno != EAGAIN && errno != EINTR) { /* it has ended; its last event says why */
        r->input_ended = r->is_write_shut = true;
        took(&r->up, r->up.end - r->up.start);
    }
}

/* close_notify, once all is written: when there is nothing more, or nobody left to hear it. */
static void
shut_write(struct relay *r)
{
    if (r->is_write_shut || !is_empty(&r->up) || !(r->input_ended || r->data_ended))
        return;
    (void)shutdown(r->data, SHUT_WR);
    r->is_write_shut = true;
}

/* --- From the peer -------------------------------------------------------------------------- */

static void
read_data(struct relay *r)
{
    ssize_t got = recv(r->data, r->down.bytes, BUFFER_SIZE, MSG_DONTWAIT);

    if (got > 0)
        r->down.end = (size_t)got;
    else if (got == 0 || (errno != EAGAIN && errno != EINTR))
        r->data_ended = true;
}

/*
 * What poll promises is that some bytes can be written: to a pipe PIPE_BUF of them.  It may be
 * somebody else's too, so it stays as it is and is not made non-blocking.
 */
static void
write_output(struct relay *r)
{
    size_t size = r->down.end - r->down.start;
    ssize_t written;

    if (r->output_chunk == 0) {
        written =
            send(STDOUT_FILENO, r->down.bytes + r->down.start, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        written = write(STDOUT_FILENO, r->down.bytes + r->down.start,
                        size < r->output_chunk ? size : r->output_chunk);
    }
    if (written >= 0)
        took(&r->down, (size_t)written);
    else if (errno != EAGAIN && errno != EINTR)
        fail(r, output_fail(r->a, EXIT_FAILED, "posix", "standard output: %s", strerror(errno)));
}

/* 0: a socket, which can be asked not to wait. */
static size_t
find_output_chunk(void)
{
    struct stat info;

    if (fstat(STDOUT_FILENO, &info) != 0)
        return PIPE_BUF;
    return S_ISSOCK(info.st_mode) ? 0 : S_ISREG(info.st_mode) ? BUFFER_SIZE : PIPE_BUF;
}

/* --- The end -------------------------------------------------------------------------------- */

static bool
is_last_event(const char *method)
{
    return method && (strcmp(method, "ssl_closed") == 0 || strcmp(method, "ssl_error") == 0);
}

static void
read_events(struct relay *r)
{
    json_t *message;
    enum result result;

    while (!r->ending) {
        result = control_receive(r->control, &message);
        if (result == RESULT_WOULD_BLOCK)
            return;
        if (result != RESULT_OK) {
            fail(r, output_fail(r->a, EXIT_NO_MANAGER, "no_manager", "%s",
                                control_failure(r->control)));
            return;
        }
        if (is_last_event(json_string_value(json_object_get(message, "method"))))
            r->ending = json_incref(json_object_get(message, "params"));
        json_decref(message);
    }
}

/* The same object as of an error that ended the handshake.  Gives it. */
static json_t *
error_of_ending(struct relay *r)
{
    json_t *answer, *text;
    json_t *error;

    if (ask_raw(r->a, r->control, "ssl.format_error", json_pack("{s:O}", "reason", r->ending), NULL,
                0, &answer) != EXIT_OK)
        return NULL;
    text = json_object_get(json_object_get(answer, "result"), "text");
    error = json_pack("{s:i, s:O, s:O}", "code", -32000, "message",
                      text ? text : json_object_get(r->ending, "reason"), "data", r->ending);
    json_decref(answer);
    return error;
}

static enum exit_status
judge_ending(struct relay *r)
{
    const char *how = json_string_value(json_object_get(r->ending, "how"));
    json_t *error;

    if (how && strcmp(how, "close_notify") == 0)
        return EXIT_OK;
    if (how && strcmp(how, "truncated") == 0)
        return output_fail(r->a, EXIT_TLS, "truncated",
                           "the peer left without close_notify; what it sent may be incomplete");
    if (how)
        return output_fail(r->a, EXIT_FAILED, "closed", "the connection was closed here: %s", how);
    error = error_of_ending(r);
    return error ? output_error(r->a, NULL, error) : EXIT_NO_MANAGER;
}

/* --- Both ----------------------------------------------------------------------------------- */

static void
fill_polls(const struct relay *r, struct pollfd polls[POLL_COUNT])
{
    bool wants_input = is_empty(&r->up) && !r->input_ended && !r->data_ended;
    short data = 0;

    if (is_empty(&r->down) && !r->data_ended)
        data |= POLLIN;
    if (!is_empty(&r->up))
        data |= POLLOUT;
    polls[POLL_INPUT] = (struct pollfd){ wants_input ? STDIN_FILENO : -1, POLLIN, 0 };
    polls[POLL_DATA] = (struct pollfd){ data != 0 ? r->data : -1, data, 0 };
    polls[POLL_OUTPUT] = (struct pollfd){ STDOUT_FILENO, is_empty(&r->down) ? 0 : POLLOUT, 0 };
    polls[POLL_CONTROL] = (struct pollfd){ r->ending ? -1 : control_fd(r->control), POLLIN, 0 };
    polls[POLL_SIGNALS] = (struct pollfd){ r->signals, POLLIN, 0 };
}

static void
handle_polls(struct relay *r, const struct pollfd polls[POLL_COUNT])
{
    bool is_output_gone = polls[POLL_OUTPUT].revents & (POLLERR | POLLHUP);

    if (polls[POLL_SIGNALS].revents)
        fail(r, output_fail(r->a, EXIT_FAILED, "cancelled", "interrupted"));
    if (!r->has_failed && polls[POLL_CONTROL].revents)
        read_events(r);
    if (!r->has_failed && polls[POLL_OUTPUT].revents & POLLOUT)
        write_output(r);
    else if (!r->has_failed && is_output_gone)
        fail(r, output_fail(r->a, EXIT_FAILED, "posix", "standard output is closed"));
    if (polls[POLL_INPUT].revents)
        read_input(r);
    if (polls[POLL_DATA].revents && is_empty(&r->down) && !r->data_ended)
        read_data(r);
    if (!is_empty(&r->up))
        write_data(r);
    shut_write(r);
}

static enum exit_status
run_relay(struct relay *r)
{
    struct pollfd polls[POLL_COUNT];

    r->output_chunk = find_output_chunk();
    read_events(r); /* some may have come with the answer */
    while (!r->has_failed && !(r->ending && r->data_ended && is_empty(&r->down))) {
        fill_polls(r, polls);
        if (poll(polls, POLL_COUNT, -1) >= 0)
            handle_polls(r, polls);
        else if (errno != EINTR)
            fail(r, output_fail(r->a, EXIT_FAILED, "internal", "%s", strerror(errno)));
    }
    return r->has_failed ? r->status : judge_ending(r);
}

/* --- The beginning -------------------------------------------------------------------------- */

/* Gives *params of ssl.connect; the files are in *files. */
static enum exit_status
read_arguments(const struct arguments *a, struct files *files, json_t **params)
{
    char host[HOST_SIZE];
    long timeout_s = 60;
    enum exit_status status;
    json_t *json;
    int port;

    if (!arguments_number(a, "timeout", 1, INT_MAX / 1000, &timeout_s))
        return EXIT_USAGE;
    if (!parse_host_port(a->words[0], host, sizeof(host), &port) || !*host || port == 0)
        return output_fail(a, EXIT_USAGE, "usage",
                           "%s is not HOST:PORT, as example.org:443 or [::1]:443", a->words[0]);
    json = tls_options_json(a, own_options);
    if (json && arguments_have(a, "insecure"))
        json_object_set_new(json, "verify", json_string("verify_none"));
    status = json ? files_open(files, a, json)
                  : output_fail(a, EXIT_USAGE, "usage", "an option is no UTF-8");
    if (status == EXIT_OK)
        *params = json_pack("{s:s, s:i, s:O, s:I}", "host", host, "port", port, "options", json,
                            "timeout", (json_int_t)timeout_s * 1000);
    json_decref(json);
    return status;
}

/* The manager that is named or runs; else one for this connection alone.  Gives *control, *tree. */
static enum exit_status
find_manager(const struct arguments *a, int signals, struct control **control,
             struct own_tree **tree)
{
    const char *named = getenv("CORDON_SOCKET");
    char why[256];
    enum exit_status status;

    *tree = NULL;
    if (a->socket || (named && *named))
        return ask_open(a, control);
    *control = control_open(NULL, why, sizeof(why));
    if (*control)
        return EXIT_OK;
    status = own_tree_start(
        a, &(struct own_tree_setup){ .log_level = "error", .interrupt = signals }, tree);
    if (status != EXIT_OK)
        return status;
    *control = control_open(own_tree_socket(*tree), why, sizeof(why));
    return *control ? EXIT_OK : output_fail(a, EXIT_NO_MANAGER, "no_manager", "%s", why);
}

static void
print_info(const struct arguments *a, const json_t *result)
{
    json_t *info = json_object_get(result, "info");

    if (!arguments_have(a, "info"))
        return;
    if (a->is_json)
        output_json(stderr, json_incref(info), true);
    else
        output_fields(stderr, info, 0);
}

/* Takes params; borrows the rest. */
static enum exit_status
connect_and_relay(const struct arguments *a, struct control *control, int signals, json_t *params,
                  const struct files *files)
{
    enum exit_status status;
    struct relay *r;
    json_t *result;

    control_set_interrupt(control, signals);
    status = ask(a, control, "ssl.connect", params, files->fds, files->count, &result);
    if (status != EXIT_OK)
        return status;
    print_info(a, result);
    r = calloc(1, sizeof(*r));
    if (r) {
        r->a = a;
        r->control = control;
        r->signals = signals;
        r->data = control_take_fd(control, json_object_get(result, "data"));
        status = run_relay(r);
        fd_close(&r->data);
        json_decref(r->ending);
        free(r);
    } else {
        status = output_fail(a, EXIT_FAILED, "no_memory", "there is not enough memory");
    }
    json_decref(result);
    return status;
}

static enum exit_status
connect_command(const struct arguments *a)
{
    struct files files = { .count = 0 };
    struct control *control = NULL;
    struct own_tree *tree = NULL;
    int signals = signals_open(NULL);
    enum exit_status status;
    json_t *params = NULL;

    if (signals < 0)
        return output_fail(a, EXIT_FAILED, "internal", "%s", strerror(errno));
    status = read_arguments(a, &files, &params);
    if (status == EXIT_OK) {
        status = find_manager(a, signals, &control, &tree);
        if (status == EXIT_OK)
            status = connect_and_relay(a, control, signals, params, &files);
        else
            json_decref(params);
    }
    control_free(control);
    files_close(&files);
    own_tree_end(tree);
    close(signals);
    return status;
}

const struct command command_connect = {
    .name = "connect",
    .arguments = "HOST:PORT",
    .summary = "Connects to a TLS server: its plaintext on standard input and output",
    .doc =
        "End of standard input sends close_notify, and reading goes on. Ends with status 0 only\n"
        "after the peer's close_notify, with 4 when it left without one or TLS failed. Starts a\n"
        "manager for itself when none runs and none is named. What the command itself says goes\n"
        "to standard error.\n"
        "\n"
        "  printf 'GET / HTTP/1.0\\r\\n\\r\\n' | cordon connect example.org:443",
    .arguments_min = 1,
    .arguments_max = 1,
    .has_data = true,
    .options = options,
    .run = connect_command,
};
