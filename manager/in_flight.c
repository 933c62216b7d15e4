#include "manager/in_flight.h"

#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "ipc/fd.h"

static TAILQ_HEAD(, in_flight) with_some = TAILQ_HEAD_INITIALIZER(with_some);
static TAILQ_HEAD(, in_flight) left = TAILQ_HEAD_INITIALIZER(left);
static size_t total, left_count;

void
in_flight_init(struct in_flight *f, int socket)
{
    *f = (struct in_flight){ .socket = socket };
}

/* An empty queue has nothing unread; what a longer one holds cannot be seen. */
static bool
is_read(const struct in_flight *f)
{
    int bytes;

    return ioctl(f->socket, SIOCOUTQ, &bytes) == 0 && bytes == 0;
}

static void
forget(struct in_flight *f)
{
    total -= f->count;
    f->count = 0;
    TAILQ_REMOVE(&with_some, f, entry);
}

static void
close_left(struct in_flight *f)
{
    TAILQ_REMOVE(&left, f, entry);
    total -= f->count;
    left_count--;
    fd_close(&f->socket);
    free(f);
}

void
in_flight_look(void)
{
    struct in_flight *f, *after;

    for (f = TAILQ_FIRST(&with_some); f != NULL; f = after) {
        after = TAILQ_NEXT(f, entry);
        if (is_read(f))
            forget(f);
    }
    for (f = TAILQ_FIRST(&left); f != NULL; f = after) {
        after = TAILQ_NEXT(f, entry);
        if (is_read(f))
            close_left(f);
    }
}

bool
in_flight_has_room(struct in_flight *f)
{
    if (f->count > 0 && is_read(f))
        forget(f);
    if (f->count == 0)
        return true;
    if (f->count >= IN_FLIGHT_ONE_MAX)
        return false;
    if (total >= IN_FLIGHT_ALL_MAX)
        in_flight_look();
    return total < IN_FLIGHT_ALL_MAX;
}

void
in_flight_sent(struct in_flight *f)
{
    if (f->count++ == 0)
        TAILQ_INSERT_TAIL(&with_some, f, entry);
    total++;
}

void
in_flight_leave(struct in_flight *f)
{
    struct in_flight *copy = NULL;
    unsigned count = f->count;

    if (count > 0) {
        if (!is_read(f))
            copy = malloc(sizeof(*copy));
        forget(f);
    }
    if (copy == NULL) {
        fd_close(&f->socket);
        return;
    }
    *copy = (struct in_flight){ .socket = f->socket, .count = count };
    f->socket = -1;
    TAILQ_INSERT_TAIL(&left, copy, entry);
    total += count;
    left_count++;
}

size_t
in_flight_left(void)
{
    return left_count;
}

size_t
in_flight_total(void)
{
    return total;
}
