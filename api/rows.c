#include "api/rows.h"

#include <string.h>

enum { PAGE = 1000 };

static const struct column connection_columns[] = {
    { "CONNECTION", "conn", output_value, false },
    { "ROLE", "role", output_value, false },
    { "PEER", "peername", output_value, false },
    { "STATE", "state", output_value, false },
    { "VERSION", "protocol", output_value, false },
    { "SNI", "sni_hostname", output_value, false },
    { "IN", "in", output_bytes, true },
    { "OUT", "out", output_bytes, true },
    { "AGE", "opened", output_age, true },
    { NULL, NULL, NULL, false },
};

static const struct column listener_columns[] = {
    { "LISTENER", "listener", output_value, false },
    { "ADDRESS", "address", output_value, false },
    { "OWNER", "owner", output_value, false },
    { "ACCEPT", "accept", output_value, false },
    { "HANDSHAKING", "handshaking", output_value, true },
    { "READY", "ready", output_value, true },
    { "ACCEPTED", "accepted", output_value, true },
    { "AGE", "opened", output_age, true },
    { NULL, NULL, NULL, false },
};

static const struct column client_columns[] = {
    { "CLIENT", "client", output_value, false },
    { "NAME", "name", output_value, false },
    { "UID", "uid", output_value, true },
    { "PID", "pid", output_value, true },
    { "CONNECTIONS", "connections", output_value, true },
    { "LISTENERS", "listeners", output_value, true },
    { "REQUESTS", "requests", output_value, true },
    { "AGE", "opened", output_age, true },
    { NULL, NULL, NULL, false },
};

/* "connect 127.0.0.1:8080": what is done, and where it goes. */
static const char *
deliver_text(char text[OUTPUT_TEXT], const json_t *deliver)
{
    static const char *const kinds[] = { "connect", "exec", "echo", "client" };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const json_t *value = json_object_get(deliver, kinds[i]);
        const char *host = json_string_value(json_object_get(value, "host"));

        if (json_is_true(value))
            return kinds[i];
        if (json_is_array(value)) /* a program and its arguments: the program says enough */
            value = json_array_get(value, 0);
        if (host)
            snprintf(text, OUTPUT_TEXT, "%s %s:%lld", kinds[i], host,
                     (long long)json_integer_value(json_object_get(value, "port")));
        else if (json_is_string(value))
            snprintf(text, OUTPUT_TEXT, "%s %s", kinds[i], json_string_value(value));
        if (host || json_is_string(value))
            return text;
    }
    return output_value(text, deliver);
}

static const struct column service_columns[] = {
    { "SERVICE", "service", output_value, false },
    { "LISTENER", "listener", output_value, false },
    { "ADDRESS", "address", output_value, false },
    { "DELIVER", "deliver", deliver_text, false },
    { "HANDSHAKING", "handshaking", output_value, true },
    { "ACCEPTED", "accepted", output_value, true },
    { "AGE", "opened", output_age, true },
    { NULL, NULL, NULL, false },
};

const struct row_kind row_kinds[ROW_KINDS] = {
    [ROWS_CONNECTIONS] = { 'c', "cordon.connections", "connections", "conn",
                           "ssl.connection_information", connection_columns },
    [ROWS_LISTENERS] = { 'l', "cordon.listeners", "listeners", "listener", NULL, listener_columns },
    [ROWS_CLIENTS] = { 'k', "cordon.clients", "clients", "client", NULL, client_columns },
    [ROWS_SERVICES] = { 0, "cordon.services", "services", "service", NULL, service_columns },
};

const struct row_kind *
row_kind_of(const char *handle)
{
    size_t start = strspn(handle + (*handle != '\0'), "0123456789");
    const char *dot = handle + (*handle != '\0') + start;

    for (size_t i = 0; i < ROW_KINDS; i++) {
        if (row_kinds[i].letter == *handle && start > 0 && *dot == '.' &&
            dot[1 + strspn(dot + 1, "0123456789")] == '\0')
            return &row_kinds[i];
    }
    return &row_kinds[ROWS_SERVICES];
}

enum exit_status
rows_fetch(const struct arguments *a, struct control *control, const struct row_kind *kind,
           json_t *filters, size_t limit, json_t **rows)
{
    enum exit_status status = EXIT_OK;
    json_t *all = json_array();
    bool has_more = true;

    while (has_more && json_array_size(all) < limit) {
        size_t left = limit - json_array_size(all);
        json_t *page, *next;

        json_object_set_new(filters, "limit", json_integer(left < PAGE ? (int)left : PAGE));
        status = ask(a, control, kind->method, json_deep_copy(filters), NULL, 0, &page);
        if (status != EXIT_OK)
            break;
        json_array_extend(all, json_object_get(page, kind->list));
        next = json_object_get(page, "next");
        has_more = json_is_string(next);
        if (has_more)
            json_object_set(filters, "after", next);
        json_decref(page);
    }
    json_decref(filters);
    if (status == EXIT_OK)
        *rows = all;
    else
        json_decref(all);
    return status;
}
