#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "api/rows.h"

/* The row of the handle; a filter by name is enough to find it.  Gives *row. */
static enum exit_status
find_row(const struct arguments *a, struct control *control, const struct row_kind *kind,
         const char *handle, json_t **found)
{
    json_t *filters = kind->letter ? json_pack("{s:s}", kind->handle, handle) : json_object();
    enum exit_status status;
    json_t *rows, *row;
    size_t i;

    status = rows_fetch(a, control, kind, filters, SIZE_MAX, &rows);
    if (status != EXIT_OK)
        return status;
    json_array_foreach (rows, i, row) {
        const char *name = json_string_value(json_object_get(row, kind->handle));

        if (name && strcmp(name, handle) == 0) {
            *found = json_incref(row);
            json_decref(rows);
            return EXIT_OK;
        }
    }
    json_decref(rows);
    return output_fail(a, EXIT_FAILED, "not_found",
                       "there is no %s; cordon list%s shows those there are", handle,
                       kind->letter == 'c' ? ""
                       : kind->letter      ? " --listeners or --clients"
                                           : " --services");
}

/* What the handshake settled, once there was one.  Borrows row, and adds to it. */
static enum exit_status
add_detail(const struct arguments *a, struct control *control, const struct row_kind *kind,
           const char *handle, json_t *row)
{
    json_t *answer, *more;
    enum exit_status status;

    if (!kind->detail)
        return EXIT_OK;
    status = ask_raw(a, control, kind->detail, json_pack("{s:s}", kind->handle, handle), NULL, 0,
                     &answer);
    if (status != EXIT_OK)
        return status;
    more = json_object_get(json_object_get(answer, "result"), "info");
    if (more)
        json_object_update(row, more);
    else if (strcmp(answer_reason(answer), "bad_state") != 0)
        status = output_error(a, NULL, json_incref(json_object_get(answer, "error")));
    json_decref(answer);
    return status;
}

static enum exit_status
info(const struct arguments *a)
{
    const char *handle = a->words[0];
    const struct row_kind *kind = row_kind_of(handle);
    struct control *control;
    enum exit_status status = ask_open(a, &control);
    json_t *row;

    if (status != EXIT_OK)
        return status;
    status = find_row(a, control, kind, handle, &row);
    if (status == EXIT_OK) {
        status = add_detail(a, control, kind, handle, row);
        if (status == EXIT_OK && a->is_json)
            output_json(stdout, json_incref(row), true);
        else if (status == EXIT_OK)
            output_fields(stdout, row, 0);
        json_decref(row);
    }
    control_free(control);
    return status;
}

const struct command command_info = {
    .name = "info",
    .arguments = "HANDLE",
    .summary = "Tells everything about a connection, listener, client or service",
    .doc = "HANDLE is what cordon list shows: c3.42, l3.1, k3.7, or a service's name.",
    .completes = COMPLETE_CONNECTION,
    .arguments_min = 1,
    .arguments_max = 1,
    .run = info,
};
