#include "worker/alerts.h"

#include <stddef.h>

#include <gnutls/gnutls.h>

#include "ipc/suites.h"

enum { NO_ALERT = 256 };

/* RFC 8446 6.2; GnuTLS has no name for all of them. */
enum {
    ALERT_UNEXPECTED_MESSAGE = 10,
    ALERT_BAD_RECORD_MAC = 20,
    ALERT_RECORD_OVERFLOW = 22,
    ALERT_HANDSHAKE_FAILURE = 40,
    ALERT_BAD_CERTIFICATE = 42,
    ALERT_UNSUPPORTED_CERTIFICATE = 43,
    ALERT_CERTIFICATE_REVOKED = 44,
    ALERT_CERTIFICATE_EXPIRED = 45,
    ALERT_ILLEGAL_PARAMETER = 47,
    ALERT_UNKNOWN_CA = 48,
    ALERT_DECODE_ERROR = 50,
    ALERT_DECRYPT_ERROR = 51,
    ALERT_PROTOCOL_VERSION = 70,
    ALERT_INSUFFICIENT_SECURITY = 71,
    ALERT_INTERNAL_ERROR = 80,
    ALERT_INAPPROPRIATE_FALLBACK = 86,
    ALERT_MISSING_EXTENSION = 109,
    ALERT_CERTIFICATE_REQUIRED = 116,
    ALERT_NO_APPLICATION_PROTOCOL = 120,
};

struct row {
    int key;
    unsigned alert;
    const char *cause;
    const char *detail;
};

/* clang-format off */

/* Catalogue 8a and B.10: where GnuTLS' own choice differs from the reference, the reference wins. */
static const struct row code_rows[] = {
    { GNUTLS_E_UNSUPPORTED_VERSION_PACKET, ALERT_PROTOCOL_VERSION, "no_shared_version", "the two sides have no TLS version in common" },
    { GNUTLS_E_NO_CIPHER_SUITES, ALERT_INSUFFICIENT_SECURITY, "no_shared_cipher", "the two sides have no cipher suite in common that fits the certificate" },
    { GNUTLS_E_INSUFFICIENT_SECURITY, ALERT_INSUFFICIENT_SECURITY, "insufficient_security", "the peer's key or parameters are too weak" },
    { GNUTLS_E_DH_PRIME_UNACCEPTABLE, ALERT_INSUFFICIENT_SECURITY, "weak_group", "the peer's Diffie-Hellman group is too weak" },
    { GNUTLS_E_NO_COMMON_KEY_SHARE, ALERT_HANDSHAKE_FAILURE, "no_shared_group", "the two sides have no key exchange group in common" },
    { GNUTLS_E_ECC_NO_SUPPORTED_CURVES, ALERT_HANDSHAKE_FAILURE, "no_shared_group", "the two sides have no key exchange group in common" },
    { GNUTLS_E_ECC_UNSUPPORTED_CURVE, ALERT_HANDSHAKE_FAILURE, "no_shared_group", "the two sides have no key exchange group in common" },
    { GNUTLS_E_UNSUPPORTED_SIGNATURE_ALGORITHM, ALERT_HANDSHAKE_FAILURE, "no_shared_signature", "the two sides have no signature algorithm in common that fits the certificate" },
    { GNUTLS_E_INCOMPATIBLE_SIG_WITH_KEY, ALERT_ILLEGAL_PARAMETER, "no_shared_signature", "the signature algorithm does not fit the key" },
    { GNUTLS_E_NO_APPLICATION_PROTOCOL, ALERT_NO_APPLICATION_PROTOCOL, "no_application_protocol", "the two sides have no application protocol in common" },
    { GNUTLS_E_INAPPROPRIATE_FALLBACK, ALERT_INAPPROPRIATE_FALLBACK, "inappropriate_fallback", "the peer fell back to an older TLS version without need" },
    { GNUTLS_E_SAFE_RENEGOTIATION_FAILED, ALERT_HANDSHAKE_FAILURE, "secure_renegotiation", "the peer does not have secure renegotiation (RFC 5746)" },
    { GNUTLS_E_UNSAFE_RENEGOTIATION_DENIED, ALERT_HANDSHAKE_FAILURE, "secure_renegotiation", "the peer does not have secure renegotiation (RFC 5746)" },
    { GNUTLS_E_UNSUPPORTED_CERTIFICATE_TYPE, ALERT_UNSUPPORTED_CERTIFICATE, "unsupported_certificate", "the peer's certificate is of a kind that is not supported" },
    { GNUTLS_E_KEY_USAGE_VIOLATION, ALERT_UNSUPPORTED_CERTIFICATE, "wrong_key_usage", "the peer's certificate is not meant for this use of its key" },
    { GNUTLS_E_PK_SIG_VERIFY_FAILED, ALERT_DECRYPT_ERROR, "bad_signature", "the peer's signature in the handshake is wrong" },
    { GNUTLS_E_ERROR_IN_FINISHED_PACKET, ALERT_DECRYPT_ERROR, "bad_finished", "the peer's Finished is wrong: the handshake was changed on its way" },
    { GNUTLS_E_PK_DECRYPTION_FAILED, ALERT_DECRYPT_ERROR, "bad_key_exchange", "the peer's key exchange cannot be decrypted" },
    { GNUTLS_E_PK_INVALID_PUBKEY, ALERT_ILLEGAL_PARAMETER, "bad_key_exchange", "the peer's key exchange is not a valid public key" },
    { GNUTLS_E_DECRYPTION_FAILED, ALERT_BAD_RECORD_MAC, "bad_record", "a record cannot be decrypted: it was changed on its way" },
    { GNUTLS_E_RECORD_OVERFLOW, ALERT_RECORD_OVERFLOW, "record_too_large", "a record is larger than TLS allows" },
    { GNUTLS_E_UNEXPECTED_PACKET, ALERT_UNEXPECTED_MESSAGE, "unexpected_message", "the peer sent what is no TLS, or not to be sent now" },
    { GNUTLS_E_UNEXPECTED_HANDSHAKE_PACKET, ALERT_UNEXPECTED_MESSAGE, "unexpected_message", "the peer sent a handshake message that is not to be sent now" },
    { GNUTLS_E_GOT_APPLICATION_DATA, ALERT_UNEXPECTED_MESSAGE, "unexpected_message", "the peer sent application data in the handshake" },
    { GNUTLS_E_REHANDSHAKE, ALERT_UNEXPECTED_MESSAGE, "unexpected_message", "the peer began a second handshake" },
    { GNUTLS_E_TOO_MANY_EMPTY_PACKETS, ALERT_UNEXPECTED_MESSAGE, "too_many_idle_records", "the peer sent too many empty records" },
    { GNUTLS_E_TOO_MANY_HANDSHAKE_PACKETS, ALERT_UNEXPECTED_MESSAGE, "too_many_handshake_messages", "the peer sent too many handshake messages" },
    { GNUTLS_E_HANDSHAKE_TOO_LARGE, ALERT_HANDSHAKE_FAILURE, "handshake_too_large", "the peer's handshake is too large" },
    { GNUTLS_E_UNEXPECTED_PACKET_LENGTH, ALERT_DECODE_ERROR, "malformed", "a message of the peer has a wrong length" },
    { GNUTLS_E_UNEXPECTED_EXTENSIONS_LENGTH, ALERT_DECODE_ERROR, "malformed", "the peer's extensions have a wrong length" },
    { GNUTLS_E_RECEIVED_ILLEGAL_EXTENSION, ALERT_ILLEGAL_PARAMETER, "illegal_extension", "the peer sent an extension that is not to be sent here" },
    { GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER, ALERT_ILLEGAL_PARAMETER, "illegal_parameter", "the peer sent a value that is not allowed" },
    { GNUTLS_E_ILLEGAL_PARAMETER, ALERT_ILLEGAL_PARAMETER, "illegal_parameter", "the peer sent a value that is not allowed" },
    { GNUTLS_E_MISSING_EXTENSION, ALERT_MISSING_EXTENSION, "missing_extension", "the peer left out an extension that it has to send" },
    { GNUTLS_E_UNKNOWN_CIPHER_SUITE, ALERT_ILLEGAL_PARAMETER, "unexpected_cipher", "the peer chose a cipher suite that was not offered" },
    { GNUTLS_E_NO_CERTIFICATE_FOUND, NO_ALERT, "no_certificate", "the peer sent no certificate" },
    { GNUTLS_E_CERTIFICATE_REQUIRED, NO_ALERT, "no_certificate", "the peer sent no certificate" },
    { GNUTLS_E_MEMORY_ERROR, ALERT_INTERNAL_ERROR, "no_memory", "there is not enough memory" },
};

/* The first that is set counts: what is wrong with the path comes before what is wrong with a name. */
static const struct row status_rows[] = {
    { GNUTLS_CERT_REVOKED, ALERT_CERTIFICATE_REVOKED, "revoked", "the peer's certificate is revoked" },
    { GNUTLS_CERT_SIGNER_NOT_FOUND, ALERT_UNKNOWN_CA, "unknown_ca", "the peer's certificate is not signed by an authority that is trusted here" },
    { GNUTLS_CERT_SIGNER_NOT_CA, ALERT_BAD_CERTIFICATE, "issuer_is_no_ca", "the peer's certificate is signed with a certificate that is no authority's" },
    { GNUTLS_CERT_SIGNATURE_FAILURE, ALERT_BAD_CERTIFICATE, "bad_certificate_signature", "a signature in the peer's certificate path is wrong" },
    { GNUTLS_CERT_INSECURE_ALGORITHM, ALERT_BAD_CERTIFICATE, "insecure_algorithm", "the peer's certificate path uses an algorithm that is not secure" },
    { GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE, ALERT_BAD_CERTIFICATE, "constraint_violated", "an authority's certificate does not allow the peer's" },
    { GNUTLS_CERT_PURPOSE_MISMATCH, ALERT_UNSUPPORTED_CERTIFICATE, "wrong_purpose", "the peer's certificate is not meant for this role" },
    { GNUTLS_CERT_UNKNOWN_CRIT_EXTENSIONS, ALERT_UNSUPPORTED_CERTIFICATE, "unknown_critical_extension", "the peer's certificate has a critical extension that is not known" },
    { GNUTLS_CERT_EXPIRED, ALERT_CERTIFICATE_EXPIRED, "expired", "a certificate in the peer's path has expired" },
    { GNUTLS_CERT_NOT_ACTIVATED, ALERT_CERTIFICATE_EXPIRED, "not_yet_valid", "a certificate in the peer's path is not valid yet" },
    { GNUTLS_CERT_UNEXPECTED_OWNER, ALERT_BAD_CERTIFICATE, "hostname_mismatch", "the peer's certificate is for another name" },
    { GNUTLS_CERT_INVALID, ALERT_BAD_CERTIFICATE, "bad_certificate", "the peer's certificate is not valid" },
};

static const struct row records_rows[] = {
    { RECORDS_HANDSHAKE_TOO_LARGE, ALERT_HANDSHAKE_FAILURE, "handshake_too_large", "the peer's handshake is longer than 128 KiB" },
    { RECORDS_MESSAGE_TOO_LARGE, ALERT_HANDSHAKE_FAILURE, "handshake_too_large", "a handshake message of the peer is longer than 64 KiB" },
    { RECORDS_TOO_MANY_IDLE, ALERT_UNEXPECTED_MESSAGE, "too_many_idle_records", "the peer sent too many records that bring nothing on" },
};

static const struct row certificate_rows[] = {
    { CERTIFICATE_MISSING, NO_ALERT, "no_certificate", "the peer sent no certificate" },
    { CERTIFICATE_PATH_TOO_LONG, ALERT_BAD_CERTIFICATE, "path_too_long", "the peer's certificate path has more intermediate certificates than option depth allows" },
    { CERTIFICATE_MALFORMED, ALERT_BAD_CERTIFICATE, "malformed_certificate", "the peer's certificate cannot be decoded" },
};

/* clang-format on */

#define FIND(rows, key_) find(rows, sizeof(rows) / sizeof *(rows), key_)

static const struct row *
find(const struct row *rows, size_t count, int key)
{
    for (size_t i = 0; i < count; i++) {
        if (rows[i].key == key)
            return &rows[i];
    }
    return NULL;
}

static const struct row *
find_status(unsigned status)
{
    for (size_t i = 0; i < sizeof status_rows / sizeof *status_rows; i++) {
        if (status & (unsigned)status_rows[i].key)
            return &status_rows[i];
    }
    return NULL;
}

static struct failure
own_alert(unsigned alert, const char *cause, const char *detail)
{
    return (struct failure){
        .result = RESULT_TLS_ALERT, .alert = alert, .cause = cause, .detail = detail
    };
}

static struct failure
of_row(const struct row *row, bool is_tls13)
{
    unsigned alert = row->alert;

    /* Before TLS 1.3 there is no alert for it (RFC 5246 7.4.6). */
    if (alert == NO_ALERT)
        alert = is_tls13 ? ALERT_CERTIFICATE_REQUIRED : ALERT_HANDSHAKE_FAILURE;
    return own_alert(alert, row->cause, row->detail);
}

static struct failure
of_peer(unsigned alert)
{
    return (struct failure){ .result = RESULT_TLS_ALERT,
                             .alert = alert,
                             .by_peer = true,
                             .cause = tls_alert_name(alert),
                             .detail = "the peer sent a fatal alert" };
}

static struct failure
of_transport(int error)
{
    return (struct failure){ .result = RESULT_POSIX,
                             .error = error,
                             .cause = posix_name(error),
                             .detail = "the connection to the peer broke" };
}

/* GnuTLS has many codes for what cannot be decoded; it knows the alert for each of them. */
static struct failure
of_library(int code)
{
    int level;
    unsigned alert = (unsigned)gnutls_error_to_alert(code, &level);

    return own_alert(alert, alert == ALERT_INTERNAL_ERROR ? "internal" : "malformed",
                     gnutls_strerror(code));
}

/* What our own side knows better than GnuTLS' code says; NULL: nothing. */
static const struct row *
own_knowledge(const struct alerts_question *q)
{
    if (q->records != RECORDS_FINE)
        return FIND(records_rows, (int)q->records);
    if (q->certificate != CERTIFICATE_FINE)
        return FIND(certificate_rows, (int)q->certificate);
    if (q->code == GNUTLS_E_CERTIFICATE_ERROR || q->code == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR)
        return find_status(q->certificate_status);
    return NULL;
}

static struct failure
answer(const struct alerts_question *q)
{
    const struct row *row = own_knowledge(q);

    if (row != NULL)
        return of_row(row, q->is_tls13);
    if (q->keeper_failed)
        return own_alert(ALERT_INTERNAL_ERROR, "keeper", "the private key could not be used");
    if (q->suite_refused)
        return own_alert(ALERT_INSUFFICIENT_SECURITY, "unwanted_cipher",
                         "the cipher suite agreed on is not one of those that were named");
    switch (q->code) {
    case GNUTLS_E_FATAL_ALERT_RECEIVED:
        return of_peer(q->received_alert);
    case GNUTLS_E_DECRYPTION_FAILED:
        /* In TLS 1.3 OpenSSL tells a server without encryption what is wrong with its certificate. */
        if (q->plain_alert != 0)
            return of_peer(q->plain_alert);
        break;
    case GNUTLS_E_PREMATURE_TERMINATION:
    case GNUTLS_E_SESSION_EOF:
        if (q->transport_error != 0)
            return of_transport(q->transport_error);
        return (struct failure){ .result = RESULT_TRUNCATED,
                                 .cause = "truncated",
                                 .detail = "the peer ended the connection without close_notify" };
    case GNUTLS_E_PULL_ERROR:
    case GNUTLS_E_PUSH_ERROR:
        return of_transport(q->transport_error);
    default:
        break;
    }
    row = FIND(code_rows, q->code);
    if (row != NULL)
        return of_row(row, q->is_tls13);
    return of_library(q->code);
}

struct failure
alerts_answer(const struct alerts_question *q)
{
    struct failure f = answer(q);

    /* Whatever GnuTLS found wrong with it. */
    if (q->plain_protocol != NULL && f.result == RESULT_TLS_ALERT && !f.by_peer) {
        f.cause = "not_tls";
        f.detail = q->plain_protocol;
    }
    return f;
}
