#include "manager/hints.h"

#include <stddef.h>
#include <string.h>

enum who_is_hinted { AS_SERVER, AS_CLIENT, AS_EITHER };

struct hint {
    const char *word;
    enum who_is_hinted role; /* ours */
    const char *text;
};

/* clang-format off */

/* We refused the peer: by the cause. */
static const struct hint ours[] = {
    { "not_tls", AS_EITHER, "Something else than TLS is spoken here: use the right port or scheme (https://), or start TLS where the protocol allows it (STARTTLS)." },
    { "no_shared_version", AS_EITHER, "Both sides must have a TLS version in common: see option versions; a peer with nothing above TLS 1.1 must be updated." },
    { "no_shared_cipher", AS_EITHER, "Both sides must have a cipher suite in common that fits the key (RSA or ECDSA): see option ciphers and the kind of key in certfile." },
    { "unwanted_cipher", AS_EITHER, "The suite agreed on is not among those named: widen option ciphers." },
    { "unexpected_cipher", AS_EITHER, "The peer chose a suite that was not offered: it is broken, or something between rewrites TLS." },
    { "no_shared_group", AS_EITHER, "Both sides must have a key exchange group in common (x25519, secp256r1): the peer is old, or restricted." },
    { "no_shared_signature", AS_EITHER, "The peer cannot check signatures of this kind of key: an ECDSA P-256 or RSA-2048 certificate suits everybody." },
    { "no_application_protocol", AS_EITHER, "Both sides must have an ALPN protocol in common: see option alpn, and alpn in this line for what was offered." },
    { "insufficient_security", AS_EITHER, "The peer's key or parameters are too weak (RSA below 2048 bits, SHA-1): it needs a new certificate." },
    { "weak_group", AS_EITHER, "The peer's Diffie-Hellman group is too small: it must be configured anew." },
    { "insecure_algorithm", AS_EITHER, "The peer's certificates use an algorithm that is broken (SHA-1, MD5): they must be issued anew." },
    { "secure_renegotiation", AS_EITHER, "The peer lacks RFC 5746 and must be updated." },
    { "inappropriate_fallback", AS_EITHER, "The peer tried again with an older version: something between them breaks TLS, or an earlier attempt failed; look for that one." },
    { "unknown_ca", AS_SERVER, "Name the CA that issued the client's certificate in cacertfile; the client must send its intermediate certificates." },
    { "unknown_ca", AS_CLIENT, "Name the CA that issued the server's certificate in cacertfile; the server must send its intermediate certificates." },
    { "expired", AS_EITHER, "The certificate has expired: its owner must renew it; if it is fresh, check this machine's clock." },
    { "not_yet_valid", AS_EITHER, "The certificate is not valid yet: check the clocks of both machines." },
    { "hostname_mismatch", AS_EITHER, "The certificate is for another name: connect to a name in it, or give verify_hostname." },
    { "no_certificate", AS_SERVER, "The client sent no certificate: give it one that a CA in cacertfile has issued, or set fail_if_no_peer_cert to false." },
    { "no_certificate", AS_CLIENT, "The server sent no certificate: it has none for this name." },
    { "revoked", AS_EITHER, "The certificate was revoked: its owner needs a new one." },
    { "issuer_is_no_ca", AS_EITHER, "The certificate was issued by one that is no CA: the chain was put together wrong." },
    { "bad_certificate_signature", AS_EITHER, "A signature in the chain is wrong: the intermediate certificate is not the one that issued it." },
    { "constraint_violated", AS_EITHER, "A CA in the chain may not issue certificates for this name or use: it must be issued by another." },
    { "path_too_long", AS_EITHER, "More intermediate certificates than option depth allows: raise depth if that is meant." },
    { "wrong_purpose", AS_SERVER, "The certificate lacks the extended key usage clientAuth: issue one for clients." },
    { "wrong_purpose", AS_CLIENT, "The certificate lacks the extended key usage serverAuth: the server needs one for servers." },
    { "wrong_key_usage", AS_EITHER, "The certificate's key usage lacks digitalSignature: it must be issued anew." },
    { "unknown_critical_extension", AS_EITHER, "The certificate has a critical extension that nobody here knows: it must be issued without." },
    { "unsupported_certificate", AS_EITHER, "Only X.509 certificates with RSA, ECDSA or Ed25519 keys are taken." },
    { "malformed_certificate", AS_EITHER, "The certificate is damaged: it must be issued or exported anew." },
    { "bad_certificate", AS_EITHER, "The certificate is not valid: look at it with openssl x509 -text." },
    { "bad_signature", AS_EITHER, "The peer signed with another key than its certificate's: its certificate and key files do not belong together." },
    { "keeper", AS_EITHER, "Our private key could not be used: the keeper's line above says why." },
    { "bad_finished", AS_EITHER, "Something between the two changes the handshake: look for a middlebox, or a broken peer." },
    { "bad_record", AS_EITHER, "Something between the two changes bytes: look for a middlebox, or a broken peer." },
    { "bad_key_exchange", AS_EITHER, "The peer's key share is wrong: it is broken, or an attack." },
    { "no_memory", AS_EITHER, "This machine is out of memory, or a worker's limit is reached." },
    { "internal", AS_EITHER, "This is a fault of ours: please report it with this line." },
    { "handshake_too_large", AS_EITHER, "The peer sends more than a handshake needs: its certificate chain is huge, or it is an attack." },
    { "too_many_idle_records", AS_EITHER, "The peer keeps us busy with nothing: it is broken, or an attack." },
    { "too_many_handshake_messages", AS_EITHER, "The peer keeps us busy with nothing: it is broken, or an attack." },
    { "unexpected_message", AS_EITHER, "The peer does not speak TLS, or not correctly: check that it means this port." },
    { "record_too_large", AS_EITHER, "The peer does not speak TLS, or not correctly: check that it means this port." },
    { "malformed", AS_EITHER, "The peer does not speak TLS, or not correctly: check that it means this port." },
    { "illegal_extension", AS_EITHER, "The peer's TLS is broken: update it." },
    { "illegal_parameter", AS_EITHER, "The peer's TLS is broken: update it." },
    { "missing_extension", AS_EITHER, "The peer's TLS is broken: update it." },
    { NULL, AS_EITHER, NULL },
};

/* The peer refused us: by the alert. */
static const struct hint theirs[] = {
    { "unknown_ca", AS_SERVER, "The client does not trust our certificate: is the intermediate certificate in certfile, and our CA installed at the client?" },
    { "unknown_ca", AS_CLIENT, "The server does not trust our certificate: is the intermediate certificate in certfile, and is it of the CA that the server names?" },
    { "bad_certificate", AS_SERVER, "The client does not accept our certificate: is it for the name that the client used, and complete with its intermediate one?" },
    { "bad_certificate", AS_CLIENT, "The server does not accept our certificate, or there was none: give certfile and keyfile, and look at the server's log." },
    { "certificate_unknown", AS_SERVER, "The client does not accept our certificate (browsers say so for any reason): is it for this name, valid, of a CA it trusts, with its intermediate one?" },
    { "certificate_unknown", AS_CLIENT, "The server does not accept our certificate: its log says why." },
    { "certificate_expired", AS_EITHER, "Our certificate has expired, or the peer's clock is wrong: renew certfile." },
    { "certificate_revoked", AS_EITHER, "Our certificate was revoked: put a new one in certfile." },
    { "unsupported_certificate", AS_EITHER, "Our certificate is of a kind or for a use that the peer does not accept: look at its key and extended key usage." },
    { "certificate_required", AS_CLIENT, "The server wants a client certificate: give certfile and keyfile." },
    { "no_certificate", AS_CLIENT, "The server wants a client certificate: give certfile and keyfile." },
    { "handshake_failure", AS_SERVER, "The client found nothing in common with us: see versions, ciphers, and the kind of key in certfile." },
    { "handshake_failure", AS_CLIENT, "The server found nothing in common with us (see versions, ciphers), has no certificate for this name, or wants a client certificate." },
    { "protocol_version", AS_EITHER, "The peer has none of our TLS versions: see option versions; it may be old." },
    { "insufficient_security", AS_EITHER, "The peer wants stronger ciphers than we offer: see option ciphers." },
    { "no_application_protocol", AS_EITHER, "The peer has none of our ALPN protocols: see option alpn." },
    { "unrecognized_name", AS_CLIENT, "The server does not know this name: check host and server_name_indication." },
    { "access_denied", AS_EITHER, "Our certificate is valid, but the peer does not let its owner in: ask its operator." },
    { "unknown_psk_identity", AS_EITHER, "The peer does not know this key: pre-shared keys are not used here." },
    { "decrypt_error", AS_EITHER, "The peer could not check our signature: do certfile and keyfile belong together? Otherwise something between changes bytes." },
    { "bad_record_mac", AS_EITHER, "Something between the two changes bytes: look for a middlebox, or a broken peer." },
    { "decryption_failed", AS_EITHER, "Something between the two changes bytes: look for a middlebox, or a broken peer." },
    { "inappropriate_fallback", AS_EITHER, "The peer saw a fallback to an older version: an earlier attempt failed; look for that one." },
    { "user_canceled", AS_EITHER, "The peer's user gave up." },
    { "close_notify", AS_EITHER, "The peer gave up before TLS was agreed: its own log may say why." },
    { "internal_error", AS_EITHER, "The peer has a fault of its own: look at its log." },
    { NULL, AS_EITHER, "The peer ended it: its own log says why." },
};

/* clang-format on */

static const char *
find(const struct hint *hints, const char *word, enum tls_role role)
{
    enum who_is_hinted self = role == ROLE_SERVER ? AS_SERVER : AS_CLIENT;
    const struct hint *h;

    for (h = hints; h->word != NULL; h++) {
        if (strcmp(h->word, word) == 0 && (h->role == AS_EITHER || h->role == self))
            return h->text;
    }
    return h->text;
}

const char *
hint_for_alert(const char *alert, const char *cause, bool by_peer, enum tls_role role)
{
    return by_peer ? find(theirs, alert, role) : find(ours, cause, role);
}

const char *
hint_for_reason(enum result reason, enum tls_role role)
{
    switch (reason) {
    case RESULT_TIMEOUT:
        return role == ROLE_SERVER
                   ? "The client said nothing, or not enough, in time: a port scan or a health check "
                     "does that, and a client that waits for the server to speak first."
                   : "The server did not answer in time: is it a TLS port, and does it not wait for "
                     "STARTTLS?";
    case RESULT_CLOSED:
        return role == ROLE_SERVER
                   ? "The client hung up before TLS was agreed: a port scan or a health check does "
                     "that; otherwise the client's log says why."
                   : "The server hung up before TLS was agreed: is it a TLS port? Its log says why.";
    case RESULT_POSIX:
        return "The network or the peer broke the connection; if it happens often, look for a "
               "firewall or a full table between the two.";
    case RESULT_WORKER_DIED:
        return "The connection's process died: nothing else is touched. Report it with this line; "
               "SIGKILL may be the administrator's or the kernel's, for lack of memory.";
    default:
        return NULL;
    }
}
