/*
 * TLS and delivery options: from checked JSON to a struct, with the rules that cross from one
 * option to another.  What a context is made of.
 */
#ifndef CORDON_MANAGER_OPTIONS_H
#define CORDON_MANAGER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/message.h"
#include "manager/proxy.h"
#include "manager/request.h"

struct key;

/* A file named by an option: a path, or a descriptor that came with the request. */
struct option_file {
    char *path; /* owned; NULL when fd is used or the option is absent */
    int fd;     /* owned; -1 */
};

struct options {
    enum tls_role role;
    struct option_file certfile, keyfile, cacertfile;
    char *password;       /* owned, wiped; NULL */
    int password_fd;      /* owned; -1 */
    /* Borrowed: the key whose password the keeper remembers, when there is neither of these; NULL. */
    const struct key *password_key;
    unsigned versions;    /* mask of enum tls_version */
    uint16_t suites[256]; /* in order of preference */
    size_t suite_count;   /* 0: the default ones */
    bool verify;
    bool fail_if_no_peer_cert;
    bool honor_cipher_order;
    bool log_alert;
    uint32_t depth;
    uint64_t data_limit; /* of a worker's memory, bytes */
    uint32_t cpu_limit_s;
    uint8_t alpn[2048]; /* names after their length in one byte */
    size_t alpn_size;
    char *verify_hostname; /* owned; NULL: none given; "" : disabled */
    char *server_name;     /* owned; NULL: none given; "" : disabled */
    /* Of the connection, not of the context: */
    bool active;
    enum delivery delivery;
    bool lifetime_descriptor;
    bool mode_list;
    bool nodelay, reuseaddr;
    int backlog;
    bool accept_proxy; /* a listener: callers say first for whom they call */
    struct proxy_trust trusted_proxies;
    /* Given here or in base, as path or as descriptor. */
    bool has_certfile, has_keyfile, has_cacertfile, has_password;
};

/*
 * Reads the options object of request r (takes the descriptors it names; NULL: of the configuration
 * file) on top of base (NULL, or the
 * listener's: what is named in json overrides it, the rest is copied; descriptors are not copied).
 * Cross rules: server needs certfile; server verify_peer needs cacertfile; TLS 1.0 and 1.1 only
 * for clients without certfile; keyfile/password without certfile, or without files that are to be
 * read once more but came as descriptors; lifetime descriptor needs delivery descriptor;
 * fail_if_no_peer_cert without verify_peer; ALPN limits of the library (client: 8 names of 31 bytes; catalogue B.11);
 * suites that none of the versions has; a client of another uid: not_supported for files and paths.
 * On failure *f says why and *out is empty.  *out: options_fini.
 */
MUST_CHECK enum result options_read(struct options *out, enum tls_role role,
                                    const struct options *base, const json_t *json,
                                    struct request *r, struct failure *f);
/* A listener of plain connections: on top of *out, which has the TLS options of the way out, json says
 * how to listen.  OPTIONS in *f; then *out is empty. */
MUST_CHECK enum result options_read_plain(struct options *out, const json_t *json,
                                          struct failure *f);
/* Empty: what options_fini has nothing to do with. */
void options_init(struct options *o);
/* The context is on its way: wipes the password and closes the descriptors, which only it needed. */
void options_forget_secrets(struct options *o);
void options_fini(struct options *o);

#endif
