/*
 * How often keeper and nursery may end unplanned: restart_intensity times in
 * restart_period, as in the reference.  Past that cordond does not give up, for
 * eleven crashes must not end everybody's connections: it starts the next one
 * later and later, up to a minute.
 */
#ifndef CORDON_MANAGER_CORDOND_RESTARTS_H
#define CORDON_MANAGER_CORDOND_RESTARTS_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/result.h"

enum { RESTARTS_INTENSITY = 10, RESTARTS_PERIOD_S = 3600, RESTARTS_DELAY_MAX_MS = 60000 };

struct restarts {
    int64_t *ends; /* owned; a ring with the times of the last `room` unplanned ends */
    size_t room;   /* at least 1, at most intensity + RESTARTS_STEPS */
    size_t first, count;
    uint32_t intensity;
    int64_t period_ms;
};

/* NO_MEMORY. */
MUST_CHECK enum result restarts_init(struct restarts *r, uint32_t intensity, uint32_t period_s);
void restarts_fini(struct restarts *r);

/* Other limits; what has been counted stays counted.  NO_MEMORY: then the old ones stay. */
MUST_CHECK enum result restarts_configure(struct restarts *r, uint32_t intensity,
                                          uint32_t period_s);

/* A process ended unplanned. */
void restarts_count(struct restarts *r, int64_t now_ms);

/* How long after the last end the next start has to be; 0 when all is well. */
int64_t restarts_delay_ms(struct restarts *r, int64_t now_ms);

/* When the last unplanned end was. */
int64_t restarts_last_ms(const struct restarts *r);

#endif
