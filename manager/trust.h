/*
 * Files of CA certificates, opened by the manager itself: read once, kept in sealed memfds, told
 * apart by their content.  The manager does not parse them; a checker does, before anybody else.
 */
#ifndef CORDON_MANAGER_TRUST_H
#define CORDON_MANAGER_TRUST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "manager/failure.h"
#include "manager/options.h"

struct trust {
    TAILQ_ENTRY(trust) entry;
    uint8_t digest[32]; /* SHA-256 of the content */
    int memfd;          /* sealed; owned */
    bool is_checked;    /* a checker has found nothing wrong with it */
    unsigned references;
};

/* The file that the CAs of options come from; NULL: there is none, or it came as a descriptor. */
const char *trust_path(const struct options *options);

/*
 * Gives *trust, a reference to what file says, or, if it names none, to the system's bundle.
 * OPTIONS: *f says why.  Borrows file.
 */
MUST_CHECK enum result trust_load(const struct option_file *file, struct trust **trust,
                                  struct failure *f);
struct trust *trust_hold(struct trust *t);
void trust_release(struct trust *t); /* NULL is fine */

#endif
