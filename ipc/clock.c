#include "ipc/clock.h"

#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>

int64_t
clock_now_ms(void)
{
    struct timespec now;
    int failed = clock_gettime(CLOCK_MONOTONIC, &now);

    assert(failed == 0);
    (void)failed;
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int
clock_poll_timeout(int64_t deadline_ms)
{
    int64_t left;

    if (deadline_ms < 0)
        return -1;
    left = deadline_ms - clock_now_ms();
    if (left <= 0)
        return 0;
    return left > INT_MAX ? INT_MAX : (int)left;
}

/* A day's date in the Gregorian calendar; years begin in March, so that the odd day comes last. */
static void
date_of(int64_t days, int *year, int *month, int *day)
{
    int64_t shifted = days + 719468; /* since 0000-03-01 */
    int64_t era = shifted / 146097;  /* 400 years */
    int64_t of_era = shifted % 146097;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t from_march = (5 * of_year + 2) / 153;

    *day = (int)(of_year - (153 * from_march + 2) / 5 + 1);
    *month = (int)(from_march < 10 ? from_march + 3 : from_march - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2 ? 1 : 0));
}

void
clock_utc_text_of(int64_t unix_ms, char text[CLOCK_UTC_SIZE])
{
    enum { DAY_MS = 24 * 60 * 60 * 1000 };
    int64_t last_ms = 253402300799999; /* 9999-12-31 */
    int64_t ms = unix_ms < 0 ? 0 : unix_ms > last_ms ? last_ms : unix_ms;
    unsigned of_day = (unsigned)(ms % DAY_MS);
    int year, month, day;

    date_of(ms / DAY_MS, &year, &month, &day);
    snprintf(text, CLOCK_UTC_SIZE, "%04d-%02d-%02dT%02u:%02u:%02u.%03uZ", year % 10000, month % 100,
             day % 100, of_day / 3600000, of_day / 60000 % 60, of_day / 1000 % 60, of_day % 1000);
}

void
clock_utc_text(char text[CLOCK_UTC_SIZE])
{
    struct timespec now = { 0, 0 };

    (void)clock_gettime(CLOCK_REALTIME, &now);
    clock_utc_text_of((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, text);
}
