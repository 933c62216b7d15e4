#include "manager/keeper_table.h"

#include <stdlib.h>

enum { FIRST_BUCKETS = 64 };

/* Numbers are given one after the other, so their low bits spread them best. */
static struct keeper_node **
bucket_of(struct keeper_node **buckets, size_t bucket_count, uint64_t number)
{
    return &buckets[number & (bucket_count - 1)];
}

static enum result
grow(struct keeper_table *table)
{
    size_t bucket_count = table->bucket_count ? 2 * table->bucket_count : FIRST_BUCKETS;
    struct keeper_node **buckets = calloc(bucket_count, sizeof *buckets);

    if (!buckets)
        return RESULT_NO_MEMORY;
    for (size_t i = 0; i < table->bucket_count; i++) {
        struct keeper_node *node = table->buckets[i];

        while (node) {
            struct keeper_node *next = node->next;
            struct keeper_node **bucket = bucket_of(buckets, bucket_count, node->number);

            node->next = *bucket;
            *bucket = node;
            node = next;
        }
    }
    free(table->buckets);
    table->buckets = buckets;
    table->bucket_count = bucket_count;
    return RESULT_OK;
}

enum result
keeper_table_add(struct keeper_table *table, struct keeper_node *node)
{
    struct keeper_node **bucket;

    if (keeper_table_find(table, node->number))
        return RESULT_BAD_STATE;
    if (table->count >= table->bucket_count) {
        enum result result = grow(table);

        if (result != RESULT_OK)
            return result;
    }
    bucket = bucket_of(table->buckets, table->bucket_count, node->number);
    node->next = *bucket;
    *bucket = node;
    table->count++;
    return RESULT_OK;
}

/* Where the pointer to this node is, or the NULL at the end of its bucket; NULL without buckets. */
static struct keeper_node **
place_of(const struct keeper_table *table, uint64_t number)
{
    struct keeper_node **place;

    if (table->bucket_count == 0)
        return NULL;
    place = bucket_of(table->buckets, table->bucket_count, number);
    while (*place && (*place)->number != number)
        place = &(*place)->next;
    return place;
}

struct keeper_node *
keeper_table_find(const struct keeper_table *table, uint64_t number)
{
    struct keeper_node **place = place_of(table, number);

    return place ? *place : NULL;
}

struct keeper_node *
keeper_table_remove(struct keeper_table *table, uint64_t number)
{
    struct keeper_node **place = place_of(table, number);
    struct keeper_node *node = place ? *place : NULL;

    if (node) {
        *place = node->next;
        table->count--;
    }
    return node;
}
