#include "ipc/walls.h"

#include <string.h>

static const struct {
    const char *name;
    bool is_required;
    const char *absence;
} walls[WALL_COUNT] = {
#define WALL(name, text, required, absence) [WALL_##name] = { text, required, absence },
#include "ipc/walls.def"
#undef WALL
};

const char *
wall_name(enum wall wall)
{
    return wall < WALL_COUNT ? walls[wall].name : "unknown";
}

const char *
wall_absence(enum wall wall)
{
    return wall < WALL_COUNT ? walls[wall].absence : "";
}

bool
wall_parse(const char *name, enum wall *wall)
{
    for (int i = 0; i < WALL_COUNT; i++) {
        if (strcmp(walls[i].name, name) == 0) {
            *wall = (enum wall)i;
            return true;
        }
    }
    return false;
}

uint32_t
walls_required(void)
{
    uint32_t required = 0;

    for (int i = 0; i < WALL_COUNT; i++) {
        if (walls[i].is_required)
            required |= WALL_BIT(i);
    }
#ifdef CORDON_SANITIZED
    required &= ~(WALL_BIT(WALL_SECCOMP) | WALL_BIT(WALL_LIMITS));
#endif
    return required;
}
