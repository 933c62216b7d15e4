/*
 * The methods that need no connection: what Cordon is, who its clients are, how it is stopped.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/log.h"
#include "ipc/suites.h"
#include "manager/control.h"
#include "manager/description.h"
#include "manager/logging.h"
#include "manager/manager.h"
#include "manager/methods.h"

enum { PEOPLE_TEXT = 512 };

void
method_hello(struct request *r)
{
    const char *name = json_string_value(json_object_get(request_params(r), "client"));
    struct client *c = request_client(r);

    if (name)
        client_set_name(c, name);
    /* This version has neither hand-over nor Erlang terms. */
    request_reply(r, json_pack("{s:s, s:s, s:I, s:[]}", "client", client_handle(c), "version",
                               CORDON_VERSION, "start", (json_int_t)manager_start_number(),
                               "granted"));
}

void
method_describe(struct request *r)
{
    static const char *const parts[] = { "api", "version", "types", "methods", "events", "errors" };
    json_t *result = json_object();

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        json_object_set(result, parts[i], json_object_get(description_whole(), parts[i]));
    request_reply(r, result);
}

static json_t *
walls_status(void)
{
    uint32_t standing;

    if (!nurseries_walls(&standing))
        return json_null();
    return json_pack("{s:o, s:o}", "standing", walls_json(standing), "missing",
                     walls_json(~standing));
}

void
method_status(struct request *r)
{
    json_t *status = json_pack(
        "{s:s, s:s?, s:I, s:I, s:s, s:I, s:I, s:o}", "version", CORDON_VERSION, "library",
        *nurseries_library_name() ? nurseries_library_name() : NULL, "start",
        (json_int_t)manager_start_number(), "uptime_ms", (json_int_t)manager_uptime_ms(),
        "log_level", log_level_name(log_get_level()), "clients", (json_int_t)clients_count(),
        "subscriptions", (json_int_t)events_subscription_count(), "processes", tree_processes());

    if (status) {
        json_object_set_new(status, "walls", walls_status());
        connections_status(status);
    }
    request_reply(r, status);
}

/* The number in a handle of this start; one of an earlier start is before all of them. */
static uint64_t
number_of(const char *handle)
{
    const char *dot = handle ? strchr(handle, '.') : NULL;

    if (!dot || strtoul(handle + 1, NULL, 10) != manager_start_number())
        return 0;
    return strtoull(dot + 1, NULL, 10);
}

static bool
may_see(const struct client *viewer, const struct client *c)
{
    return client_uid(viewer) == client_uid(c) || client_is_administrator(viewer);
}

void
method_clients(struct request *r)
{
    const json_t *params = request_params(r);
    json_int_t limit = json_integer_value(json_object_get(params, "limit"));
    uint64_t at = number_of(json_string_value(json_object_get(params, "after")));
    struct client *viewer = request_client(r);
    const char *wanted = json_string_value(json_object_get(params, "client"));
    const char *next = NULL;
    json_t *rows = json_array();
    const char *last = NULL;
    struct client *c;

    for (; (c = clients_after(at)); at = client_number(c)) {
        if (!may_see(viewer, c) || (wanted && strcmp(wanted, client_handle(c)) != 0))
            continue;
        if ((json_int_t)json_array_size(rows) == limit) {
            next = last;
            break;
        }
        json_array_append_new(rows, client_row(c));
        last = client_handle(c);
    }
    request_reply(r, json_pack("{s:o, s:s?}", "clients", rows, "next", next));
}

void
method_cancel(struct request *r)
{
    request_cancel(r, json_object_get(request_params(r), "id"));
}

void
method_stop(struct request *r)
{
    log_info("client=%s asks Cordon to stop", client_handle(request_client(r)));
    request_reply(r, json_object());
    manager_stop();
}

void
method_log_level(struct request *r)
{
    const char *name = json_string_value(json_object_get(request_params(r), "level"));
    enum log_level level;

    if (name && log_level_parse(name, &level)) {
        logging_set(level, log_get_format());
        log_info("client=%s log_level=%s", client_handle(request_client(r)), name);
    }
    request_reply(r, json_pack("{s:s}", "level", log_level_name(log_get_level())));
}

/* --- TLS words ----------------------------------------------------------------------------- */

/* What can be named, and what the library has of it once a nursery has said so. */
struct library {
    uint32_t versions;
    const uint8_t *suites;
    size_t suites_size;
    bool is_known;
};

static struct library
library(void)
{
    struct library l = { .versions = TLS_1_0 | TLS_1_1 | TLS_1_2 | TLS_1_3 };

    l.is_known = nurseries_library(&l.versions, &l.suites, &l.suites_size);
    return l;
}

static json_t *
version_names(uint32_t mask)
{
    static const uint32_t newest_first[] = { TLS_1_3, TLS_1_2, TLS_1_1, TLS_1_0 };
    json_t *names = json_array();

    for (size_t i = 0; i < sizeof(newest_first) / sizeof(newest_first[0]); i++) {
        if (mask & newest_first[i])
            json_array_append_new(names, json_string(tls_version_name(newest_first[i])));
    }
    return names;
}

void
method_versions(struct request *r)
{
    uint32_t versions = library().versions;

    request_reply(r, json_pack("{s:s, s:o, s:o}", "app_vsn", CORDON_VERSION, "supported",
                               version_names(versions & (TLS_1_3 | TLS_1_2)), "available",
                               version_names(versions)));
}

static bool
has_suite(const struct library *l, uint16_t code)
{
    if (!l->is_known)
        return true;
    for (size_t i = 0; i + 1 < l->suites_size; i += 2) {
        if ((l->suites[i] << 8 | l->suites[i + 1]) == code)
            return true;
    }
    return false;
}

static json_t *
suite_json(const struct suite *s)
{
    return json_pack("{s:s, s:s?, s:s, s:s, s:s?}", "name", s->iana, "openssl", s->openssl,
                     "key_exchange", s->key_exchange, "cipher", s->cipher, "hash", s->hash);
}

void
method_cipher_suites(struct request *r)
{
    const char *type = json_string_value(json_object_get(request_params(r), "type"));
    bool names_only = strcmp(type, "openssl") == 0;
    bool all = strcmp(type, "all") == 0;
    struct library l = library();
    json_t *list = json_array();

    for (size_t i = 0; i < suite_count; i++) {
        const struct suite *s = &suites[i];

        if ((!all && !s->is_default) || !has_suite(&l, s->code))
            continue;
        if (!names_only)
            json_array_append_new(list, suite_json(s));
        else if (s->openssl)
            json_array_append_new(list, json_string(s->openssl));
    }
    request_reply(r, json_pack("{s:o}", "suites", list));
}

/* --- sentences for people ------------------------------------------------------------------ */

static bool
find_reason(const char *name, enum result *reason)
{
    if (!json_object_get(json_object_get(description_whole(), "errors"), name))
        return false;
    for (unsigned i = 0; i < RESULT_COUNT; i++) {
        if (strcmp(result_name((enum result)i), name) == 0) {
            *reason = (enum result)i;
            return true;
        }
    }
    return false;
}

/* The facts of an error's data that people want to read, in the order of the error's fields. */
static void
append_facts(char *text, size_t size, const char *reason, const json_t *data)
{
    const json_t *errors = json_object_get(description_whole(), "errors");
    json_t *fields = json_object_get(json_object_get(errors, reason), "fields");
    size_t used = strlen(text);
    const char *separator = ":";
    const char *name;
    json_t *shape;

    json_object_foreach (fields, name, shape) {
        const json_t *value = json_object_get(data, name);
        char shown[160];

        if (json_is_string(value))
            log_escape(shown, sizeof(shown), json_string_value(value), json_string_length(value));
        else if (json_is_integer(value))
            snprintf(shown, sizeof(shown), "%lld", (long long)json_integer_value(value));
        else
            continue;
        if (used < size)
            used += (size_t)snprintf(text + used, size - used, "%s %s %s", separator, name, shown);
        separator = ",";
    }
}

void
method_format_error(struct request *r)
{
    const json_t *given = json_object_get(request_params(r), "reason");
    const json_t *name_json = json_is_object(given) ? json_object_get(given, "reason") : given;
    const char *name = json_string_value(name_json);
    char text[PEOPLE_TEXT];
    char shown[160];
    enum result reason;

    if (name && find_reason(name, &reason)) {
        snprintf(text, sizeof(text), "%s", result_text(reason));
        append_facts(text, sizeof(text), name, json_is_object(given) ? given : NULL);
    } else {
        log_escape(shown, sizeof(shown), name ? name : "", name ? strlen(name) : 0);
        snprintf(text, sizeof(text), "unknown reason: %s", name ? shown : "none is named");
    }
    request_reply(r, json_pack("{s:s}", "text", text));
}
