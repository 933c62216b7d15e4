/* Options of the command line that are TLS options of the control API. */
#ifndef API_TLS_OPTIONS_H
#define API_TLS_OPTIONS_H

#include <jansson.h>

#include "api/command.h"

/* For the tables of commands. */
/* clang-format off */
#define TLS_OPTION_ROWS                                                                            \
    { "certfile", "FILE", "our certificate and its chain, PEM; may hold the key too",              \
      COMPLETE_FILE, false },                                                                      \
    { "keyfile", "FILE", "our private key, PEM", COMPLETE_FILE, false },                           \
    { "passwordfile", "FILE", "a file with the password of an encrypted key", COMPLETE_FILE,       \
      false },                                                                                     \
    { "cacertfile", "FILE", "trusted CA certificates, PEM", COMPLETE_FILE, false },                \
    { "versions", "LIST", "protocol versions, as tlsv1.3,tlsv1.2", "tlsv1.3 tlsv1.2", false },     \
    { "ciphers", "LIST", "cipher suites in order of preference, between commas", NULL, false }
/* clang-format on */

struct tls_option {
    const char *name;   /* on the command line */
    const char *option; /* in the control API */
    bool is_list;       /* between commas */
};

/*
 * The options given, as the control API has them: those above and those in more, ended by one without
 * name; NULL: none.  Files are named, not opened.  NULL: no memory, or no UTF-8.
 */
json_t *tls_options_json(const struct arguments *a, const struct tls_option *more);

/* "h2,http/1.1" as an array. */
json_t *list_json(const char *text);

/*
 * "example.org:443", "[::1]:443", ":8443" (host empty).  false: it is none of these.
 */
bool parse_host_port(const char *text, char *host, size_t host_size, int *port);

#endif
