#include <stdio.h>

#include "api/ask.h"
#include "api/output.h"

/* "services_added" for people. */
static void
print_words(const char *name)
{
    char words[64];

    snprintf(words, sizeof(words), "%s", name);
    for (char *p = words; *p; p++) {
        if (*p == '_')
            *p = ' ';
    }
    output_text(stdout, words);
}

/* "reloaded: 3 listeners, 1 services added", and what counts only after a restart. */
static void
print_result(const json_t *result)
{
    char text[OUTPUT_TEXT];
    const char *separator = " ";
    const char *name;
    json_t *value;
    size_t i;

    fputs("reloaded:", stdout);
    json_object_foreach (json_object_get(result, "reloaded"), name, value) {
        printf("%s%s ", separator, output_value(text, value));
        print_words(name);
        separator = ", ";
    }
    putchar('\n');
    json_array_foreach (json_object_get(result, "needs_restart"), i, value) {
        fputs(i == 0 ? "after a restart: " : ", ", stdout);
        output_text(stdout, json_string_value(value));
    }
    if (i > 0)
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
    print_result(result);
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
