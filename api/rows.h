/*
 * The lists that the manager gives in pages: connections, listeners, clients, services.
 */
#ifndef API_ROWS_H
#define API_ROWS_H

#include <jansson.h>

#include "api/ask.h"
#include "api/output.h"

struct row_kind {
    char letter;        /* what its handles begin with; 0: it has names */
    const char *method; /* that lists them */
    const char *list;   /* in the result */
    const char *handle; /* in a row, and the parameter that asks for one alone */
    const char *detail; /* the method that says more of one; NULL */
    const struct column *columns;
};

enum row_kind_number { ROWS_CONNECTIONS, ROWS_LISTENERS, ROWS_CLIENTS, ROWS_SERVICES, ROW_KINDS };

extern const struct row_kind row_kinds[ROW_KINDS];

/* The kind of a handle by its look: c3.42.  Anything else is a service's name. */
const struct row_kind *row_kind_of(const char *handle);

/* All rows, page for page, at most limit.  Takes filters.  Gives *rows, an array. */
enum exit_status rows_fetch(const struct arguments *a, struct control *control,
                            const struct row_kind *kind, json_t *filters, size_t limit,
                            json_t **rows);

#endif
