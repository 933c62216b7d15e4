/*
 * Services: listeners with a name that the manager itself owns, so that no program need be written.
 *
 * They come from the configuration file, and while Cordon runs from cordon.service_add.  A service keeps
 * its socket for as long as its address stays the same, whatever else changes, be it its name.
 */
#ifndef CORDON_MANAGER_SERVICES_H
#define CORDON_MANAGER_SERVICES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "manager/failure.h"

struct change;

struct services_counts {
    unsigned added, removed, changed;
};

/*
 * Puts into c what makes the services of the configuration file those in checked (borrowed), at most
 * so many listeners in all; sockets are bound now.  Those of cordon.service_add read their files
 * again.  counts is borrowed until c is over.  False: *f says why; the change is to be freed.
 */
bool services_change(struct change *c, const json_t *checked, size_t listeners_max,
                     struct services_counts *counts, struct failure *f);

/* Behind change_commit: those of the file that are not in checked stop listening. */
void services_drop_others(const json_t *checked, struct services_counts *counts);

#endif
