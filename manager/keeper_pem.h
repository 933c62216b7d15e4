/*
 * Splits a PEM file into what stays in the keeper and what may leave it.
 *
 * What leaves is not cut out of the file: it is written again, from blocks that
 * say CERTIFICATE, hold nothing but base64, and start as a certificate's DER
 * does.  So neither a block without an end nor a mislabelled key slips out.
 */
#ifndef CORDON_MANAGER_KEEPER_PEM_H
#define CORDON_MANAGER_KEEPER_PEM_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/message.h"
#include "ipc/result.h"

struct keeper_pem {
    struct bytes key; /* the first private key block; borrowed from the file's bytes */
    size_t key_count;
    size_t foreign_key_count; /* private keys of kinds that TLS does not use */
    char *certificates;       /* owned; PEM */
    size_t certificates_size;
    size_t certificate_count;
};

/*
 * Reads the blocks of a file, whose bytes must live as long as *pem.  MALFORMED: *why is a constant
 * text; NO_MEMORY.  On failure nothing needs keeper_pem_fini.
 */
MUST_CHECK enum result keeper_pem_split(struct keeper_pem *pem, const void *bytes, size_t size,
                                        const char **why);

void keeper_pem_fini(struct keeper_pem *pem);

#endif
