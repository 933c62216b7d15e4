#include "api/ask.h"

#include <string.h>

#include "api/output.h"

enum exit_status
ask_open(const struct arguments *a, struct control **control)
{
    char why[256];

    *control = control_open(a->socket, why, sizeof(why));
    if (*control)
        return EXIT_OK;
    return output_fail(a, EXIT_NO_MANAGER, "no_manager",
                       "no manager answers at %s; cordond starts one", why);
}

/* The next message of any kind.  Gives *message. */
static enum exit_status
receive(const struct arguments *a, struct control *control, json_t **message)
{
    enum result result = control_wait(control, message);

    if (result == RESULT_OK)
        return EXIT_OK;
    if (result == RESULT_CANCELLED)
        return output_fail(a, EXIT_FAILED, "cancelled", "%s", control_failure(control));
    return output_fail(a, EXIT_NO_MANAGER, "no_manager", "%s", control_failure(control));
}

enum exit_status
ask_send(const struct arguments *a, struct control *control, int id, const char *method,
         json_t *params, const int *fds, size_t fd_count)
{
    json_t *request = json_pack("{s:s,s:i,s:s,s:o}", "jsonrpc", "2.0", "id", id, "method", method,
                                "params", params ? params : json_object());
    enum result result;

    if (!request) /* the method is no UTF-8 */
        return output_fail(a, EXIT_USAGE, "usage", "the method is not a method's name");
    if (fd_count > 0)
        json_object_set_new(request, "fds", json_integer((json_int_t)fd_count));
    result = control_send(control, request, fds, fd_count);
    json_decref(request);
    if (result == RESULT_LIMIT || result == RESULT_CHANNEL_FAILED)
        return output_fail(a, EXIT_FAILED, result_name(result), "%s", control_failure(control));
    /* A manager that refuses us has written why before it hung up. */
    return EXIT_OK;
}

enum exit_status
ask_raw(const struct arguments *a, struct control *control, const char *method, json_t *params,
        const int *fds, size_t fd_count, json_t **answer)
{
    enum exit_status status = ask_send(a, control, 1, method, params, fds, fd_count);

    while (status == EXIT_OK) {
        const char *event;
        json_t *message;

        status = receive(a, control, &message);
        if (status != EXIT_OK)
            break;
        event = json_string_value(json_object_get(message, "method"));
        if (!event) {
            *answer = message;
            break;
        }
        if (strcmp(event, "restarted") == 0)
            status = output_fail(a, EXIT_FAILED, "restarted",
                                 "the manager was restarted before it answered");
        json_decref(message);
    }
    return status;
}

enum exit_status
ask(const struct arguments *a, struct control *control, const char *method, json_t *params,
    const int *fds, size_t fd_count, json_t **result)
{
    enum exit_status status;
    json_t *answer, *found;

    status = ask_raw(a, control, method, params, fds, fd_count, &answer);
    if (status != EXIT_OK)
        return status;
    found = json_incref(json_object_get(answer, "result"));
    if (found)
        *result = found;
    else
        status = output_error(a, NULL, json_incref(json_object_get(answer, "error")));
    json_decref(answer);
    return status;
}

enum exit_status
ask_event(const struct arguments *a, struct control *control, json_t **event)
{
    enum exit_status status;
    json_t *message;

    for (;;) {
        status = receive(a, control, &message);
        if (status != EXIT_OK)
            return status;
        if (json_object_get(message, "method"))
            break;
        json_decref(message);
    }
    *event = json_pack("{s:O, s:O?}", "method", json_object_get(message, "method"), "params",
                       json_object_get(message, "params"));
    json_decref(message);
    return EXIT_OK;
}

enum exit_status
ask_once(const struct arguments *a, const char *method, json_t *params)
{
    struct control *control;
    enum exit_status status = ask_open(a, &control);
    json_t *result;

    if (status != EXIT_OK) {
        json_decref(params);
        return status;
    }
    status = ask(a, control, method, params, NULL, 0, &result);
    control_free(control);
    if (status != EXIT_OK)
        return status;
    if (a->is_json)
        output_json(stdout, result, true);
    else
        json_decref(result);
    return EXIT_OK;
}

const char *
answer_reason(const json_t *answer)
{
    const json_t *error = json_object_get(answer, "error");
    const char *reason =
        json_string_value(json_object_get(json_object_get(error, "data"), "reason"));

    return reason ? reason : "";
}
