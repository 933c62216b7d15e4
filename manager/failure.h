/*
 * Why a request failed, as the client is told: a reason from ipc/results.def, a sentence that says
 * what to do, and the fields that api/cordon.api.json gives to that reason.
 */
#ifndef CORDON_MANAGER_FAILURE_H
#define CORDON_MANAGER_FAILURE_H

#include <jansson.h>

#include "ipc/result.h"

struct failure {
    enum result reason;
    json_t *fields;    /* owned; NULL or an object: data without `reason` */
    char message[512]; /* empty: the reason's own sentence */
};

/* fields: as json_pack says, with arguments behind it, or NULL.  Fills *f (owns what it packs). */
void failure_set(struct failure *f, enum result reason, const char *message, const char *fields,
                 ...);

/* The shorthands that most callers need; message is made for people. */
void failure_posix(struct failure *f, int error, const char *what);
void failure_option(struct failure *f, const char *option, const json_t *value, const char *why);
void failure_param(struct failure *f, const char *param, const char *why);
void failure_bad_state(struct failure *f, const char *state, const char *allowed, ...)
    __attribute__((sentinel));
void failure_limit(struct failure *f, const char *which, long long max);
void failure_not_supported(struct failure *f, const char *what, const char *why,
                           const char *instead);

/* Puts text in front of the message, as printf. */
void failure_prefix(struct failure *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The JSON-RPC error object {code, message, data: {reason, …}}.  Gives it; borrows f. */
json_t *failure_json(const struct failure *f);

void failure_fini(struct failure *f);

#endif
