#include "manager/service_definition.h"

#include <stdio.h>
#include <string.h>

#include "manager/description.h"
#include "manager/listen_plan.h"
#include "manager/params.h"

static bool
is_name(const char *name)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    static const char others[] = "._-";
    size_t size = strlen(name);

    if (size == 0 || size > SERVICE_NAME_MAX || strchr(others, name[0]) != NULL)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (strchr(letters, name[i]) == NULL && strchr(others, name[i]) == NULL)
            return false;
    }
    return true;
}

bool
service_check_name(const char *name, struct failure *f)
{
    if (is_name(name))
        return true;
    failure_param(f, "name",
                  "a service's name has 1 to 64 letters, digits, and behind the first one . _ -");
    return false;
}

static void
redact(json_t *json)
{
    const char *name;
    json_t *value;
    void *next;

    json_object_foreach_safe(json, next, name, value)
    {
        if (strcmp(name, "password") == 0)
            json_object_set_new(json, name, json_true());
        else
            redact(value);
    }
}

json_t *
service_definition(const json_t *params)
{
    static const char *const parts[] = { "listen", "options", "deliver", "handshakes_max" };
    json_t *definition = json_object();

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        json_object_set_new(definition, parts[i],
                            json_deep_copy(json_object_get(params, parts[i])));
    redact(definition);
    return definition;
}

/* Where in a service an option is. */
static const char *
part_of(const json_t *params, const char *option)
{
    const json_t *deliver = json_object_get(params, "deliver");

    if (json_object_get(deliver, option) != NULL)
        return "deliver";
    if (json_object_get(deliver, "client") == NULL ||
        json_object_get(json_object_get(params, "options"), option) != NULL)
        return "options";
    return "deliver.client.options";
}

void
service_name_fault(struct failure *f, const char *name, const json_t *params)
{
    const char *option = json_string_value(json_object_get(f->fields, "option"));
    const char *param = json_string_value(json_object_get(f->fields, "param"));
    const char *why = json_string_value(json_object_get(f->fields, "why"));
    char path[300];
    json_t *fields;

    if (why == NULL || (option == NULL && param == NULL)) {
        failure_prefix(f, "services.%s: ", name);
        return;
    }
    if (option == NULL)
        snprintf(path, sizeof(path), "services.%s.%s", name, param);
    else if (strcmp(option, "deliver") == 0)
        snprintf(path, sizeof(path), "services.%s.deliver", name);
    else
        snprintf(path, sizeof(path), "services.%s.%s.%s", name, part_of(params, option), option);
    fields = json_pack("{s:s, s:O?, s:s}", "option", path, "value",
                       json_object_get(f->fields, "value"), "why", why);
    if (json_object_get(f->fields, "posix") != NULL)
        json_object_set(fields, "posix", json_object_get(f->fields, "posix"));
    f->reason = RESULT_OPTIONS;
    snprintf(f->message, sizeof(f->message), "%s: %s", path, why);
    json_decref(f->fields);
    f->fields = fields;
}

/* One of the file's.  Gives its parameters, as cordon.service_add takes them. */
static json_t *
check_one(const char *name, const json_t *value, const char *folder, struct failure *f)
{
    static const char *const own[] = { "name", "replace" };
    struct params_source source = { .may_name_paths = true, .folder = folder };
    struct listen_plan plan;
    json_t *params;

    if (!service_check_name(name, f))
        return NULL;
    if (!json_is_object(value)) {
        failure_param(f, "listen", "is missing: a service is an object");
        return NULL;
    }
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (json_object_get(value, own[i]) != NULL) {
            failure_param(f, own[i], "is not known here");
            return NULL;
        }
    }
    params = json_deep_copy(value);
    json_object_set_new(params, "name", json_string(name));
    if (params_check(description_method("cordon.service_add"), params, &source, f) == RESULT_OK &&
        listen_plan_read(&plan, params, NULL, f) == RESULT_OK) {
        listen_plan_fini(&plan);
        return params;
    }
    json_decref(params);
    return NULL;
}

bool
services_check(json_t **checked, json_t *values, const char *folder, struct failure *f)
{
    json_t *all = json_object();
    const char *name;
    json_t *value;

    json_object_foreach (values, name, value) {
        json_t *params = check_one(name, value, folder, f);

        if (params == NULL) {
            service_name_fault(f, is_name(name) ? name : "?", value);
            json_decref(all);
            return false;
        }
        json_object_set_new(all, name, params);
    }
    *checked = all;
    return true;
}
