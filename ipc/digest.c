#include "ipc/digest.h"

#include <nettle/base64.h>
#include <nettle/sha2.h>
#include <stdlib.h>

struct digest {
    struct sha256_ctx sha256;
};

struct digest *
digest_new(void)
{
    struct digest *d = malloc(sizeof(*d));

    if (d != NULL)
        sha256_init(&d->sha256);
    return d;
}

void
digest_add(struct digest *d, const void *bytes, size_t size)
{
    sha256_update(&d->sha256, size, bytes);
}

void
digest_end(struct digest *d, uint8_t out[DIGEST_SIZE])
{
    sha256_digest(&d->sha256, DIGEST_SIZE, out);
    free(d);
}

char *
base64_text(const void *bytes, size_t size)
{
    char *text = malloc(BASE64_ENCODE_RAW_LENGTH(size) + 1);

    if (text == NULL)
        return NULL;
    base64_encode_raw(text, size, bytes);
    text[BASE64_ENCODE_RAW_LENGTH(size)] = '\0';
    return text;
}

enum result
base64_bytes(const char *text, size_t text_size, uint8_t **bytes, size_t *size)
{
    struct base64_decode_ctx base64;
    uint8_t *out = malloc(BASE64_DECODE_LENGTH(text_size) + 1);
    size_t out_size = BASE64_DECODE_LENGTH(text_size);

    if (out == NULL)
        return RESULT_NO_MEMORY;
    base64_decode_init(&base64);
    if (!base64_decode_update(&base64, &out_size, out, text_size, text) ||
        !base64_decode_final(&base64)) {
        free(out);
        return RESULT_MALFORMED;
    }
    *bytes = out;
    *size = out_size;
    return RESULT_OK;
}
