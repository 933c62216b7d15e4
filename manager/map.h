/*
 * A map from a number to something: connections by number, processes by pid.
 */
#ifndef CORDON_MANAGER_MAP_H
#define CORDON_MANAGER_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map {
    struct map_slot *slots; /* owned; NULL while empty */
    size_t size;            /* of slots, a power of two */
    size_t count;
};

/* Borrows value, which is not NULL; replaces what was there.  Ends the process without memory. */
void map_put(struct map *m, uint64_t key, void *value);
void *map_get(const struct map *m, uint64_t key); /* NULL: not there */
void *map_take(struct map *m, uint64_t key);      /* removes it; NULL: not there */
void map_fini(struct map *m);

#endif
