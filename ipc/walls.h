/*
 * The walls around a worker, by name (ipc/walls.def).  Sets of them are masks of
 * WALL_BIT; which ones stand, ipc/sandbox.h finds out.
 */
#ifndef CORDON_IPC_WALLS_H
#define CORDON_IPC_WALLS_H

#include <stdbool.h>
#include <stdint.h>

enum wall {
#define WALL(name, text, required, absence) WALL_##name,
#include "ipc/walls.def"
#undef WALL
    WALL_COUNT
};

#define WALL_BIT(wall) (UINT32_C(1) << (wall))

/* "seccomp"; what its absence means. */
const char *wall_name(enum wall wall);
const char *wall_absence(enum wall wall);

/* false: there is no such wall. */
bool wall_parse(const char *name, enum wall *wall);

/* Those that are required unless the configuration says otherwise, and that this build can put up:
 * the sanitizers need system calls and memory that the walls deny. */
uint32_t walls_required(void);

#endif
