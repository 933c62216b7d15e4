/* Secrets: wiped when done, compared in constant time, kept out of swap and dumps where it can be. */
#ifndef CORDON_IPC_SECRET_H
#define CORDON_IPC_SECRET_H

#include <stdbool.h>
#include <stddef.h>

/* Fills with zeros in a way the compiler cannot leave out.  NULL with size 0 is fine. */
void secret_wipe(void *bytes, size_t size);

/* Wipes the whole block that malloc gave, then frees it.  NULL is fine. */
void secret_free(void *block);

bool secret_equal(const void *a, const void *b, size_t size);

#endif
