#include "api/description.h"

#include <assert.h>
#include <string.h>

extern const char cordon_api_json[];
extern const size_t cordon_api_json_size;

const json_t *
description(void)
{
    static json_t *whole;

    if (!whole)
        whole = json_loadb(cordon_api_json, cordon_api_json_size, 0, NULL);
    assert(whole);
    return whole;
}

bool
description_is_file(const char *option)
{
    const char *name;
    json_t *type;

    json_object_foreach (json_object_get(description(), "types"), name, type) {
        const json_t *field = json_object_get(json_object_get(type, "fields"), option);
        const char *kind = json_string_value(json_object_get(field, "type"));

        if (kind && strcmp(kind, "file") == 0)
            return true;
    }
    return false;
}
