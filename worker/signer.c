#include "worker/signer.h"

#include <string.h>

#include "ipc/fd.h"
#include "ipc/log.h"
#include "ipc/mailbox.h"
#include "worker/library.h"

static struct {
    int channel; /* owned; -1: none */
    gnutls_session_t tls;
    enum tls_role role;
    signer_wait_function *wait;
    void *context;
    enum result failure;
    unsigned calls;
} signer = { .channel = -1 };

void
signer_open(int channel, gnutls_session_t tls, enum tls_role role, signer_wait_function *wait,
            void *context)
{
    signer.channel = channel;
    signer.tls = tls;
    signer.role = role;
    signer.wait = wait;
    signer.context = context;
    signer.failure = RESULT_OK;
}

void
signer_close(void)
{
    fd_close(&signer.channel);
    signer.tls = NULL;
    signer.context = NULL;
}

enum result
signer_failure(void)
{
    return signer.failure;
}

unsigned
signer_calls(void)
{
    return signer.calls;
}

bool
signer_content(enum tls_role role, unsigned version, const gnutls_datum_t *data,
               struct bytes *content)
{
    static const char server[] = "TLS 1.3, server CertificateVerify";
    static const char client[] = "TLS 1.3, client CertificateVerify";
    const char *words = role == ROLE_SERVER ? server : client;
    enum { SPACES = 64, PREFIX = SPACES + sizeof server };

    *content = (struct bytes){ data->data, data->size };
    if (version == TLS_1_2)
        return true;
    if (version != TLS_1_3 || data->size <= PREFIX)
        return false;
    for (size_t i = 0; i < SPACES; i++) {
        if (data->data[i] != ' ')
            return false;
    }
    if (memcmp(data->data + SPACES, words, sizeof server) != 0)
        return false;
    content->data += PREFIX;
    content->size -= PREFIX;
    return true;
}

/* Waits for the keeper's answer.  Gives *signature. */
static enum result
receive_signature(gnutls_datum_t *signature)
{
    char buffer[MESSAGE_MAX + 1];
    struct message m;
    enum result result;

    do {
        result = signer.wait(signer.context, signer.channel);
        if (result == RESULT_OK)
            result =
                mailbox_receive(signer.channel, KEEPER_TO_WORKER, buffer, MESSAGE_MAX, &m, NULL);
    } while (result == RESULT_WOULD_BLOCK);
    if (result == RESULT_OK) {
        struct bytes value = m.as.signature.value;

        signature->data = gnutls_malloc(value.size);
        if (signature->data != NULL)
            memcpy(signature->data, value.data, value.size);
        signature->size = (unsigned)value.size;
        result = signature->data != NULL ? RESULT_OK : RESULT_NO_MEMORY;
        message_fini(&m);
    }
    return result;
}

static enum result
ask_keeper(gnutls_sign_algorithm_t algorithm, const gnutls_datum_t *data, gnutls_datum_t *signature)
{
    struct message m;
    enum result result;

    if (signer.channel < 0)
        return RESULT_CHANNEL_CLOSED;
    message_init(&m, MESSAGE_SIGN);
    m.as.sign.scheme = library_scheme(algorithm);
    m.as.sign.version = library_tls_version(gnutls_protocol_get_version(signer.tls));
    if (!signer_content(signer.role, m.as.sign.version, data, &m.as.sign.content))
        return RESULT_REFUSED;
    result = mailbox_send(signer.channel, &m);
    return result == RESULT_OK ? receive_signature(signature) : result;
}

int
signer_sign(signer_library_function *library, gnutls_privkey_t key,
            gnutls_sign_algorithm_t algorithm, unsigned flags, const gnutls_datum_t *data,
            gnutls_datum_t *signature)
{
    signer.calls++;
    if (gnutls_privkey_get_type(key) != GNUTLS_PRIVKEY_EXT)
        return library != NULL ? library(key, algorithm, flags, data, signature)
                               : GNUTLS_E_PK_SIGN_FAILED;
    signer.failure = ask_keeper(algorithm, data, signature);
    if (signer.failure == RESULT_OK)
        return 0;
    log_debug("the keeper did not sign reason=%s", result_name(signer.failure));
    return GNUTLS_E_PK_SIGN_FAILED;
}
