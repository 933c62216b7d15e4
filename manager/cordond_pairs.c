#include "manager/cordond_pairs.h"

#include <fcntl.h>
#include <stdlib.h>

#include "ipc/fd.h"
#include "ipc/mailbox.h"

/* Few enough to be all in memory soon: a larger table is touched page by page as numbers count up,
 * which looks like a leak and, for twenty steps at most, saves nothing. */
enum { BUCKETS = 1024 };

struct kept {
    struct kept *next;
    uint64_t number;
    enum kept_kind kind;
    int fd; /* owned */
};

struct pairs {
    struct kept *buckets[BUCKETS]; /* owned */
    size_t count;
    uint64_t next_number;
};

struct pairs *
pairs_new(void)
{
    struct pairs *p = calloc(1, sizeof(*p));

    if (p != NULL)
        p->next_number = 1;
    return p;
}

void
pairs_free(struct pairs *p)
{
    if (p == NULL)
        return;
    pairs_drop_all(p);
    free(p);
}

/* Numbers count up, so their last bits spread them well enough. */
static struct kept **
find(struct pairs *p, enum kept_kind kind, uint64_t number)
{
    struct kept **at = &p->buckets[number % BUCKETS];

    while (*at != NULL && ((*at)->number != number || (*at)->kind != kind))
        at = &(*at)->next;
    return at;
}

static void
drop_at(struct pairs *p, struct kept **at)
{
    struct kept *kept = *at;

    *at = kept->next;
    fd_disarm_linger(kept->fd);
    fd_close(&kept->fd);
    free(kept);
    p->count--;
}

enum result
pairs_keep(struct pairs *p, enum kept_kind kind, uint64_t number, int fd)
{
    struct kept **at = find(p, kind, number);
    struct kept *kept;

    if (*at != NULL)
        drop_at(p, at);
    kept = malloc(sizeof(*kept));
    if (kept == NULL) {
        fd_close(&fd);
        return RESULT_NO_MEMORY;
    }
    at = &p->buckets[number % BUCKETS];
    *kept = (struct kept){ .next = *at, .number = number, .kind = kind, .fd = fd };
    *at = kept;
    p->count++;
    return RESULT_OK;
}

void
pairs_drop(struct pairs *p, enum kept_kind kind, uint64_t number)
{
    struct kept **at = find(p, kind, number);

    if (*at != NULL)
        drop_at(p, at);
}

void
pairs_drop_all(struct pairs *p)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (p->buckets[i] != NULL)
            drop_at(p, &p->buckets[i]);
    }
}

size_t
pairs_count(const struct pairs *p)
{
    return p->count;
}

/* One more pair at the end of m, and a copy of its manager's end. */
static enum result
add_pair(struct pairs *p, struct message *m)
{
    int pair[2], copy;
    enum result result = mailbox_pair(pair, MESSAGE_MAX);

    if (result != RESULT_OK)
        return result;
    copy = fcntl(pair[0], F_DUPFD_CLOEXEC, 0);
    result = copy < 0 ? RESULT_POSIX : pairs_keep(p, KEPT_PAIR, p->next_number, copy);
    if (result != RESULT_OK) {
        fd_close(&pair[0]);
        fd_close(&pair[1]);
        return result;
    }
    p->next_number++;
    m->fds[m->fd_count++] = pair[0];
    m->fds[m->fd_count++] = pair[1];
    return RESULT_OK;
}

enum result
pairs_make(struct pairs *p, struct message *m)
{
    struct message made;
    enum result result = RESULT_OK;

    message_init(&made, MESSAGE_PAIRS);
    made.as.pairs.first = p->next_number;
    for (size_t i = 0; i < PAIRS_PER_MESSAGE && result == RESULT_OK; i++)
        result = add_pair(p, &made);
    if (made.fd_count == 0)
        return result;
    *m = made;
    return RESULT_OK;
}
