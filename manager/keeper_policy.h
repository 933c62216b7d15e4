/*
 * What a worker may have signed.
 *
 * A signature proves who speaks only in the place it was made for.  So the
 * keeper never signs a digest, nor bytes it has not understood: for TLS 1.3 it
 * writes the content itself around a transcript hash, for TLS 1.2 it reads the
 * content to its last byte.  A worker that was taken over gets at most the one
 * signature that its own connection needs.
 *
 * These are pure functions: no state, no descriptor, no key.
 */
#ifndef CORDON_MANAGER_KEEPER_POLICY_H
#define CORDON_MANAGER_KEEPER_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/message.h"
#include "ipc/result.h"

/* 64 spaces, the longest context string, its NUL, the longest hash. */
enum { KEEPER_POLICY_WRITTEN_MAX = 64 + 40 + 48 };

/* What one channel may do. */
struct keeper_grant {
    enum tls_role role;
    uint32_t versions; /* mask of enum tls_version: what the context allows */
    uint32_t budget;   /* signatures left */
    enum key_algorithm algorithm;
    uint32_t curve; /* NamedGroup; for KEY_ECDSA */
};

/* What is to be signed, if it may be. */
struct keeper_order {
    uint32_t scheme;      /* SignatureScheme */
    uint32_t version;     /* TLS_1_2 or TLS_1_3 */
    struct bytes content; /* borrowed from the request, or in written */
    uint8_t written[KEEPER_POLICY_WRITTEN_MAX];
};

/*
 * May the holder of this grant have this signed?  OK fills *order, which borrows the content and
 * must not be copied.  REFUSED: *why is a constant text that says which rule.  The budget is not
 * changed.
 */
MUST_CHECK enum result keeper_policy_judge(const struct keeper_grant *grant, uint32_t scheme,
                                           uint32_t version, struct bytes content,
                                           struct keeper_order *order, const char **why);

#endif
