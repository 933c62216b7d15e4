/*
 * Everything that the command prints for people goes through here, because much of it was written
 * by peers: what could move a terminal's cursor leaves as \xHH.
 */
#ifndef API_OUTPUT_H
#define API_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "api/command.h"

/* Printable ASCII stays, everything else becomes \xHH. */
void output_text(FILE *file, const char *text);

/* Where the command's own words go: standard output, or standard error beside data. */
FILE *output_file(const struct arguments *a);

/* Takes what; prints it on one line, or over several for people.  Flushes. */
void output_json(FILE *file, json_t *what, bool is_line);

/* Prints an error of the command's own.  Gives status.  reason is one of the control API's, or
 * usage, no_manager, truncated. */
enum exit_status output_fail(const struct arguments *a, enum exit_status status, const char *reason,
                             const char *format, ...) __attribute__((format(printf, 4, 5)));

/*
 * Prints an error as the control API has it: {code, message, data}.  Takes error.  method: its
 * name goes in front, and all the facts behind; NULL.  Gives the exit status.
 */
enum exit_status output_error(const struct arguments *a, const char *method, json_t *error);

/* --- values for people, into text ----------------------------------------------------------- */

enum { OUTPUT_TEXT = 1200 };

/* Borrows value: the text of a string, number, true or false; "-" for null and what is not there;
 * 192.0.2.7:443 for a socket_address; JSON for the rest. */
const char *output_value(char text[OUTPUT_TEXT], const json_t *value);
/* "1.4M". */
const char *output_bytes(char text[OUTPUT_TEXT], const json_t *count);
/* How long ago that was: "3m05s".  unix_ms: milliseconds since 1970. */
const char *output_age(char text[OUTPUT_TEXT], const json_t *unix_ms);
/* "2026-11-23 14:05:09", local time. */
const char *output_time(char text[OUTPUT_TEXT], long long unix_ms);

/* An object, a member a line, what is nested below it indented.  Borrows object. */
void output_fields(FILE *file, const json_t *object, int indent);

/* --- tables --------------------------------------------------------------------------------- */

struct column {
    const char *title;
    const char *key; /* of the row */
    const char *(*show)(char text[OUTPUT_TEXT], const json_t *value);
    bool is_right; /* numbers line up at their ends */
};

/*
 * The columns as wide as they must be; they end with one whose title is NULL.  No line of titles when
 * the first is empty.  Borrows rows.
 */
void output_table(const struct column *columns, const json_t *rows);

#endif
