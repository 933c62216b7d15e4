/*
 * Private keys.
 *
 * A key comes in as numbers from the decoder and never goes out: there is no
 * function here that gives it away, only one that signs.  Forgetting a key wipes
 * it.
 */
#ifndef CORDON_MANAGER_KEEPER_KEYS_H
#define CORDON_MANAGER_KEEPER_KEYS_H

#include "ipc/message.h"
#include "manager/keeper_policy.h"

enum { KEEPER_SIGNATURE_MAX = 2100, KEEPER_PUBLIC_KEY_MAX = 2600 };

struct keeper_key;

/* Gives *key.  MALFORMED: *why is a constant text. */
MUST_CHECK enum result keeper_key_new(struct keeper_key **key,
                                      const struct message_decoded *numbers, const char **why);

/* Wipes the key.  NULL is fine. */
void keeper_key_free(struct keeper_key *key);

enum key_algorithm keeper_key_algorithm(const struct keeper_key *key);
uint32_t keeper_key_bits(const struct keeper_key *key);
uint32_t keeper_key_curve(const struct keeper_key *key); /* NamedGroup; 0 but for KEY_ECDSA */

/* The SubjectPublicKeyInfo in DER; *size is the room, then what was used.  TLS_BROKEN. */
MUST_CHECK enum result keeper_key_public(const struct keeper_key *key, uint8_t *der, size_t *size);

/* Signs what the policy allowed; *size is the room, then what was used.  TLS_BROKEN: the library
 * refused, *why says why. */
MUST_CHECK enum result keeper_key_sign(const struct keeper_key *key,
                                       const struct keeper_order *order, uint8_t *signature,
                                       size_t *size, const char **why);

/* Keeps the heap out of core dumps and, as far as the limits go, out of swap.  Called again after
 * the heap has grown. */
void keeper_keys_protect_heap(void);

/* Once, before anything allocates: everything that GnuTLS allocates comes from the one heap. */
void keeper_keys_init(void);

#endif
