#include "manager/ledger.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "manager/manager.h"
#include "manager/map.h"

enum { LEDGER_VERSION = 1, HEADER_SIZE = 4096 };

static const char magic[8] = "CORDONLG";

struct ledger_header {
    char magic[8];
    uint32_t version;
    uint32_t start;
    uint32_t half_size;
    uint32_t capacity[LEDGER_KIND_COUNT];
};

struct half {
    uint64_t checksum;   /* of all that follows, written last */
    uint32_t generation; /* of the two halves the higher one counts; 0: never written */
    uint32_t is_used;    /* 0: the record was erased */
    struct ledger_record record;
};

struct slot {
    struct half halves[2];
};

static const uint32_t capacities[LEDGER_KIND_COUNT] = {
    [LEDGER_CONNECTION] = 65536,   [LEDGER_LISTENER] = 4096, [LEDGER_CLIENT] = 8192,
    [LEDGER_SUBSCRIPTION] = 16384, [LEDGER_TOKEN] = 4096,    [LEDGER_REQUEST] = 32768,
};

static int ledger_fd = -1;
static uint8_t *ledger; /* the mapping */
static size_t ledger_size;

/* What is free, apart from the mapping: never-used slots start at `unused`. */
static struct {
    int *freed; /* owned; a stack */
    size_t freed_count, freed_room;
    size_t unused;
} room[LEDGER_KIND_COUNT];

static struct slot *
slots_of(enum ledger_kind kind)
{
    size_t offset = HEADER_SIZE;

    for (int k = 0; k < (int)kind; k++)
        offset += capacities[k] * sizeof(struct slot);
    return (struct slot *)(void *)(ledger + offset);
}

static size_t
ledger_whole_size(void)
{
    size_t size = HEADER_SIZE;

    for (int k = 0; k < LEDGER_KIND_COUNT; k++)
        size += capacities[k] * sizeof(struct slot);
    return size;
}

/* FNV-1a: it finds a torn write, and nobody else can write here. */
static uint64_t
half_checksum(const struct half *h)
{
    const uint8_t *bytes = (const uint8_t *)h + sizeof(h->checksum);
    uint64_t sum = 0xcbf29ce484222325ULL;

    for (size_t i = 0; i < sizeof(*h) - sizeof(h->checksum); i++)
        sum = (sum ^ bytes[i]) * 0x100000001b3ULL;
    return sum;
}

static bool
half_is_whole(const struct half *h)
{
    return h->generation != 0 && h->checksum == half_checksum(h);
}

static bool
half_is_blank(const struct half *h)
{
    return h->generation == 0 && h->checksum == 0;
}

/* The half that counts; NULL: neither does. */
static struct half *
slot_current(struct slot *s)
{
    bool first = half_is_whole(&s->halves[0]), second = half_is_whole(&s->halves[1]);

    if (first && second)
        return s->halves[0].generation > s->halves[1].generation ? &s->halves[0] : &s->halves[1];
    return first ? &s->halves[0] : second ? &s->halves[1] : NULL;
}

/* The one place where a record changes. */
static void
slot_write(struct slot *s, bool is_used, const struct ledger_record *record)
{
    struct half *current = slot_current(s);
    struct half *h = current == &s->halves[0] ? &s->halves[1] : &s->halves[0];

    h->checksum = 0;
    atomic_signal_fence(memory_order_seq_cst);
    h->generation = current != NULL ? current->generation + 1 : 1;
    h->is_used = is_used;
    if (record != NULL)
        h->record = *record;
    else
        memset(&h->record, 0, sizeof(h->record));
    atomic_signal_fence(memory_order_seq_cst);
    h->checksum = half_checksum(h);
}

static void
header_write(uint32_t start)
{
    struct ledger_header *header = (struct ledger_header *)(void *)ledger;

    memcpy(header->magic, magic, sizeof(magic));
    header->version = LEDGER_VERSION;
    header->start = start;
    header->half_size = sizeof(struct half);
    memcpy(header->capacity, capacities, sizeof(capacities));
}

static bool
header_is_blank(void)
{
    for (size_t i = 0; i < HEADER_SIZE; i++) {
        if (ledger[i] != 0)
            return false;
    }
    return true;
}

static bool
header_is_ours(void)
{
    const struct ledger_header *header = (const struct ledger_header *)(const void *)ledger;

    return memcmp(header->magic, magic, sizeof(magic)) == 0 && header->version == LEDGER_VERSION &&
           header->half_size == sizeof(struct half) &&
           memcmp(header->capacity, capacities, sizeof(capacities)) == 0;
}

static void
free_slot(enum ledger_kind kind, int slot)
{
    if (room[kind].freed_count == room[kind].freed_room) {
        room[kind].freed_room = room[kind].freed_room == 0 ? 64 : 2 * room[kind].freed_room;
        room[kind].freed =
            realloc(room[kind].freed, room[kind].freed_room * sizeof(*room[kind].freed));
        assert(room[kind].freed != NULL);
    }
    room[kind].freed[room[kind].freed_count++] = slot;
}

/* After a restart: what is in use stays in use. */
static void
find_room(enum ledger_kind kind)
{
    struct slot *slots = slots_of(kind);

    for (size_t i = 0; i < capacities[kind]; i++) {
        struct half *current = slot_current(&slots[i]);

        if (current != NULL && current->is_used) {
            for (size_t gap = room[kind].unused; gap < i; gap++)
                free_slot(kind, (int)gap);
            room[kind].unused = i + 1;
        }
    }
}

enum result
ledger_open(int fd, uint32_t start)
{
    struct stat file;
    bool is_new;

    assert(ledger == NULL);
    ledger_fd = fd;
    ledger_size = ledger_whole_size();
    if (fstat(fd, &file) < 0)
        return RESULT_POSIX;
    if ((size_t)file.st_size < ledger_size && ftruncate(fd, (off_t)ledger_size) < 0)
        return RESULT_POSIX;
    ledger = mmap(NULL, ledger_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ledger == MAP_FAILED) {
        ledger = NULL;
        return RESULT_POSIX;
    }
    is_new = header_is_blank();
    if (!is_new && !header_is_ours())
        return RESULT_MALFORMED;
    header_write(start);
    for (int k = 0; k < LEDGER_KIND_COUNT && !is_new; k++)
        find_room((enum ledger_kind)k);
    return RESULT_OK;
}

void
ledger_close(void)
{
    if (ledger != NULL)
        munmap(ledger, ledger_size);
    ledger = NULL;
    fd_close(&ledger_fd);
    for (int k = 0; k < LEDGER_KIND_COUNT; k++) {
        free(room[k].freed);
        memset(&room[k], 0, sizeof(room[k]));
    }
}

size_t
ledger_capacity(enum ledger_kind kind)
{
    return capacities[kind];
}

enum result
ledger_put(enum ledger_kind kind, int *slot, const struct ledger_record *record)
{
    assert(ledger != NULL && record->peer_size <= LEDGER_PEER_SIZE);
    if (*slot == LEDGER_NO_SLOT) {
        if (room[kind].freed_count > 0)
            *slot = room[kind].freed[--room[kind].freed_count];
        else if (room[kind].unused < capacities[kind])
            *slot = (int)room[kind].unused++;
        else
            return RESULT_LIMIT;
    }
    slot_write(&slots_of(kind)[*slot], true, record);
    return RESULT_OK;
}

void
ledger_erase(enum ledger_kind kind, int *slot)
{
    if (*slot == LEDGER_NO_SLOT)
        return;
    slot_write(&slots_of(kind)[*slot], false, NULL);
    free_slot(kind, *slot);
    *slot = LEDGER_NO_SLOT;
}

size_t
ledger_read(enum ledger_kind kind,
            void (*on_record)(void *data, int slot, const struct ledger_record *record), void *data)
{
    struct slot *slots = slots_of(kind);
    size_t torn = 0;

    for (size_t i = 0; i < capacities[kind]; i++) {
        struct half *current = slot_current(&slots[i]);

        for (int k = 0; k < 2; k++) {
            if (!half_is_whole(&slots[i].halves[k]) && !half_is_blank(&slots[i].halves[k]))
                torn++;
        }
        if (current != NULL && current->is_used)
            on_record(data, (int)i, &current->record);
    }
    return torn;
}

/* --- clients, subscriptions, requests: the control side names them by number --- */

static struct map slots_by_number[LEDGER_KIND_COUNT];

static void
row_open(enum ledger_kind kind, const struct ledger_record *record)
{
    int slot = LEDGER_NO_SLOT;

    if (ledger_put(kind, &slot, record) != RESULT_OK) {
        log_error("ledger is full kind=%d number=%llu", (int)kind,
                  (unsigned long long)record->number);
        return;
    }
    map_put(&slots_by_number[kind], record->number, (void *)(intptr_t)(slot + 1));
}

static void
row_close(enum ledger_kind kind, uint64_t number)
{
    int slot = (int)(intptr_t)map_take(&slots_by_number[kind], number) - 1;

    ledger_erase(kind, &slot);
}

void
ledger_client_open(uint64_t number, uid_t uid)
{
    row_open(LEDGER_CLIENT,
             &(struct ledger_record){ .number = number, .uid = uid, .deadline_ms = -1 });
}

void
ledger_client_close(uint64_t number)
{
    row_close(LEDGER_CLIENT, number);
}

void
ledger_request_open(uint64_t number, uint64_t client, uint64_t connection, int64_t deadline_ms)
{
    row_open(LEDGER_REQUEST, &(struct ledger_record){ .number = number,
                                                      .owner = client,
                                                      .connection = connection,
                                                      .deadline_ms = deadline_ms });
}

void
ledger_request_close(uint64_t number)
{
    row_close(LEDGER_REQUEST, number);
}

void
ledger_subscription_open(uint64_t number, uint64_t client)
{
    row_open(LEDGER_SUBSCRIPTION,
             &(struct ledger_record){ .number = number, .owner = client, .deadline_ms = -1 });
}

void
ledger_subscription_close(uint64_t number)
{
    row_close(LEDGER_SUBSCRIPTION, number);
}
