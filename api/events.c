#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/ask.h"
#include "api/output.h"
#include "api/tls_options.h"

/* clang-format off */
static const struct option_row options[] = {
    { "types", "TYPE,...", "only these: connection_opened, connection_established,\n"
                           "connection_failed, connection_closed, listener_opened,\n"
                           "listener_closed, client_opened, client_closed, log\n"
                           "(else all but log)",
      "connection_opened connection_established connection_failed connection_closed "
      "listener_opened listener_closed client_opened client_closed log", false },
    { "conn", "HANDLE", "only what is about this connection; may be repeated",
      COMPLETE_CONNECTION, false },
    { NULL, NULL, NULL, NULL, false },
};
/* clang-format on */

/* Members that stand at the front of a line, or say nothing to people. */
static const char *const framing[] = { "subscription", "seq", "time", "type" };

static json_t *
what_to_subscribe(const struct arguments *a)
{
    const char *types = arguments_value(a, "types");
    json_t *params = json_object();
    json_t *conns = json_array();

    for (size_t i = 0; i < a->given_count; i++) {
        if (strcmp(a->given[i].row->name, "conn") == 0)
            json_array_append_new(conns, json_string(a->given[i].value));
    }
    if (types)
        json_object_set_new(params, "types", list_json(types));
    if (json_array_size(conns) > 0)
        json_object_set(params, "conns", conns);
    json_decref(conns);
    return params;
}

static bool
is_framing(const char *name)
{
    for (size_t i = 0; i < sizeof(framing) / sizeof(framing[0]); i++) {
        if (strcmp(framing[i], name) == 0)
            return true;
    }
    return false;
}

/* "info.protocol=tlsv1.3": what is nested is named by its path; what is null is left out. */
static void
print_members(const char *prefix, const json_t *object)
{
    char text[OUTPUT_TEXT], path[128];
    const char *name;
    json_t *value;

    json_object_foreach ((json_t *)object, name, value) {
        const char *shown = output_value(text, value);

        snprintf(path, sizeof(path), "%s%s", prefix, name);
        if ((!*prefix && is_framing(name)) || json_is_null(value))
            continue;
        if (json_is_object(value) && *shown == '{') {
            snprintf(path, sizeof(path), "%s%s.", prefix, name);
            print_members(path, value);
            continue;
        }
        putchar(' ');
        output_text(stdout, path);
        fputs(strchr(shown, ' ') ? "=\"" : "=", stdout);
        output_text(stdout, shown);
        fputs(strchr(shown, ' ') ? "\"" : "", stdout);
    }
}

/* "2026-11-23 14:05:09.123 connection_closed conn=c3.42 how=close_notify in=120 out=4000" */
static void
print_event(const json_t *event)
{
    const json_t *params = json_object_get(event, "params");
    const char *method = json_string_value(json_object_get(event, "method"));
    const char *type = json_string_value(json_object_get(params, "type"));
    long long at_ms = json_integer_value(json_object_get(params, "time"));
    char text[OUTPUT_TEXT];
    struct timespec now;

    if (at_ms == 0) { /* overflow, restarted */
        clock_gettime(CLOCK_REALTIME, &now);
        at_ms = now.tv_sec * 1000LL + now.tv_nsec / 1000000;
    }
    printf("%s.%03lld ", output_time(text, at_ms), at_ms % 1000);
    output_text(stdout, type ? type : method);
    print_members("", params);
    putchar('\n');
    fflush(stdout);
}

static enum exit_status
follow(const struct arguments *a, struct control *control)
{
    for (;;) {
        json_t *event;
        enum exit_status status = ask_event(a, control, &event);

        if (status != EXIT_OK)
            return status;
        if (a->is_json) {
            output_json(stdout, event, true);
        } else {
            print_event(event);
            json_decref(event);
        }
        if (ferror(stdout))
            return output_fail(a, EXIT_FAILED, "posix", "standard output cannot be written");
    }
}

static enum exit_status
events(const struct arguments *a)
{
    struct control *control;
    enum exit_status status = ask_open(a, &control);
    json_t *result;

    if (status != EXIT_OK)
        return status;
    status = ask(a, control, "cordon.subscribe", what_to_subscribe(a), NULL, 0, &result);
    if (status == EXIT_OK) {
        if (a->is_json)
            output_json(stdout, result, true);
        else
            json_decref(result);
        status = follow(a, control);
    }
    control_free(control);
    return status;
}

const struct command command_events = {
    .name = "events",
    .arguments = "",
    .summary = "Follows what happens, one line an event, until Ctrl-C",
    .doc = "With --json the first line is the state of things, as cordon.subscribe answers.",
    .options = options,
    .run = events,
};
