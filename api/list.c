#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "api/rows.h"

/* clang-format off */
static const struct option_row options[] = {
    { "listeners", NULL, "listeners instead of connections", NULL, false },
    { "services", NULL, "services", NULL, false },
    { "clients", NULL, "programs that use the control socket", NULL, false },
    { "listener", "HANDLE", "only connections of this listener", NULL, false },
    { "owner", "HANDLE", "only what belongs to this client", NULL, false },
    { "role", "ROLE", "only connections in this role: client or server", "client server", false },
    { "state", "STATE", "only connections in this state: waiting, hello, certify,\n"
                        "cipher, connection, closing or closed",
      "waiting hello certify cipher connection closing closed", false },
    { "limit", "N", "at most so many", NULL, false },
    { "quiet", NULL, "only the handles, one a line", NULL, false },
    { NULL, NULL, NULL, NULL, false },
};
/* clang-format on */

static const char *const filter_names[] = { "listener", "owner", "role", "state" };

static const struct row_kind *
chosen_kind(const struct arguments *a)
{
    if (arguments_have(a, "listeners"))
        return &row_kinds[ROWS_LISTENERS];
    if (arguments_have(a, "services"))
        return &row_kinds[ROWS_SERVICES];
    if (arguments_have(a, "clients"))
        return &row_kinds[ROWS_CLIENTS];
    return &row_kinds[ROWS_CONNECTIONS];
}

/* A filter that the kind does not know is refused by the manager, by name. */
static json_t *
chosen_filters(const struct arguments *a)
{
    json_t *filters = json_object();

    for (size_t i = 0; i < sizeof(filter_names) / sizeof(filter_names[0]); i++) {
        const char *value = arguments_value(a, filter_names[i]);

        if (value)
            json_object_set_new(filters, filter_names[i], json_string(value));
    }
    return filters;
}

static void
print_handles(const struct row_kind *kind, const json_t *rows)
{
    const json_t *row;
    size_t i;

    json_array_foreach (rows, i, row) {
        output_text(stdout, json_string_value(json_object_get(row, kind->handle)));
        putchar('\n');
    }
}

static enum exit_status
list(const struct arguments *a)
{
    const struct row_kind *kind = chosen_kind(a);
    struct control *control;
    long limit = INT_MAX;
    enum exit_status status;
    json_t *rows;

    if (!arguments_number(a, "limit", 1, INT_MAX, &limit))
        return EXIT_USAGE;
    status = ask_open(a, &control);
    if (status != EXIT_OK)
        return status;
    status = rows_fetch(a, control, kind, chosen_filters(a), (size_t)limit, &rows);
    control_free(control);
    if (status != EXIT_OK)
        return status;
    if (a->is_json) {
        output_json(stdout, json_pack("{s:O}", kind->list, rows), true);
    } else if (arguments_have(a, "quiet")) {
        print_handles(kind, rows);
    } else {
        output_table(kind->columns, rows);
    }
    json_decref(rows);
    return EXIT_OK;
}

const struct command command_list = {
    .name = "list",
    .arguments = "",
    .summary = "Lists the connections, the oldest first",
    .doc = "IN and OUT are bytes of plaintext from and to the peer.",
    .options = options,
    .run = list,
};
