#include "api/ask.h"
#include "api/output.h"

/* The manager hangs up as the last thing it does for its clients. */
static void
wait_until_gone(struct control *control)
{
    for (;;) {
        json_t *message;
        enum result result = control_wait(control, &message);

        if (result != RESULT_OK)
            return;
        json_decref(message);
    }
}

static enum exit_status
stop(const struct arguments *a)
{
    struct control *control;
    enum exit_status status = ask_open(a, &control);
    json_t *result;

    if (status != EXIT_OK)
        return status;
    status = ask(a, control, "cordon.stop", NULL, NULL, 0, &result);
    if (status == EXIT_OK) {
        wait_until_gone(control);
        if (a->is_json)
            output_json(stdout, result, true);
        else
            json_decref(result);
    }
    control_free(control);
    return status;
}

const struct command command_stop = {
    .name = "stop",
    .arguments = "",
    .summary = "Stops Cordon: every connection is closed, every process ends",
    .doc = "Returns when it has closed the control socket. For administrators.",
    .run = stop,
};
