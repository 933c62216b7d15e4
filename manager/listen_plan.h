/*
 * What ssl.listen, cordon.service_add and a service of the configuration file say in the same words:
 * read and checked, not yet listening.
 */
#ifndef CORDON_MANAGER_LISTEN_PLAN_H
#define CORDON_MANAGER_LISTEN_PLAN_H

#include "manager/deliver.h"
#include "manager/options.h"

struct listen_plan {
    struct options options;  /* owned */
    struct deliver *deliver; /* a reference; NULL: the owner gets the plaintext */
    bool is_auto;
    unsigned handshakes_max, accept_queue;
};

/* params have been checked against the description; r is whose they are, NULL: the configuration
 * file's.  On failure *f says why and *out is empty. */
MUST_CHECK enum result listen_plan_read(struct listen_plan *out, const json_t *params,
                                        struct request *r, struct failure *f);
void listen_plan_fini(struct listen_plan *p);

#endif
