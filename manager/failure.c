#include "manager/failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ipc/log.h"

static int
code_of(enum result reason)
{
    switch (reason) {
    case RESULT_PARSE_ERROR:
    case RESULT_LINE_TOO_LONG:
        return -32700;
    case RESULT_INVALID_REQUEST:
        return -32600;
    case RESULT_METHOD_NOT_FOUND:
        return -32601;
    case RESULT_INVALID_PARAMS:
        return -32602;
    case RESULT_DESCRIPTORS:
        return -32050;
    default:
        return -32000;
    }
}

static void
start(struct failure *f, enum result reason)
{
    f->reason = reason;
    f->fields = NULL;
    f->message[0] = '\0';
}

void
failure_set(struct failure *f, enum result reason, const char *message, const char *fields, ...)
{
    json_error_t error;
    va_list arguments;

    start(f, reason);
    if (message)
        snprintf(f->message, sizeof(f->message), "%s", message);
    if (!fields)
        return;
    va_start(arguments, fields);
    f->fields = json_vpack_ex(&error, 0, fields, arguments);
    va_end(arguments);
    if (!f->fields)
        log_warn("an error lost its fields reason=%s why=\"%s\"", result_name(reason), error.text);
}

void
failure_prefix(struct failure *f, const char *format, ...)
{
    char message[2 * sizeof(f->message)];
    const char *old = f->message[0] != '\0' ? f->message : result_text(f->reason);
    va_list arguments;
    int used;

    va_start(arguments, format);
    used = vsnprintf(message, sizeof(f->message), format, arguments);
    va_end(arguments);
    if (used < 0 || (size_t)used >= sizeof(f->message))
        used = sizeof(f->message) - 1;
    snprintf(message + used, sizeof(message) - (size_t)used, "%s", old);
    memcpy(f->message, message, sizeof(f->message) - 1);
    f->message[sizeof(f->message) - 1] = '\0';
}

void
failure_posix(struct failure *f, int error, const char *what)
{
    failure_set(f, RESULT_POSIX, NULL, "{s:s, s:s}", "posix", posix_name(error), "what", what);
    snprintf(f->message, sizeof(f->message), "%s: %s", what, strerror(error));
}

void
failure_option(struct failure *f, const char *option, const json_t *value, const char *why)
{
    /* The copy outlives the request that the value came with. */
    failure_set(f, RESULT_OPTIONS, NULL, "{s:s, s:o, s:s}", "option", option, "value",
                value ? json_deep_copy(value) : json_null(), "why", why);
    snprintf(f->message, sizeof(f->message), "option %s: %s", option, why);
}

void
failure_param(struct failure *f, const char *param, const char *why)
{
    failure_set(f, RESULT_INVALID_PARAMS, NULL, "{s:s, s:s}", "param", param, "why", why);
    snprintf(f->message, sizeof(f->message), "%s: %s", param, why);
}

void
failure_bad_state(struct failure *f, const char *state, const char *allowed, ...)
{
    json_t *names = json_array();
    size_t used;
    va_list arguments;

    start(f, RESULT_BAD_STATE);
    used = (size_t)snprintf(f->message, sizeof(f->message), "the state is %s, it would have to be",
                            state);
    va_start(arguments, allowed);
    for (const char *name = allowed; name; name = va_arg(arguments, const char *)) {
        json_array_append_new(names, json_string(name));
        if (used < sizeof(f->message))
            used += (size_t)snprintf(f->message + used, sizeof(f->message) - used, "%s %s",
                                     name == allowed ? "" : " or", name);
    }
    va_end(arguments);
    f->fields = json_pack("{s:s, s:o}", "state", state, "allowed", names);
}

void
failure_limit(struct failure *f, const char *which, long long max)
{
    failure_set(f, RESULT_LIMIT, NULL, "{s:s, s:I}", "which", which, "max", (json_int_t)max);
    snprintf(f->message, sizeof(f->message), "%s: the limit of %lld is reached", which, max);
}

void
failure_not_supported(struct failure *f, const char *what, const char *why, const char *instead)
{
    failure_set(f, RESULT_NOT_SUPPORTED, NULL, "{s:s, s:s, s:s*}", "what", what, "why", why,
                "instead", instead);
    snprintf(f->message, sizeof(f->message), "%s: %s%s%s", what, why, instead ? "; instead: " : "",
             instead ? instead : "");
}

/* A sentence that snprintf has cut inside a character is still shown. */
static json_t *
text_json(const char *text)
{
    json_t *json = json_string(text);
    char escaped[1024];

    if (json)
        return json;
    log_escape(escaped, sizeof(escaped), text, strlen(text));
    return json_string(escaped);
}

json_t *
failure_json(const struct failure *f)
{
    json_t *data = json_pack("{s:s}", "reason", result_name(f->reason));
    const char *message = f->message[0] ? f->message : result_text(f->reason);

    if (data && f->fields)
        json_object_update(data, f->fields);
    return json_pack("{s:i, s:o, s:o}", "code", code_of(f->reason), "message", text_json(message),
                     "data", data);
}

void
failure_fini(struct failure *f)
{
    json_decref(f->fields);
    start(f, RESULT_OK);
}
