#include <stdio.h>

#include "api/ask.h"
#include "api/output.h"

/* The result says how many of what were swapped: "reloaded: 3 listeners, 1 services_added". */
static void
print_counts(const json_t *counts)
{
    char text[OUTPUT_TEXT];
    const char *separator = " ";
    const char *name;
    json_t *value;

    fputs("reloaded:", stdout);
    json_object_foreach ((json_t *)counts, name, value) {
        printf("%s%s ", separator, output_value(text, value));
        output_text(stdout, name);
        separator = ", ";
    }
    putchar('\n');
}

static enum exit_status
reload(const struct arguments *a)
{
    struct control *control;
    enum exit_status status = ask_open(a, &control);
    json_t *result;

    if (status != EXIT_OK)
        return status;
    status = ask(a, control, "cordon.reload", NULL, NULL, 0, &result);
    control_free(control);
    if (status != EXIT_OK)
        return status;
    if (a->is_json) {
        output_json(stdout, result, true);
        return EXIT_OK;
    }
    print_counts(json_object_get(result, "reloaded"));
    json_decref(result);
    return EXIT_OK;
}

const struct command command_reload = {
    .name = "reload",
    .arguments = "",
    .summary = "Takes up changed certificates, keys, CA sets and configuration",
    .doc = "Everything is loaded and checked first, then swapped. On failure all stays as it was.",
    .run = reload,
};
