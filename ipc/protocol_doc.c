/*
 * Prints docs/protocol.md: what our processes say to each other, from
 * messages.def, so that the page cannot disagree with the code.
 */
#include <stdio.h>
#include <string.h>

#include "ipc/message.h"

static const struct {
    unsigned route;
    const char *name;
} routes[] = {
#define ROUTE(route)  \
    {                 \
        route, #route \
    }
    ROUTE(CORDOND_TO_MANAGER),  ROUTE(MANAGER_TO_CORDOND), ROUTE(MANAGER_TO_KEEPER),
    ROUTE(KEEPER_TO_MANAGER),   ROUTE(MANAGER_TO_NURSERY), ROUTE(NURSERY_TO_MANAGER),
    ROUTE(MANAGER_TO_WORKER),   ROUTE(WORKER_TO_MANAGER),  ROUTE(WORKER_TO_KEEPER),
    ROUTE(KEEPER_TO_WORKER),    ROUTE(KEEPER_TO_DECODER),  ROUTE(DECODER_TO_KEEPER),
    ROUTE(MANAGER_TO_CHECKER),  ROUTE(CHECKER_TO_MANAGER), ROUTE(MANAGER_TO_RESOLVER),
    ROUTE(RESOLVER_TO_MANAGER), ROUTE(MANAGER_TO_LAUNCHER), ROUTE(LAUNCHER_TO_MANAGER),
    ROUTE(ANY_TO_MANAGER),      ROUTE(MANAGER_TO_ALL),
#undef ROUTE
};

static void
print_route(unsigned mask)
{
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (routes[i].route != mask)
            continue;
        for (const char *p = routes[i].name; *p != '\0'; p++)
            putchar(*p == '_' ? ' ' : *p | 0x20);
    }
}

static void
print_message(const char *name, unsigned mask, int fds_min, int fds_max, const char *text)
{
    printf("\n## %s\n\n%s.  From ", name, text);
    print_route(mask);
    if (fds_min == fds_max)
        printf("; %d descriptor%s.\n\n", fds_min, fds_min == 1 ? "" : "s");
    else
        printf("; %d to %d descriptors.\n\n", fds_min, fds_max);
}

static void
print_field(const char *kind, const char *name, const char *presence, unsigned long bound,
            const char *text)
{
    const char *what = strcmp(kind, "text") == 0 || strcmp(kind, "bytes") == 0 ||
                               strcmp(kind, "secret") == 0
                           ? "bytes at most"
                           : "at most";

    printf("* `%s` %s, %s", name, kind,
           strcmp(presence, "REQUIRED") == 0 ? "required" : "optional");
    if (bound != 0)
        printf(", %lu %s", bound, what);
    printf(": %s\n", text);
}

int
main(void)
{
    printf("# The protocol between Cordon's processes\n\n"
           "Made from `ipc/messages.def` by `protocol_doc`; do not edit.  One message is one flat\n"
           "JSON object in one packet of a Unix `SOCK_SEQPACKET` pair, descriptors attached.\n");
#define MESSAGE(NAME, name, mask, fds_min, fds_max, text) \
    print_message(#name, mask, fds_min, fds_max, text);
#define FIELD(message, kind, field, presence, bound, text) \
    print_field(#kind, #field, #presence, bound, text);
#define END(name)
#include "ipc/messages.def"
    return 0;
}
