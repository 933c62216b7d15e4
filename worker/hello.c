#include "worker/hello.h"

#include <stdio.h>
#include <string.h>

#include "ipc/log.h"
#include "ipc/message.h"

enum {
    EXTENSION_SERVER_NAME = 0,
    EXTENSION_ALPN = 16,
    EXTENSION_SUPPORTED_VERSIONS = 43,
    NAME_TYPE_HOST = 0,
};

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

static unsigned
version_of(uint8_t major, uint8_t minor)
{
    static const unsigned versions[] = { 0, TLS_1_0, TLS_1_1, TLS_1_2, TLS_1_3 };

    return major == 3 && minor < sizeof versions / sizeof *versions ? versions[minor] : 0;
}

/* RFC 8446 4.2.1: it replaces what the version field says. */
static void
read_versions(struct hello *hello, const uint8_t *data, size_t size)
{
    hello->versions = 0;
    for (size_t i = 1; i + 1 < size; i += 2)
        hello->versions |= version_of(data[i], data[i + 1]);
}

/* Before TLS 1.3 the field is the highest version that the client has. */
static void
read_legacy_version(struct hello *hello, const gnutls_datum_t *message)
{
    unsigned highest = message->size >= 2 ? version_of(message->data[0], message->data[1]) : 0;

    hello->versions = (highest | (highest - 1)) & (TLS_1_0 | TLS_1_1 | TLS_1_2);
    if (highest == 0)
        hello->versions = 0;
}

/* RFC 8446 4.1.2: version, random, session ID with its length, suites with theirs.  Those that stand for
 * something else (GREASE, RFC 8701; SCSV) do not count. */
static void
read_suites(struct hello *hello, const gnutls_datum_t *message)
{
    enum { BEFORE_ID = 2 + 32 };
    const uint8_t *b = message->data;
    size_t at, end;

    hello->suite_count = hello->suites_offered = 0;
    if (message->size <= BEFORE_ID)
        return;
    at = BEFORE_ID + 1 + (size_t)b[BEFORE_ID];
    if (at + 2 > message->size)
        return;
    end = at + 2 + ((size_t)b[at] << 8 | b[at + 1]);
    for (at += 2; at + 2 <= end && at + 2 <= message->size; at += 2) {
        uint16_t code = (uint16_t)(b[at] << 8 | b[at + 1]);

        if ((code & 0x0f0f) == 0x0a0a || code == 0x00ff || code == 0x5600)
            continue;
        hello->suites_offered++;
        if (hello->suite_count < sizeof hello->suites / sizeof *hello->suites)
            hello->suites[hello->suite_count++] = code;
    }
}

static int
on_extension(void *context, unsigned number, const unsigned char *data, unsigned size)
{
    if (number == EXTENSION_SERVER_NAME)
        read_server_name(context, data, size);
    else if (number == EXTENSION_ALPN)
        read_alpn(context, data, size);
    else if (number == EXTENSION_SUPPORTED_VERSIONS)
        read_versions(context, data, size);
    return 0;
}

void
hello_read(struct hello *hello, const gnutls_datum_t *message)
{
    hello->server_name[0] = '\0';
    hello->alpn_offered[0] = '\0';
    hello->alpn_size = 0;
    read_legacy_version(hello, message);
    read_suites(hello, message);
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

/* RFC 8446 4.1.3: version, random, session ID with its length, suite. */
uint16_t
hello_chosen_suite(const gnutls_datum_t *message)
{
    enum { BEFORE_ID = 2 + 32 };
    const uint8_t *b = message->data;
    size_t at;

    if (message->size <= BEFORE_ID)
        return 0;
    at = BEFORE_ID + 1 + (size_t)b[BEFORE_ID];
    return at + 2 <= message->size ? (uint16_t)(b[at] << 8 | b[at + 1]) : 0;
}
