#include "ipc/secret.h"

#include <malloc.h>
#include <nettle/memops.h>
#include <stdlib.h>
#include <string.h>

void
secret_wipe(void *bytes, size_t size)
{
    if (size > 0)
        explicit_bzero(bytes, size);
}

void
secret_free(void *block)
{
    if (block == NULL)
        return;
    explicit_bzero(block, malloc_usable_size(block));
    free(block);
}

bool
secret_equal(const void *a, const void *b, size_t size)
{
    return memeql_sec(a, b, size) != 0;
}
