/*
 * The keeper, seen from the manager: keys by number, and the channels over which workers have
 * things signed.  No key, and nothing a key could be made of, is in this process.
 */
#ifndef CORDON_MANAGER_KEYS_H
#define CORDON_MANAGER_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/file_state.h"
#include "ipc/message.h"
#include "manager/failure.h"
#include "manager/options.h"

/* A private key in the keeper; counted references. */
struct key {
    uint64_t number;
    uint64_t keeper;    /* which keeper has it: they are counted */
    uint32_t algorithm; /* enum key_algorithm */
    uint32_t bits;
    struct bytes public_key; /* SubjectPublicKeyInfo; owned */
    struct file_state certfile, keyfile; /* before they were read; of what was named by path */
    unsigned references;
};

struct key_load;

struct key_events {
    /* Gives a reference, and the certificates of certfile: PEM, sealed memfd. */
    void (*on_loaded)(void *owner, struct key *key, int certificates);
    /* Takes f's content. */
    void (*on_failed)(void *owner, struct failure *f);
};

/* Starts the keeper. */
void keys_open(void);

/* To the keeper, if there is one. */
void keys_tell(const struct message *m);

/* Loads what certfile, keyfile and password (or password_key) of options say; borrows them.  One
 * callback comes, from the loop. */
struct key_load *key_load(const struct options *options, const struct key_events *events,
                          void *owner);
/* No callback comes.  NULL is fine. */
void key_load_cancel(struct key_load *l);

/* How the files of certfile and keyfile (NULL: none) are now.  on_examined comes from the loop, once;
 * with NULL and NULL when no keeper answers. */
struct key_load *keys_examine(const char *certfile, const char *keyfile,
                              void (*on_examined)(void *owner, const struct file_state *certfile,
                                                  const struct file_state *keyfile),
                              void *owner);

struct key *key_hold(struct key *key); /* one more reference */
void key_release(struct key *key);     /* the last one: the keeper forgets it.  NULL is fine */

/* Whether the keeper that has it still lives. */
bool key_is_alive(const struct key *key);

/*
 * A worker's channel to the keeper, bound to this connection and key.  Gives *channel, the worker's
 * end.  CHANNEL_CLOSED: the keeper that had the key is gone; POSIX (errno).
 */
MUST_CHECK enum result keys_channel(const struct key *key, uint64_t connection, enum tls_role role,
                                    unsigned versions, int *channel);

#endif
