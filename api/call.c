/*
 * `cordon call`: one method of the control API, from the command line.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/ask.h"
#include "api/files.h"
#include "api/output.h"
#include "api/signals.h"

/* clang-format off */
static const struct option_row options[] = {
    { "fd", "N", "send descriptor N too; the first has fd_index 0; may be repeated", NULL, false },
    { NULL, NULL, NULL, NULL, false },
};
/* clang-format on */

static const char *const handles[] = { "conn", "listener", "subscription" };

static enum exit_status
read_params(const struct arguments *a, json_t **params)
{
    const char *text = a->word_count > 1 ? a->words[1] : "{}";
    json_error_t error;
    json_t *json;

    if (strcmp(text, "-") == 0)
        json = json_loadf(stdin, JSON_REJECT_DUPLICATES, &error);
    else
        json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!json)
        return output_fail(a, EXIT_USAGE, "usage",
                           "the parameters are not JSON: %s (line %d, column %d)", error.text,
                           error.line, error.column);
    if (!json_is_object(json)) {
        json_decref(json);
        return output_fail(a, EXIT_USAGE, "usage", "the parameters are not an object");
    }
    *params = json;
    return EXIT_OK;
}

static enum exit_status
read_fds(const struct arguments *a, struct files *files)
{
    for (size_t i = 0; i < a->given_count; i++) { /* there is no option but --fd */
        const char *text = a->given[i].value;
        char *end;
        long fd = strtol(text, &end, 10);

        if (files->count == FILES_MAX)
            return output_fail(a, EXIT_USAGE, "usage", "more than %d --fd", FILES_MAX);
        if (end == text || *end || fd < 0 || fd > INT_MAX)
            return output_fail(a, EXIT_USAGE, "usage", "--fd %s is not a descriptor", text);
        files->fds[files->count++] = (int)fd;
    }
    files->own_from = files->count;
    return EXIT_OK;
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

/* Takes message, an event or a reply.  true: the call has ended, with *status. */
static bool
handle_message(const struct arguments *a, json_t *message, bool *is_answered,
               enum exit_status *status)
{
    const char *method = json_string_value(json_object_get(message, "method"));
    json_t *result = json_object_get(message, "result");
    bool has_ended = true;

    if (method) {
        has_ended = !*is_answered && strcmp(method, "restarted") == 0;
        output_json(stdout,
                    json_pack("{s:s, s:O?}", "method", method, "params",
                              json_object_get(message, "params")),
                    true);
        if (has_ended)
            *status = output_fail(a, EXIT_FAILED, "restarted",
                                  "the manager was restarted before it answered");
    } else if (result) {
        has_ended = !holds_a_handle(result);
        output_json(stdout, json_incref(result), a->is_json);
        *status = EXIT_OK;
        *is_answered = true;
    } else {
        *status = output_error(a, a->words[0], json_incref(json_object_get(message, "error")));
    }
    json_decref(message);
    return has_ended;
}

/* Until the answer, or, when that holds a handle, until Ctrl-C. */
static enum exit_status
wait_for_the_end(const struct arguments *a, struct control *control)
{
    bool is_answered = false;
    enum exit_status status;
    json_t *message;

    for (;;) {
        enum result result = control_wait(control, &message);

        if (result == RESULT_CANCELLED)
            return is_answered ? EXIT_OK : EXIT_FAILED;
        if (result != RESULT_OK)
            return output_fail(a, EXIT_NO_MANAGER, "no_manager", "%s", control_failure(control));
        if (handle_message(a, message, &is_answered, &status))
            return status;
    }
}

/* Borrows params. */
static enum exit_status
call_and_wait(const struct arguments *a, json_t *params, const struct files *files)
{
    struct control *control;
    enum exit_status status = ask_open(a, &control);
    int signals;

    if (status != EXIT_OK)
        return status;
    status = ask_send(a, control, 1, a->words[0], json_incref(params), files->fds, files->count);
    if (status == EXIT_OK) {
        signals = signals_open(NULL);
        control_set_interrupt(control, signals);
        if (signals < 0)
            status = output_fail(a, EXIT_FAILED, "internal", "%s", strerror(errno));
        else
            status = wait_for_the_end(a, control);
        close(signals);
    }
    control_free(control);
    return status;
}

static enum exit_status
call(const struct arguments *a)
{
    struct files files = { .count = 0 };
    json_t *params = NULL;
    enum exit_status status = read_params(a, &params);

    if (status == EXIT_OK)
        status = read_fds(a, &files);
    if (status == EXIT_OK)
        status = files_open(&files, a, json_object_get(params, "options"));
    if (status == EXIT_OK)
        status = call_and_wait(a, params, &files);
    files_close(&files);
    json_decref(params);
    return status;
}

const struct command command_call = {
    .name = "call",
    .arguments = "METHOD [PARAMETERS]",
    .summary = "Calls a method of the control API",
    .doc =
        "PARAMETERS is a JSON object, - reads it from standard input. Files named in its options\n"
        "are opened here and sent as descriptors. When the result holds a handle (a connection,\n"
        "a listener, a subscription), what it stands for ends with this command: it stays until\n"
        "Ctrl-C and prints events, one line each.\n"
        "\n"
        "  cordon call ssl.versions\n"
        "  cordon call ssl.connect '{\"host\": \"example.org\", \"port\": 443}'\n"
        "  cordon call cordon.subscribe '{\"types\": [\"log\"]}'",
    .completes = COMPLETE_METHOD,
    .arguments_min = 1,
    .arguments_max = 2,
    .options = options,
    .run = call,
};
