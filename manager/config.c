#include "manager/config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/fd.h"
#include "ipc/message.h"
#include "ipc/secret.h"
#include "ipc/walls.h"
#include "manager/line.h"
#include "manager/service_definition.h"

enum { FILE_MAX = 1 << 20 };

struct config config;

/* Where a number belongs, and its limits. */
static const struct number_key {
    const char *name;
    size_t offset;
    uint32_t min, max, normal;
} number_keys[] = {
    { "alert_timeout", offsetof(struct config, alert_timeout_ms), 1, 600000, 5000 },
    { "restart_intensity", offsetof(struct config, restart_intensity), 0, 1000000, 10 },
    { "restart_period", offsetof(struct config, restart_period_s), 1, 31536000, 3600 },
    { "connections_max", offsetof(struct config, connections_max), 1, 100000, 20000 },
    { "listeners_max", offsetof(struct config, listeners_max), 1, 65536, 1024 },
    { "clients_max", offsetof(struct config, clients_max), 1, 65536, 4096 },
    { "requests_max", offsetof(struct config, requests_max), 1, 65536, 1024 },
    { "contexts_max", offsetof(struct config, contexts_max), 1, 65536, 4096 },
    { "nursery_forks_max", offsetof(struct config, nursery_forks_max), 1, BOARD_PAGES, 10000 },
    { "nursery_age_max", offsetof(struct config, nursery_age_max_s), 1, 31536000, 600 },
    { "ssl_pem_cache_clean", offsetof(struct config, pem_cache_clean_ms), 0, 2147483647, 120000 },
};

enum { NUMBER_KEY_COUNT = sizeof(number_keys) / sizeof(number_keys[0]) };

static uint32_t *
number_at(struct config *c, const struct number_key *key)
{
    return (uint32_t *)((char *)c + key->offset);
}

void
config_set_defaults(struct config *c)
{
    for (size_t i = 0; i < NUMBER_KEY_COUNT; i++)
        *number_at(c, &number_keys[i]) = number_keys[i].normal;
    c->log_format = LOG_TEXT;
    c->walls = walls_required();
    c->admin_group = (gid_t)-1;
    snprintf(c->system_trust_file, sizeof(c->system_trust_file), "%s",
             "/etc/ssl/certs/ca-certificates.crt");
}

/* What is being read, and where to say what is wrong with it. */
struct reading {
    struct config config;
    enum log_level level;
    json_t *services; /* owned */
    const char *name;
    char *why;
    size_t why_size;
};

static bool fail(struct reading *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool
fail(struct reading *r, const char *format, ...)
{
    va_list arguments;
    int used = snprintf(r->why, r->why_size, "%s: ", r->name);

    if (used < 0 || (size_t)used >= r->why_size)
        return false;
    va_start(arguments, format);
    vsnprintf(r->why + used, r->why_size - (size_t)used, format, arguments);
    va_end(arguments);
    return false;
}

static bool
fail_unknown(struct reading *r, const char *name)
{
    char list[512] = "";
    char shown[64];
    size_t used = 0;

    for (size_t i = 0; i < NUMBER_KEY_COUNT && used < sizeof(list); i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s, ", number_keys[i].name);
    log_escape(shown, sizeof(shown), name, strlen(name));
    return fail(r,
                "there is no key %s; there are %sadmin_group, log_format, log_level, services, "
                "system_trust_file, walls",
                shown, list);
}

static bool
read_number(struct reading *r, const struct number_key *key, const json_t *value)
{
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < key->min || number > key->max)
        return fail(r, "%s must be an integer from %u to %u", key->name, key->min, key->max);
    *number_at(&r->config, key) = (uint32_t)number;
    return true;
}

static bool
read_admin_group(struct reading *r, const json_t *value)
{
    json_int_t number = json_integer_value(value);
    struct group *group;
    char shown[64];

    if (json_is_integer(value) && number >= 0 && number < (json_int_t)UINT32_MAX) {
        r->config.admin_group = (gid_t)number;
        return true;
    }
    if (!json_is_string(value))
        return fail(r, "admin_group must be the name of a group, or its number");
    group = getgrnam(json_string_value(value));
    log_escape(shown, sizeof(shown), json_string_value(value), json_string_length(value));
    if (!group)
        return fail(r, "admin_group: there is no group %s", shown);
    r->config.admin_group = group->gr_gid;
    return true;
}

static bool
read_log_level(struct reading *r, const json_t *value)
{
    if (json_is_string(value) && log_level_parse(json_string_value(value), &r->level))
        return true;
    return fail(r, "log_level must be one of error, warn, info, debug");
}

static bool
read_log_format(struct reading *r, const json_t *value)
{
    if (json_is_string(value) && log_format_parse(json_string_value(value), &r->config.log_format))
        return true;
    return fail(r, "log_format must be one of text, json");
}

static bool
read_trust_file(struct reading *r, const json_t *value)
{
    const char *path = json_string_value(value);

    if (!path || path[0] != '/' || strlen(path) >= sizeof(r->config.system_trust_file))
        return fail(r, "system_trust_file must be an absolute path of at most %zu bytes",
                    sizeof(r->config.system_trust_file) - 1);
    strcpy(r->config.system_trust_file, path);
    return true;
}

static bool
fail_wall(struct reading *r)
{
    char list[256] = "";
    size_t used = 0;

    for (int i = 0; i < WALL_COUNT && used < sizeof(list); i++)
        used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "",
                                 wall_name((enum wall)i));
    return fail(r, "walls must be an array of some of %s", list);
}

/* Those without which there is no worker. */
static bool
read_walls(struct reading *r, const json_t *value)
{
    uint32_t walls = 0;
    enum wall wall;
    json_t *name;
    size_t i;

    if (!json_is_array(value))
        return fail_wall(r);
    json_array_foreach (value, i, name) {
        if (!json_is_string(name) || !wall_parse(json_string_value(name), &wall))
            return fail_wall(r);
        walls |= WALL_BIT(wall);
    }
    r->config.walls = walls;
    return true;
}

/* Files are named from where this one is. */
static bool
read_services(struct reading *r, json_t *value)
{
    const char *slash = strrchr(r->name, '/');
    char *folder = slash ? strndup(r->name, (size_t)(slash - r->name)) : NULL;
    struct failure f;
    bool is_right;

    if (!json_is_object(value)) {
        free(folder);
        return fail(r, "services must be an object, the services by name");
    }
    is_right = services_check(&r->services, value, folder, &f);
    free(folder);
    if (is_right)
        return true;
    fail(r, "%s", f.message);
    failure_fini(&f);
    return false;
}

static bool
read_key(struct reading *r, const char *name, json_t *value)
{
    for (size_t i = 0; i < NUMBER_KEY_COUNT; i++) {
        if (strcmp(number_keys[i].name, name) == 0)
            return read_number(r, &number_keys[i], value);
    }
    if (strcmp(name, "admin_group") == 0)
        return read_admin_group(r, value);
    if (strcmp(name, "log_level") == 0)
        return read_log_level(r, value);
    if (strcmp(name, "log_format") == 0)
        return read_log_format(r, value);
    if (strcmp(name, "system_trust_file") == 0)
        return read_trust_file(r, value);
    if (strcmp(name, "walls") == 0)
        return read_walls(r, value);
    if (strcmp(name, "services") == 0)
        return read_services(r, value);
    return fail_unknown(r, name);
}

bool
config_parse(struct config *c, enum log_level *level, json_t **services, const char *name,
             const char *text, size_t size, char *why, size_t why_size)
{
    struct reading r = { *c, *level, NULL, name, why, why_size };
    struct failure f;
    json_t *json = line_parse(text, size, LINE_VALUES_MAX, &f);
    bool is_right = json != NULL;
    const char *key;
    json_t *value;

    if (!json) {
        fail(&r, "not one JSON object: %s, at byte %lld",
             json_string_value(json_object_get(f.fields, "why")),
             (long long)json_integer_value(json_object_get(f.fields, "position")));
        failure_fini(&f);
    }
    json_object_foreach (json, key, value) {
        if (is_right)
            is_right = read_key(&r, key, value);
    }
    json_decref(json);
    if (is_right) {
        *c = r.config;
        *level = r.level;
        if (r.services)
            *services = r.services;
    } else {
        json_decref(r.services);
    }
    return is_right;
}

bool
config_read(struct config *c, enum log_level *level, json_t **services, const char *path,
            bool may_be_missing, char *why, size_t why_size)
{
    struct reading r = { .name = path, .why = why, .why_size = why_size };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    uint8_t *bytes;
    size_t size;
    enum result result;
    bool is_right;

    if (fd < 0 && errno == ENOENT && may_be_missing)
        return true;
    if (fd < 0)
        return fail(&r, "%s", strerror(errno));
    result = fd_read_all(fd, FILE_MAX, &bytes, &size);
    fd_close(&fd);
    if (result == RESULT_LIMIT)
        return fail(&r, "longer than 1 MiB");
    if (result == RESULT_POSIX)
        return fail(&r, "%s", strerror(errno));
    if (result != RESULT_OK)
        return fail(&r, "%s", result_text(result));
    /* An empty file changes nothing: /dev/null is how to have no configuration. */
    is_right = size == 0 ||
               config_parse(c, level, services, path, (const char *)bytes, size, why, why_size);
    secret_free(bytes);
    return is_right;
}
