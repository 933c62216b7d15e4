#include "manager/keeper_policy.h"

#include <stdbool.h>
#include <string.h>

#include <gnutls/gnutls.h>

enum {
    RANDOM_SIZE = 32,
    GROUP_SECP256R1 = 23,
    GROUP_SECP384R1 = 24,
    GROUP_SECP521R1 = 25,
    GROUP_X25519 = 29,
    GROUP_X448 = 30,
};

/* --- schemes ----------------------------------------------------------------------------- */

struct scheme_rule {
    uint16_t scheme;
    enum key_algorithm algorithm;
    uint16_t curve; /* TLS 1.3: the curve that the scheme's name fixes */
    unsigned versions;
};

/* No SHA-1 and no MD5, whatever the version. */
/* clang-format off */
static const struct scheme_rule scheme_rules[] = {
    { 0x0401, KEY_RSA,     0,               TLS_1_2 },              /* rsa_pkcs1_sha256 */
    { 0x0501, KEY_RSA,     0,               TLS_1_2 },              /* rsa_pkcs1_sha384 */
    { 0x0601, KEY_RSA,     0,               TLS_1_2 },              /* rsa_pkcs1_sha512 */
    { 0x0804, KEY_RSA,     0,               TLS_1_2 | TLS_1_3 },    /* rsa_pss_rsae_sha256 */
    { 0x0805, KEY_RSA,     0,               TLS_1_2 | TLS_1_3 },    /* rsa_pss_rsae_sha384 */
    { 0x0806, KEY_RSA,     0,               TLS_1_2 | TLS_1_3 },    /* rsa_pss_rsae_sha512 */
    { 0x0403, KEY_ECDSA,   GROUP_SECP256R1, TLS_1_2 | TLS_1_3 },    /* ecdsa_secp256r1_sha256 */
    { 0x0503, KEY_ECDSA,   GROUP_SECP384R1, TLS_1_2 | TLS_1_3 },    /* ecdsa_secp384r1_sha384 */
    { 0x0603, KEY_ECDSA,   GROUP_SECP521R1, TLS_1_2 | TLS_1_3 },    /* ecdsa_secp521r1_sha512 */
    { 0x0807, KEY_ED25519, 0,               TLS_1_2 | TLS_1_3 },    /* ed25519 */
};
/* clang-format on */

static const struct scheme_rule *
scheme_rule_of(uint32_t scheme)
{
    for (size_t i = 0; i < sizeof scheme_rules / sizeof *scheme_rules; i++) {
        if (scheme_rules[i].scheme == scheme)
            return &scheme_rules[i];
    }
    return NULL;
}

/* NULL if the scheme is fine. */
static const char *
scheme_fault(const struct keeper_grant *grant, uint32_t scheme, uint32_t version)
{
    const struct scheme_rule *rule = scheme_rule_of(scheme);

    if (!rule)
        return "the signature scheme is not one of ours";
    if (rule->algorithm != grant->algorithm)
        return "the signature scheme is not one of this kind of key";
    if (!(rule->versions & version))
        return "the signature scheme is not one of this TLS version";
    /* In TLS 1.2 the same numbers mean the hash alone, with any curve (RFC 8446 4.2.3). */
    if (version == TLS_1_3 && rule->curve != 0 && rule->curve != grant->curve)
        return "the signature scheme is not the one of the key's curve";
    return NULL;
}

/* --- TLS 1.3: we write the content ----------------------------------------------------- */

/* RFC 8446 4.4.3. */
static const char *
write_content_13(const struct keeper_grant *grant, struct bytes hash, struct keeper_order *order)
{
    static const char server[] = "TLS 1.3, server CertificateVerify";
    static const char client[] = "TLS 1.3, client CertificateVerify";
    const char *context = grant->role == ROLE_SERVER ? server : client;
    size_t context_size = sizeof server; /* with its NUL; both are of one length */
    uint8_t *end = order->written;

    if (hash.size != 32 && hash.size != 48)
        return "a transcript hash has 32 or 48 bytes";

    memset(end, ' ', 64);
    end += 64;
    memcpy(end, context, context_size);
    end += context_size;
    memcpy(end, hash.data, hash.size);
    end += hash.size;
    order->content.data = order->written;
    order->content.size = (size_t)(end - order->written);
    return NULL;
}

/* --- reading -------------------------------------------------------------------------- */

/* A big-endian number of width bytes off the front; false if there are fewer. */
static bool
read_number(struct bytes *rest, size_t width, uint32_t *number)
{
    uint32_t value = 0;

    if (rest->size < width)
        return false;
    for (size_t i = 0; i < width; i++)
        value = value << 8 | rest->data[i];
    rest->data += width;
    rest->size -= width;
    *number = value;
    return true;
}

/* A vector off the front, after its length in width bytes; it borrows from rest. */
static bool
read_vector(struct bytes *rest, size_t width, struct bytes *vector)
{
    struct bytes left = *rest;
    uint32_t size;

    if (!read_number(&left, width, &size) || left.size < size)
        return false;
    vector->data = left.data;
    vector->size = size;
    rest->data = left.data + size;
    rest->size = left.size - size;
    return true;
}

/* --- TLS 1.2, server: two randoms and the parameters of one key exchange -------------- */

static bool
is_all_spaces(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] != ' ')
            return false;
    }
    return true;
}

/* The size of a public value in this group and its first byte (0: any); 0 for a group not listed. */
static size_t
point_size(uint32_t group, uint8_t *form)
{
    *form = 0x04;
    switch (group) {
    case GROUP_SECP256R1:
        return 65;
    case GROUP_SECP384R1:
        return 97;
    case GROUP_SECP521R1:
        return 133;
    }
    *form = 0;
    return group == GROUP_X25519 ? 32 : group == GROUP_X448 ? 56 : 0;
}

/* RFC 8422 5.4: curve_type named_curve, the group, the point; and nothing after it. */
static bool
is_ecdh_params(struct bytes rest)
{
    struct bytes point;
    uint32_t curve_type;
    uint32_t group;
    uint8_t form;

    if (!read_number(&rest, 1, &curve_type) || curve_type != 3)
        return false;
    if (!read_number(&rest, 2, &group) || !read_vector(&rest, 1, &point) || rest.size != 0)
        return false;
    if (point.size == 0 || point.size != point_size(group, &form))
        return false;
    return form == 0 || point.data[0] == form;
}

static bool
is_datum(struct bytes bytes, const gnutls_datum_t *datum)
{
    return bytes.size == datum->size && memcmp(bytes.data, datum->data, bytes.size) == 0;
}

static bool
is_listed_dh_group(struct bytes p, struct bytes g)
{
    const struct {
        const gnutls_datum_t *prime, *generator;
    } groups[] = {
        { &gnutls_ffdhe_2048_group_prime, &gnutls_ffdhe_2048_group_generator },
        { &gnutls_ffdhe_3072_group_prime, &gnutls_ffdhe_3072_group_generator },
        { &gnutls_ffdhe_4096_group_prime, &gnutls_ffdhe_4096_group_generator },
        { &gnutls_ffdhe_6144_group_prime, &gnutls_ffdhe_6144_group_generator },
        { &gnutls_ffdhe_8192_group_prime, &gnutls_ffdhe_8192_group_generator },
    };

    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        if (is_datum(p, groups[i].prime))
            return is_datum(g, groups[i].generator);
    }
    return false;
}

/* 1 < y < p. */
static bool
is_dh_public(struct bytes y, struct bytes p)
{
    while (y.size > 0 && y.data[0] == 0) {
        y.data++;
        y.size--;
    }
    if (y.size == 0 || (y.size == 1 && y.data[0] == 1) || y.size > p.size)
        return false;
    return y.size < p.size || memcmp(y.data, p.data, p.size) < 0;
}

/* RFC 5246 7.4.3: p, g, Ys; and nothing after them. */
static bool
is_dh_params(struct bytes rest)
{
    struct bytes p, g, y;

    if (!read_vector(&rest, 2, &p) || !read_vector(&rest, 2, &g) || !read_vector(&rest, 2, &y))
        return false;
    return rest.size == 0 && y.size <= p.size && is_listed_dh_group(p, g) && is_dh_public(y, p);
}

static const char *
server_content_fault(const struct keeper_grant *grant, struct bytes content)
{
    /* RFC 8446 4.1.3: what a server that could have spoken 1.3 ends its random with. */
    static const uint8_t downgrade[8] = { 'D', 'O', 'W', 'N', 'G', 'R', 'D', 1 };
    struct bytes params;

    if (content.size <= 2 * RANDOM_SIZE)
        return "the content is shorter than two randoms and parameters";
    /* 64 spaces in front are what keeps TLS 1.3 signatures apart from these. */
    if (is_all_spaces(content.data, RANDOM_SIZE) ||
        is_all_spaces(content.data + RANDOM_SIZE, RANDOM_SIZE))
        return "a random is all spaces";
    if ((grant->versions & TLS_1_3) &&
        memcmp(content.data + 2 * RANDOM_SIZE - sizeof downgrade, downgrade, sizeof downgrade) != 0)
        return "the server random lacks the downgrade sentinel";

    params.data = content.data + 2 * RANDOM_SIZE;
    params.size = content.size - 2 * RANDOM_SIZE;
    if (!is_ecdh_params(params) && !is_dh_params(params))
        return "the parameters are not exactly one listed group's";
    return NULL;
}

/* --- TLS 1.2, client: the handshake so far -------------------------------------------- */

struct handshake_step {
    uint32_t type;
    bool is_optional;
};

/* RFC 5246 7.3, as a client with a certificate sees a full handshake, up to CertificateVerify. */
static const struct handshake_step client_steps[] = {
    { 1, false },  /* ClientHello */
    { 2, false },  /* ServerHello */
    { 11, false }, /* Certificate, the server's */
    { 22, true },  /* CertificateStatus */
    { 12, true },  /* ServerKeyExchange */
    { 13, false }, /* CertificateRequest */
    { 14, false }, /* ServerHelloDone */
    { 11, false }, /* Certificate, ours */
    { 16, false }, /* ClientKeyExchange */
};

enum { CLIENT_STEP_COUNT = sizeof client_steps / sizeof *client_steps };

/* version[2] random[32] session_id<0..32>, and what follows it.  A ServerHello of TLS 1.2. */
static bool
is_hello(uint32_t type, struct bytes body)
{
    struct bytes session_id;
    uint32_t version;

    if (!read_number(&body, 2, &version) || body.size < RANDOM_SIZE)
        return false;
    body.data += RANDOM_SIZE;
    body.size -= RANDOM_SIZE;
    if (!read_vector(&body, 1, &session_id) || session_id.size > 32 || body.size < 3)
        return false;
    return type == 1 ? version >> 8 == 3 : version == 0x0303;
}

/* The step this message takes, from step on; CLIENT_STEP_COUNT if it takes none. */
static size_t
client_step_of(uint32_t type, size_t step)
{
    while (step < CLIENT_STEP_COUNT && client_steps[step].type != type) {
        if (!client_steps[step].is_optional)
            return CLIENT_STEP_COUNT;
        step++;
    }
    return step;
}

static const char *
client_content_fault(struct bytes rest)
{
    size_t next = 0;

    while (rest.size > 0) {
        struct bytes body;
        uint32_t type;

        if (!read_number(&rest, 1, &type) || !read_vector(&rest, 3, &body))
            return "the content is no list of handshake messages";
        next = client_step_of(type, next);
        if (next == CLIENT_STEP_COUNT)
            return "the handshake messages are not those before a CertificateVerify";
        if (next <= 1 && !is_hello(type, body))
            return "a hello in the content is no TLS 1.2 hello";
        if (body.size == 0 && type != 14)
            return "a handshake message in the content is empty";
        next++;
    }
    return next == CLIENT_STEP_COUNT ? NULL : "the handshake messages stop too early";
}

/* --- the verdict ---------------------------------------------------------------------- */

static const char *
fault_of(const struct keeper_grant *grant, uint32_t scheme, uint32_t version, struct bytes content,
         struct keeper_order *order)
{
    const char *fault;

    if (grant->budget == 0)
        return "the connection has had all its signatures";
    /* Their signatures have no content that could be checked. */
    if (version != TLS_1_2 && version != TLS_1_3)
        return "nothing is signed for this TLS version";
    if (!(grant->versions & version))
        return "the context does not allow this TLS version";
    fault = scheme_fault(grant, scheme, version);
    if (fault)
        return fault;

    if (version == TLS_1_3)
        return write_content_13(grant, content, order);
    order->content = content;
    return grant->role == ROLE_SERVER ? server_content_fault(grant, content)
                                      : client_content_fault(content);
}

enum result
keeper_policy_judge(const struct keeper_grant *grant, uint32_t scheme, uint32_t version,
                    struct bytes content, struct keeper_order *order, const char **why)
{
    const char *fault = fault_of(grant, scheme, version, content, order);

    if (fault) {
        *why = fault;
        return RESULT_REFUSED;
    }
    order->scheme = scheme;
    order->version = version;
    return RESULT_OK;
}
