/*
 * Log lines: one event, one line, as text or as JSON (log_record.h).
 *
 *   2026-11-23T14:23:25.123Z info manager conn=c3.7 opened role=server version=tlsv1.3 took_ms=41
 *
 * cordond and the manager write to stderr, without ever waiting: what does not
 * fit is counted, and the count is the next line.  Everybody else sends its
 * lines on its mailbox (mailbox_log_to).  Where stderr is the journal
 * (sd-daemon(3), $JOURNAL_STREAM), a line begins with its priority instead of the time.
 */
#ifndef CORDON_IPC_LOG_H
#define CORDON_IPC_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "ipc/result.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

/* process: whose lines these are; borrowed for ever.  Looks at what stderr is. */
void log_open(const char *process);

void log_set_format(enum log_format format);
enum log_format log_get_format(void);

/* Lines above this level are not made. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* Where lines go instead of stderr; line is the text form, without time, level and process.  NULL: to
 * stderr. */
void log_set_sink(void (*sink)(enum log_level level, const char *line));

/* Also called with every line written to stderr (subscriptions); NULL: nobody. */
void log_set_tap(void (*tap)(enum log_level level, const char *process, const char *line));

/* A line that came from another process, in the text form. */
void log_forward(enum log_level level, const char *process, const char *line);

/* format: see log_record_format. */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                        \
    do {                                      \
        if (log_get_level() >= LOG_DEBUG)     \
            log_line(LOG_DEBUG, __VA_ARGS__); \
    } while (0)

const char *log_level_name(enum log_level level);
bool log_level_parse(const char *name, enum log_level *level);
const char *log_format_name(enum log_format format);
bool log_format_parse(const char *name, enum log_format *format);

/*
 * Escapes a string from outside for logs, terminals and JSON alike: printable ASCII but " and \
 * stays, everything else becomes \xHH.  Cuts to fit; out is always ended.
 */
void log_escape(char *out, size_t out_size, const void *bytes, size_t size);

/* The same for what another process says it has escaped: there \xHH stays as it is. */
void log_escape_again(char *out, size_t out_size, const char *text);

#endif
