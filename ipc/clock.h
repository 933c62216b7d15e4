/* The monotonic clock, in milliseconds.  Deadlines are points on it; -1 means never. */
#ifndef CORDON_IPC_CLOCK_H
#define CORDON_IPC_CLOCK_H

#include <stdint.h>

int64_t clock_now_ms(void);

/* What poll(2) takes to wait until then: -1 for never, 0 when it is past. */
int clock_poll_timeout(int64_t deadline_ms);

#endif
