/*
 * Why TLS failed: from GnuTLS' code, the verdict on a certificate and our own
 * limits to one reason, one alert and one cause.  This is the only place where
 * GnuTLS' error codes are translated.
 */
#ifndef CORDON_WORKER_ALERTS_H
#define CORDON_WORKER_ALERTS_H

#include <stdbool.h>

#include "ipc/result.h"
#include "worker/records.h"

/* What is wrong with the peer's certificate, beyond GnuTLS' status bits. */
enum certificate_fault {
    CERTIFICATE_FINE,
    CERTIFICATE_MISSING,
    CERTIFICATE_PATH_TOO_LONG,
    CERTIFICATE_MALFORMED,
};

/* What is known when a step of a session failed. */
struct alerts_question {
    int code;                    /* GnuTLS' */
    unsigned received_alert;     /* with a received alert */
    unsigned certificate_status; /* GNUTLS_CERT_...; 0: fine or not checked */
    enum certificate_fault certificate;
    enum records_fault records;
    const char *plain_protocol; /* what it speaks instead of TLS, if that is known; NULL */
    int transport_error; /* errno, 0: none */
    unsigned plain_alert; /* sent without encryption; 0: none */
    bool keeper_failed;  /* the private key could not be used */
    bool suite_refused;  /* the library chose a suite that was not asked for */
    bool is_tls13;
};

/* The one answer. */
struct failure {
    enum result result; /* TLS_ALERT, CLOSED, TRUNCATED, POSIX, TIMEOUT, TLS_BROKEN */
    int error;          /* errno, with POSIX */
    unsigned alert;     /* with TLS_ALERT */
    bool by_peer;       /* the peer sent it; otherwise we have to */
    const char *cause;  /* a word; constant */
    const char *detail; /* a sentence for people; constant, or of the session */
};

struct failure alerts_answer(const struct alerts_question *q);

#endif
