#include "api/call.h"

#include "api/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const char *const file_options[] = { "certfile", "keyfile", "cacertfile" };
static const char *const handles[] = { "conn", "listener", "subscription" };

/* One call under way. */
struct running {
    const struct call *call;
    struct control *control; /* owned */
    json_t *params;          /* owned */
    int fds[CALL_FDS_MAX];   /* those from own_from on are owned */
    size_t fd_count;
    size_t own_from;
};

/* Takes what; prints it on one line, or over several for people. */
static void
print_json(json_t *what, bool is_line)
{
    char *text = json_dumps(what, JSON_ENSURE_ASCII | (is_line ? JSON_COMPACT : JSON_INDENT(2)));

    json_decref(what);
    if (!text)
        return;
    puts(text);
    fflush(stdout);
    free(text);
}

/* Takes error: {code, message, data}, as the control API has it. */
static void
print_error(const struct call *call, json_t *error)
{
    json_t *data = json_object_get(error, "data");
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *hint = json_string_value(json_object_get(data, "hint"));
    char *facts;

    if (call->is_json) {
        print_json(json_pack("{s:o}", "error", error), true);
        return;
    }
    fprintf(stderr, "cordon: %s: %s\n", call->method, message ? message : "failed");
    facts = json_dumps(data, JSON_COMPACT | JSON_ENSURE_ASCII);
    if (facts)
        fprintf(stderr, "%s\n", facts);
    if (hint)
        fprintf(stderr, "hint: %s\n", hint);
    free(facts);
    json_decref(error);
}

enum exit_status
call_fail(bool is_json, enum exit_status status, const char *reason, const char *message)
{
    json_t *error;

    if (!is_json) {
        fprintf(stderr, "cordon: %s\n", message);
        return status;
    }
    error = json_pack("{s:i,s:s,s:{s:s}}", "code", -32000, "message", message, "data", "reason",
                      reason);
    if (!error) /* a path in the message may be no UTF-8 */
        error = json_pack("{s:i,s:s,s:{s:s}}", "code", -32000, "message", reason, "data", "reason",
                          reason);
    print_json(json_pack("{s:o}", "error", error), true);
    return status;
}

/* The same error as the manager's, had it opened the file. */
static enum exit_status
refuse_file(const struct call *call, const char *option, const char *path, int error)
{
    char message[512];

    snprintf(message, sizeof(message), "%s %s: %s", option, path, strerror(error));
    print_error(call, json_pack("{s:i,s:s,s:{s:s,s:s,s:s,s:s,s:s}}", "code", -32000, "message",
                                message, "data", "reason", "options", "option", option, "value",
                                path, "why", strerror(error), "posix", posix_name(error)));
    return EXIT_FAILED;
}

/* Opens the files that the options name and puts {"fd_index": N} in their place. */
static enum exit_status
open_files(struct running *run)
{
    json_t *options = json_object_get(run->params, "options");

    for (size_t i = 0; i < sizeof(file_options) / sizeof(file_options[0]); i++) {
        const char *path = json_string_value(json_object_get(options, file_options[i]));
        int fd;

        if (!path)
            continue;
        if (run->fd_count == CALL_FDS_MAX)
            return refuse_file(run->call, file_options[i], path, EMFILE);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            return refuse_file(run->call, file_options[i], path, errno);
        json_object_set_new(options, file_options[i],
                            json_pack("{s:i}", "fd_index", (int)run->fd_count));
        run->fds[run->fd_count++] = fd;
    }
    return EXIT_OK;
}

static enum exit_status
read_params(struct running *run)
{
    const struct call *call = run->call;
    json_error_t error;
    char message[320];

    if (!call->params)
        run->params = json_object();
    else if (strcmp(call->params, "-") == 0)
        run->params = json_loadf(stdin, JSON_REJECT_DUPLICATES, &error);
    else
        run->params = json_loads(call->params, JSON_REJECT_DUPLICATES, &error);
    if (!run->params) {
        snprintf(message, sizeof(message), "the parameters are not JSON: %s (line %d, column %d)",
                 error.text, error.line, error.column);
        return call_fail(call->is_json, EXIT_USAGE, "usage", message);
    }
    if (!json_is_object(run->params))
        return call_fail(call->is_json, EXIT_USAGE, "usage", "the parameters are not an object");
    return open_files(run);
}

static enum exit_status
send_request(struct running *run)
{
    const struct call *call = run->call;
    json_t *request = json_pack("{s:s,s:i,s:s,s:O}", "jsonrpc", "2.0", "id", 1, "method",
                                call->method, "params", run->params);
    enum result result;

    if (!request) /* the method is no UTF-8 */
        return call_fail(call->is_json, EXIT_USAGE, "usage", "the method is not a method's name");
    if (run->fd_count > 0)
        json_object_set_new(request, "fds", json_integer((json_int_t)run->fd_count));
    result = control_send(run->control, request, run->fds, run->fd_count);
    json_decref(request);
    if (result == RESULT_LIMIT || result == RESULT_CHANNEL_FAILED)
        return call_fail(call->is_json, EXIT_FAILED, result_name(result),
                         control_failure(run->control));
    /* A manager that refuses us has written why before it hung up. */
    return EXIT_OK;
}

/* Takes error. */
static enum exit_status
end_with_error(const struct call *call, json_t *error)
{
    const char *reason =
        json_string_value(json_object_get(json_object_get(error, "data"), "reason"));
    bool is_tls = reason && strcmp(reason, "tls_alert") == 0;

    print_error(call, error);
    return is_tls ? EXIT_TLS : EXIT_FAILED;
}

static bool
holds_a_handle(const json_t *result)
{
    for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++) {
        if (json_object_get(result, handles[i]))
            return true;
    }
    return false;
}

/* Borrows event.  true: the call has ended, with *status. */
static bool
handle_event(const struct call *call, json_t *event, bool is_answered, enum exit_status *status)
{
    const char *method = json_string_value(json_object_get(event, "method"));

    print_json(json_pack("{s:O, s:O?}", "method", json_object_get(event, "method"), "params",
                         json_object_get(event, "params")),
               true);
    if (is_answered || !method || strcmp(method, "restarted") != 0)
        return false;
    *status = call_fail(call->is_json, EXIT_FAILED, "restarted",
                        "the manager was restarted before it answered");
    return true;
}

/* Borrows reply.  true: the call has ended, with *status. */
static bool
handle_reply(const struct call *call, json_t *reply, enum exit_status *status)
{
    json_t *result = json_object_get(reply, "result");
    json_t *error = json_object_get(reply, "error");

    if (!result) {
        *status = end_with_error(call, error ? json_incref(error) : json_object());
        return true;
    }
    print_json(json_incref(result), call->is_json);
    *status = EXIT_OK;
    return !holds_a_handle(result);
}

/*
 * Takes message.  true: the call has ended, with *status; false: more may
 * come, and *is_answered says whether the reply has.
 */
static bool
handle_message(const struct call *call, json_t *message, bool *is_answered,
               enum exit_status *status)
{
    bool has_ended;

    if (json_object_get(message, "method")) {
        has_ended = handle_event(call, message, *is_answered, status);
    } else {
        has_ended = handle_reply(call, message, status);
        *is_answered = true;
    }
    json_decref(message);
    return has_ended;
}

/* Everything that can be read now.  true: the call has ended, with *status. */
static bool
handle_messages(struct running *run, bool *is_answered, enum exit_status *status)
{
    json_t *message;

    for (;;) {
        enum result result = control_receive(run->control, &message);

        if (result == RESULT_WOULD_BLOCK)
            return false;
        if (result != RESULT_OK) {
            *status = call_fail(run->call->is_json, EXIT_NO_MANAGER, "no_manager",
                                control_failure(run->control));
            return true;
        }
        if (handle_message(run->call, message, is_answered, status))
            return true;
    }
}

/* Ctrl-C and SIGTERM come as something to read. */
static int
open_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

static enum exit_status
wait_for_the_end(struct running *run, int signals)
{
    struct pollfd wait[] = { { .fd = control_fd(run->control), .events = POLLIN },
                             { .fd = signals, .events = POLLIN } };
    bool is_answered = false;
    enum exit_status status;

    for (;;) {
        if (handle_messages(run, &is_answered, &status))
            return status;
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            return call_fail(run->call->is_json, EXIT_FAILED, "internal", strerror(errno));
        if (wait[1].revents)
            return is_answered ? EXIT_OK : EXIT_FAILED;
    }
}

static enum exit_status
call_and_wait(struct running *run)
{
    char why[256];
    enum exit_status status;
    int signals;

    status = read_params(run);
    if (status != EXIT_OK)
        return status;
    run->control = control_open(run->call->socket, why, sizeof(why));
    if (!run->control)
        return call_fail(run->call->is_json, EXIT_NO_MANAGER, "no_manager", why);
    status = send_request(run);
    if (status != EXIT_OK)
        return status;
    signals = open_signals();
    if (signals < 0)
        return call_fail(run->call->is_json, EXIT_FAILED, "internal", strerror(errno));
    status = wait_for_the_end(run, signals);
    close(signals);
    return status;
}

enum exit_status
call_run(const struct call *call)
{
    struct running run = { .call = call, .fd_count = call->fd_count, .own_from = call->fd_count };
    enum exit_status status;

    memcpy(run.fds, call->fds, call->fd_count * sizeof(call->fds[0]));
    status = call_and_wait(&run);
    for (size_t i = run.own_from; i < run.fd_count; i++)
        close(run.fds[i]);
    control_free(run.control);
    json_decref(run.params);
    return status;
}
