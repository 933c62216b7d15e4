#include "tests/harness/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "tests/harness/certs.h"
#include "tests/harness/harness.h"

enum { ALPN_MAX = 8 };

struct harness_tls {
    int fd;       /* owned */
    bool is_deaf; /* reads nothing */
    gnutls_session_t session;
    gnutls_certificate_credentials_t credentials;
    int last_error;
    int received_alert;
    char alpn[256];
};

/* --- Making --------------------------------------------------------------------------------- */

static int
set_credentials(struct harness_tls *t, const struct harness_tls_options *o)
{
    char name[64];
    int status = gnutls_certificate_allocate_credentials(&t->credentials);

    if (status >= 0 && o->trust != NULL)
        status =
            gnutls_certificate_set_x509_trust_file(t->credentials, o->trust, GNUTLS_X509_FMT_PEM);
    if (status >= 0 && o->identity != NULL) {
        snprintf(name, sizeof(name), "%s.both.pem", o->identity);
        status = gnutls_certificate_set_x509_key_file2(
            t->credentials, harness_cert(name), harness_cert(name), GNUTLS_X509_FMT_PEM, NULL, 0);
    }
    if (status >= 0)
        status = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, t->credentials);
    return status;
}

static int
set_alpn(struct harness_tls *t, const char *protocols)
{
    gnutls_datum_t datums[ALPN_MAX];
    unsigned count = 0;
    char *text = strdup(protocols), *rest = NULL;
    int status;

    for (char *word = strtok_r(text, ",", &rest); word != NULL && count < ALPN_MAX;
         word = strtok_r(NULL, ",", &rest))
        datums[count++] = (gnutls_datum_t){ (unsigned char *)word, (unsigned)strlen(word) };
    status = gnutls_alpn_set_protocols(t->session, datums, count, 0);
    free(text);
    return status;
}

static ssize_t
pull(gnutls_transport_ptr_t ptr, void *bytes, size_t size)
{
    struct harness_tls *t = ptr;

    if (t->is_deaf) {
        errno = EAGAIN;
        return -1;
    }
    return recv(t->fd, bytes, size, 0);
}

static int
pull_timeout(gnutls_transport_ptr_t ptr, unsigned ms)
{
    struct harness_tls *t = ptr;
    struct pollfd ready = { t->fd, POLLIN, 0 };

    return t->is_deaf ? 0 : poll(&ready, 1, (int)ms);
}

static ssize_t
push(gnutls_transport_ptr_t ptr, const void *bytes, size_t size)
{
    struct harness_tls *t = ptr;

    return send(t->fd, bytes, size, MSG_NOSIGNAL);
}

static int
set_up(struct harness_tls *t, const struct harness_tls_options *o)
{
    unsigned flags = (o->is_server ? GNUTLS_SERVER : GNUTLS_CLIENT) | GNUTLS_NONBLOCK |
                     GNUTLS_NO_SIGNAL;
    int status, one = 1;

    /* Its certificate, also when the server names no authority that signed it. */
    if (!o->is_server)
        flags |= GNUTLS_FORCE_CLIENT_CERT;
    status = gnutls_init(&t->session, flags);

    if (status >= 0)
        status = gnutls_priority_set_direct(t->session,
                                            o->priority != NULL ? o->priority : "NORMAL", NULL);
    if (status >= 0)
        status = set_credentials(t, o);
    if (status >= 0 && o->alpn != NULL)
        status = set_alpn(t, o->alpn);
    if (status >= 0 && o->name != NULL && !o->is_server)
        status = gnutls_server_name_set(t->session, GNUTLS_NAME_DNS, o->name, strlen(o->name));
    if (status < 0)
        return status;
    if (o->is_server && o->request_client_certificate)
        gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_REQUIRE);
    if (o->trust != NULL)
        gnutls_session_set_verify_cert(t->session, o->name, 0);
    /* Small records that wait for an acknowledgement (RFC 896) would be all that a test measures.  A Unix
     * socket refuses, and does not wait. */
    (void)setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    gnutls_transport_set_ptr(t->session, t);
    gnutls_transport_set_pull_function(t->session, pull);
    gnutls_transport_set_pull_timeout_function(t->session, pull_timeout);
    gnutls_transport_set_push_function(t->session, push);
    return 0;
}

struct harness_tls *
harness_tls_new(int fd, const struct harness_tls_options *options)
{
    struct harness_tls *t = calloc(1, sizeof(*t));

    if (t == NULL) {
        fd_close(&fd);
        return NULL;
    }
    t->fd = fd;
    t->received_alert = -1;
    if (fd < 0 || fd_set_nonblocking(fd) != RESULT_OK || (t->last_error = set_up(t, options)) < 0) {
        fprintf(stderr, "a TLS peer: %s\n", harness_tls_error(t));
        harness_tls_free(t);
        return NULL;
    }
    return t;
}

void
harness_tls_free(struct harness_tls *t)
{
    if (t == NULL)
        return;
    if (t->session != NULL)
        gnutls_deinit(t->session);
    if (t->credentials != NULL)
        gnutls_certificate_free_credentials(t->credentials);
    fd_close(&t->fd);
    free(t);
}

int
harness_tls_fd(const struct harness_tls *t)
{
    return t->fd;
}

short
harness_tls_events(const struct harness_tls *t)
{
    return gnutls_record_get_direction(t->session) == 1 ? POLLOUT : POLLIN;
}

/* --- Steps ---------------------------------------------------------------------------------- */

static enum harness_tls_step
step_of(struct harness_tls *t, ssize_t status)
{
    if (status > 0)
        return HARNESS_TLS_DONE;
    if (status == GNUTLS_E_AGAIN || status == GNUTLS_E_INTERRUPTED)
        return HARNESS_TLS_AGAIN;
    t->last_error = (int)status;
    if (status == GNUTLS_E_FATAL_ALERT_RECEIVED || status == GNUTLS_E_WARNING_ALERT_RECEIVED)
        t->received_alert = (int)gnutls_alert_get(t->session);
    return gnutls_error_is_fatal((int)status) ? HARNESS_TLS_FAILED : HARNESS_TLS_AGAIN;
}

enum harness_tls_step
harness_tls_handshake_step(struct harness_tls *t)
{
    int status = gnutls_handshake(t->session);
    enum harness_tls_step step;

    if (status == GNUTLS_E_SUCCESS)
        return HARNESS_TLS_DONE;
    step = step_of(t, status);
    if (step == HARNESS_TLS_FAILED && t->received_alert < 0)
        (void)gnutls_alert_send_appropriate(t->session, status);
    return step;
}

enum harness_tls_step
harness_tls_say_hello(struct harness_tls *t)
{
    enum harness_tls_step step;

    t->is_deaf = true;
    step = harness_tls_handshake_step(t);
    t->is_deaf = false;
    return step;
}

enum harness_tls_step
harness_tls_read_step(struct harness_tls *t, void *bytes, size_t *size)
{
    ssize_t status = gnutls_record_recv(t->session, bytes, *size);

    *size = status > 0 ? (size_t)status : 0;
    return status == 0 ? HARNESS_TLS_END : step_of(t, status);
}

enum harness_tls_step
harness_tls_write_step(struct harness_tls *t, const void *bytes, size_t *size)
{
    ssize_t status = gnutls_record_send(t->session, bytes, *size);

    *size = status > 0 ? (size_t)status : 0;
    return step_of(t, status);
}

/* --- To the end ----------------------------------------------------------------------------- */

static bool
wait_for(struct harness_tls *t, int64_t deadline_ms)
{
    return harness_wait_fd(t->fd, harness_tls_events(t), deadline_ms);
}

bool
harness_tls_handshake(struct harness_tls *t, int64_t deadline_ms)
{
    enum harness_tls_step step;

    while ((step = harness_tls_handshake_step(t)) == HARNESS_TLS_AGAIN) {
        if (!wait_for(t, deadline_ms))
            return false;
    }
    return step == HARNESS_TLS_DONE;
}

bool
harness_tls_write(struct harness_tls *t, const void *bytes, size_t size, int64_t deadline_ms)
{
    const uint8_t *at = bytes;

    while (size > 0) {
        size_t sent = size;
        enum harness_tls_step step = harness_tls_write_step(t, at, &sent);

        at += sent;
        size -= sent;
        if (step == HARNESS_TLS_FAILED || (step == HARNESS_TLS_AGAIN && !wait_for(t, deadline_ms)))
            return false;
    }
    return true;
}

bool
harness_tls_read(struct harness_tls *t, void *bytes, size_t size, int64_t deadline_ms)
{
    uint8_t *at = bytes;

    while (size > 0) {
        size_t got = size;
        enum harness_tls_step step = harness_tls_read_step(t, at, &got);

        at += got;
        size -= got;
        if (step == HARNESS_TLS_FAILED || step == HARNESS_TLS_END ||
            (step == HARNESS_TLS_AGAIN && !wait_for(t, deadline_ms)))
            return false;
    }
    return true;
}

bool
harness_tls_read_end(struct harness_tls *t, int64_t deadline_ms)
{
    enum harness_tls_step step;
    char byte;
    size_t size;

    do {
        size = 1;
        step = harness_tls_read_step(t, &byte, &size);
    } while (step == HARNESS_TLS_AGAIN && wait_for(t, deadline_ms));
    return step == HARNESS_TLS_END;
}

bool
harness_tls_bye(struct harness_tls *t, int64_t deadline_ms)
{
    int status;

    while ((status = gnutls_bye(t->session, GNUTLS_SHUT_WR)) == GNUTLS_E_AGAIN) {
        if (!wait_for(t, deadline_ms))
            return false;
    }
    return status == GNUTLS_E_SUCCESS;
}

bool
harness_tls_send_alert(struct harness_tls *t, int description)
{
    return gnutls_alert_send(t->session, GNUTLS_AL_FATAL,
                             (gnutls_alert_description_t)description) == GNUTLS_E_SUCCESS;
}

/* --- Facts ---------------------------------------------------------------------------------- */

const char *
harness_tls_error(const struct harness_tls *t)
{
    return gnutls_strerror(t->last_error);
}

int
harness_tls_received_alert(const struct harness_tls *t)
{
    return t->received_alert;
}

const char *
harness_tls_version(const struct harness_tls *t)
{
    return gnutls_protocol_get_name(gnutls_protocol_get_version(t->session));
}

const char *
harness_tls_peer_key(const struct harness_tls *t)
{
    const gnutls_datum_t *der = gnutls_certificate_get_peers(t->session, NULL);
    const char *name = NULL;
    gnutls_x509_crt_t certificate;

    if (der == NULL || gnutls_x509_crt_init(&certificate) < 0)
        return NULL;
    if (gnutls_x509_crt_import(certificate, der, GNUTLS_X509_FMT_DER) >= 0)
        name = gnutls_pk_get_name(
            (gnutls_pk_algorithm_t)gnutls_x509_crt_get_pk_algorithm(certificate, NULL));
    gnutls_x509_crt_deinit(certificate);
    return name;
}

uint32_t
harness_tls_peer_serial(const struct harness_tls *t)
{
    const gnutls_datum_t *der = gnutls_certificate_get_peers(t->session, NULL);
    uint8_t serial[64];
    size_t size = sizeof(serial);
    gnutls_x509_crt_t certificate;
    uint32_t number = 0;

    if (der == NULL || gnutls_x509_crt_init(&certificate) < 0)
        return 0;
    if (gnutls_x509_crt_import(certificate, der, GNUTLS_X509_FMT_DER) >= 0 &&
        gnutls_x509_crt_get_serial(certificate, serial, &size) >= 0) {
        for (size_t i = 0; i < size; i++)
            number = number << 8 | serial[i];
    }
    gnutls_x509_crt_deinit(certificate);
    return number;
}

const char *
harness_tls_alpn(struct harness_tls *t)
{
    gnutls_datum_t protocol;

    if (gnutls_alpn_get_selected_protocol(t->session, &protocol) < 0)
        return NULL;
    snprintf(t->alpn, sizeof(t->alpn), "%.*s", (int)protocol.size, (const char *)protocol.data);
    return t->alpn;
}
