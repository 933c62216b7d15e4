#include "manager/options.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/process.h"
#include "ipc/secret.h"
#include "ipc/suites.h"

enum {
    /* Catalogue B.11: what the library's tables hold for a client. */
    CLIENT_ALPN_NAMES_MAX = 8,
    CLIENT_ALPN_BYTES_MAX = 31,
    VERSIONS_NORMAL = TLS_1_3 | TLS_1_2,
    VERSIONS_OLD = TLS_1_0 | TLS_1_1,
    DEPTH_NORMAL = 10,
    BACKLOG_NORMAL = 1024,
};

/* What is being read, and where to say what is wrong. */
struct reading {
    struct options *out;
    const json_t *json;
    struct request *r;
    struct failure *f;
};

static enum result
wrong(struct reading *d, const char *option, const json_t *value, const char *why)
{
    failure_option(d->f, option, value, why);
    return RESULT_OPTIONS;
}

static enum result
no_memory(struct reading *d)
{
    failure_set(d->f, RESULT_NO_MEMORY, NULL, NULL);
    return RESULT_NO_MEMORY;
}

/* --- a fresh one, a copy, an end ----------------------------------------------------------- */

static void
set_defaults(struct options *o, enum tls_role role)
{
    memset(o, 0, sizeof(*o));
    o->role = role;
    o->certfile.fd = o->keyfile.fd = o->cacertfile.fd = o->password_fd = -1;
    o->versions = VERSIONS_NORMAL;
    o->verify = role == ROLE_CLIENT;
    o->log_alert = true;
    o->depth = DEPTH_NORMAL;
    o->data_limit = PROCESS_WORKER_DATA;
    o->cpu_limit_s = PROCESS_WORKER_CPU_S;
    o->active = true;
    o->delivery = DELIVERY_DESCRIPTOR;
    o->nodelay = o->reuseaddr = true;
    o->backlog = BACKLOG_NORMAL;
}

static bool
copy_text(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return *to || !from;
}

static bool
copy_options(struct options *o, const struct options *base)
{
    *o = *base;
    o->certfile = o->keyfile = o->cacertfile = (struct option_file){ .fd = -1 };
    o->password = o->verify_hostname = o->server_name = NULL;
    o->password_fd = -1;
    o->password_key = NULL;
    return copy_text(&o->certfile.path, base->certfile.path) &&
           copy_text(&o->keyfile.path, base->keyfile.path) &&
           copy_text(&o->cacertfile.path, base->cacertfile.path) &&
           copy_text(&o->password, base->password) &&
           copy_text(&o->verify_hostname, base->verify_hostname) &&
           copy_text(&o->server_name, base->server_name);
}

static void
file_fini(struct option_file *file)
{
    free(file->path);
    file->path = NULL;
    fd_close(&file->fd);
}

void
options_init(struct options *o)
{
    set_defaults(o, ROLE_SERVER);
}

void
options_forget_secrets(struct options *o)
{
    fd_close(&o->certfile.fd);
    fd_close(&o->keyfile.fd);
    fd_close(&o->cacertfile.fd);
    fd_close(&o->password_fd);
    secret_free(o->password);
    o->password = NULL;
}

void
options_fini(struct options *o)
{
    options_forget_secrets(o);
    file_fini(&o->certfile);
    file_fini(&o->keyfile);
    file_fini(&o->cacertfile);
    free(o->verify_hostname);
    free(o->server_name);
    set_defaults(o, o->role);
}

/* --- one option each; those that are absent keep what they have ---------------------------- */

static int
take_fd(struct reading *d, const json_t *value)
{
    return request_take_fd(d->r, (size_t)json_integer_value(json_object_get(value, "fd_index")));
}

static enum result
read_file(struct reading *d, const char *option, struct option_file *file)
{
    const json_t *value = json_object_get(d->json, option);

    if (!value)
        return RESULT_OK;
    file_fini(file);
    if (json_is_object(value)) {
        file->fd = take_fd(d, value);
        return RESULT_OK;
    }
    if (d->r != NULL && !client_is_operator(request_client(d->r))) {
        failure_not_supported(d->f, option, "paths of another user's clients are not supported yet",
                              NULL);
        return RESULT_NOT_SUPPORTED;
    }
    return copy_text(&file->path, json_string_value(value)) ? RESULT_OK : no_memory(d);
}

static enum result
read_files(struct reading *d)
{
    struct options *o = d->out;
    enum result result = read_file(d, "certfile", &o->certfile);

    /* A certificate from here does not go with a key from there. */
    if (result == RESULT_OK && json_object_get(d->json, "certfile")) {
        file_fini(&o->keyfile);
        secret_free(o->password);
        o->password = NULL;
        o->has_keyfile = o->has_password = false;
    }
    if (result == RESULT_OK)
        result = read_file(d, "keyfile", &o->keyfile);
    if (result == RESULT_OK)
        result = read_file(d, "cacertfile", &o->cacertfile);
    o->has_certfile |= json_object_get(d->json, "certfile") != NULL;
    o->has_keyfile |= json_object_get(d->json, "keyfile") != NULL;
    o->has_cacertfile |= json_object_get(d->json, "cacertfile") != NULL;
    return result;
}

static enum result
read_password(struct reading *d)
{
    const json_t *value = json_object_get(d->json, "password");

    if (!value)
        return RESULT_OK;
    secret_free(d->out->password);
    d->out->password = NULL;
    d->out->has_password = true;
    if (json_is_object(value)) {
        d->out->password_fd = take_fd(d, value);
        return RESULT_OK;
    }
    return copy_text(&d->out->password, json_string_value(value)) ? RESULT_OK : no_memory(d);
}

/* A name that can be switched off. */
static enum result
read_name(struct reading *d, const char *option, char **name)
{
    const char *text = json_string_value(json_object_get(d->json, option));

    if (!text)
        return RESULT_OK;
    free(*name);
    return copy_text(name, strcmp(text, "disable") == 0 ? "" : text) ? RESULT_OK : no_memory(d);
}

static enum result
read_versions(struct reading *d)
{
    const json_t *value = json_object_get(d->json, "versions");
    size_t i;
    json_t *name;

    if (!value)
        return RESULT_OK;
    d->out->versions = 0;
    json_array_foreach (value, i, name)
        d->out->versions |= tls_version_by_name(json_string_value(name));
    return RESULT_OK;
}

static bool
has_suite(const struct options *o, uint16_t code)
{
    for (size_t i = 0; i < o->suite_count; i++) {
        if (o->suites[i] == code)
            return true;
    }
    return false;
}

static enum result
read_ciphers(struct reading *d)
{
    const json_t *value = json_object_get(d->json, "ciphers");
    struct options *o = d->out;
    size_t i;
    json_t *name;

    if (!value)
        return RESULT_OK;
    o->suite_count = 0;
    json_array_foreach (value, i, name) {
        const struct suite *suite = suite_by_name(json_string_value(name));

        if (!suite)
            return wrong(
                d, "ciphers", name,
                "there is no such cipher suite; ssl.cipher_suites with type all lists them");
        if (!has_suite(o, suite->code) && o->suite_count < sizeof(o->suites) / sizeof(o->suites[0]))
            o->suites[o->suite_count++] = suite->code;
    }
    return RESULT_OK;
}

static enum result
check_alpn_name(struct reading *d, const char *option, size_t i, const json_t *name)
{
    if (d->out->role != ROLE_CLIENT)
        return RESULT_OK;
    if (i >= CLIENT_ALPN_NAMES_MAX)
        return wrong(d, option, name, "a client can offer at most 8 protocols");
    if (json_string_length(name) > CLIENT_ALPN_BYTES_MAX)
        return wrong(d, option, name, "a client's protocol names have at most 31 bytes");
    return RESULT_OK;
}

static enum result
read_alpn(struct reading *d)
{
    const char *option = d->out->role == ROLE_CLIENT ? "alpn_advertised_protocols"
                                                     : "alpn_preferred_protocols";
    const json_t *value = json_object_get(d->json, option);
    struct options *o = d->out;
    size_t i;
    json_t *name;

    if (!value)
        return RESULT_OK;
    o->alpn_size = 0;
    json_array_foreach (value, i, name) {
        size_t size = json_string_length(name);
        enum result result = check_alpn_name(d, option, i, name);

        if (result != RESULT_OK)
            return result;
        if (o->alpn_size + 1 + size > sizeof(o->alpn))
            return wrong(d, option, name, "together the names are longer than 2,048 bytes");
        o->alpn[o->alpn_size++] = (uint8_t)size;
        memcpy(o->alpn + o->alpn_size, json_string_value(name), size);
        o->alpn_size += size;
    }
    return RESULT_OK;
}

static enum result
read_proxies(struct reading *d)
{
    const json_t *value = json_object_get(d->json, "trusted_proxies");
    size_t i;
    json_t *name;

    if (!value)
        return RESULT_OK;
    memset(&d->out->trusted_proxies, 0, sizeof(d->out->trusted_proxies));
    json_array_foreach (value, i, name) {
        if (!proxy_trust_add(&d->out->trusted_proxies, json_string_value(name)))
            return wrong(d, "trusted_proxies", name,
                         "must be IPv4 or IPv6 addresses, networks as in 10.0.0.0/8, or \"unix\"");
    }
    return RESULT_OK;
}

static void
read_bool(struct reading *d, const char *option, bool *to)
{
    const json_t *value = json_object_get(d->json, option);

    if (value)
        *to = json_is_true(value);
}

/* One of two words: whether it is the second. */
static void
read_word(struct reading *d, const char *option, const char *word, bool *to)
{
    const char *value = json_string_value(json_object_get(d->json, option));

    if (value)
        *to = strcmp(value, word) == 0;
}

static void
read_limits(struct reading *d)
{
    const json_t *limits = json_object_get(d->json, "worker_limits");
    const json_t *data = json_object_get(limits, "data"), *cpu = json_object_get(limits, "cpu");

    if (data)
        d->out->data_limit = (uint64_t)json_integer_value(data);
    if (cpu)
        d->out->cpu_limit_s = (uint32_t)json_integer_value(cpu);
}

static void
read_simple(struct reading *d)
{
    struct options *o = d->out;
    const json_t *depth = json_object_get(d->json, "depth");
    const json_t *backlog = json_object_get(d->json, "backlog");
    bool is_messages = o->delivery == DELIVERY_MESSAGES;

    read_word(d, "verify", "verify_peer", &o->verify);
    read_word(d, "delivery", "messages", &is_messages);
    read_word(d, "lifetime", "descriptor", &o->lifetime_descriptor);
    read_word(d, "mode", "list", &o->mode_list);
    read_bool(d, "fail_if_no_peer_cert", &o->fail_if_no_peer_cert);
    read_bool(d, "honor_cipher_order", &o->honor_cipher_order);
    read_bool(d, "log_alert", &o->log_alert);
    read_bool(d, "active", &o->active);
    read_bool(d, "nodelay", &o->nodelay);
    read_bool(d, "reuseaddr", &o->reuseaddr);
    read_bool(d, "accept_proxy", &o->accept_proxy);
    o->delivery = is_messages ? DELIVERY_MESSAGES : DELIVERY_DESCRIPTOR;
    read_limits(d);
    if (depth)
        o->depth = (uint32_t)json_integer_value(depth);
    if (backlog)
        o->backlog = (int)json_integer_value(backlog);
}

/* --- rules that cross from one option to another ------------------------------------------- */

static const json_t *
given(struct reading *d, const char *option)
{
    return json_object_get(d->json, option);
}

static enum result
check_server(struct reading *d)
{
    struct options *o = d->out;

    if (!o->has_certfile)
        return wrong(d, "certfile", NULL, "a server needs a certificate");
    if (o->versions & VERSIONS_OLD) {
        failure_not_supported(d->f, "options.versions",
                              "a server's signatures of tlsv1.1 and tlsv1 have no content that the "
                              "keeper could check",
                              "tlsv1.2 or tlsv1.3");
        return RESULT_NOT_SUPPORTED;
    }
    if (o->verify && !o->has_cacertfile)
        return wrong(d, "cacertfile", NULL,
                     "verify_peer needs the CAs that clients' certificates "
                     "are checked against");
    if (o->fail_if_no_peer_cert && !o->verify)
        return wrong(d, "fail_if_no_peer_cert", given(d, "fail_if_no_peer_cert"),
                     "has a meaning only with verify verify_peer");
    return RESULT_OK;
}

static enum result
check_client(struct reading *d)
{
    struct options *o = d->out;

    if (!(o->versions & VERSIONS_OLD) || !o->has_certfile)
        return RESULT_OK;
    return wrong(d, "versions", given(d, "versions"),
                 "tlsv1.1 and tlsv1 are possible only without certfile");
}

static bool
is_missing(const struct option_file *file)
{
    return file->path == NULL && file->fd < 0;
}

/* Another key or password than base's: certificate and key are read again, and a descriptor that base
 * had was for one reading. */
static enum result
check_key_again(struct reading *d)
{
    const struct options *o = d->out;
    const char *option = given(d, "keyfile") ? "keyfile" : "password";

    if (!given(d, option))
        return RESULT_OK;
    if (is_missing(&o->certfile))
        return wrong(d, option, given(d, "keyfile"),
                     "the listener's certfile came as a descriptor: give certfile too");
    if (o->has_keyfile && is_missing(&o->keyfile))
        return wrong(d, option, NULL,
                     "the listener's keyfile came as a descriptor: give certfile and keyfile too");
    return RESULT_OK;
}

static enum result
check_key(struct reading *d)
{
    if (d->out->has_certfile)
        return check_key_again(d);
    if (given(d, "keyfile"))
        return wrong(d, "keyfile", given(d, "keyfile"), "there is no certfile that it belongs to");
    if (given(d, "password"))
        return wrong(d, "password", NULL, "there is no certfile whose key it opens");
    return RESULT_OK;
}

static enum result
check_delivery(struct reading *d)
{
    struct options *o = d->out;

    if (o->lifetime_descriptor && o->delivery != DELIVERY_DESCRIPTOR)
        return wrong(d, "lifetime", given(d, "lifetime"),
                     "lifetime descriptor needs delivery descriptor");
    if (d->r != NULL && o->delivery == DELIVERY_DESCRIPTOR &&
        !client_is_operator(request_client(d->r))) {
        failure_not_supported(d->f, "options.delivery",
                              "descriptors for clients of another user are not supported yet",
                              "delivery messages");
        return RESULT_NOT_SUPPORTED;
    }
    return RESULT_OK;
}

/* Whoever may write the header may be anybody. */
static enum result
check_proxies(struct reading *d)
{
    const struct proxy_trust *trust = &d->out->trusted_proxies;
    bool trusts_anybody = trust->count > 0 || trust->unix_sockets;

    if (d->out->accept_proxy && !trusts_anybody)
        return wrong(d, "accept_proxy", given(d, "accept_proxy"),
                     "needs trusted_proxies: the addresses that a PROXY header is taken from");
    if (!d->out->accept_proxy && trusts_anybody)
        return wrong(d, "trusted_proxies", given(d, "trusted_proxies"),
                     "has a meaning only with accept_proxy");
    return RESULT_OK;
}

static enum result
check_suites(struct reading *d)
{
    const struct options *o = d->out;

    for (size_t i = 0; i < o->suite_count; i++) {
        const struct suite *suite = suite_by_code(o->suites[i]);
        enum result result;
        json_t *name;

        if (suite->versions & o->versions)
            continue;
        name = json_string(suite->iana);
        result = wrong(d, "ciphers", name, "none of the versions has this cipher suite");
        json_decref(name);
        return result;
    }
    return RESULT_OK;
}

static enum result
check_cross(struct reading *d)
{
    enum result result = d->out->role == ROLE_SERVER ? check_server(d) : check_client(d);

    if (result == RESULT_OK)
        result = check_key(d);
    if (result == RESULT_OK)
        result = check_delivery(d);
    if (result == RESULT_OK)
        result = check_proxies(d);
    return result == RESULT_OK ? check_suites(d) : result;
}

/* --- the whole ----------------------------------------------------------------------------- */

static enum result
read_all(struct reading *d)
{
    struct options *o = d->out;
    enum result result = read_files(d);

    read_simple(d);
    if (result == RESULT_OK)
        result = read_password(d);
    if (result == RESULT_OK)
        result = read_name(d, "verify_hostname", &o->verify_hostname);
    if (result == RESULT_OK)
        result = read_name(d, "server_name_indication", &o->server_name);
    if (result == RESULT_OK)
        result = read_versions(d);
    if (result == RESULT_OK)
        result = read_ciphers(d);
    if (result == RESULT_OK)
        result = read_alpn(d);
    if (result == RESULT_OK)
        result = read_proxies(d);
    return result == RESULT_OK ? check_cross(d) : result;
}

enum result
options_read(struct options *out, enum tls_role role, const struct options *base,
             const json_t *json, struct request *r, struct failure *f)
{
    struct reading d = { out, json, r, f };
    enum result result = RESULT_OK;

    set_defaults(out, role);
    if (base && !copy_options(out, base))
        result = no_memory(&d);
    if (result == RESULT_OK)
        result = read_all(&d);
    if (result != RESULT_OK)
        options_fini(out);
    return result;
}

/* What has no default and could not be kept. */
static enum result
refuse_tls(struct reading *d)
{
    static const char *const names[] = { "certfile",   "keyfile", "password",
                                         "cacertfile", "ciphers", "alpn_preferred_protocols" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (given(d, names[i]))
            return wrong(d, names[i], NULL,
                         "has no meaning for plain connections; TLS options belong into "
                         "deliver.client.options");
    }
    return RESULT_OK;
}

enum result
options_read_plain(struct options *out, const json_t *json, struct failure *f)
{
    struct reading d = { out, json, NULL, f };
    const json_t *backlog = given(&d, "backlog");
    enum result result = refuse_tls(&d);

    read_bool(&d, "reuseaddr", &out->reuseaddr);
    read_bool(&d, "accept_proxy", &out->accept_proxy);
    if (backlog)
        out->backlog = (int)json_integer_value(backlog);
    if (result == RESULT_OK)
        result = read_proxies(&d);
    if (result == RESULT_OK)
        result = check_proxies(&d);
    if (result != RESULT_OK)
        options_fini(out);
    return result;
}
