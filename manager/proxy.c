#include "manager/proxy.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const uint8_t signature[12] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                       0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a };

enum {
    VERSION_2 = 0x20,
    COMMAND_LOCAL = 0,
    COMMAND_PROXY = 1,
    FAMILY_UNSPEC = 0x00,
    FAMILY_TCP4 = 0x11,
    FAMILY_TCP6 = 0x21,
    FAMILY_UNIX = 0x31,
    UNIX_PATH = 108,
    TEXT_MAX = 255,

    TLV_ALPN = 0x01,
    TLV_AUTHORITY = 0x02,
    TLV_UNIQUE_ID = 0x05,
    TLV_SSL = 0x20,
    TLV_SSL_VERSION = 0x21,
    TLV_SSL_CN = 0x22,
    TLV_SSL_CIPHER = 0x23,
    CLIENT_SSL = 1,
    CLIENT_CERT_CONN = 2,
    CLIENT_CERT_SESS = 4,
};

/* --- writing -------------------------------------------------------------------------------- */

static size_t
write_number(uint8_t *out, size_t number)
{
    out[0] = (uint8_t)(number >> 8);
    out[1] = (uint8_t)number;
    return 2;
}

/* The sun_path of a Unix socket, zeros behind it. */
static void
write_path(uint8_t out[UNIX_PATH], const struct address *a)
{
    const struct sockaddr_un *un = (const struct sockaddr_un *)&a->bytes;
    size_t offset = offsetof(struct sockaddr_un, sun_path);

    memset(out, 0, UNIX_PATH);
    if (a->size > offset)
        memcpy(out, un->sun_path, a->size - offset < UNIX_PATH ? a->size - offset : UNIX_PATH);
}

static bool
is_unix(const struct address *a)
{
    return a->size > 0 && a->bytes.ss_family == AF_UNIX;
}

/* Both addresses, and *family. */
static size_t
write_addresses(uint8_t *out, uint8_t *family, const struct address *from, const struct address *to)
{
    uint8_t source[16], destination[16];
    uint16_t source_port, destination_port;
    size_t size;

    *family = FAMILY_UNSPEC;
    if (is_unix(from) && is_unix(to)) {
        *family = FAMILY_UNIX;
        write_path(out, from);
        write_path(out + UNIX_PATH, to);
        return (size_t)2 * UNIX_PATH;
    }
    if (!address_is_ip(from) || !address_is_ip(to))
        return 0;
    size = address_ip(from, source, &source_port);
    if (address_ip(to, destination, &destination_port) != size)
        return 0;
    *family = size == 4 ? FAMILY_TCP4 : FAMILY_TCP6;
    memcpy(out, source, size);
    memcpy(out + size, destination, size);
    write_number(out + 2 * size, source_port);
    write_number(out + 2 * size + 2, destination_port);
    return 2 * size + 4;
}

static size_t
write_text(uint8_t *out, uint8_t type, const char *text)
{
    size_t size = text != NULL ? strnlen(text, TEXT_MAX) : 0;

    if (size == 0)
        return 0;
    out[0] = type;
    write_number(out + 1, size);
    memcpy(out + 3, text, size);
    return 3 + size;
}

/* verify is 0 only for a certificate that was there and is valid. */
static size_t
write_ssl(uint8_t *out, const struct proxy_facts *f)
{
    size_t size = 3;

    out[0] = TLV_SSL;
    out[size++] =
        (uint8_t)(CLIENT_SSL | (f->has_certificate ? CLIENT_CERT_CONN | CLIENT_CERT_SESS : 0));
    memset(out + size, 0, 4);
    out[size + 3] = !(f->has_certificate && f->is_verified);
    size += 4;
    size += write_text(out + size, TLV_SSL_VERSION, f->version);
    size += write_text(out + size, TLV_SSL_CN, f->common_name);
    size += write_text(out + size, TLV_SSL_CIPHER, f->cipher);
    write_number(out + 1, size - 3);
    return size;
}

size_t
proxy_write(uint8_t out[PROXY_WRITTEN_MAX], const struct proxy_facts *f)
{
    size_t size = PROXY_PREFIX;

    memcpy(out, signature, sizeof(signature));
    out[12] = VERSION_2 | COMMAND_PROXY;
    size += write_addresses(out + size, &out[13], f->source, f->destination);
    size += write_text(out + size, TLV_ALPN, f->alpn);
    size += write_text(out + size, TLV_AUTHORITY, f->authority);
    size += write_text(out + size, TLV_UNIQUE_ID, f->unique_id);
    size += write_ssl(out + size, f);
    write_number(out + 14, size - PROXY_PREFIX);
    assert(size <= PROXY_WRITTEN_MAX);
    return size;
}

/* --- trust ---------------------------------------------------------------------------------- */

bool
proxy_trust_add(struct proxy_trust *t, const char *text)
{
    const char *slash = strchr(text, '/');
    size_t size = slash != NULL ? (size_t)(slash - text) : strlen(text);
    char ip[INET6_ADDRSTRLEN];
    unsigned long bits;
    char *end;

    if (strcmp(text, "unix") == 0) {
        t->unix_sockets = true;
        return true;
    }
    if (t->count == PROXY_NETWORKS_MAX || size >= sizeof(ip))
        return false;
    memcpy(ip, text, size);
    ip[size] = '\0';
    if (inet_pton(AF_INET, ip, t->networks[t->count].ip) == 1)
        t->networks[t->count].size = 4;
    else if (inet_pton(AF_INET6, ip, t->networks[t->count].ip) == 1)
        t->networks[t->count].size = 16;
    else
        return false;
    bits = 8UL * t->networks[t->count].size;
    if (slash != NULL) {
        bits = slash[1] >= '0' && slash[1] <= '9' ? strtoul(slash + 1, &end, 10) : ULONG_MAX;
        if (bits > 8UL * t->networks[t->count].size || *end != '\0')
            return false;
    }
    t->networks[t->count++].bits = (uint8_t)bits;
    return true;
}

static bool
is_in_network(const uint8_t *ip, const uint8_t *network, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    if (memcmp(ip, network, whole) != 0)
        return false;
    return rest == 0 || (ip[whole] ^ network[whole]) >> (8 - rest) == 0;
}

bool
proxy_trusts(const struct proxy_trust *t, const struct address *a)
{
    uint8_t ip[16];
    uint16_t port;
    size_t size;

    if (is_unix(a))
        return t->unix_sockets;
    if (!address_is_ip(a))
        return false;
    size = address_ip(a, ip, &port);
    for (size_t i = 0; i < t->count; i++) {
        if (t->networks[i].size == size &&
            is_in_network(ip, t->networks[i].ip, t->networks[i].bits))
            return true;
    }
    return false;
}

/* --- reading -------------------------------------------------------------------------------- */

static size_t
length_of(const struct proxy_input *in)
{
    return (size_t)in->bytes[14] << 8 | in->bytes[15];
}

static size_t
addresses_size(uint8_t family)
{
    switch (family) {
    case FAMILY_TCP4:
        return 12;
    case FAMILY_TCP6:
        return 36;
    case FAMILY_UNIX:
        return PROXY_ADDRESSES;
    default:
        return 0;
    }
}

static bool
is_proxied(const struct proxy_input *in)
{
    return (in->bytes[12] & 0x0f) == COMMAND_PROXY && in->bytes[13] != FAMILY_UNSPEC;
}

/* What is wrong with as much of the prefix as there is; NULL: nothing. */
static const char *
fault_of(const struct proxy_input *in)
{
    size_t known = in->size < sizeof(signature) ? in->size : sizeof(signature);

    if (memcmp(in->bytes, signature, known) != 0)
        return "it does not begin with the signature of version 2";
    if (in->size > 12 && (in->bytes[12] & 0xf0) != VERSION_2)
        return "it is of another version than 2";
    if (in->size > 12 && (in->bytes[12] & 0x0f) > COMMAND_PROXY)
        return "its command is neither LOCAL nor PROXY";
    if (in->size < PROXY_PREFIX)
        return NULL;
    if (length_of(in) > PROXY_LENGTH_MAX)
        return "it is longer than 16 KiB";
    if (is_proxied(in) && addresses_size(in->bytes[13]) == 0)
        return "its address family is none of those of a stream";
    if (is_proxied(in) && length_of(in) < addresses_size(in->bytes[13]))
        return "it is shorter than its addresses";
    return NULL;
}

/* Bytes that have to come before we know more. */
static size_t
bytes_wanted(const struct proxy_input *in)
{
    if (in->size < PROXY_PREFIX)
        return PROXY_PREFIX - in->size;
    if (!is_proxied(in))
        return 0;
    return PROXY_PREFIX + addresses_size(in->bytes[13]) - in->size;
}

static size_t
left_to_skip(const struct proxy_input *in)
{
    return PROXY_PREFIX + length_of(in) - in->size - in->skipped;
}

static void
set_ip(struct address *a, size_t size, const uint8_t *ip, const uint8_t *port)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&a->bytes;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->bytes;

    memset(a, 0, sizeof(*a));
    if (size == 4) {
        in->sin_family = AF_INET;
        memcpy(&in->sin_addr, ip, 4);
        memcpy(&in->sin_port, port, 2);
        a->size = sizeof(*in);
        return;
    }
    in6->sin6_family = AF_INET6;
    memcpy(&in6->sin6_addr, ip, 16);
    memcpy(&in6->sin6_port, port, 2);
    a->size = sizeof(*in6);
}

static void
set_path(struct address *a, const uint8_t path[UNIX_PATH])
{
    struct sockaddr_un *un = (struct sockaddr_un *)&a->bytes;

    memset(a, 0, sizeof(*a));
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, UNIX_PATH);
    a->size = sizeof(*un);
}

static void
take_addresses(struct proxy_input *in)
{
    const uint8_t *at = in->bytes + PROXY_PREFIX;
    size_t size = in->bytes[13] == FAMILY_TCP4 ? 4 : 16;

    in->has_addresses = is_proxied(in);
    if (!in->has_addresses)
        return;
    if (in->bytes[13] == FAMILY_UNIX) {
        set_path(&in->source, at);
        set_path(&in->destination, at + UNIX_PATH);
        return;
    }
    set_ip(&in->source, size, at, at + 2 * size);
    set_ip(&in->destination, size, at + size, at + 2 * size + 2);
}

/* recv(2); OK: *size is what came. */
static enum result
receive(int fd, uint8_t *bytes, size_t *size)
{
    ssize_t got;

    do {
        got = recv(fd, bytes, *size, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    if (got == 0)
        return RESULT_CLOSED;
    if (got < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? RESULT_WOULD_BLOCK : RESULT_POSIX;
    *size = (size_t)got;
    return RESULT_OK;
}

static enum result
skip(struct proxy_input *in, int fd)
{
    uint8_t unread[512];
    size_t size = left_to_skip(in) < sizeof(unread) ? left_to_skip(in) : sizeof(unread);
    enum result result = receive(fd, unread, &size);

    if (result == RESULT_OK)
        in->skipped += size;
    return result;
}

enum result
proxy_read(struct proxy_input *in, int fd, const char **why)
{
    enum result result = RESULT_OK;

    while (result == RESULT_OK) {
        size_t size = bytes_wanted(in);

        if (size > 0) {
            result = receive(fd, in->bytes + in->size, &size);
            if (result != RESULT_OK)
                break;
            in->size += size;
            *why = fault_of(in);
            if (*why != NULL)
                return RESULT_MALFORMED;
        } else if (left_to_skip(in) > 0) {
            result = skip(in, fd);
        } else {
            take_addresses(in);
            return RESULT_OK;
        }
    }
    return result;
}
