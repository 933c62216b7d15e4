#include "manager/params.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "ipc/fd.h"
#include "ipc/log.h"

enum { NAME_MAX_SHOWN = 200, WHY_MAX = 400 };

/* Where we are: listen.port, options.versions[2].  On the stack, innermost first. */
struct place {
    const struct place *outer;
    const char *name; /* NULL: item number `index` of outer */
    size_t index;
};

struct check {
    const struct params_source *source;
    const json_t *params;       /* the method's, for switch and not_with */
    uint64_t named;             /* descriptors that a parameter has named */
    const struct place *option; /* the option we are in, where faults are reason options */
    bool is_secret;             /* its value is not shown */
    bool with_defaults;
    struct failure *f;
};

typedef enum result shape_check(struct check *c, const struct place *place, const json_t *shape,
                                json_t *value);
static shape_check check_value;

/* --- saying what is wrong ------------------------------------------------------------------ */

static size_t
place_write(const struct place *place, const struct place *until, char *text, size_t size)
{
    size_t used = 0;

    if (place->outer && place->outer != until)
        used = place_write(place->outer, until, text, size);
    if (used >= size)
        return used;
    if (place->name)
        used += (size_t)snprintf(text + used, size - used, "%s%s", used ? "." : "", place->name);
    else
        used += (size_t)snprintf(text + used, size - used, "[%zu]", place->index);
    return used;
}

/* Of the names only those of unknown members come from outside. */
static void
place_name(const struct place *place, char name[NAME_MAX_SHOWN])
{
    char text[4 * NAME_MAX_SHOWN];

    text[0] = '\0';
    place_write(place, NULL, text, sizeof(text));
    log_escape(name, NAME_MAX_SHOWN, text, strlen(text));
}

static enum result wrong(struct check *c, const struct place *place, const json_t *value,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));

/* A value that is not what its shape says: reason options inside options, else invalid_params. */
static enum result
wrong(struct check *c, const struct place *place, const json_t *value, const char *format, ...)
{
    char name[NAME_MAX_SHOWN];
    char why[WHY_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, sizeof(why), format, arguments);
    va_end(arguments);
    if (c->option) {
        log_escape(name, sizeof(name), c->option->name, strlen(c->option->name));
        failure_option(c->f, name, c->is_secret ? NULL : value, why);
        return RESULT_OPTIONS;
    }
    place_name(place, name);
    failure_param(c->f, name, why);
    return RESULT_INVALID_PARAMS;
}

static enum result
wrong_descriptor(struct check *c, const struct place *place, const char *why)
{
    char name[NAME_MAX_SHOWN];

    place_name(place, name);
    failure_set(c->f, RESULT_DESCRIPTORS, NULL, "{s:s, s:s}", "why", why, "param", name);
    snprintf(c->f->message, sizeof(c->f->message), "%s: %s", name, why);
    return RESULT_DESCRIPTORS;
}

/* --- descriptors --------------------------------------------------------------------------- */

static const char *
socket_kind(int fd)
{
    int type = 0;
    socklen_t size = sizeof(type);

    if (fd_is_listening_stream(fd))
        return "a listening socket";
    if (fd_is_connected_stream(fd))
        return "a connected stream socket";
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    switch (type) {
    case SOCK_STREAM:
        return "a stream socket that is neither connected nor listening";
    case SOCK_DGRAM:
        return "a datagram socket";
    case SOCK_SEQPACKET:
        return "a seqpacket socket";
    default:
        return "a socket of another kind";
    }
}

static const char *
kind_of(int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return "nothing that can be looked at";
    switch (st.st_mode & S_IFMT) {
    case S_IFREG:
        return "a regular file";
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a pipe";
    case S_IFCHR:
        return "a character device or terminal";
    case S_IFBLK:
        return "a block device";
    case S_IFSOCK:
        return socket_kind(fd);
    default:
        return "an object of the kernel (epoll, eventfd and the like)";
    }
}

static bool
is_pipe(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

static bool
is_wanted(int fd, const char *kind)
{
    if (strcmp(kind, "connected_stream") == 0)
        return fd_is_connected_stream(fd);
    if (strcmp(kind, "listening_stream") == 0)
        return fd_is_listening_stream(fd);
    if (strcmp(kind, "file") == 0)
        return fd_is_regular_file(fd);
    assert(strcmp(kind, "secret") == 0);
    return fd_is_regular_file(fd) || is_pipe(fd);
}

static const char *
wanted_name(const char *kind)
{
    if (strcmp(kind, "connected_stream") == 0)
        return "a connected TCP or Unix stream socket";
    if (strcmp(kind, "listening_stream") == 0)
        return "a listening TCP or Unix stream socket";
    return strcmp(kind, "file") == 0 ? "a regular file" : "a regular file or a pipe";
}

static enum result
name_descriptor(struct check *c, const struct place *place, json_int_t index, const char *kind)
{
    char why[WHY_MAX];
    uint64_t bit;

    if (index < 0 || (size_t)index >= c->source->fd_count) {
        snprintf(why, sizeof(why), "fd_index %lld, but the request announces %zu descriptors (fds)",
                 (long long)index, c->source->fd_count);
        return wrong_descriptor(c, place, why);
    }
    bit = (uint64_t)1 << index;
    if (c->named & bit)
        return wrong_descriptor(c, place, "this descriptor is named twice");
    c->named |= bit;
    if (is_wanted(c->source->fds[index], kind))
        return RESULT_OK;
    snprintf(why, sizeof(why), "the descriptor is %s; it must be %s",
             kind_of(c->source->fds[index]), wanted_name(kind));
    return wrong_descriptor(c, place, why);
}

static enum result
check_all_named(struct check *c)
{
    for (size_t i = 0; i < c->source->fd_count; i++) {
        if (c->named & (uint64_t)1 << i)
            continue;
        failure_set(c->f, RESULT_DESCRIPTORS, NULL, "{s:s}", "why",
                    "a descriptor came that no parameter names");
        snprintf(c->f->message, sizeof(c->f->message), "descriptor %zu is named by no parameter",
                 i);
        return RESULT_DESCRIPTORS;
    }
    return RESULT_OK;
}

/* {"fd_index": N} and nothing else. */
static enum result
check_fd_object(struct check *c, const struct place *place, json_t *value, const char *kind)
{
    json_t *index = json_object_get(value, "fd_index");

    if (json_object_size(value) != 1 || !json_is_integer(index))
        return wrong(c, place, value, "an object here must be {\"fd_index\": N} and nothing else");
    return name_descriptor(c, place, json_integer_value(index), kind);
}

/* --- the shapes ---------------------------------------------------------------------------- */

static bool
limit_of(const json_t *shape, const char *key, json_int_t *limit)
{
    json_t *json = json_object_get(shape, key);

    *limit = json_integer_value(json);
    return json != NULL;
}

static enum result
check_integer(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    const char *kind = json_string_value(json_object_get(shape, "fd_kind"));
    json_int_t number = json_integer_value(value);
    json_int_t min, max;
    bool has_min = limit_of(shape, "min", &min);
    bool has_max = limit_of(shape, "max", &max);

    if (!json_is_integer(value))
        return wrong(c, place, value, "must be an integer");
    if (has_min && has_max && (number < min || number > max))
        return wrong(c, place, value, "must be from %lld to %lld", (long long)min, (long long)max);
    if (has_min && number < min)
        return wrong(c, place, value, "must be at least %lld", (long long)min);
    if (has_max && number > max)
        return wrong(c, place, value, "must be at most %lld", (long long)max);
    return kind ? name_descriptor(c, place, number, kind) : RESULT_OK;
}

static enum result
check_boolean(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    (void)shape;
    return json_is_boolean(value) ? RESULT_OK : wrong(c, place, value, "must be true or false");
}

static enum result
check_size(struct check *c, const struct place *place, const json_t *shape, json_t *value,
           size_t size)
{
    json_int_t min, max;

    if (limit_of(shape, "min_bytes", &min) && (json_int_t)size < min)
        return wrong(c, place, value, "is too short: at least %lld bytes", (long long)min);
    if (limit_of(shape, "max_bytes", &max) && (json_int_t)size > max)
        return wrong(c, place, value, "is too long: at most %lld bytes", (long long)max);
    return RESULT_OK;
}

static enum result
check_enum(struct check *c, const struct place *place, const json_t *names, json_t *value)
{
    char list[WHY_MAX - 32] = "";
    size_t used = 0;
    size_t i;
    json_t *name;

    json_array_foreach (names, i, name) {
        if (json_equal(name, value))
            return RESULT_OK;
        if (used < sizeof(list))
            used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "",
                                     json_string_value(name));
    }
    return wrong(c, place, value, "must be one of: %s", list);
}

static enum result
check_string(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    json_t *names = json_object_get(shape, "enum");

    if (!json_is_string(value))
        return wrong(c, place, value, "must be a string");
    if (names)
        return check_enum(c, place, names, value);
    return check_size(c, place, shape, value, json_string_length(value));
}

static enum result
check_timeout(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    const char *text = json_string_value(value);

    (void)shape;
    if (text && strcmp(text, "infinity") == 0)
        return RESULT_OK;
    if (json_is_integer(value) && json_integer_value(value) >= 1)
        return RESULT_OK;
    return wrong(c, place, value,
                 "must be milliseconds, an integer of at least 1, or \"infinity\"");
}

static size_t
digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* A letter, the start's number, ".", a number; both without leading zeros. */
static bool
is_handle(const char *text, char letter)
{
    size_t size;

    if (!text || *text++ != letter)
        return false;
    size = digits(text);
    if (size == 0 || size > 10 || *text == '0' || text[size] != '.')
        return false;
    text += size + 1;
    size = digits(text);
    return size > 0 && size < 20 && *text != '0' && text[size] == '\0';
}

static enum result
check_handle(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    const char *type = json_string_value(json_object_get(shape, "type"));
    char letter = 'c';

    if (strcmp(type, "handle_listener") == 0)
        letter = 'l';
    else if (strcmp(type, "handle_client") == 0)
        letter = 'k';
    else if (strcmp(type, "handle_subscription") == 0)
        letter = 's';
    if (is_handle(json_string_value(value), letter))
        return RESULT_OK;
    return wrong(c, place, value, "must be the handle of a %s, as in \"%c1.1\"", type + 7, letter);
}

static int
base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

bool
params_base64_size(const char *text, size_t size, size_t *decoded)
{
    size_t padding = 0;

    if (size % 4 != 0)
        return false;
    while (padding < 2 && size > padding && text[size - 1 - padding] == '=')
        padding++;
    for (size_t i = 0; i < size - padding; i++) {
        if (base64_digit(text[i]) < 0)
            return false;
    }
    /* Bits that stand for nothing must be 0, so that bytes have one spelling. */
    if (padding > 0 && base64_digit(text[size - padding - 1]) & (padding == 1 ? 3 : 15))
        return false;
    *decoded = size / 4 * 3 - padding;
    return true;
}

static enum result
check_base64(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    size_t size;

    if (!json_is_string(value) ||
        !params_base64_size(json_string_value(value), json_string_length(value), &size))
        return wrong(c, place, value, "must be base64 with padding (RFC 4648, section 4)");
    return check_size(c, place, shape, value, size);
}

static enum result
check_count(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    json_int_t min, max;
    json_int_t count = (json_int_t)json_array_size(value);

    if (limit_of(shape, "min_items", &min) && count < min)
        return wrong(c, place, value, "has too few items: at least %lld", (long long)min);
    if (limit_of(shape, "max_items", &max) && count > max)
        return wrong(c, place, value, "has too many items: at most %lld", (long long)max);
    return RESULT_OK;
}

static enum result
check_bytes_list(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    size_t i;
    json_t *item;

    if (!json_is_array(value))
        return wrong(c, place, value, "must be an array of integers from 0 to 255");
    json_array_foreach (value, i, item) {
        struct place inner = { .outer = place, .index = i };

        if (!json_is_integer(item) || json_integer_value(item) < 0 ||
            json_integer_value(item) > 255)
            return wrong(c, &inner, item, "must be an integer from 0 to 255");
    }
    return check_count(c, place, shape, value);
}

static enum result
check_array(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    const json_t *items = json_object_get(shape, "items");
    enum result result;
    size_t i;
    json_t *item;

    if (!json_is_array(value))
        return wrong(c, place, value, "must be an array");
    result = check_count(c, place, shape, value);
    json_array_foreach (value, i, item) {
        struct place inner = { .outer = place, .index = i };

        if (result != RESULT_OK)
            return result;
        result = items ? check_value(c, &inner, items, item) : RESULT_OK;
    }
    return result;
}

static enum result
no_paths(struct check *c, const struct place *place)
{
    char name[NAME_MAX_SHOWN];

    place_name(place, name);
    failure_not_supported(c->f, name, "files for clients of another user are not supported yet",
                          "run the client as Cordon's own user or as root");
    return RESULT_NOT_SUPPORTED;
}

/* web.pem is /etc/cordon/web.pem. */
static enum result
make_absolute(struct check *c, json_t *path)
{
    json_t *whole = json_sprintf("%s/%s", c->source->folder, json_string_value(path));
    bool is_done = whole && json_string_set(path, json_string_value(whole)) == 0;

    json_decref(whole);
    if (is_done)
        return RESULT_OK;
    failure_set(c->f, RESULT_NO_MEMORY, NULL, NULL);
    return RESULT_NO_MEMORY;
}

static enum result
check_file(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    enum result result = RESULT_OK;

    if (json_is_object(value))
        return check_fd_object(c, place, value, "file");
    if (!json_is_string(value) || json_string_length(value) == 0)
        return wrong(c, place, value, "must be an absolute path or {\"fd_index\": N}");
    if (json_string_value(value)[0] != '/' && c->source->folder)
        result = make_absolute(c, value);
    if (result != RESULT_OK)
        return result;
    if (json_string_value(value)[0] != '/')
        return wrong(c, place, value, "the path must be absolute");
    if (!c->source->may_name_paths)
        return no_paths(c, place);
    return check_size(c, place, shape, value, json_string_length(value));
}

static enum result
check_secret(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    c->is_secret = true;
    if (json_is_object(value))
        return check_fd_object(c, place, value, "secret");
    if (!json_is_string(value))
        return wrong(c, place, value, "must be a text or {\"fd_index\": N}");
    return check_size(c, place, shape, value, json_string_length(value));
}

static enum result
check_one_of(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    char names[WHY_MAX - 32] = "";
    size_t used = 0;
    size_t i;
    json_t *one;

    json_array_foreach (json_object_get(shape, "shapes"), i, one) {
        struct failure why_not;
        struct check inner = *c;

        inner.f = &why_not;
        if (check_value(&inner, place, one, value) == RESULT_OK) {
            c->named = inner.named;
            return RESULT_OK;
        }
        failure_fini(&why_not);
        if (used < sizeof(names))
            used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? " or " : "",
                                     json_string_value(json_object_get(one, "type")));
    }
    return wrong(c, place, value, "must be one of: %s%s", names,
                 json_is_string(value) ? " (of the length that is allowed)" : "");
}

/* --- objects ------------------------------------------------------------------------------- */

/* The parameter beside which this member may not be given, if it is given. */
static const char *
excluded_by(struct check *c, const json_t *shape)
{
    const char *other = json_string_value(json_object_get(shape, "not_with"));
    json_t *value = other ? json_object_get(c->params, other) : NULL;

    return value && !json_is_null(value) ? other : NULL;
}

/* One member that is there. */
static enum result
check_member(struct check *c, const struct place *place, const json_t *shape, json_t *value,
             bool is_options)
{
    const struct place *option = c->option;
    const char *other = excluded_by(c, shape);
    enum result result;

    if (is_options && !option)
        c->option = place;
    if (other)
        result = wrong(c, place, value, "has no meaning together with %s", other);
    else
        result = check_value(c, place, shape, value);
    c->option = option;
    c->is_secret = false;
    return result;
}

static enum result
check_absent(struct check *c, const struct place *place, const json_t *shape, json_t *object)
{
    json_t *value = json_object_get(shape, "default");

    if (json_is_true(json_object_get(shape, "required")))
        return wrong(c, place, NULL, "is missing");
    if (!value || !c->with_defaults)
        return RESULT_OK;
    value = json_deep_copy(value);
    if (!value || json_object_set_new(object, place->name, value) != 0) {
        failure_set(c->f, RESULT_NO_MEMORY, NULL, NULL);
        return RESULT_NO_MEMORY;
    }
    /* Puts in the defaults inside. */
    return check_value(c, place, shape, value);
}

static enum result
refuse_unknown(struct check *c, const struct place *place, const json_t *fields, json_t *object,
               bool is_options)
{
    const char *name;
    json_t *value;

    json_object_foreach (object, name, value) {
        struct place inner = { .outer = place, .name = name };

        if (json_object_get(fields, name))
            continue;
        if (is_options && !c->option)
            c->option = &inner;
        return wrong(c, &inner, value, "is not known here%s",
                     is_options ? "; cordon.describe lists the options" : "");
    }
    return RESULT_OK;
}

static enum result
check_fields(struct check *c, const struct place *place, const json_t *fields, json_t *object,
             bool is_options)
{
    const char *name;
    json_t *shape;

    json_object_foreach ((json_t *)fields, name, shape) {
        struct place inner = { .outer = place, .name = name };
        json_t *value = json_object_get(object, name);
        enum result result;

        if (json_is_null(value) && !json_is_true(json_object_get(shape, "nullable"))) {
            json_object_del(object, name);
            value = NULL;
        }
        result = value ? check_member(c, &inner, shape, value, is_options)
                       : check_absent(c, &inner, shape, object);
        if (result != RESULT_OK)
            return result;
    }
    return RESULT_OK;
}

/* The type that an object is `of`, by the parameter that `switch` names. */
static const char *
type_of(struct check *c, const json_t *shape)
{
    const json_t *of = json_object_get(shape, "of");
    const char *name = json_string_value(json_object_get(shape, "switch"));

    if (!json_is_object(of))
        return json_string_value(of);
    return json_string_value(
        json_object_get(of, json_string_value(json_object_get(c->params, name))));
}

static enum result
check_object(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    bool with_defaults = c->with_defaults;
    const char *type = type_of(c, shape);
    const json_t *fields = type ? description_type_fields(type) : json_object_get(shape, "fields");
    bool is_options = type && description_type_is_options(type);
    enum result result = RESULT_OK;

    if (!json_is_object(value))
        return wrong(c, place, value, "must be an object");
    if (!fields)
        return RESULT_OK;
    if (json_is_false(json_object_get(shape, "defaults")))
        c->with_defaults = false;
    if (!json_is_true(json_object_get(shape, "open")))
        result = refuse_unknown(c, place, fields, value, is_options);
    if (result == RESULT_OK)
        result = check_fields(c, place, fields, value, is_options);
    c->with_defaults = with_defaults;
    return result;
}

static enum result
check_any(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    (void)c;
    (void)place;
    (void)shape;
    (void)value;
    return RESULT_OK;
}

static const struct {
    const char *type;
    shape_check *check;
} shape_checks[] = {
    { "integer", check_integer },
    { "boolean", check_boolean },
    { "string", check_string },
    { "timeout", check_timeout },
    { "handle_connection", check_handle },
    { "handle_listener", check_handle },
    { "handle_client", check_handle },
    { "handle_subscription", check_handle },
    { "base64", check_base64 },
    { "bytes_list", check_bytes_list },
    { "array", check_array },
    { "object", check_object },
    { "file", check_file },
    { "secret", check_secret },
    { "one_of", check_one_of },
    { "any", check_any },
};

static enum result
check_value(struct check *c, const struct place *place, const json_t *shape, json_t *value)
{
    const char *type = json_string_value(json_object_get(shape, "type"));

    for (size_t i = 0; i < sizeof(shape_checks) / sizeof(shape_checks[0]); i++) {
        if (strcmp(shape_checks[i].type, type) == 0)
            return shape_checks[i].check(c, place, shape, value);
    }
    assert(!"a type that description_open knows");
    return RESULT_INTERNAL;
}

/* --- the whole ----------------------------------------------------------------------------- */

static enum result
check_exactly_one(struct check *c, const json_t *group)
{
    char names[WHY_MAX - 64] = "";
    size_t used = 0;
    size_t given = 0;
    const char *last = NULL;
    size_t i;
    json_t *name;

    json_array_foreach (group, i, name) {
        if (json_object_get(c->params, json_string_value(name))) {
            given++;
            last = json_string_value(name);
        }
        if (used < sizeof(names))
            used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "",
                                     json_string_value(name));
    }
    if (given == 1)
        return RESULT_OK;
    if (!last)
        last = json_string_value(json_array_get(group, 0));
    return wrong(c, &(struct place){ .name = last }, NULL, "exactly one of these must be given: %s",
                 names);
}

enum result
params_check(const struct method *method, json_t *params, const struct params_source *source,
             struct failure *f)
{
    struct check c = { .source = source, .params = params, .with_defaults = true, .f = f };
    enum result result = refuse_unknown(&c, NULL, method->params, params, false);
    size_t i;
    json_t *group;

    assert(source->fd_count <= 64);
    if (result == RESULT_OK)
        result = check_fields(&c, NULL, method->params, params, false);
    json_array_foreach (method->exactly_one, i, group) {
        if (result == RESULT_OK)
            result = check_exactly_one(&c, group);
    }
    return result == RESULT_OK ? check_all_named(&c) : result;
}
