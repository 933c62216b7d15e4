/*
 * PROXY protocol, version 2 (haproxy.org/download/2.9/doc/proxy-protocol.txt): what goes to a backend
 * before the first byte, and what comes from a proxy in front of us.  Nothing is read beyond
 * the header: what follows is the peer's.
 */
#ifndef CORDON_MANAGER_PROXY_H
#define CORDON_MANAGER_PROXY_H

#include "ipc/result.h"
#include "manager/address.h"

enum {
    PROXY_WRITTEN_MAX = 2048,
    PROXY_PREFIX = 16,       /* signature, version, command, family, length */
    PROXY_ADDRESSES = 216,   /* of Unix sockets, the largest */
    PROXY_LENGTH_MAX = 16384, /* behind the prefix: addresses, and what we skip */
    PROXY_NETWORKS_MAX = 64,
};

/* What a backend is told.  Texts are cut at 255 bytes; NULL: none. */
struct proxy_facts {
    const struct address *source, *destination;
    const char *alpn, *authority, *unique_id;
    const char *version, *cipher; /* as OpenSSL names them, for that is what receivers know */
    const char *common_name;
    bool has_certificate, is_verified;
};

/* Gives the number of bytes. */
size_t proxy_write(uint8_t out[PROXY_WRITTEN_MAX], const struct proxy_facts *facts);

/* Whom a header is taken from. */
struct proxy_trust {
    struct {
        uint8_t ip[16];
        uint8_t size; /* 4 or 16 */
        uint8_t bits;
    } networks[PROXY_NETWORKS_MAX];
    size_t count;
    bool unix_sockets;
};

/* An address, ADDRESS/BITS or "unix".  false: it is none, or there are too many. */
bool proxy_trust_add(struct proxy_trust *t, const char *text);
bool proxy_trusts(const struct proxy_trust *t, const struct address *a);

/* A header on its way in; zeroed at first. */
struct proxy_input {
    uint8_t bytes[PROXY_PREFIX + PROXY_ADDRESSES];
    size_t size;    /* of bytes, so far */
    size_t skipped; /* behind them, so far */
    /* Once it is complete: */
    bool has_addresses; /* else it is the proxy's own connection, or of a kind that has none */
    struct address source, destination;
};

/*
 * Reads on, without waiting.  OK: it is complete.  WOULD_BLOCK.  CLOSED: end of file.  POSIX (errno).
 * MALFORMED: *why is a constant text.
 */
MUST_CHECK enum result proxy_read(struct proxy_input *in, int fd, const char **why);

#endif
