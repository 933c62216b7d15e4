#include "manager/line.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc/secret.h"

enum { ROOM_FIRST = 4096, ROOM_MAX = LINE_SIZE_MAX + 1 };

void
line_reader_init(struct line_reader *r)
{
    memset(r, 0, sizeof(*r));
}

void
line_reader_fini(struct line_reader *r)
{
    secret_free(r->bytes);
    line_reader_drop_fds(r);
    line_reader_init(r);
}

void
line_reader_drop_fds(struct line_reader *r)
{
    for (size_t i = 0; i < r->fd_count; i++)
        fd_close(&r->fds[i]);
    r->fd_count = 0;
}

bool
line_reader_claim(struct line_reader *r, int *fds, size_t count)
{
    if (count > r->fd_count)
        return false;
    memcpy(fds, r->fds, count * sizeof(*fds));
    r->fd_count -= count;
    memmove(r->fds, r->fds + count, r->fd_count * sizeof(*fds));
    return true;
}

/* Moves what is not a line yet to the front, and wipes where it was. */
static void
compact(struct line_reader *r)
{
    size_t size = r->end - r->start;

    if (r->start == 0)
        return;
    memmove(r->bytes, r->bytes + r->start, size);
    secret_wipe(r->bytes + size, r->end - size);
    r->searched -= r->start;
    r->start = 0;
    r->end = size;
}

static enum result
make_room(struct line_reader *r)
{
    size_t room = r->room ? r->room * 2 : ROOM_FIRST;
    char *bytes;

    if (r->bytes)
        compact(r);
    if (r->end < r->room)
        return RESULT_OK;
    if (room > ROOM_MAX)
        room = ROOM_MAX;
    assert(room > r->room);
    bytes = malloc(room);
    if (!bytes)
        return RESULT_NO_MEMORY;
    if (r->end > 0)
        memcpy(bytes, r->bytes, r->end);
    secret_free(r->bytes);
    r->bytes = bytes;
    r->room = room;
    return RESULT_OK;
}

/* An idle client holds no buffer. */
static void
release_if_empty(struct line_reader *r)
{
    if (r->start != r->end)
        return;
    secret_free(r->bytes);
    r->bytes = NULL;
    r->room = r->start = r->end = r->searched = 0;
}

enum result
line_reader_receive(struct line_reader *r, int socket)
{
    size_t count = FD_MAX_RECEIVED;
    enum result result = make_room(r);
    size_t size = r->room - r->end;

    if (result != RESULT_OK)
        return result;
    assert(r->fd_count <= LINE_UNCLAIMED_MAX);
    result =
        fd_receive(socket, r->bytes + r->end, &size, r->fds + r->fd_count, &count, MSG_DONTWAIT);
    if (result == RESULT_OK) {
        r->fd_count += count;
        r->end += size;
    }
    if (result == RESULT_DESCRIPTORS)
        line_reader_drop_fds(r);
    if (result == RESULT_OK && size == 0)
        result = RESULT_CHANNEL_CLOSED;
    if (result != RESULT_OK)
        release_if_empty(r);
    return result;
}

enum result
line_reader_next(struct line_reader *r, char **line, size_t *size)
{
    char *newline = NULL;

    if (r->start > 0)
        secret_wipe(r->bytes, r->start);
    if (r->searched < r->end)
        newline = memchr(r->bytes + r->searched, '\n', r->end - r->searched);
    if (newline) {
        *line = r->bytes + r->start;
        *size = (size_t)(newline - *line);
        r->start = r->searched = (size_t)(newline - r->bytes) + 1;
        return RESULT_OK;
    }
    r->searched = r->end;
    if (r->end - r->start > LINE_SIZE_MAX)
        return RESULT_LINE_TOO_LONG;
    release_if_empty(r);
    return r->fd_count > LINE_UNCLAIMED_MAX ? RESULT_DESCRIPTORS : RESULT_WOULD_BLOCK;
}

/* --- what a line may hold ------------------------------------------------------------------ */

static json_t *
refuse(struct failure *f, size_t position, const char *why)
{
    failure_set(f, RESULT_PARSE_ERROR, NULL, "{s:I, s:s}", "position", (json_int_t)position, "why",
                why);
    snprintf(f->message, sizeof(f->message), "%s: %s, at byte %zu", result_text(f->reason), why,
             position);
    return NULL;
}

static const char *
skip_string(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\')
            at++;
    }
    return at < end ? at + 1 : end;
}

static const char *
skip_scalar(const char *at, const char *end)
{
    while (at < end && !strchr(" \t\r\n,:[]{}\"", *at))
        at++;
    return at;
}

/*
 * Counts what jansson would make, before it makes it: a megabyte of `[{},{}` becomes 82 of
 * values.  What is not JSON at all is counted somehow, and left to jansson to refuse.
 */
static const char *
count_values(const char *bytes, size_t size, size_t values_max, const char **why)
{
    const char *end = bytes + size;
    const char *at = bytes;
    size_t depth = 0;
    size_t values = 0;

    while (at < end) {
        if (*at == '[' || *at == '{') {
            depth++;
            values++;
        } else if (*at == ']' || *at == '}') {
            depth -= depth > 0;
        } else if (*at == ':') {
            values -= values > 0; /* what was before it was a key */
        }
        *why = depth > LINE_DEPTH_MAX ? "nested deeper than 32"
                                      : (values > values_max ? "too many values" : NULL);
        if (*why)
            return at;
        if (!strchr(" \t\r\n,:[]{}", *at)) {
            values++;
            at = *at == '"' ? skip_string(at, end) : skip_scalar(at, end);
        } else {
            at++;
        }
    }
    return NULL;
}

static const char *
syntax_text(enum json_error_code code)
{
    switch (code) {
    case json_error_duplicate_key:
        return "a key is there twice in one object";
    case json_error_invalid_utf8:
        return "not UTF-8";
    case json_error_null_character:
        return "NUL in a string";
    case json_error_numeric_overflow:
        return "a number is too large";
    case json_error_premature_end_of_input:
        return "the JSON ends too early";
    case json_error_end_of_input_expected:
        return "something follows the object";
    case json_error_stack_overflow:
        return "nested too deep";
    default:
        return "not JSON";
    }
}

static json_t *
refuse_syntax(struct failure *f, const json_error_t *error, size_t size)
{
    size_t position = error->position >= 0 ? (size_t)error->position : size;

    if (json_error_code(error) == json_error_out_of_memory) {
        failure_set(f, RESULT_NO_MEMORY, NULL, NULL);
        return NULL;
    }
    return refuse(f, position, syntax_text(json_error_code(error)));
}

json_t *
line_parse(const char *bytes, size_t size, size_t values_max, struct failure *f)
{
    const char *nul = memchr(bytes, '\0', size);
    size_t blank = 0;
    const char *why = NULL;
    const char *fault;
    json_error_t error;
    json_t *json;

    while (blank < size && strchr(" \t\r\n", bytes[blank]) && bytes[blank])
        blank++;
    if (blank == size)
        return refuse(f, 0, "the line is empty");
    if (nul)
        return refuse(f, (size_t)(nul - bytes), "a NUL byte");
    if (bytes[blank] == '[')
        return refuse(f, blank, "an array; there are no batches, each line is one object");
    if (bytes[blank] != '{')
        return refuse(f, blank, "not an object");
    fault = count_values(bytes, size, values_max, &why);
    if (fault)
        return refuse(f, (size_t)(fault - bytes), why);
    json = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &error);
    return json ? json : refuse_syntax(f, &error, size);
}
