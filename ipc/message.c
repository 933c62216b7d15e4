#include "ipc/message.h"

#include <assert.h>
#include <inttypes.h>
#include <nettle/base64.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ipc/fd.h"

enum kind { KIND_u64, KIND_i64, KIND_u32, KIND_text, KIND_bytes, KIND_secret };
enum presence { OPTIONAL, REQUIRED };

struct field {
    const char *name;
    enum kind kind;
    enum presence presence;
    size_t offset;     /* in its message's struct */
    size_t has_offset; /* of has_<field>; numbers only */
    uint64_t bound;
};

struct type {
    const char *name;
    unsigned routes;
    size_t fds_min, fds_max;
    const struct field *fields;
    size_t field_count;
};

#define HAS_u64(name, field)    offsetof(struct message_##name, has_##field)
#define HAS_i64(name, field)    offsetof(struct message_##name, has_##field)
#define HAS_u32(name, field)    offsetof(struct message_##name, has_##field)
#define HAS_text(name, field)   0
#define HAS_bytes(name, field)  0
#define HAS_secret(name, field) 0

#define MESSAGE(NAME, name, routes, fds_min, fds_max, text) \
    static const struct field name##_fields[] = {
#define FIELD(message, kind, field, presence, bound, text) \
    { #field,                                              \
      KIND_##kind,                                         \
      presence,                                            \
      offsetof(struct message_##message, field),           \
      HAS_##kind(message, field),                          \
      bound },
#define END(name)                         \
    {                                     \
        NULL, KIND_u64, OPTIONAL, 0, 0, 0 \
    }                                     \
    }                                     \
    ;
#include "ipc/messages.def"
#undef MESSAGE
#undef FIELD
#undef END

static const struct type types[MESSAGE_TYPE_COUNT] = {
#define MESSAGE(NAME, name, routes, fds_min, fds_max, text) \
    [MESSAGE_##                                             \
        NAME] = { #name,   routes,        fds_min,          \
                  fds_max, name##_fields, sizeof name##_fields / sizeof name##_fields[0] - 1 },
#define FIELD(name, kind, field, presence, bound, text)
#define END(name)
#include "ipc/messages.def"
#undef MESSAGE
#undef FIELD
#undef END
};

enum { FIELDS_MAX = 32 };

void
message_init(struct message *m, enum message_type type)
{
    memset(&m->as, 0, sizeof m->as);
    m->type = type;
    m->fd_count = 0;
}

void
message_fini(struct message *m)
{
    for (size_t i = 0; i < m->fd_count; i++)
        fd_close(&m->fds[i]);
    m->fd_count = 0;
}

int
message_take_fd(struct message *m, size_t index)
{
    int fd;

    if (index >= m->fd_count)
        return -1;
    fd = m->fds[index];
    m->fds[index] = -1;
    return fd;
}

const char *
message_name(enum message_type type)
{
    return (unsigned)type < MESSAGE_TYPE_COUNT ? types[type].name : "unknown";
}

/* --- writing ------------------------------------------------------------------------------- */

struct writer {
    char *at, *end;
    bool is_full;
};

static void
put(struct writer *w, const char *bytes, size_t size)
{
    if ((size_t)(w->end - w->at) < size) {
        w->is_full = true;
        return;
    }
    memcpy(w->at, bytes, size);
    w->at += size;
}

static void
put_text(struct writer *w, const char *text)
{
    put(w, "\"", 1);
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        char escaped[8];

        if (c == '"' || c == '\\')
            put(w, (char[]){ '\\', *p }, 2);
        else if (c >= 0x20)
            put(w, p, 1);
        else
            put(w, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", c));
    }
    put(w, "\"", 1);
}

static void
put_bytes(struct writer *w, const struct bytes *bytes)
{
    size_t size = BASE64_ENCODE_RAW_LENGTH(bytes->size);

    put(w, "\"", 1);
    if ((size_t)(w->end - w->at) < size) {
        w->is_full = true;
        return;
    }
    base64_encode_raw(w->at, bytes->size, bytes->data);
    w->at += size;
    put(w, "\"", 1);
}

static uint64_t
number_of(const struct field *f, const void *at)
{
    switch (f->kind) {
    case KIND_u32:
        return *(const uint32_t *)at;
    case KIND_u64:
        return *(const uint64_t *)at;
    default:
        return (uint64_t) * (const int64_t *)at;
    }
}

static bool
is_number(const struct field *f)
{
    return f->kind == KIND_u64 || f->kind == KIND_i64 || f->kind == KIND_u32;
}

static bool
is_present(const struct field *f, const char *as)
{
    if (f->presence == REQUIRED)
        return true;
    if (is_number(f))
        return number_of(f, as + f->offset) != 0 || *(const bool *)(as + f->has_offset);
    if (f->kind == KIND_text)
        return *(const char *const *)(as + f->offset) != NULL;
    return ((const struct bytes *)(as + f->offset))->size != 0;
}

/* A number of no field's bound is 0, which means any. */
static bool
is_within(const struct field *f, uint64_t value)
{
    if (f->kind == KIND_u32 && value > UINT32_MAX)
        return false;
    return f->bound == 0 || value <= f->bound;
}

static bool
put_field(struct writer *w, const struct field *f, const char *as)
{
    const void *at = as + f->offset;
    char number[24];

    put(w, ",", 1);
    put_text(w, f->name);
    put(w, ":", 1);
    if (f->kind == KIND_i64) {
        put(w, number, (size_t)snprintf(number, sizeof number, "%" PRId64, *(const int64_t *)at));
    } else if (is_number(f)) {
        if (!is_within(f, number_of(f, at)))
            return false;
        put(w, number, (size_t)snprintf(number, sizeof number, "%" PRIu64, number_of(f, at)));
    } else if (f->kind == KIND_text) {
        const char *text = *(const char *const *)at;

        if (text == NULL || strlen(text) > f->bound)
            return false;
        put_text(w, text);
    } else {
        const struct bytes *bytes = at;

        if (bytes->size > f->bound)
            return false;
        put_bytes(w, bytes);
    }
    return true;
}

enum result
message_encode(const struct message *m, char *buffer, size_t *size)
{
    const struct type *type = &types[m->type];
    struct writer w = { buffer, buffer + *size, false };

    if (m->fd_count < type->fds_min || m->fd_count > type->fds_max)
        return RESULT_MESSAGE_DESCRIPTORS;
    put(&w, "{\"type\":", 8);
    put_text(&w, type->name);
    for (size_t i = 0; i < type->field_count; i++) {
        const struct field *f = &type->fields[i];

        if (is_present(f, (const char *)&m->as) && !put_field(&w, f, (const char *)&m->as))
            return RESULT_MESSAGE_MALFORMED;
    }
    put(&w, "}", 1);
    if (w.is_full)
        return RESULT_MESSAGE_TOO_LONG;
    *size = (size_t)(w.at - buffer);
    return RESULT_OK;
}

/* --- reading ------------------------------------------------------------------------------- */

struct reader {
    char *at, *end;
    const char *why; /* what is wrong; NULL so far */
};

static bool
fail(struct reader *r, const char *why)
{
    if (r->why == NULL)
        r->why = why;
    return false;
}

static bool
take(struct reader *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return fail(r, "not one flat JSON object");
    r->at++;
    return true;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four digits of \uXXXX; NUL and surrogates are refused, our writer has no need of them. */
static bool
take_unicode(struct reader *r, char **out)
{
    unsigned code = 0;

    if (r->end - r->at < 4)
        return fail(r, "an escape is cut off");
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(*r->at++);

        if (digit < 0)
            return fail(r, "an escape has a wrong digit");
        code = code * 16 + (unsigned)digit;
    }
    if (code == 0 || (code >= 0xd800 && code <= 0xdfff))
        return fail(r, "an escape stands for no character");
    if (code < 0x80) {
        *(*out)++ = (char)code;
    } else if (code < 0x800) {
        *(*out)++ = (char)(0xc0 | code >> 6);
        *(*out)++ = (char)(0x80 | (code & 0x3f));
    } else {
        *(*out)++ = (char)(0xe0 | code >> 12);
        *(*out)++ = (char)(0x80 | (code >> 6 & 0x3f));
        *(*out)++ = (char)(0x80 | (code & 0x3f));
    }
    return true;
}

static bool
take_escape(struct reader *r, char **out)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    const char *letter;
    char c;

    if (r->at == r->end)
        return fail(r, "an escape is cut off");
    c = *r->at++;
    if (c == 'u')
        return take_unicode(r, out);
    letter = c == '\0' ? NULL : strchr(letters, c);
    if (letter == NULL)
        return fail(r, "an escape is unknown");
    *(*out)++ = meanings[letter - letters];
    return true;
}

/* Decodes a string in place; it ends up with a NUL where its end was. */
static bool
take_string(struct reader *r, char **text, size_t *size)
{
    char *out;

    if (!take(r, '"'))
        return false;
    *text = out = r->at;
    while (r->at < r->end && *r->at != '"') {
        char c = *r->at++;

        if ((unsigned char)c < 0x20)
            return fail(r, "a control character in a string");
        if (c != '\\')
            *out++ = c;
        else if (!take_escape(r, &out))
            return false;
    }
    if (!take(r, '"'))
        return false;
    *size = (size_t)(out - *text);
    *out = '\0';
    return true;
}

static bool
take_digits(struct reader *r, uint64_t *value)
{
    const char *start = r->at;

    *value = 0;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, (uint64_t)(*r->at - '0'), value))
            return fail(r, "a number is too large");
        r->at++;
    }
    if (r->at == start)
        return fail(r, "a number is missing");
    if (*start == '0' && r->at - start > 1)
        return fail(r, "a number begins with 0");
    return true;
}

static bool
take_number(struct reader *r, const struct field *f, char *as)
{
    bool is_negative = f->kind == KIND_i64 && r->at < r->end && *r->at == '-';
    uint64_t value;

    if (is_negative)
        r->at++;
    if (!take_digits(r, &value))
        return false;
    if (f->kind == KIND_i64) {
        if (value > INT64_MAX)
            return fail(r, "a number is too large");
        *(int64_t *)(as + f->offset) = is_negative ? -(int64_t)value : (int64_t)value;
    } else {
        if (!is_within(f, value))
            return fail(r, "a number is over its bound");
        if (f->kind == KIND_u32)
            *(uint32_t *)(as + f->offset) = (uint32_t)value;
        else
            *(uint64_t *)(as + f->offset) = value;
    }
    *(bool *)(as + f->has_offset) = true;
    return true;
}

/* How many bytes the UTF-8 character at p has (RFC 3629); 0 if it is none. */
static size_t
utf8_length(const unsigned char *p)
{
    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        return (p[1] & 0xc0) == 0x80 ? 2 : 0;
    if (p[0] >= 0xe0 && p[0] <= 0xef) {
        if ((p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80)
            return 0;
        if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f))
            return 0;
        return 3;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        if ((p[1] & 0xc0) != 0x80 || (p[2] & 0xc0) != 0x80 || (p[3] & 0xc0) != 0x80)
            return 0;
        if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
            return 0;
        return 4;
    }
    return 0;
}

static bool
is_text(const char *text, size_t size)
{
    const unsigned char *p = (const unsigned char *)text;

    /* The NUL at the end stops utf8_length from looking past it. */
    for (size_t i = 0; i < size;) {
        size_t length = p[i] == '\0' ? 0 : utf8_length(p + i);

        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

static bool
take_text(struct reader *r, const struct field *f, char *as)
{
    char *text;
    size_t size;

    if (!take_string(r, &text, &size))
        return false;
    if (size > f->bound)
        return fail(r, "a text is over its bound");
    if (!is_text(text, size))
        return fail(r, "a text is not UTF-8");
    *(const char **)(as + f->offset) = text;
    return true;
}

static bool
take_bytes(struct reader *r, const struct field *f, char *as)
{
    struct bytes *bytes = (struct bytes *)(as + f->offset);
    struct base64_decode_ctx base64;
    char *text;
    size_t size, decoded;

    if (!take_string(r, &text, &size))
        return false;
    base64_decode_init(&base64);
    decoded = size;
    if (!base64_decode_update(&base64, &decoded, (uint8_t *)text, size, text) ||
        !base64_decode_final(&base64))
        return fail(r, "bytes are not base64");
    if (decoded > f->bound)
        return fail(r, "bytes are over their bound");
    bytes->data = (const uint8_t *)text;
    bytes->size = decoded;
    return true;
}

static const struct field *
find_field(const struct type *type, const char *name)
{
    for (size_t i = 0; i < type->field_count; i++) {
        if (strcmp(type->fields[i].name, name) == 0)
            return &type->fields[i];
    }
    return NULL;
}

static bool
take_field(struct reader *r, const struct type *type, char *as, uint32_t *seen)
{
    const struct field *f;
    char *name;
    size_t size;
    uint32_t bit;

    if (!take(r, ',') || !take_string(r, &name, &size))
        return false;
    if (r->at == r->end || *r->at != ':')
        return fail(r, "a field has no value");
    r->at++;
    f = find_field(type, name);
    if (f == NULL)
        return fail(r, "a field is unknown");
    bit = (uint32_t)1 << (f - type->fields);
    if (*seen & bit)
        return fail(r, "a field stands twice");
    *seen |= bit;
    if (is_number(f))
        return take_number(r, f, as);
    return f->kind == KIND_text ? take_text(r, f, as) : take_bytes(r, f, as);
}

static bool
take_type(struct reader *r, struct message *m)
{
    char *key, *name;
    size_t size;

    if (!take(r, '{') || !take_string(r, &key, &size) || !take(r, ':'))
        return false;
    if (strcmp(key, "type") != 0 || !take_string(r, &name, &size))
        return fail(r, "the first field is not type");
    for (unsigned i = 0; i < MESSAGE_TYPE_COUNT; i++) {
        if (strcmp(types[i].name, name) == 0) {
            message_init(m, (enum message_type)i);
            return true;
        }
    }
    return fail(r, "the type is unknown");
}

static bool
take_message(struct reader *r, struct message *m)
{
    const struct type *type;
    uint32_t seen = 0;

    if (!take_type(r, m))
        return false;
    type = &types[m->type];
    assert(type->field_count <= FIELDS_MAX);
    while (r->at < r->end && *r->at == ',') {
        if (!take_field(r, type, (char *)&m->as, &seen))
            return false;
    }
    if (!take(r, '}'))
        return false;
    if (r->at != r->end)
        return fail(r, "something follows the object");
    for (size_t i = 0; i < type->field_count; i++) {
        if (type->fields[i].presence == REQUIRED && !(seen & (uint32_t)1 << i))
            return fail(r, "a field is missing");
    }
    return true;
}

/* A field that ends in _index names one of the message's own descriptors. */
static bool
indexes_fit(const struct message *m, size_t fd_count)
{
    const struct type *type = &types[m->type];
    const char *as = (const char *)&m->as;

    for (size_t i = 0; i < type->field_count; i++) {
        const struct field *f = &type->fields[i];
        size_t length = strlen(f->name);

        if (f->kind != KIND_u32 || length < 6 || strcmp(f->name + length - 6, "_index") != 0)
            continue;
        if (*(const bool *)(as + f->has_offset) && number_of(f, as + f->offset) >= fd_count)
            return false;
    }
    return true;
}

static enum result
decode(struct message *m, enum route route, char *buffer, size_t size, size_t fd_count,
       const char **why)
{
    struct reader r = { buffer, buffer + size, NULL };
    const struct type *type;

    if (!take_message(&r, m)) {
        *why = r.why;
        return RESULT_MESSAGE_MALFORMED;
    }
    type = &types[m->type];
    if (!(type->routes & (unsigned)route)) {
        *why = "not a message for this channel";
        return RESULT_MESSAGE_UNEXPECTED;
    }
    if (fd_count < type->fds_min || fd_count > type->fds_max || !indexes_fit(m, fd_count)) {
        *why = "the wrong number of descriptors";
        return RESULT_MESSAGE_DESCRIPTORS;
    }
    return RESULT_OK;
}

enum result
message_decode(struct message *m, enum route route, char *buffer, size_t size, const int *fds,
               size_t fd_count, const char **why)
{
    const char *ignored;
    enum result result;

    m->fd_count = 0;
    result = decode(m, route, buffer, size, fd_count, why != NULL ? why : &ignored);
    if (result != RESULT_OK) {
        for (size_t i = 0; i < fd_count; i++) {
            int fd = fds[i];

            fd_close(&fd);
        }
        return result;
    }
    if (fd_count > 0)
        memcpy(m->fds, fds, fd_count * sizeof *fds);
    m->fd_count = fd_count;
    return RESULT_OK;
}

void
message_describe(const struct message *m, char *line, size_t size)
{
    const struct type *type = &types[m->type];
    const char *as = (const char *)&m->as;
    int used = snprintf(line, size, "%s", type->name);

    for (size_t i = 0; i < type->field_count && used >= 0 && (size_t)used < size; i++) {
        const struct field *f = &type->fields[i];
        const void *at = as + f->offset;
        char *rest = line + used;
        size_t room = size - (size_t)used;

        if (!is_present(f, as))
            continue;
        if (f->kind == KIND_i64)
            used += snprintf(rest, room, " %s=%" PRId64, f->name, *(const int64_t *)at);
        else if (is_number(f))
            used += snprintf(rest, room, " %s=%" PRIu64, f->name, number_of(f, at));
        else if (f->kind == KIND_text)
            used += snprintf(rest, room, " %s=\"%s\"", f->name, *(const char *const *)at);
        else if (f->kind == KIND_secret)
            used += snprintf(rest, room, " %s=***", f->name);
        else
            used +=
                snprintf(rest, room, " %s=%zu_bytes", f->name, ((const struct bytes *)at)->size);
    }
}
