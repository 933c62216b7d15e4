#include "manager/description.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    json_t *whole;          /* owned */
    json_t *fields;         /* owned; type to its members with those included */
    json_t *numbers;        /* owned; method or alias to number */
    struct method *methods; /* owned; their texts belong to whole */
    size_t method_count;
} description;

static const char *const shapes[] = {
    "integer",
    "boolean",
    "string",
    "timeout",
    "handle_connection",
    "handle_listener",
    "handle_client",
    "handle_subscription",
    "base64",
    "bytes_list",
    "array",
    "object",
    "file",
    "secret",
    "one_of",
    "any",
};

static const char *const role_names[] = {
    [ROLE_ANY] = "any",
    [ROLE_OWNER] = "owner",
    [ROLE_ADMINISTRATOR] = "administrator",
};

struct fault {
    char *why;
    size_t size;
};

static bool fail(struct fault *fault, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool
fail(struct fault *fault, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(fault->why, fault->size, format, arguments);
    va_end(arguments);
    return false;
}

static bool
is_known_shape(const char *type)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        if (strcmp(shapes[i], type) == 0)
            return true;
    }
    return false;
}

static bool
is_known_type(const json_t *name)
{
    return json_is_string(name) &&
           json_object_get(json_object_get(description.whole, "types"), json_string_value(name));
}

static bool check_fields(const json_t *fields, const char *where, struct fault *fault);

static bool
check_of(const json_t *shape, const char *where, struct fault *fault)
{
    json_t *of = json_object_get(shape, "of");
    const char *key;
    json_t *type;

    if (!of || is_known_type(of))
        return true;
    if (!json_is_object(of) || !json_is_string(json_object_get(shape, "switch")))
        return fail(fault, "%s: `of` names no type", where);
    json_object_foreach (of, key, type) {
        if (!is_known_type(type))
            return fail(fault, "%s: `of` %s names no type", where, key);
    }
    return true;
}

static bool
check_shape(const json_t *shape, const char *where, struct fault *fault)
{
    const char *type = json_string_value(json_object_get(shape, "type"));
    json_t *items = json_object_get(shape, "items");
    json_t *fields = json_object_get(shape, "fields");
    size_t i;
    json_t *one;

    if (!type || !is_known_shape(type))
        return fail(fault, "%s: no type that is known", where);
    if (items && !check_shape(items, where, fault))
        return false;
    if (fields && !check_fields(fields, where, fault))
        return false;
    json_array_foreach (json_object_get(shape, "shapes"), i, one) {
        if (!check_shape(one, where, fault))
            return false;
    }
    return check_of(shape, where, fault);
}

static bool
check_fields(const json_t *fields, const char *where, struct fault *fault)
{
    const char *name;
    json_t *shape;
    char inner[256];

    if (!json_is_object(fields))
        return fail(fault, "%s: no members", where);
    json_object_foreach ((json_t *)fields, name, shape) {
        snprintf(inner, sizeof(inner), "%s.%s", where, name);
        if (!check_shape(shape, inner, fault))
            return false;
    }
    return true;
}

/* The members of a type: those of the types it includes, then its own. */
static bool
resolve_type(const char *name, const json_t *type, struct fault *fault)
{
    json_t *types = json_object_get(description.whole, "types");
    json_t *fields = json_object();
    size_t i;
    json_t *included;

    json_object_set_new(description.fields, name, fields);
    json_array_foreach (json_object_get(type, "includes"), i, included) {
        json_t *other = json_object_get(types, json_string_value(included));

        if (!other || json_object_get(other, "includes"))
            return fail(fault, "types.%s: includes what cannot be included", name);
        json_object_update(fields, json_object_get(other, "fields"));
    }
    json_object_update(fields, json_object_get(type, "fields"));
    return check_fields(fields, name, fault);
}

static bool
read_types(struct fault *fault)
{
    const char *name;
    json_t *type;

    json_object_foreach (json_object_get(description.whole, "types"), name, type) {
        if (!resolve_type(name, type, fault))
            return false;
    }
    return true;
}

static bool
read_role(struct method *m, const json_t *json)
{
    const char *role = json_string_value(json_object_get(json, "role"));

    for (size_t i = 0; role && i < sizeof(role_names) / sizeof(role_names[0]); i++) {
        if (strcmp(role_names[i], role) == 0) {
            m->role = (enum role)i;
            return true;
        }
    }
    return false;
}

static bool
read_method(struct method *m, const char *name, const json_t *json, struct fault *fault)
{
    json_t *fds_max = json_object_get(json_object_get(json, "fds_in"), "max");
    size_t i;
    json_t *alias;

    m->name = name;
    m->params = json_object_get(json, "params");
    m->exactly_one = json_object_get(json, "exactly_one");
    m->fds_max = (size_t)json_integer_value(fds_max);
    if (!read_role(m, json))
        return fail(fault, "%s: no role that is known", name);
    if (!json_is_integer(fds_max))
        return fail(fault, "%s: no fds_in", name);
    json_object_set_new(description.numbers, name, json_integer((json_int_t)m->number));
    json_array_foreach (json_object_get(json, "alias"), i, alias) {
        json_object_set_new(description.numbers, json_string_value(alias),
                            json_integer((json_int_t)m->number));
    }
    return check_fields(m->params, name, fault);
}

static bool
read_methods(struct fault *fault)
{
    json_t *methods = json_object_get(description.whole, "methods");
    const char *name;
    json_t *json;

    description.methods = calloc(json_object_size(methods) + 1, sizeof(*description.methods));
    if (!description.methods)
        return fail(fault, "out of memory");
    json_object_foreach (methods, name, json) {
        struct method *m = &description.methods[description.method_count];

        m->number = description.method_count++;
        if (!read_method(m, name, json, fault))
            return false;
    }
    return true;
}

bool
description_open(const char *text, size_t size, char *why, size_t why_size)
{
    struct fault fault = { why, why_size };
    json_error_t error;

    description_close();
    description.whole = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    description.fields = json_object();
    description.numbers = json_object();
    if (!description.whole)
        fail(&fault, "line %d: %s", error.line, error.text);
    if (description.whole && read_types(&fault) && read_methods(&fault))
        return true;
    description_close();
    return false;
}

void
description_close(void)
{
    json_decref(description.whole);
    json_decref(description.fields);
    json_decref(description.numbers);
    free(description.methods);
    memset(&description, 0, sizeof(description));
}

const json_t *
description_whole(void)
{
    return description.whole;
}

size_t
description_method_count(void)
{
    return description.method_count;
}

const struct method *
description_method(const char *name)
{
    json_t *number = json_object_get(description.numbers, name);

    return number ? &description.methods[json_integer_value(number)] : NULL;
}

const struct method *
description_method_at(size_t number)
{
    assert(number < description.method_count);
    return &description.methods[number];
}

const json_t *
description_type_fields(const char *type)
{
    json_t *fields = json_object_get(description.fields, type);

    assert(fields);
    return fields;
}

bool
description_type_is_options(const char *type)
{
    json_t *json = json_object_get(json_object_get(description.whole, "types"), type);
    const char *fault = json_string_value(json_object_get(json, "fault"));

    return fault && strcmp(fault, "options") == 0;
}
