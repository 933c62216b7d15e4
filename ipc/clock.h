/* The monotonic clock, in milliseconds.  Deadlines are points on it; -1 means never.  And the time of
 * day, for logs. */
#ifndef CORDON_IPC_CLOCK_H
#define CORDON_IPC_CLOCK_H

#include <stdint.h>

int64_t clock_now_ms(void);

/* What poll(2) takes to wait until then: -1 for never, 0 when it is past. */
int clock_poll_timeout(int64_t deadline_ms);

enum { CLOCK_UTC_SIZE = 32 };

/* "2026-11-23T14:23:25.123Z" (RFC 3339).  Reads no time zone, so no file. */
void clock_utc_text(char text[CLOCK_UTC_SIZE]);

/* The same of a moment, in milliseconds since 1970. */
void clock_utc_text_of(int64_t unix_ms, char text[CLOCK_UTC_SIZE]);

#endif
