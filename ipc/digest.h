/*
 * SHA-256 in pieces, and base64 (RFC 4648, section 4, with padding), for folders that may not use
 * the crypto library themselves.
 */
#ifndef CORDON_IPC_DIGEST_H
#define CORDON_IPC_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/result.h"

enum { DIGEST_SIZE = 32 };

struct digest;

struct digest *digest_new(void); /* NULL: no memory */
void digest_add(struct digest *d, const void *bytes, size_t size);
/* Writes the SHA-256 of all that was added, and frees d. */
void digest_end(struct digest *d, uint8_t out[DIGEST_SIZE]);

/* The text ends with NUL.  Gives it (free); NULL: no memory. */
char *base64_text(const void *bytes, size_t size);

/* Gives *bytes (free), never NULL on success.  MALFORMED, NO_MEMORY. */
MUST_CHECK enum result base64_bytes(const char *text, size_t text_size, uint8_t **bytes,
                                    size_t *size);

#endif
