#include "manager/cordond_restarts.h"

#include <stdlib.h>

/* The delay doubles from a second on, so after this many steps it no longer grows. */
enum { RESTARTS_STEPS = 7 };

enum result
restarts_init(struct restarts *r, uint32_t intensity, uint32_t period_s)
{
    *r = (struct restarts){ .intensity = intensity, .period_ms = period_s * (int64_t)1000 };
    r->room = (size_t)intensity + RESTARTS_STEPS;
    r->ends = calloc(r->room, sizeof(*r->ends));
    return r->ends != NULL ? RESULT_OK : RESULT_NO_MEMORY;
}

void
restarts_fini(struct restarts *r)
{
    free(r->ends);
    r->ends = NULL;
}

static void
push(struct restarts *r, int64_t at_ms)
{
    if (r->count == r->room) {
        r->first = (r->first + 1) % r->room;
        r->count--;
    }
    r->ends[(r->first + r->count) % r->room] = at_ms;
    r->count++;
}

enum result
restarts_configure(struct restarts *r, uint32_t intensity, uint32_t period_s)
{
    struct restarts other;
    enum result result = restarts_init(&other, intensity, period_s);

    if (result != RESULT_OK)
        return result;
    for (size_t i = 0; i < r->count; i++)
        push(&other, r->ends[(r->first + i) % r->room]);
    restarts_fini(r);
    *r = other;
    return RESULT_OK;
}

static void
forget_old(struct restarts *r, int64_t now_ms)
{
    while (r->count > 0 && r->ends[r->first] <= now_ms - r->period_ms) {
        r->first = (r->first + 1) % r->room;
        r->count--;
    }
}

void
restarts_count(struct restarts *r, int64_t now_ms)
{
    forget_old(r, now_ms);
    push(r, now_ms);
}

int64_t
restarts_delay_ms(struct restarts *r, int64_t now_ms)
{
    int64_t delay_ms = 1000;

    forget_old(r, now_ms);
    if (r->count <= r->intensity)
        return 0;
    for (size_t over = r->count - r->intensity; over > 1; over--)
        delay_ms *= 2;
    return delay_ms < RESTARTS_DELAY_MAX_MS ? delay_ms : RESTARTS_DELAY_MAX_MS;
}

int64_t
restarts_last_ms(const struct restarts *r)
{
    return r->count > 0 ? r->ends[(r->first + r->count - 1) % r->room] : 0;
}
