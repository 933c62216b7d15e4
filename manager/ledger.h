/*
 * The ledger: who owns what, in a memfd that outlives the manager.
 *
 * cordond keeps the memfd unread; the manager alone maps it.  Each slot holds one record twice, each
 * half with its own generation and checksum; a record is written into the older half, so a manager
 * that is killed in the middle of a write leaves the state before it, and one torn half that is
 * recognized.  Slots are reused, the last one freed first.
 */
#ifndef CORDON_MANAGER_LEDGER_H
#define CORDON_MANAGER_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/result.h"

enum ledger_kind {
    LEDGER_CONNECTION,
    LEDGER_LISTENER,
    LEDGER_CLIENT,
    LEDGER_SUBSCRIPTION,
    LEDGER_TOKEN,
    LEDGER_REQUEST,
    LEDGER_KIND_COUNT
};

enum { LEDGER_PEER_SIZE = 112, LEDGER_NO_SLOT = -1 };

struct ledger_record {
    uint64_t number;     /* of the thing itself */
    uint64_t owner;      /* number of its client; 0: none */
    uint64_t connection; /* request: which one it waits for */
    uint64_t context;
    uint64_t listener;    /* connection: where it came from */
    uint64_t pair;        /* connection: its mailbox, cordond's number */
    uint64_t request;     /* connection: who is to be answered */
    uint64_t data_cookie; /* connection: SO_COOKIE of the owner's end */
    int64_t deadline_ms;  /* absolute, monotonic; -1: none */
    uint32_t uid;
    uint32_t step;     /* connection: its state; delivering is step 8 of protocol H */
    uint32_t serial;   /* connection: of the owner's data descriptor */
    uint32_t lifetime; /* connection: 1: descriptor */
    uint32_t pid;      /* connection: of its worker */
    uint32_t peer_size;
    uint8_t peer[LEDGER_PEER_SIZE]; /* the peer's address, a struct sockaddr */
};

/*
 * Takes fd.  A memfd of zeros becomes a new ledger; in another one the header is checked and the
 * number of the start written.  MALFORMED: it is no ledger of this version; POSIX (errno).
 */
MUST_CHECK enum result ledger_open(int fd, uint32_t start);
void ledger_close(void);

/* How many records of a kind there can be: fixed by the version. */
size_t ledger_capacity(enum ledger_kind kind);

/* Writes a record into *slot, or into a free one, which *slot then is.  LIMIT: none is free. */
MUST_CHECK enum result ledger_put(enum ledger_kind kind, int *slot,
                                  const struct ledger_record *record);
/* Frees *slot, which becomes LEDGER_NO_SLOT; fine if it is that already. */
void ledger_erase(enum ledger_kind kind, int *slot);

/* What a new manager will do: read all records of a mapped ledger.  Returns how many halves are
 * torn: written in part, with a wrong checksum. */
size_t ledger_read(enum ledger_kind kind,
                   void (*on_record)(void *data, int slot, const struct ledger_record *record),
                   void *data);

#endif
