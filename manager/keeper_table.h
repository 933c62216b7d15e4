/* Things found by their number: a hash table of nodes that live inside the things. */
#ifndef CORDON_MANAGER_KEEPER_TABLE_H
#define CORDON_MANAGER_KEEPER_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/result.h"

struct keeper_node {
    uint64_t number;
    struct keeper_node *next;
};

struct keeper_table {
    struct keeper_node **buckets; /* owned; the nodes are their owners' */
    size_t bucket_count;          /* a power of two, or 0 */
    size_t count;
};

/* Borrows node, whose number is set, until it is removed.  BAD_STATE if the number is there
 * already; NO_MEMORY. */
MUST_CHECK enum result keeper_table_add(struct keeper_table *table, struct keeper_node *node);

/* NULL if there is none. */
struct keeper_node *keeper_table_find(const struct keeper_table *table, uint64_t number);

/* The node, which is the caller's again; NULL if there is none. */
struct keeper_node *keeper_table_remove(struct keeper_table *table, uint64_t number);

#endif
