/*
 * Contexts: TLS options with their certificates, checked once, numbered, and known to every nursery.
 *
 * Equal options are one context: they are told apart by the SHA-256 of their canonical form, into
 * which files enter by their content, keys by their public half, secrets never.  A context never changes.
 */
#ifndef CORDON_MANAGER_CONTEXTS_H
#define CORDON_MANAGER_CONTEXTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "manager/failure.h"
#include "manager/keys.h"
#include "manager/options.h"

struct context;

/* What the digest is made of, in this order; what a nursery is told. */
struct context_facts {
    enum tls_role role;
    unsigned versions;
    uint16_t suites[256];
    size_t suite_count;
    bool verify, fail_if_no_peer_cert, honor_cipher_order;
    uint32_t depth;
    uint64_t data_limit;
    uint32_t cpu_limit_s;
    uint8_t alpn[2048];
    size_t alpn_size;
};

struct context_load;

/* What was loaded for a context.  The context itself may be an equal one that came earlier, from other
 * files or with another password. */
struct context_loaded {
    struct key *key;              /* NULL: no certificate */
    struct file_state cacertfile; /* before it was read; key has the others' */
};

struct context_events {
    /* Gives a reference.  Borrows loaded. */
    void (*on_ready)(void *owner, struct context *context, const struct context_loaded *loaded);
    /* Takes f's content. */
    void (*on_failed)(void *owner, struct failure *f);
};

/*
 * Loads, checks and sends out what options say; borrows them for the call.  base: the context that
 * certificate and key (inherit_certificate) and trust (inherit_trust) are taken from instead of
 * options; borrowed; may be NULL.  One callback comes, from the loop.
 */
struct context_load *context_load(const struct options *options, struct context *base,
                                  bool inherit_certificate, bool inherit_trust,
                                  const struct context_events *events, void *owner);
/* No callback comes.  NULL is fine. */
void context_load_cancel(struct context_load *l);

struct context *context_hold(struct context *c);
/* The last user but 60 s: the nurseries forget it.  NULL is fine. */
void context_release(struct context *c);

uint64_t context_number(const struct context *c);
unsigned context_versions(const struct context *c);
struct key *context_key(const struct context *c); /* borrowed; NULL: it has none */

/* The canonical form, in SHA-256.  certificate and trust: SHA-256 of the content; NULL: none.
 * public_key: size 0: none. */
void context_digest(const struct context_facts *facts, const uint8_t *certificate,
                    struct bytes public_key, const uint8_t *trust, uint8_t digest[32]);
/* Takes out of options what belongs to the context. */
void context_facts_from(struct context_facts *facts, const struct options *options);

/* --- for nurseries.c --- */

/* The message for a nursery, which borrows from the context: send it at once. */
void context_describe(const struct context *c, struct message *m);
/* Calls for every context that a new nursery must have. */
void contexts_each(void (*on_context)(void *data, struct context *c), void *data);
struct context *context_by_number(uint64_t number); /* NULL: gone */
/* Every live nursery has it, or one refused it (option is not NULL). */
void context_is_known(struct context *c, const char *option, const char *why);

/* --- for keys.c: a new keeper runs --- */
void contexts_reload_keys(void);

#endif
