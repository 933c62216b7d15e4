#include "worker/selftest.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include "worker/signer.h"

enum { PIPE_SIZE = 16384, MAX_TURNS = 20 };

/* One direction between the two sessions. */
struct pipe {
    uint8_t bytes[PIPE_SIZE];
    size_t start, end;
};

struct side {
    gnutls_session_t tls;
    struct pipe *in, *out;
};

static ssize_t
on_push(gnutls_transport_ptr_t ptr, const void *bytes, size_t size)
{
    struct pipe *pipe = ((struct side *)ptr)->out;

    if (size > sizeof pipe->bytes - pipe->end) {
        errno = ENOBUFS;
        return -1;
    }
    memcpy(pipe->bytes + pipe->end, bytes, size);
    pipe->end += size;
    return (ssize_t)size;
}

static ssize_t
on_pull(gnutls_transport_ptr_t ptr, void *bytes, size_t size)
{
    struct pipe *pipe = ((struct side *)ptr)->in;

    if (size > pipe->end - pipe->start)
        size = pipe->end - pipe->start;
    if (size == 0) {
        errno = EAGAIN;
        return -1;
    }
    memcpy(bytes, pipe->bytes + pipe->start, size);
    pipe->start += size;
    return (ssize_t)size;
}

static int
on_pull_timeout(gnutls_transport_ptr_t ptr, unsigned timeout_ms)
{
    struct pipe *pipe = ((struct side *)ptr)->in;

    (void)timeout_ms;
    return pipe->end > pipe->start;
}

static bool
side_init(struct side *side, unsigned flags, const char *priority,
          gnutls_certificate_credentials_t credentials)
{
    if (gnutls_init(&side->tls, flags | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS) < 0)
        return false;
    gnutls_transport_set_ptr(side->tls, side);
    gnutls_transport_set_push_function(side->tls, on_push);
    gnutls_transport_set_pull_function(side->tls, on_pull);
    gnutls_transport_set_pull_timeout_function(side->tls, on_pull_timeout);
    gnutls_certificate_server_set_request(side->tls, GNUTLS_CERT_REQUEST);
    return gnutls_priority_set_direct(side->tls, priority, NULL) >= 0 &&
           gnutls_credentials_set(side->tls, GNUTLS_CRD_CERTIFICATE, credentials) >= 0;
}

static bool
shake_hands(struct side *client, struct side *server)
{
    int client_code = GNUTLS_E_AGAIN;
    int server_code = GNUTLS_E_AGAIN;

    for (int i = 0; i < MAX_TURNS && (client_code != 0 || server_code != 0); i++) {
        if (client_code != 0)
            client_code = gnutls_handshake(client->tls);
        if (server_code != 0)
            server_code = gnutls_handshake(server->tls);
        if (gnutls_error_is_fatal(client_code) || gnutls_error_is_fatal(server_code))
            return false;
    }
    return client_code == 0 && server_code == 0;
}

/* Both sides sign once. */
static enum result
try_priority(const char *priority, gnutls_certificate_credentials_t credentials, const char **why)
{
    static struct pipe up, down;
    struct side client = { .in = &down, .out = &up };
    struct side server = { .in = &up, .out = &down };
    unsigned before = signer_calls();
    enum result result = RESULT_TLS_BROKEN;

    memset(&up, 0, sizeof up);
    memset(&down, 0, sizeof down);
    *why = "a handshake with itself failed";
    if (side_init(&server, GNUTLS_SERVER, priority, credentials) &&
        side_init(&client, GNUTLS_CLIENT, priority, credentials) && shake_hands(&client, &server)) {
        *why = "the TLS library does not ask our signer";
        if (signer_calls() == before + 2)
            result = RESULT_OK;
    }
    if (client.tls != NULL)
        gnutls_deinit(client.tls);
    if (server.tls != NULL)
        gnutls_deinit(server.tls);
    return result;
}

static bool
make_certificate(gnutls_x509_crt_t certificate, gnutls_x509_privkey_t key)
{
    static const uint8_t serial[] = { 1 };
    time_t now = time(NULL);

    return gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                        GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) >= 0 &&
           gnutls_x509_crt_set_version(certificate, 3) >= 0 &&
           gnutls_x509_crt_set_serial(certificate, serial, sizeof serial) >= 0 &&
           gnutls_x509_crt_set_activation_time(certificate, now - 86400) >= 0 &&
           gnutls_x509_crt_set_expiration_time(certificate, now + 86400) >= 0 &&
           gnutls_x509_crt_set_dn(certificate, "CN=self-test", NULL) >= 0 &&
           gnutls_x509_crt_set_key(certificate, key) >= 0 &&
           gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256, 0) >= 0;
}

static enum result
fill_credentials(gnutls_certificate_credentials_t credentials, gnutls_x509_crt_t certificate,
                 gnutls_x509_privkey_t key, const char **why)
{
    *why = "no certificate could be made";
    if (!make_certificate(certificate, key) ||
        gnutls_certificate_set_x509_key(credentials, &certificate, 1, key) < 0)
        return RESULT_TLS_BROKEN;
    return RESULT_OK;
}

enum result
selftest_credentials(gnutls_certificate_credentials_t *out, const char **why)
{
    gnutls_certificate_credentials_t credentials = NULL;
    gnutls_x509_crt_t certificate = NULL;
    gnutls_x509_privkey_t key = NULL;
    enum result result = RESULT_TLS_BROKEN;

    *why = "there is not enough memory";
    if (gnutls_certificate_allocate_credentials(&credentials) >= 0 &&
        gnutls_x509_crt_init(&certificate) >= 0 && gnutls_x509_privkey_init(&key) >= 0)
        result = fill_credentials(credentials, certificate, key, why);
    gnutls_x509_privkey_deinit(key);
    gnutls_x509_crt_deinit(certificate);
    if (result == RESULT_OK)
        *out = credentials;
    else
        gnutls_certificate_free_credentials(credentials);
    return result;
}

enum result
selftest_run(gnutls_certificate_credentials_t credentials, const char **why)
{
    enum result result = try_priority("NORMAL:-VERS-ALL:+VERS-TLS1.2", credentials, why);

    if (result == RESULT_OK)
        result = try_priority("NORMAL:-VERS-ALL:+VERS-TLS1.3", credentials, why);
    return result;
}
