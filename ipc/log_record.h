/*
 * One log line as data: what happened, and key=value beside it.  The text and the JSON form are
 * written from this, and from nothing else.
 *
 * It is the one door to logs: a value becomes printable ASCII on its way in (log_escape's \xHH for
 * everything else, " and \), so whatever a peer called itself, it is one value on one line.
 * Nothing here allocates; what does not fit is left out, and `cut=1` says so.
 */
#ifndef CORDON_IPC_LOG_RECORD_H
#define CORDON_IPC_LOG_RECORD_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    LOG_FIELDS_MAX = 32,
    LOG_KEY_MAX = 32,
    LOG_MESSAGE_MAX = 1100,
    LOG_VALUES_MAX = 2200, /* keys and values of a record */
    LOG_LINE_MAX = 4000,   /* a line; below PIPE_BUF, so that a pipe takes it whole or not at all */
};

/* A string that was given bare is quoted where it must be; one given in quotes always. */
enum log_field_kind { LOG_WORD, LOG_QUOTED, LOG_NUMBER };

struct log_field {
    const char *key, *value; /* borrowed from the record */
    enum log_field_kind kind;
};

struct log_record {
    size_t field_count;
    size_t leading_count; /* of those: whose or what it is about, in front of the message */
    struct log_field fields[LOG_FIELDS_MAX];
    bool is_cut;
    size_t message_size, values_size;
    char message[LOG_MESSAGE_MAX];
    char values[LOG_VALUES_MAX];
};

/*
 * From a format as of printf(3), with %s %d %u %x %c and their lengths: `key=` in it begins a field,
 * to the next space or in quotes; the other words are the message.  What an argument contains never
 * begins a field.  An empty string is no field; of two with one key the first counts.
 */
void log_record_format(struct log_record *r, const char *format, va_list arguments);

/* From a line in the text form, which another process wrote, and may have made up. */
void log_record_parse(struct log_record *r, const char *line);

/* `conn=c3.7 opened version=tlsv1.3 took_ms=41`.  At most size - 1 characters, ended by a NUL. */
void log_record_text(const struct log_record *r, char *out, size_t size);

/* One JSON object (RFC 8259), the same way: time, level and process come first. */
void log_record_json(const struct log_record *r, const char *time, const char *level,
                     const char *process, char *out, size_t size);

#endif
