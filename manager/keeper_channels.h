/*
 * Workers' channels.
 *
 * A channel is made ahead, without an owner; the manager binds it once to a
 * connection, a key and a budget.  Who asks before that, asks for something the
 * policy refuses, or says anything but `sign` loses the channel, and the manager
 * is told.
 */
#ifndef CORDON_MANAGER_KEEPER_CHANNELS_H
#define CORDON_MANAGER_KEEPER_CHANNELS_H

#include <stdbool.h>

#include "ipc/message.h"
#include "manager/keeper_io.h"
#include "manager/keeper_keys.h"
#include "manager/keeper_table.h"

struct keeper_channel;

/* A key as the channels find it: by its number. */
struct keeper_kept_key {
    struct keeper_node node; /* first; its number is the key's */
    struct keeper_key *key;  /* owned */
    struct bytes
        password; /* owned, secret: opens the file, should it be read again; size 0: none */
};

struct keeper_channels {
    struct keeper_table table;
    const struct keeper_table *keys; /* borrowed; of struct keeper_kept_key */
};

/* Handles `channels` and `channel`.  Neither frees a channel. */
void keeper_channels_add(struct keeper_channels *channels, struct keeper_io *io, struct message *m);
void keeper_channels_bind(struct keeper_channels *channels, const struct message *m);

/* Is this channel, whose watch the loop gave, somebody's already? */
bool keeper_channel_is_bound(const struct keeper_watch *watch);

/* Receives one message and acts on it; the channel may be gone afterwards. */
void keeper_channels_serve(struct keeper_channels *channels, struct keeper_io *io,
                           struct keeper_watch *watch);

#endif
