#include "api/tls_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct tls_option common[] = {
    { "certfile", "certfile", false },
    { "keyfile", "keyfile", false },
    { "passwordfile", "password", false },
    { "cacertfile", "cacertfile", false },
    { "versions", "versions", true },
    { "ciphers", "ciphers", true },
    { NULL, NULL, false },
};

json_t *
list_json(const char *text)
{
    json_t *parts = json_array();

    for (;;) {
        size_t size = strcspn(text, ",");

        json_array_append_new(parts, json_stringn(text, size));
        if (text[size] == '\0')
            return parts;
        text += size + 1;
    }
}

static bool
add_options(json_t *json, const struct arguments *a, const struct tls_option *options)
{
    for (; options && options->name; options++) {
        const char *value = arguments_value(a, options->name);
        json_t *given = NULL;

        if (!value)
            continue;
        if (options->is_list)
            given = list_json(value);
        else if (strcmp(options->option, "password") == 0)
            given = json_pack("{s:s}", "file", value); /* it would be a secret of itself */
        else
            given = json_string(value);
        if (json_object_set_new(json, options->option, given) != 0)
            return false;
    }
    return true;
}

json_t *
tls_options_json(const struct arguments *a, const struct tls_option *more)
{
    json_t *json = json_object();

    if (add_options(json, a, common) && add_options(json, a, more))
        return json;
    json_decref(json);
    return NULL;
}

bool
parse_host_port(const char *text, char *host, size_t host_size, int *port)
{
    const char *colon = strrchr(text, ':');
    size_t size = colon ? (size_t)(colon - text) : 0;
    char *end;
    long number;

    if (!colon)
        return false;
    if (size >= 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        size -= 2;
    } else if (memchr(text, ':', size)) {
        return false; /* an IPv6 address stands in brackets */
    }
    number = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end || number < 0 || number > 65535 || size >= host_size)
        return false;
    memcpy(host, text, size);
    host[size] = '\0';
    *port = (int)number;
    return true;
}
