/*
 * Loading a key: read the files, split them, let the one-shot decoder make
 * numbers of the key block, keep the key, tell the manager.
 *
 * The keeper serves its channels while the decoder works; a decoder that gives
 * no answer in time is given up.
 */
#ifndef CORDON_MANAGER_KEEPER_LOAD_H
#define CORDON_MANAGER_KEEPER_LOAD_H

#include <stdint.h>

#include "ipc/message.h"
#include "manager/keeper_io.h"
#include "manager/keeper_table.h"

struct keeper_load;

struct keeper_loads {
    struct keeper_io *io;      /* borrowed */
    struct keeper_table *keys; /* borrowed; of struct keeper_kept_key */
    struct keeper_load *first; /* owned list, oldest first */
    size_t count;
    uint64_t last_key; /* number of the key loaded last */
    char user[64];     /* whom the files must be readable for */
};

/* io and keys are set by the caller; finds out who we are. */
void keeper_loads_init(struct keeper_loads *loads);

/* Handles `key_load`. */
void keeper_load_begin(struct keeper_loads *loads, struct message *m);

/* Handles `examine`. */
void keeper_load_examine(struct keeper_loads *loads, const struct message *m);

/* Receives the decoder's answer; the load behind watch is gone afterwards. */
void keeper_load_finish(struct keeper_loads *loads, struct keeper_watch *watch);

/* Gives up the loads whose time is over. */
void keeper_loads_expire(struct keeper_loads *loads, int64_t now_ms);

/* When the next load's time is over (monotonic, -1: never). */
int64_t keeper_loads_deadline(const struct keeper_loads *loads);

#endif
