/*
 * What a context is: the part of the options that is in it, and its canonical form.
 */
#include <assert.h>
#include <string.h>

#include "ipc/digest.h"
#include "manager/contexts.h"

static void
add_number(struct digest *d, uint64_t number)
{
    uint8_t bytes[8];

    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(number >> (56 - 8 * i));
    digest_add(d, bytes, sizeof(bytes));
}

static void
add_block(struct digest *d, const void *bytes, size_t size)
{
    add_number(d, size);
    digest_add(d, bytes, size);
}

void
context_digest(const struct context_facts *facts, const uint8_t *certificate,
               struct bytes public_key, const uint8_t *trust, uint8_t digest[DIGEST_SIZE])
{
    struct digest *d = digest_new();

    assert(d != NULL);
    add_number(d, facts->role);
    add_number(d, facts->versions);
    add_number(d, facts->suite_count);
    for (size_t i = 0; i < facts->suite_count; i++)
        add_number(d, facts->suites[i]);
    add_number(d, facts->verify);
    add_number(d, facts->fail_if_no_peer_cert);
    add_number(d, facts->honor_cipher_order);
    add_number(d, facts->depth);
    add_number(d, facts->data_limit);
    add_number(d, facts->cpu_limit_s);
    add_block(d, facts->alpn, facts->alpn_size);
    add_block(d, certificate, certificate != NULL ? DIGEST_SIZE : 0);
    add_block(d, public_key.data, public_key.size);
    add_block(d, trust, trust != NULL ? DIGEST_SIZE : 0);
    digest_end(d, digest);
}

void
context_facts_from(struct context_facts *facts, const struct options *o)
{
    memset(facts, 0, sizeof(*facts));
    facts->role = o->role;
    facts->versions = o->versions;
    facts->suite_count = o->suite_count;
    memcpy(facts->suites, o->suites, o->suite_count * sizeof(o->suites[0]));
    facts->verify = o->verify;
    facts->fail_if_no_peer_cert = o->fail_if_no_peer_cert;
    facts->honor_cipher_order = o->honor_cipher_order;
    facts->depth = o->depth;
    facts->data_limit = o->data_limit;
    facts->cpu_limit_s = o->cpu_limit_s;
    facts->alpn_size = o->alpn_size;
    memcpy(facts->alpn, o->alpn, o->alpn_size);
}
