#include "ipc/log_record.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

/* Room for `,"cut":1}` behind what fits. */
enum { CUT_SIZE = 12, NUMBER_DIGITS = 18 };

/* A buffer that is being filled; one byte is always left for the NUL. */
struct writer {
    char *at, *end;
    bool is_full; /* something did not fit */
    bool is_cut;  /* and was left out */
};

static void
put(struct writer *w, const char *bytes, size_t size)
{
    if ((size_t)(w->end - w->at) <= size) {
        w->is_full = true;
        return;
    }
    memcpy(w->at, bytes, size);
    w->at += size;
    *w->at = '\0';
}

static void
put_text(struct writer *w, const char *text)
{
    put(w, text, strlen(text));
}

/* --- the door ------------------------------------------------------------------------------- */

static bool
is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* What was escaped before stays as it is. */
static bool
is_escape(const char *text, size_t size)
{
    return size >= 4 && text[0] == '\\' && text[1] == 'x' && is_hex(text[2]) && is_hex(text[3]);
}

/* In a message no word may look like a field; in a value no quote may end it. */
static bool
is_plain(const char *at, size_t size, bool in_message)
{
    if (*at < 0x20 || *at >= 0x7f)
        return false;
    if (*at == '\\')
        return is_escape(at, size);
    return *at != (in_message ? '=' : '"');
}

/* The first of size characters. */
static void
let_in(struct writer *w, const char *at, size_t size, bool in_message)
{
    char escaped[8];

    if (is_plain(at, size, in_message)) {
        put(w, at, 1);
        return;
    }
    snprintf(escaped, sizeof escaped, "\\x%02x", (unsigned)(unsigned char)*at);
    put(w, escaped, 4);
}

/* --- reading a format or a line --------------------------------------------------------------- */

struct reader {
    struct log_record *record;
    const char *at;
    bool has_arguments; /* it is a format */
    va_list arguments;
    struct writer *out; /* where the word or value goes */
    bool in_message;
    unsigned integers, others; /* conversions and characters of this value */
};

static void
read_string(struct reader *r, size_t most)
{
    const char *text = va_arg(r->arguments, const char *);
    size_t size = text != NULL ? strnlen(text, most) : 0;

    r->others++;
    for (size_t i = 0; i < size; i++)
        let_in(r->out, &text[i], size - i, r->in_message);
}

static intmax_t
take_signed(struct reader *r, char length)
{
    switch (length) {
    case 'L':
        return va_arg(r->arguments, long long);
    case 'l':
        return va_arg(r->arguments, long);
    case 'z':
        return va_arg(r->arguments, ssize_t);
    default:
        return va_arg(r->arguments, int);
    }
}

static uintmax_t
take_unsigned(struct reader *r, char length)
{
    switch (length) {
    case 'L':
        return va_arg(r->arguments, unsigned long long);
    case 'l':
        return va_arg(r->arguments, unsigned long);
    case 'z':
        return va_arg(r->arguments, size_t);
    default:
        return va_arg(r->arguments, unsigned);
    }
}

static size_t
read_digits(struct reader *r)
{
    size_t number = 0;

    for (; *r->at >= '0' && *r->at <= '9'; r->at++)
        number = number * 10 + (size_t)(*r->at - '0');
    return number;
}

/* ".*" or ".20", of a string. */
static size_t
read_precision(struct reader *r)
{
    int given;

    if (*r->at != '.')
        return SIZE_MAX;
    r->at++;
    if (*r->at != '*')
        return read_digits(r);
    r->at++;
    given = va_arg(r->arguments, int);
    return given >= 0 ? (size_t)given : SIZE_MAX;
}

/* 'L' stands for "ll". */
static char
read_length(struct reader *r)
{
    char length = *r->at;

    if (length != 'l' && length != 'z')
        return '\0';
    r->at++;
    if (length == 'l' && *r->at == 'l') {
        r->at++;
        return 'L';
    }
    return length;
}

/* Behind the '%'. */
static void
read_conversion(struct reader *r)
{
    size_t width = read_digits(r), precision = read_precision(r);
    char length = read_length(r), conversion = *r->at, number[40] = "";

    if (conversion != '\0')
        r->at++;
    switch (conversion) {
    case 's':
        read_string(r, precision);
        return;
    case 'd':
    case 'i':
        snprintf(number, sizeof number, "%" PRIdMAX, take_signed(r, length));
        r->integers++;
        break;
    case 'u':
        snprintf(number, sizeof number, "%" PRIuMAX, take_unsigned(r, length));
        r->integers++;
        break;
    case 'x':
        snprintf(number, sizeof number, "%0*" PRIxMAX, width < 16 ? (int)width : 16,
                 take_unsigned(r, length));
        r->others++;
        break;
    case 'c':
        number[0] = (char)va_arg(r->arguments, int);
        let_in(r->out, number, 1, r->in_message);
        r->others++;
        return;
    case '%':
        snprintf(number, sizeof number, "%%");
        r->others++;
        break;
    default:
        /* Not one of ours: which arguments follow is not known any more. */
        r->has_arguments = false;
        return;
    }
    put_text(r->out, number);
}

/* To the next space, or to the quote that ends a value. */
static void
read_until(struct reader *r, char end)
{
    while (*r->at != '\0' && *r->at != end) {
        if (*r->at == '%' && r->has_arguments) {
            r->at++;
            read_conversion(r);
        } else {
            let_in(r->out, r->at, strnlen(r->at, 4), r->in_message);
            r->at++;
            r->others++;
        }
    }
}

static void
read_word(struct reader *r)
{
    struct log_record *record = r->record;
    struct writer w = { record->message + record->message_size,
                        record->message + sizeof record->message, false, false };

    if (record->message_size == 0)
        record->leading_count = record->field_count;
    else
        put(&w, " ", 1);
    r->out = &w;
    r->in_message = true;
    read_until(r, ' ');
    record->message_size = (size_t)(w.at - record->message);
    record->is_cut = record->is_cut || w.is_full;
}

/* As JSON writes it, and short enough for everybody's integers. */
static bool
is_number(const char *text)
{
    const char *digits = text[0] == '-' ? text + 1 : text;
    size_t size = strspn(digits, "0123456789");

    if (size == 0 || digits[size] != '\0' || size > NUMBER_DIGITS)
        return false;
    return digits[0] != '0' || (size == 1 && digits == text);
}

static bool
is_new_key(const struct log_record *record, const char *key)
{
    static const char *const reserved[] = { "time", "level", "process", "message" };

    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (strcmp(reserved[i], key) == 0)
            return false;
    }
    for (size_t i = 0; i < record->field_count; i++) {
        if (strcmp(record->fields[i].key, key) == 0)
            return false;
    }
    return true;
}

static enum log_field_kind
kind_of(const struct reader *r, const char *value, bool is_quoted)
{
    bool is_integer = r->has_arguments ? r->integers == 1 && r->others == 0 : r->integers == 0;

    if (is_quoted)
        return LOG_QUOTED;
    return is_integer && is_number(value) ? LOG_NUMBER : LOG_WORD;
}

/* r->at is at its key, which has key_size characters. */
static void
read_field(struct reader *r, size_t key_size)
{
    struct log_record *record = r->record;
    char *key = record->values + record->values_size;
    struct writer w = { key, record->values + sizeof record->values, false, false };
    struct log_field *field = &record->fields[record->field_count];
    const char *value;
    bool is_quoted;

    put(&w, r->at, key_size);
    if (w.at < w.end)
        w.at++; /* its NUL */
    r->at += key_size + 1;
    value = w.at;
    is_quoted = *r->at == '"';
    r->at += is_quoted;
    r->out = &w;
    r->in_message = false;
    r->integers = r->others = 0;
    read_until(r, is_quoted ? '"' : ' ');
    r->at += is_quoted && *r->at == '"';
    if (w.is_full || record->field_count == LOG_FIELDS_MAX || strcmp(key, "cut") == 0) {
        record->is_cut = true;
        return;
    }
    if (value == w.at || !is_new_key(record, key))
        return;
    *field = (struct log_field){ key, value, kind_of(r, value, is_quoted) };
    record->field_count++;
    record->values_size = (size_t)(w.at + 1 - record->values);
}

/* 0: no key and '=' here. */
static size_t
key_size_at(const char *text)
{
    size_t size = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_");

    return text[0] >= 'a' && text[0] <= 'z' && size < LOG_KEY_MAX && text[size] == '=' ? size : 0;
}

static void
read_all(struct reader *r)
{
    struct log_record *record = r->record;

    record->field_count = record->leading_count = 0;
    record->is_cut = false;
    record->message_size = record->values_size = 0;
    record->message[0] = '\0';
    while (*r->at != '\0') {
        size_t key_size = key_size_at(r->at);

        if (*r->at == ' ')
            r->at++;
        else if (key_size > 0)
            read_field(r, key_size);
        else
            read_word(r);
    }
    if (record->message_size == 0)
        record->leading_count = record->field_count;
}

void
log_record_format(struct log_record *record, const char *format, va_list arguments)
{
    struct reader r = { .record = record, .at = format, .has_arguments = true };

    va_copy(r.arguments, arguments);
    read_all(&r);
    va_end(r.arguments);
}

void
log_record_parse(struct log_record *record, const char *line)
{
    struct reader r = { .record = record, .at = line };

    read_all(&r);
}

/* --- writing ---------------------------------------------------------------------------------- */

/* What was written since `before` stays whole, or not at all. */
static void
keep_whole(struct writer *w, char *before)
{
    if (!w->is_full)
        return;
    w->at = before;
    *w->at = '\0';
    w->is_full = false;
    w->is_cut = true;
}

/* Nothing in it that ends a bare value, or makes it look like a number. */
static bool
needs_quotes(const struct log_field *field)
{
    if (field->kind == LOG_NUMBER)
        return false;
    return field->kind == LOG_QUOTED || strchr(field->value, ' ') != NULL ||
           is_number(field->value);
}

static void
put_text_field(struct writer *w, const struct log_field *field)
{
    bool is_quoted = needs_quotes(field);

    put_text(w, " ");
    put_text(w, field->key);
    put_text(w, is_quoted ? "=\"" : "=");
    put_text(w, field->value);
    put_text(w, is_quoted ? "\"" : "");
}

/* It is ASCII already; cut where the room ends. */
static void
put_json_string(struct writer *w, const char *text)
{
    put(w, "\"", 1);
    w->end -= 1;
    for (; *text != '\0'; text++) {
        char pair[2] = { '\\', *text };

        if (*text == '"' || *text == '\\')
            put(w, pair, 2);
        else
            put(w, text, 1);
    }
    w->end += 1;
    put(w, "\"", 1);
}

static void
put_json_field(struct writer *w, const struct log_field *field)
{
    put(w, ",", 1);
    put_json_string(w, field->key);
    put(w, ":", 1);
    if (field->kind == LOG_NUMBER)
        put_text(w, field->value);
    else
        put_json_string(w, field->value);
}

static void
put_fields(struct writer *w, const struct log_record *r, size_t from, size_t to,
           void (*put_field)(struct writer *w, const struct log_field *field))
{
    for (size_t i = from; i < to; i++) {
        char *before = w->at;

        put_field(w, &r->fields[i]);
        keep_whole(w, before);
    }
}

void
log_record_text(const struct log_record *r, char *out, size_t size)
{
    struct writer w = { out, out + size - CUT_SIZE, false, r->is_cut };

    *out = '\0';
    put_fields(&w, r, 0, r->leading_count, put_text_field);
    if (r->message_size > 0) {
        put_text(&w, " ");
        for (const char *c = r->message; *c != '\0'; c++)
            put(&w, c, 1);
        keep_whole(&w, w.at);
    }
    put_fields(&w, r, r->leading_count, r->field_count, put_text_field);
    w.end = out + size;
    if (w.is_cut)
        put_text(&w, " cut=1");
    /* Each piece brought a space in front. */
    if (*out == ' ')
        memmove(out, out + 1, strlen(out));
}

void
log_record_json(const struct log_record *r, const char *time, const char *level,
                const char *process, char *out, size_t size)
{
    static const char *const keys[] = { "{\"time\":", ",\"level\":", ",\"process\":" };
    const char *const values[] = { time, level, process };
    struct writer w = { out, out + size - CUT_SIZE, false, r->is_cut };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        put_text(&w, keys[i]);
        put_json_string(&w, values[i]);
    }
    put_fields(&w, r, 0, r->leading_count, put_json_field);
    put_text(&w, ",\"message\":");
    put_json_string(&w, r->message);
    keep_whole(&w, w.at);
    put_fields(&w, r, r->leading_count, r->field_count, put_json_field);
    w.end = out + size;
    put_text(&w, w.is_cut ? ",\"cut\":1}" : "}");
}
