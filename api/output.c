#include "api/output.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COLUMNS_MAX = 16 };

/* --- The door ------------------------------------------------------------------------------- */

static bool
is_harmless(unsigned char byte)
{
    return byte >= 0x20 && byte < 0x7f;
}

void
output_text(FILE *file, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (is_harmless(*p))
            putc(*p, file);
        else
            fprintf(file, "\\x%02x", *p);
    }
}

static size_t
shown_width(const char *text)
{
    size_t width = 0;

    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        width += is_harmless(*p) ? 1 : 4;
    return width;
}

FILE *
output_file(const struct arguments *a)
{
    return a->command && a->command->has_data ? stderr : stdout;
}

void
output_json(FILE *file, json_t *what, bool is_line)
{
    char *text = json_dumps(what, JSON_ENSURE_ASCII | (is_line ? JSON_COMPACT : JSON_INDENT(2)));

    json_decref(what);
    if (!text)
        return;
    /* ASCII, and control characters are escaped as JSON has it; DEL is not. */
    for (char *p = text; *p; p++) {
        if (*p == 0x7f)
            *p = '?';
    }
    fprintf(file, "%s\n", text);
    fflush(file);
    free(text);
}

/* --- Errors --------------------------------------------------------------------------------- */

enum exit_status
output_fail(const struct arguments *a, enum exit_status status, const char *reason,
            const char *format, ...)
{
    char message[1024];
    va_list arguments;
    json_t *error;

    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    if (!a->is_json) {
        fputs("cordon: ", stderr);
        output_text(stderr, message);
        putc('\n', stderr);
        return status;
    }
    error = json_pack("{s:i,s:s,s:{s:s}}", "code", -32000, "message", message, "data", "reason",
                      reason);
    if (!error) /* a path in the message may be no UTF-8 */
        error = json_pack("{s:i,s:s,s:{s:s}}", "code", -32000, "message", reason, "data", "reason",
                          reason);
    output_json(output_file(a), json_pack("{s:o}", "error", error), true);
    return status;
}

enum exit_status
output_error(const struct arguments *a, const char *method, json_t *error)
{
    json_t *data = json_object_get(error, "data");
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *hint = json_string_value(json_object_get(data, "hint"));
    const char *reason = json_string_value(json_object_get(data, "reason"));
    const char *why = json_string_value(json_object_get(data, "why"));
    bool is_tls = reason && strcmp(reason, "tls_alert") == 0;
    char *facts;

    if (a->is_json) {
        output_json(output_file(a), json_pack("{s:o}", "error", error), true);
        return is_tls ? EXIT_TLS : EXIT_FAILED;
    }
    fputs("cordon: ", stderr);
    if (method)
        output_text(stderr, method);
    fputs(method ? ": " : "", stderr);
    output_text(stderr, message ? message : "failed");
    if (why && message && !strstr(message, why)) {
        fputs(": ", stderr);
        output_text(stderr, why);
    }
    putc('\n', stderr);
    /* Who names a method wants all there is; the sentence is enough for the others. */
    facts = method ? json_dumps(data, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    if (facts) {
        output_text(stderr, facts);
        putc('\n', stderr);
    }
    if (hint) {
        fputs("hint: ", stderr);
        output_text(stderr, hint);
        putc('\n', stderr);
    }
    free(facts);
    json_decref(error);
    return is_tls ? EXIT_TLS : EXIT_FAILED;
}

/* --- Values --------------------------------------------------------------------------------- */

/* A socket_address of the control API; NULL: it is none. */
static const char *
address_value(char text[OUTPUT_TEXT], const json_t *value)
{
    const char *address = json_string_value(json_object_get(value, "address"));
    const char *path = json_string_value(json_object_get(value, "path"));
    const json_t *port = json_object_get(value, "port");

    if (address && json_is_integer(port))
        snprintf(text, OUTPUT_TEXT, strchr(address, ':') ? "[%s]:%lld" : "%s:%lld", address,
                 (long long)json_integer_value(port));
    else if (path && json_object_size(value) == 1)
        snprintf(text, OUTPUT_TEXT, "%s", *path ? path : "unix");
    else
        return NULL;
    return text;
}

const char *
output_value(char text[OUTPUT_TEXT], const json_t *value)
{
    char *json;

    if (!value || json_is_null(value))
        return "-";
    if (json_is_string(value))
        return *json_string_value(value) ? json_string_value(value) : "-";
    if (json_is_object(value) && address_value(text, value))
        return text;
    json = json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);
    snprintf(text, OUTPUT_TEXT, "%s", json ? json : "?");
    free(json);
    return text;
}

const char *
output_bytes(char text[OUTPUT_TEXT], const json_t *count)
{
    static const char units[] = "KMGTPE";
    double size = (double)json_integer_value(count);
    size_t unit = 0;

    if (!json_is_integer(count))
        return "-";
    if (size < 1000) {
        snprintf(text, OUTPUT_TEXT, "%.0f", size);
        return text;
    }
    size /= 1000;
    for (; size >= 999.5 && unit + 2 < sizeof(units); unit++)
        size /= 1000;
    snprintf(text, OUTPUT_TEXT, size < 9.95 ? "%.1f%c" : "%.0f%c", size, units[unit]);
    return text;
}

const char *
output_age(char text[OUTPUT_TEXT], const json_t *unix_ms)
{
    struct timespec now;
    long long age_s;

    if (!json_is_integer(unix_ms))
        return "-";
    clock_gettime(CLOCK_REALTIME, &now);
    age_s = now.tv_sec - json_integer_value(unix_ms) / 1000;
    if (age_s < 0)
        age_s = 0;
    if (age_s < 60)
        snprintf(text, OUTPUT_TEXT, "%llds", age_s);
    else if (age_s < 3600)
        snprintf(text, OUTPUT_TEXT, "%lldm%02llds", age_s / 60, age_s % 60);
    else if (age_s < 86400)
        snprintf(text, OUTPUT_TEXT, "%lldh%02lldm", age_s / 3600, age_s / 60 % 60);
    else
        snprintf(text, OUTPUT_TEXT, "%lldd%02lldh", age_s / 86400, age_s / 3600 % 24);
    return text;
}

const char *
output_time(char text[OUTPUT_TEXT], long long unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm parts;

    if (!localtime_r(&seconds, &parts) ||
        strftime(text, OUTPUT_TEXT, "%Y-%m-%d %H:%M:%S", &parts) == 0)
        snprintf(text, OUTPUT_TEXT, "%lld", unix_ms);
    return text;
}

/* Members that are points in time; what one unit of them is. */
static const struct time_key {
    const char *name;
    long long unit_ms;
} time_keys[] = {
    { "opened", 1 }, { "established", 1 }, { "not_before", 1000 }, { "not_after", 1000 }
};

static const char *
member_text(char text[OUTPUT_TEXT], const char *name, const json_t *value)
{
    for (size_t i = 0; i < sizeof(time_keys) / sizeof(time_keys[0]); i++) {
        if (strcmp(name, time_keys[i].name) == 0 && json_is_integer(value))
            return output_time(text, json_integer_value(value) * time_keys[i].unit_ms);
    }
    return output_value(text, value);
}

void
output_fields(FILE *file, const json_t *object, int indent)
{
    char text[OUTPUT_TEXT];
    const char *name;
    json_t *value;
    int width = 0;

    json_object_foreach ((json_t *)object, name, value) {
        if ((int)strlen(name) > width)
            width = (int)strlen(name);
    }
    json_object_foreach ((json_t *)object, name, value) {
        bool is_nested = json_is_object(value) && !address_value(text, value);

        fprintf(file, "%*s", indent, "");
        output_text(file, name);
        if (is_nested) {
            putc('\n', file);
            output_fields(file, value, indent + 4);
            continue;
        }
        fprintf(file, "%*s", width - (int)strlen(name) + 2, "");
        output_text(file, member_text(text, name, value));
        putc('\n', file);
    }
}

/* --- Tables --------------------------------------------------------------------------------- */

static void
print_cell(const struct column *column, const char *text, size_t width, bool is_last)
{
    int pad = (int)(width - shown_width(text));

    if (column->is_right)
        printf("%*s", pad, "");
    output_text(stdout, text);
    if (!column->is_right && !is_last)
        printf("%*s", pad, "");
    fputs(is_last ? "\n" : "  ", stdout);
}

static const char *
cell(char text[OUTPUT_TEXT], const struct column *column, const json_t *row)
{
    return column->show(text, json_object_get(row, column->key));
}

void
output_table(const struct column *columns, const json_t *rows)
{
    size_t widths[COLUMNS_MAX];
    size_t count = 0;
    char text[OUTPUT_TEXT];
    const json_t *row;
    size_t i;

    for (; columns[count].title; count++) {
        widths[count] = strlen(columns[count].title);
        json_array_foreach (rows, i, row) {
            size_t width = shown_width(cell(text, &columns[count], row));

            if (width > widths[count])
                widths[count] = width;
        }
    }
    for (size_t at = 0; at < count && *columns[0].title; at++)
        print_cell(&columns[at], columns[at].title, widths[at], at + 1 == count);
    json_array_foreach (rows, i, row) {
        for (size_t at = 0; at < count; at++)
            print_cell(&columns[at], cell(text, &columns[at], row), widths[at], at + 1 == count);
    }
}
