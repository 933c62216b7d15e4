#include "worker/hello.h"

#include <stdio.h>
#include <string.h>

#include "ipc/log.h"

enum { EXTENSION_SERVER_NAME = 0, EXTENSION_ALPN = 16, NAME_TYPE_HOST = 0 };

/* RFC 6066 3: a list with its size in front; the first host name counts. */
static void
read_server_name(struct hello *hello, const uint8_t *data, size_t size)
{
    size_t length;

    if (size < 5 || data[2] != NAME_TYPE_HOST)
        return;
    length = (size_t)data[3] << 8 | data[4];
    if (length > size - 5)
        return;
    log_escape(hello->server_name, sizeof hello->server_name, data + 5, length);
}

static void
append_offered(struct hello *hello, const uint8_t *name, size_t size)
{
    char escaped[4 * 255 + 1];
    size_t end = strlen(hello->alpn_offered);

    log_escape(escaped, sizeof escaped, name, size);
    snprintf(hello->alpn_offered + end, sizeof hello->alpn_offered - end, "%s%s",
             end > 0 ? "," : "", escaped);
}

/* RFC 7301 3.1: a list with its size in front, each name after its length. */
static void
read_alpn(struct hello *hello, const uint8_t *data, size_t size)
{
    for (size_t i = 2; i < size && i + 1 + data[i] <= size; i += 1 + data[i]) {
        size_t step = 1 + (size_t)data[i];

        append_offered(hello, data + i + 1, data[i]);
        if (step > sizeof hello->alpn - hello->alpn_size)
            return;
        memcpy(hello->alpn + hello->alpn_size, data + i, step);
        hello->alpn_size += step;
    }
}

static int
on_extension(void *context, unsigned number, const unsigned char *data, unsigned size)
{
    if (number == EXTENSION_SERVER_NAME)
        read_server_name(context, data, size);
    else if (number == EXTENSION_ALPN)
        read_alpn(context, data, size);
    return 0;
}

void
hello_read(struct hello *hello, const gnutls_datum_t *message)
{
    hello->server_name[0] = '\0';
    hello->alpn_offered[0] = '\0';
    hello->alpn_size = 0;
    /* GnuTLS itself refuses a malformed one, a moment later and with the right alert. */
    (void)gnutls_ext_raw_parse(hello, on_extension, message, GNUTLS_EXT_RAW_FLAG_TLS_CLIENT_HELLO);
}

const gnutls_datum_t *
hello_choose(const struct hello *hello, const gnutls_datum_t *names, size_t count)
{
    for (size_t n = 0; n < count; n++) {
        for (size_t i = 0; i < hello->alpn_size; i += 1 + (size_t)hello->alpn[i]) {
            if (hello->alpn[i] == names[n].size &&
                memcmp(hello->alpn + i + 1, names[n].data, names[n].size) == 0)
                return &names[n];
        }
    }
    return NULL;
}
