#include "manager/log_limit.h"

enum { SECOND_MS = 1000 };

bool
log_limit_allows(struct log_limit *l, uint32_t lines_per_second, int64_t now_ms)
{
    if (l->count == 0 || now_ms - l->since_ms >= SECOND_MS) {
        l->since_ms = now_ms;
        l->count = 0;
    }
    if (l->count >= lines_per_second) {
        if (l->dropped < UINT32_MAX)
            l->dropped++;
        return false;
    }
    l->count++;
    return true;
}

uint32_t
log_limit_take_dropped(struct log_limit *l)
{
    uint32_t dropped = l->dropped;

    l->dropped = 0;
    return dropped;
}
