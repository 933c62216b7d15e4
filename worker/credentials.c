#include "worker/credentials.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <gnutls/abstract.h>
#include <gnutls/x509.h>

#include "ipc/fd.h"
#include "ipc/process.h"
#include "ipc/suites.h"
#include "worker/library.h"

enum {
    MAX_PEM = 4 << 20,
    MAX_CHAIN = 32,       /* certificates that a peer may send */
    MAX_KEY_BITS = 16384, /* of any key in a peer's path */
    PRIORITY_SIZE = 4096,
};

static enum result
wrong(struct credentials_fault *fault, const char *option, const char *why)
{
    fault->option = option;
    fault->why = why;
    return RESULT_OPTIONS;
}

/* --- the key that is not here --------------------------------------------------------------- */

/* What the stub knows of the key; GnuTLS asks for it as userdata. */
static unsigned
stub_pack(enum key_algorithm algorithm, unsigned bits)
{
    return bits << 2 | (unsigned)algorithm;
}

static gnutls_pk_algorithm_t
stub_algorithm(unsigned packed)
{
    switch ((enum key_algorithm)(packed & 3)) {
    case KEY_RSA:
        return GNUTLS_PK_RSA;
    case KEY_ECDSA:
        return GNUTLS_PK_ECDSA;
    case KEY_ED25519:
        return GNUTLS_PK_EDDSA_ED25519;
    case KEY_RSA_PSS:
        return GNUTLS_PK_RSA_PSS;
    }
    return GNUTLS_PK_UNKNOWN;
}

static int
stub_info(gnutls_privkey_t key, unsigned flags, void *userdata)
{
    unsigned packed = (unsigned)(uintptr_t)userdata;

    (void)key;
    if (flags & GNUTLS_PRIVKEY_INFO_PK_ALGO)
        return (int)stub_algorithm(packed);
    if (flags & GNUTLS_PRIVKEY_INFO_PK_ALGO_BITS)
        return (int)(packed >> 2);
    if (flags & GNUTLS_PRIVKEY_INFO_HAVE_SIGN_ALGO)
        return gnutls_sign_supports_pk_algorithm(GNUTLS_FLAGS_TO_SIGN_ALGO(flags),
                                                 stub_algorithm(packed)) != 0;
    return -1;
}

/*
 * Signing never comes here: gnutls_privkey_sign_data2 is ours (worker/signer.c).  Whoever comes by
 * another way has a digest, and there is no request for a digest.
 */
static int
stub_sign(gnutls_privkey_t key, gnutls_sign_algorithm_t algorithm, void *userdata, unsigned flags,
          const gnutls_datum_t *data, gnutls_datum_t *signature)
{
    (void)key;
    (void)algorithm;
    (void)userdata;
    (void)flags;
    (void)data;
    (void)signature;
    return GNUTLS_E_UNIMPLEMENTED_FEATURE;
}

static int
stub_new(gnutls_privkey_t *key, enum key_algorithm algorithm, unsigned bits)
{
    void *userdata = (void *)(uintptr_t)stub_pack(algorithm, bits);
    int code = gnutls_privkey_init(key);

    if (code < 0)
        return code;
    code =
        gnutls_privkey_import_ext4(*key, userdata, stub_sign, stub_sign, NULL, NULL, stub_info, 0);
    if (code < 0)
        gnutls_privkey_deinit(*key);
    return code;
}

/* --- certificates --------------------------------------------------------------------------- */

/* Reads descriptor index of m. */
static enum result
read_pem(struct message *m, uint32_t index, gnutls_datum_t *pem)
{
    int fd = message_take_fd(m, index);
    size_t size;
    enum result result;

    if (fd < 0)
        return RESULT_DESCRIPTORS;
    result = memfd_read(fd, MAX_PEM, &pem->data, &size);
    close(fd);
    pem->size = (unsigned)size;
    return result;
}

/* Gives chain to c together with the stub. */
static int
set_chain(struct credentials *c, gnutls_pcert_st *chain, unsigned count, enum key_algorithm kind,
          unsigned bits)
{
    gnutls_privkey_t stub;
    int code = stub_new(&stub, kind, bits);

    if (code < 0)
        return code;
    code = gnutls_certificate_set_key(c->certificates, NULL, 0, chain, (int)count, stub);
    if (code < 0)
        gnutls_privkey_deinit(stub);
    return code;
}

static enum result
load_chain(struct credentials *c, struct message *m, struct credentials_fault *fault)
{
    const struct message_context *wanted = &m->as.context;
    gnutls_pcert_st chain[MAX_CHAIN]; /* GnuTLS copies the array and keeps what is in it */
    unsigned count = MAX_CHAIN;
    gnutls_datum_t pem;
    int code;

    if (!wanted->has_certificate_index)
        return RESULT_OK;
    if (!wanted->has_key_algorithm || read_pem(m, wanted->certificate_index, &pem) != RESULT_OK)
        return wrong(fault, "certfile", "the certificates did not arrive whole");
    code = gnutls_pcert_list_import_x509_raw(chain, &count, &pem, GNUTLS_X509_FMT_PEM, 0);
    free(pem.data);
    if (code >= 0) {
        code = set_chain(c, chain, count, wanted->key_algorithm, wanted->key_bits);
        for (unsigned i = 0; code < 0 && i < count; i++)
            gnutls_pcert_deinit(&chain[i]);
    }
    if (code < 0)
        return wrong(fault, "certfile", gnutls_strerror(code));
    c->has_key = true;
    return RESULT_OK;
}

static enum result
load_trust(struct credentials *c, struct message *m, struct credentials_fault *fault)
{
    const struct message_context *wanted = &m->as.context;
    gnutls_datum_t pem;
    int code;

    if (!wanted->has_trust_index)
        return RESULT_OK;
    if (read_pem(m, wanted->trust_index, &pem) != RESULT_OK)
        return wrong(fault, "cacertfile", "the certificates did not arrive whole");
    code = gnutls_certificate_set_x509_trust_mem(c->certificates, &pem, GNUTLS_X509_FMT_PEM);
    free(pem.data);
    if (code < 0)
        return wrong(fault, "cacertfile", gnutls_strerror(code));
    if (code == 0)
        return wrong(fault, "cacertfile", "there is no certificate in it");
    return RESULT_OK;
}

/* --- versions and suites -------------------------------------------------------------------- */

bool
credentials_allow(const struct credentials *c, uint16_t suite)
{
    for (size_t i = 0; i < c->suite_count; i++) {
        if (c->suites[i] == suite)
            return true;
    }
    return false;
}

static void
add_suite(struct credentials *c, const struct suite *suite, unsigned versions)
{
    struct library_suite unused;

    if (suite == NULL || !(suite->versions & versions) || credentials_allow(c, suite->code))
        return;
    if (!library_find_suite(suite->code, &unused) ||
        c->suite_count == sizeof c->suites / sizeof c->suites[0])
        return;
    c->suites[c->suite_count++] = suite->code;
}

static bool
is_default(const struct suite *suite, unsigned versions)
{
    return suite->is_default ||
           (suite->is_default_below_1_2 && (versions & (TLS_1_0 | TLS_1_1)) != 0);
}

static void
list_suites(struct credentials *c, const struct message_context *wanted)
{
    if (wanted->suites.size == 0) {
        for (size_t i = 0; i < suite_count; i++) {
            if (is_default(&suites[i], wanted->versions))
                add_suite(c, &suites[i], wanted->versions);
        }
        return;
    }
    for (size_t i = 0; i + 1 < wanted->suites.size; i += 2) {
        uint16_t code = (uint16_t)(wanted->suites.data[i] << 8 | wanted->suites.data[i + 1]);

        add_suite(c, suite_by_code(code), wanted->versions);
    }
}

/* A priority string in the making; end is past its size when it did not fit. */
struct text {
    char bytes[PRIORITY_SIZE];
    size_t end;
};

static void
append(struct text *t, const char *words)
{
    size_t size = strlen(words);

    if (t->end + size < sizeof t->bytes)
        memcpy(t->bytes + t->end, words, size + 1);
    t->end += size;
}

/* Once only: GnuTLS' order is that of the first mention. */
static void
append_algorithm(struct text *t, const char *name)
{
    char word[64];
    const char *found;

    if (name == NULL)
        return;
    snprintf(word, sizeof word, ":+%s", name);
    found = strstr(t->bytes, word);
    for (; found != NULL; found = strstr(found + 1, word)) {
        if (found[strlen(word)] == ':' || found[strlen(word)] == '\0')
            return;
    }
    append(t, word);
}

static void
append_suite(struct text *t, uint16_t code)
{
    struct library_suite suite;

    if (!library_find_suite(code, &suite))
        return;
    if (suite.kx != GNUTLS_KX_UNKNOWN)
        append_algorithm(t, gnutls_kx_get_name(suite.kx));
    append_algorithm(t, gnutls_cipher_get_name(suite.cipher));
    append_algorithm(t, gnutls_mac_get_name(suite.mac));
}

/* A version without a suite would be agreed on and then fail. */
static unsigned
versions_with_suites(const struct credentials *c, unsigned versions)
{
    unsigned found = 0;

    for (size_t i = 0; i < c->suite_count; i++)
        found |= suite_by_code(c->suites[i])->versions;
    return found & versions;
}

static void
write_priority(struct text *t, const struct credentials *c, bool server_order)
{
    append(t, "NONE");
    if (c->versions & TLS_1_3)
        append(t, ":+VERS-TLS1.3");
    if (c->versions & TLS_1_2)
        append(t, ":+VERS-TLS1.2");
    if (c->versions & TLS_1_1)
        append(t, ":+VERS-TLS1.1");
    if (c->versions & TLS_1_0)
        append(t, ":+VERS-TLS1.0");
    for (size_t i = 0; i < c->suite_count; i++)
        append_suite(t, c->suites[i]);
    append(t, ":+COMP-NULL:+CTYPE-X509:%PROFILE_MEDIUM"
              ":+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:+GROUP-SECP521R1:+GROUP-X448"
              ":+GROUP-FFDHE2048:+GROUP-FFDHE3072:+GROUP-FFDHE4096"
              ":+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SHA256:+SIGN-EDDSA-ED25519"
              ":+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256:+SIGN-RSA-PSS-SHA256"
              ":+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-ECDSA-SHA384"
              ":+SIGN-RSA-PSS-RSAE-SHA384:+SIGN-RSA-SHA384:+SIGN-RSA-PSS-SHA384"
              ":+SIGN-ECDSA-SECP521R1-SHA512:+SIGN-ECDSA-SHA512:+SIGN-EDDSA-ED448"
              ":+SIGN-RSA-PSS-RSAE-SHA512:+SIGN-RSA-SHA512:+SIGN-RSA-PSS-SHA512");
    if (server_order)
        append(t, ":%SERVER_PRECEDENCE");
}

static enum result
load_priority(struct credentials *c, const struct message_context *wanted,
              struct credentials_fault *fault)
{
    struct text text = { .end = 0 };
    int code;

    list_suites(c, wanted);
    c->versions = versions_with_suites(c, wanted->versions);
    if (c->versions == 0)
        return wrong(fault, wanted->suites.size > 0 ? "ciphers" : "versions",
                     "no cipher suite that the TLS library has fits the TLS versions");
    write_priority(&text, c, wanted->honor_cipher_order != 0);
    if (text.end >= sizeof text.bytes)
        return wrong(fault, "ciphers", "there are too many of them");
    code = gnutls_priority_init(&c->priority, text.bytes, NULL);
    return code < 0 ? wrong(fault, "ciphers", gnutls_strerror(code)) : RESULT_OK;
}

/* --- application protocols ------------------------------------------------------------------ */

static enum result
load_alpn(struct credentials *c, struct bytes names, struct credentials_fault *fault)
{
    const char *option = c->role == ROLE_CLIENT ? "alpn_advertised_protocols"
                                                : "alpn_preferred_protocols";
    size_t most = c->role == ROLE_CLIENT ? ALPN_MAX_CLIENT : ALPN_MAX_NAMES;

    if (names.size == 0)
        return RESULT_OK;
    c->alpn = malloc(names.size);
    if (c->alpn == NULL)
        return RESULT_NO_MEMORY;
    memcpy(c->alpn, names.data, names.size);
    for (size_t i = 0; i < names.size; i += 1 + c->alpn[i]) {
        if (c->alpn[i] == 0 || c->alpn[i] > ALPN_MAX_NAME || i + 1 + c->alpn[i] > names.size)
            return wrong(fault, option, "a protocol name has 1 to 31 bytes");
        if (c->alpn_count == most)
            return wrong(fault, option, "there are too many protocols: a client may name 8");
        c->alpn_names[c->alpn_count++] =
            (gnutls_datum_t){ .data = c->alpn + i + 1, .size = c->alpn[i] };
    }
    return RESULT_OK;
}

/* --- all of it ------------------------------------------------------------------------------ */

static enum result
load(struct credentials *c, struct message *m, struct credentials_fault *fault)
{
    enum result result = load_priority(c, &m->as.context, fault);

    if (result == RESULT_OK)
        result = load_alpn(c, m->as.context.alpn, fault);
    if (result != RESULT_OK)
        return result;
    if (gnutls_certificate_allocate_credentials(&c->certificates) < 0)
        return RESULT_NO_MEMORY;
    gnutls_certificate_set_flags(c->certificates, GNUTLS_CERTIFICATE_SKIP_KEY_CERT_MATCH);
    gnutls_certificate_set_verify_limits(c->certificates, MAX_KEY_BITS, MAX_CHAIN);
    /* For clients that know no named finite field groups. */
    if (c->role == ROLE_SERVER)
        (void)gnutls_certificate_set_known_dh_params(c->certificates, GNUTLS_SEC_PARAM_MEDIUM);
    result = load_chain(c, m, fault);
    if (result == RESULT_OK)
        result = load_trust(c, m, fault);
    if (result == RESULT_OK && c->role == ROLE_SERVER && !c->has_key)
        result = wrong(fault, "certfile", "a server needs a certificate");
    return result;
}

enum result
credentials_new(struct credentials **out, struct message *m, struct credentials_fault *fault)
{
    const struct message_context *wanted = &m->as.context;
    struct credentials *c = calloc(1, sizeof *c);
    enum result result;

    if (c == NULL)
        return RESULT_NO_MEMORY;
    c->number = wanted->context;
    c->role = (enum tls_role)wanted->role;
    c->verify = wanted->verify != 0;
    c->fail_if_no_peer_cert = wanted->fail_if_no_peer_cert != 0;
    c->depth = wanted->depth;
    c->data_limit = wanted->has_data_limit ? wanted->data_limit : PROCESS_WORKER_DATA;
    c->cpu_limit_s = wanted->has_cpu_limit_s ? wanted->cpu_limit_s : PROCESS_WORKER_CPU_S;
    result = load(c, m, fault);
    if (result != RESULT_OK) {
        credentials_free(c);
        return result;
    }
    *out = c;
    return RESULT_OK;
}

void
credentials_free(struct credentials *c)
{
    if (c == NULL)
        return;
    if (c->certificates != NULL)
        gnutls_certificate_free_credentials(c->certificates);
    if (c->priority != NULL)
        gnutls_priority_deinit(c->priority);
    free(c->alpn);
    free(c);
}
