#include "manager/map.h"

#include <assert.h>
#include <stdlib.h>

struct map_slot {
    uint64_t key;
    void *value; /* NULL: free */
};

static size_t
map_home(const struct map *m, uint64_t key)
{
    return (size_t)((key * 0x9e3779b97f4a7c15ULL) >> 20) & (m->size - 1);
}

/* The slot that has the key, or the free one where it would go. */
static struct map_slot *
map_find(const struct map *m, uint64_t key)
{
    size_t i = map_home(m, key);

    while (m->slots[i].value != NULL && m->slots[i].key != key)
        i = (i + 1) & (m->size - 1);
    return &m->slots[i];
}

static void
map_grow(struct map *m)
{
    struct map old = *m;

    m->size = old.size == 0 ? 64 : 2 * old.size;
    m->slots = calloc(m->size, sizeof(*m->slots));
    assert(m->slots != NULL);
    for (size_t i = 0; i < old.size; i++) {
        if (old.slots[i].value != NULL)
            *map_find(m, old.slots[i].key) = old.slots[i];
    }
    free(old.slots);
}

void
map_put(struct map *m, uint64_t key, void *value)
{
    struct map_slot *slot;

    assert(value != NULL);
    if (2 * (m->count + 1) > m->size)
        map_grow(m);
    slot = map_find(m, key);
    if (slot->value == NULL)
        m->count++;
    slot->key = key;
    slot->value = value;
}

void *
map_get(const struct map *m, uint64_t key)
{
    return m->size == 0 ? NULL : map_find(m, key)->value;
}

void *
map_take(struct map *m, uint64_t key)
{
    struct map_slot *slot;
    void *value;
    size_t hole;

    if (m->size == 0)
        return NULL;
    slot = map_find(m, key);
    value = slot->value;
    if (value == NULL)
        return NULL;
    slot->value = NULL;
    m->count--;
    /* What stood behind it in the same run may belong into the hole. */
    hole = (size_t)(slot - m->slots);
    for (size_t i = (hole + 1) & (m->size - 1); m->slots[i].value != NULL;
         i = (i + 1) & (m->size - 1)) {
        size_t home = map_home(m, m->slots[i].key);

        if (((i - home) & (m->size - 1)) >= ((i - hole) & (m->size - 1))) {
            m->slots[hole] = m->slots[i];
            m->slots[i].value = NULL;
            hole = i;
        }
    }
    return value;
}

void
map_fini(struct map *m)
{
    free(m->slots);
    *m = (struct map){ 0 };
}
