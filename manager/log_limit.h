/*
 * How many lines somebody may write to the log: so many in a second; the others are counted, and the
 * count is a line of its own.
 */
#ifndef CORDON_MANAGER_LOG_LIMIT_H
#define CORDON_MANAGER_LOG_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

struct log_limit {
    int64_t since_ms; /* of this second */
    uint32_t count;   /* lines in it */
    uint32_t dropped; /* not yet told */
};

/* Whether one more line may be written now (monotonic); if not, it is counted. */
bool log_limit_allows(struct log_limit *l, uint32_t lines_per_second, int64_t now_ms);

/* How many were dropped since it was asked last; 0: none. */
uint32_t log_limit_take_dropped(struct log_limit *l);

#endif
