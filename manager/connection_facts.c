/*
 * What is known of a connection, as clients are told.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/log.h"
#include "ipc/suites.h"
#include "manager/connection.h"
#include "manager/manager.h"

static char *
copy_of(const char *text)
{
    return text != NULL ? strdup(text) : NULL;
}

/* The peer's strings are escaped here once, for logs and JSON alike. */
static char *
escaped(const void *bytes, size_t size)
{
    char text[1100];

    log_escape(text, sizeof(text), bytes, size);
    return strdup(text);
}

/* A worker says that it has done so; an exposed one may lie. */
static char *
escaped_again(const char *text)
{
    char checked[1100];

    log_escape_again(checked, sizeof(checked), text);
    return strdup(checked);
}

void
facts_from(struct facts *facts, const struct message_established *m)
{
    facts->version = m->version;
    facts->suite = m->suite;
    facts->group = m->group;
    facts->signature = m->signature;
    facts->took_ms = m->took_ms;
    facts->peer_certificate = m->peer_certificate;
    facts->resumed = m->resumed != 0;
    facts->verified = m->verified != 0;
    if (m->server_name != NULL)
        facts->server_name = escaped_again(m->server_name);
    if (m->alpn.size > 0)
        facts->alpn = escaped(m->alpn.data, m->alpn.size);
    facts->subject = copy_of(m->subject);
    facts->common_name = copy_of(m->common_name);
    facts->issuer = copy_of(m->issuer);
    facts->serial = copy_of(m->serial);
    facts->sha256 = copy_of(m->sha256);
    facts->public_key = copy_of(m->public_key);
    facts->not_before = m->not_before;
    facts->not_after = m->not_after;
}

void
facts_from_failed(struct facts *facts, const struct message_failed *m)
{
    if (m->server_name != NULL)
        facts->server_name = escaped_again(m->server_name);
    if (m->alpn_offered != NULL)
        facts->alpn = escaped_again(m->alpn_offered);
}

void
facts_fini(struct facts *facts)
{
    free(facts->server_name);
    free(facts->alpn);
    free(facts->subject);
    free(facts->common_name);
    free(facts->issuer);
    free(facts->serial);
    free(facts->sha256);
    free(facts->public_key);
    memset(facts, 0, sizeof(*facts));
}

/* --- JSON --- */

static json_t *
text_json(const char *text)
{
    json_t *json = text != NULL ? json_string(text) : NULL;

    return json != NULL ? json : json_null();
}

json_t *
suite_json(uint32_t code)
{
    const struct suite *suite = code <= UINT16_MAX ? suite_by_code((uint16_t)code) : NULL;
    char name[16];

    if (suite == NULL) {
        snprintf(name, sizeof(name), "0x%04x", (unsigned)code);
        return json_pack("{s:s, s:n, s:s, s:s, s:n}", "name", name, "openssl", "key_exchange",
                         "unknown", "cipher", "unknown", "hash");
    }
    return json_pack("{s:s, s:s?, s:s, s:s, s:s?}", "name", suite->iana, "openssl", suite->openssl,
                     "key_exchange", suite->key_exchange, "cipher", suite->cipher, "hash",
                     suite->hash);
}

static json_t *
certificate_json(const struct facts *f)
{
    json_t *json;

    if (f->peer_certificate == 0)
        return json_null();
    json = json_object();
    json_object_set_new(json, "subject", json_string(f->subject != NULL ? f->subject : ""));
    json_object_set_new(json, "issuer", json_string(f->issuer != NULL ? f->issuer : ""));
    json_object_set_new(json, "serial", json_string(f->serial != NULL ? f->serial : ""));
    json_object_set_new(json, "not_before", json_integer(f->not_before));
    json_object_set_new(json, "not_after", json_integer(f->not_after));
    json_object_set_new(json, "sha256", json_string(f->sha256 != NULL ? f->sha256 : ""));
    json_object_set_new(json, "key", json_string(f->public_key != NULL ? f->public_key : ""));
    json_object_set_new(json, "verified", json_boolean(f->verified));
    return json;
}

json_t *
connection_info(const struct connection *c)
{
    const struct facts *f = &c->facts;
    const char *version = tls_version_name(f->version);
    json_t *json = json_object();

    json_object_set_new(json, "role", json_string(c->role == ROLE_SERVER ? "server" : "client"));
    json_object_set_new(json, "protocol", json_string(version != NULL ? version : "unknown"));
    json_object_set_new(json, "cipher_suite", suite_json(f->suite));
    json_object_set_new(json, "sni_hostname", text_json(f->server_name));
    json_object_set_new(json, "alpn", text_json(f->alpn));
    json_object_set_new(json, "resumed", json_boolean(f->resumed));
    json_object_set_new(json, "group", text_json(tls_group_name(f->group)));
    json_object_set_new(json, "signature", text_json(tls_signature_name(f->signature)));
    json_object_set_new(json, "peer_certificate", certificate_json(f));
    json_object_set_new(json, "peername", address_json(&c->peername));
    json_object_set_new(json, "sockname", address_json(&c->sockname));
    json_object_set_new(json, "proxied_by", address_json(&c->proxied_by));
    json_object_set_new(json, "handshake_ms", json_integer(f->took_ms));
    return json;
}

const char *
connection_state_word(const struct connection *c)
{
    static const char *const words[CONNECTION_STATE_COUNT] = {
        [CONNECTION_NEW] = "waiting",           [CONNECTION_WAITING] = "waiting",
        [CONNECTION_LOADING] = "waiting",       [CONNECTION_DIALLING] = "waiting",
        [CONNECTION_SPAWNING] = "hello",        [CONNECTION_RESPAWNING] = "hello",
        [CONNECTION_HANDSHAKING] = "hello",     [CONNECTION_READY] = "connection",
        [CONNECTION_DELIVERING] = "connection", [CONNECTION_OPEN] = "connection",
        [CONNECTION_CLOSING] = "closing",       [CONNECTION_DYING] = "closing",
        [CONNECTION_ENDED] = "closed",
    };

    return words[c->state];
}

json_t *
connection_row(const struct connection *c)
{
    struct client *client = c->owner != NULL ? owner_client(c->owner) : NULL;
    const struct facts *f = &c->facts;
    uint64_t in = c->in, out = c->out;
    json_t *row = json_object();

    json_object_set_new(row, "conn", json_string(c->handle));
    json_object_set_new(row, "owner",
                        client != NULL ? json_string(client_handle(client)) : json_null());
    json_object_set_new(row, "uid", json_integer(c->uid));
    json_object_set_new(row, "listener",
                        c->listener != NULL ? json_string(listener_handle(c->listener))
                                            : json_null());
    json_object_set_new(row, "service",
                        c->listener != NULL && listener_service(c->listener)[0] != '\0'
                            ? json_string(listener_service(c->listener))
                            : json_null());
    json_object_set_new(row, "role", json_string(c->role == ROLE_SERVER ? "server" : "client"));
    json_object_set_new(row, "state", json_string(connection_state_word(c)));
    json_object_set_new(
        row, "delivery",
        json_string(c->options.delivery == DELIVERY_MESSAGES ? "messages" : "descriptor"));
    json_object_set_new(row, "peername", address_json(&c->peername));
    json_object_set_new(row, "protocol",
                        f->version != 0 ? text_json(tls_version_name(f->version)) : json_null());
    json_object_set_new(row, "sni_hostname", text_json(f->server_name));
    json_object_set_new(row, "alpn", text_json(f->alpn));
    json_object_set_new(row, "pid", c->pid != 0 ? json_integer(c->pid) : json_null());
    json_object_set_new(row, "walls",
                        c->worker != NULL ? walls_json(worker_walls(c->worker)) : json_null());
    if (c->worker != NULL && !c->has_goodbye)
        worker_last_bytes(c->worker, &in, &out);
    json_object_set_new(row, "in", json_integer((json_int_t)in));
    json_object_set_new(row, "out", json_integer((json_int_t)out));
    json_object_set_new(row, "opened", json_integer(c->opened_ms));
    return row;
}
