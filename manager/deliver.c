#include "manager/deliver.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/log.h"
#include "ipc/message.h"

enum { CONNECT_TIMEOUT_MS = 5000 };

static const char *users[EXEC_USERS_MAX]; /* borrowed from the command line */
static size_t user_count;

void
deliver_allow_user(const char *name)
{
    assert(user_count < EXEC_USERS_MAX);
    users[user_count++] = name;
}

static enum result
wrong(struct failure *f, const char *option, const json_t *value, const char *why)
{
    failure_option(f, option, value, why);
    return RESULT_OPTIONS;
}

/* --- an address ----------------------------------------------------------------------------- */

static bool
parse_port(const char *text, uint16_t *port)
{
    char *end;
    unsigned long number;

    if (text[0] < '0' || text[0] > '9')
        return false;
    number = strtoul(text, &end, 10);
    if (*end != '\0' || number == 0 || number > UINT16_MAX)
        return false;
    *port = (uint16_t)number;
    return true;
}

/* HOST:PORT or [ADDRESS]:PORT; an IPv6 address has colons of its own. */
static bool
parse_host_and_port(const char *text, char host[256], uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    const char *begin = text, *end = colon;

    if (colon == NULL || !parse_port(colon + 1, port))
        return false;
    if (text[0] == '[') {
        if (end - begin < 3 || end[-1] != ']')
            return false;
        begin++;
        end--;
    }
    if (end == begin || end - begin > 255 ||
        (text[0] != '[' && memchr(begin, ':', (size_t)(end - begin)) != NULL))
        return false;
    snprintf(host, 256, "%.*s", (int)(end - begin), begin);
    return true;
}

static void
read_timeout(struct deliver *d, const json_t *json)
{
    const json_t *timeout = json_object_get(json, "connect_timeout");

    if (json_is_integer(timeout))
        d->connect_timeout_ms = (uint32_t)json_integer_value(timeout);
}

static enum result
read_connect(struct deliver *d, const json_t *json, struct deliver_rights rights, struct failure *f)
{
    const json_t *value = json_object_get(json, "connect");
    const char *text = json_string_value(value);

    d->kind = DELIVER_CONNECT;
    d->proxy_header = json_object_get(json, "proxy_protocol") != NULL;
    read_timeout(d, json);
    log_escape(d->target, sizeof(d->target), text, strlen(text));
    if (text[0] != '/') {
        if (parse_host_and_port(text, d->host, &d->port))
            return RESULT_OK;
        return wrong(f, "connect", value,
                     "must be HOST:PORT, [IPv6]:PORT or the absolute path of a Unix socket");
    }
    if (strlen(text) >= sizeof(d->path))
        return wrong(f, "connect", value, "is too long for the path of a Unix socket");
    if (!rights.paths) {
        failure_not_supported(f, "deliver.connect",
                              "paths of another user's clients are not supported yet",
                              "HOST:PORT, or a service in the configuration file");
        return RESULT_NOT_SUPPORTED;
    }
    strcpy(d->path, text);
    return RESULT_OK;
}

/* --- the other kinds ------------------------------------------------------------------------ */

static enum result
read_echo(struct deliver *d, const json_t *json, struct failure *f)
{
    const json_t *value = json_object_get(json, "echo");

    d->kind = DELIVER_ECHO;
    return json_is_true(value) ? RESULT_OK : wrong(f, "echo", value, "can only be true");
}

static enum result
read_user(struct deliver *d, const json_t *json, struct failure *f)
{
    const json_t *value = json_object_get(json, "user");
    char why[160];

    if (user_count == 0)
        return wrong(f, "user", value,
                     "there is none: make the user cordon-exec, or start cordond with --exec-user");
    if (value == NULL)
        return RESULT_OK;
    for (d->user = 0; d->user < user_count; d->user++) {
        if (strcmp(users[d->user], json_string_value(value)) == 0)
            return RESULT_OK;
    }
    snprintf(why, sizeof(why), "is not allowed: start cordond with --exec-user %s",
             json_string_value(value));
    return wrong(f, "user", value, why);
}

static enum result
read_exec(struct deliver *d, const json_t *json, struct deliver_rights rights, struct failure *f)
{
    const json_t *program = json_array_get(json_object_get(json, "exec"), 0);
    const char *path = json_string_value(program);

    d->kind = DELIVER_EXEC;
    if (!rights.exec) {
        failure_set(f, RESULT_NOT_ALLOWED, "deliver.exec is for administrators", NULL);
        return RESULT_NOT_ALLOWED;
    }
    if (path[0] != '/')
        return wrong(f, "exec", program, "the program must be an absolute path");
    log_escape(d->target, sizeof(d->target), path, strlen(path));
    d->exec = json_deep_copy(json_object_get(json, "exec"));
    return read_user(d, json, f);
}

static enum result
read_client(struct deliver *d, const json_t *json)
{
    const json_t *client = json_object_get(json, "client");
    const char *host = json_string_value(json_object_get(client, "host"));

    d->kind = DELIVER_CLIENT;
    read_timeout(d, json);
    snprintf(d->host, sizeof(d->host), "%s", host);
    d->port = (uint16_t)json_integer_value(json_object_get(client, "port"));
    log_escape(d->target, sizeof(d->target), host, strlen(host));
    return RESULT_OK;
}

/* --- the whole ----------------------------------------------------------------------------- */

/* What has a meaning for one kind alone. */
static enum result
check_companions(const json_t *json, struct failure *f)
{
    static const struct {
        const char *name, *of, * or, *why;
    } companions[] = {
        { "proxy_protocol", "connect", "connect", "has a meaning only with connect" },
        { "connect_timeout", "connect", "client", "has a meaning only with connect and client" },
        { "user", "exec", "exec", "has a meaning only with exec" },
    };

    for (size_t i = 0; i < sizeof(companions) / sizeof(companions[0]); i++) {
        const json_t *value = json_object_get(json, companions[i].name);

        if (value != NULL && json_object_get(json, companions[i].of) == NULL &&
            json_object_get(json, companions[i].or) == NULL)
            return wrong(f, companions[i].name, value, companions[i].why);
    }
    return RESULT_OK;
}

static enum result
read_kind(struct deliver *d, const json_t *json, struct deliver_rights rights, struct failure *f)
{
    static const char *const kinds[] = { "connect", "exec", "echo", "client" };
    size_t count = 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        count += json_object_get(json, kinds[i]) != NULL;
    if (count != 1)
        return wrong(f, "deliver", json, "needs exactly one of connect, exec, echo, client");
    if (json_object_get(json, "connect") != NULL)
        return read_connect(d, json, rights, f);
    if (json_object_get(json, "echo") != NULL)
        return read_echo(d, json, f);
    if (json_object_get(json, "client") != NULL)
        return read_client(d, json);
    return read_exec(d, json, rights, f);
}

enum result
deliver_parse(struct deliver **out, const json_t *json, struct deliver_rights rights,
              struct failure *f)
{
    struct deliver *d = calloc(1, sizeof(*d));
    enum result result;

    assert(d != NULL);
    d->references = 1;
    d->connect_timeout_ms = CONNECT_TIMEOUT_MS;
    result = check_companions(json, f);
    if (result == RESULT_OK)
        result = read_kind(d, json, rights, f);
    if (result != RESULT_OK) {
        deliver_release(d);
        return result;
    }
    *out = d;
    return RESULT_OK;
}

const json_t *
deliver_client_options(const json_t *json)
{
    return json_object_get(json_object_get(json, "client"), "options");
}

struct deliver *
deliver_hold(struct deliver *d)
{
    if (d != NULL)
        d->references++;
    return d;
}

void
deliver_release(struct deliver *d)
{
    if (d == NULL || --d->references > 0)
        return;
    json_decref(d->exec);
    free(d);
}

json_t *
deliver_row(const struct deliver *d)
{
    json_t *row;

    if (d == NULL)
        return json_null();
    if (d->kind == DELIVER_ECHO)
        return json_pack("{s:b}", "echo", 1);
    if (d->kind == DELIVER_CLIENT)
        return json_pack("{s:{s:s, s:i}}", "client", "host", d->target, "port", d->port);
    if (d->kind == DELIVER_EXEC)
        return json_pack("{s:O, s:s}", "exec", d->exec, "user", users[d->user]);
    row = json_pack("{s:s}", "connect", d->target);
    if (d->proxy_header)
        json_object_set_new(row, "proxy_protocol", json_integer(2));
    return row;
}
