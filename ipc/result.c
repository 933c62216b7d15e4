#include "ipc/result.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    const char *text;
} results[RESULT_COUNT] = {
#define RESULT(name, reason, text) [RESULT_##name] = { reason, text },
#include "ipc/results.def"
#undef RESULT
};

const char *
result_name(enum result result)
{
    return (unsigned)result < RESULT_COUNT ? results[result].name : "unknown";
}

const char *
result_text(enum result result)
{
    return (unsigned)result < RESULT_COUNT ? results[result].text : "unknown";
}

const char *
posix_name(int error)
{
    static char name[32];
    const char *upper = strerrorname_np(error);
    size_t i;

    if (upper == NULL)
        return "eunknown";
    for (i = 0; upper[i] != '\0' && i < sizeof name - 1; i++)
        name[i] = (char)tolower((unsigned char)upper[i]);
    name[i] = '\0';
    return name;
}
