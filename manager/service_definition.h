/*
 * What a service says: checked as the parameters of cordon.service_add are, compared, and named in
 * what is wrong with it.
 */
#ifndef CORDON_MANAGER_SERVICE_DEFINITION_H
#define CORDON_MANAGER_SERVICE_DEFINITION_H

#include <jansson.h>
#include <stdbool.h>

#include "manager/failure.h"

enum { SERVICE_NAME_MAX = 64 };

/* False: *f says what a name may be. */
bool service_check_name(const char *name, struct failure *f);

/* What two services are compared by: no secrets are in it.  Gives. */
json_t *service_definition(const json_t *params);

/* Turns "option certfile" of a service in the configuration file into "services.web.options.certfile". */
void service_name_fault(struct failure *f, const char *name, const json_t *params);

/*
 * Checks the value of the key `services`; relative paths are from folder (NULL: refused).  Gives
 * *checked: by name, as cordon.service_add takes them.  False: *f says where and what.
 */
bool services_check(json_t **checked, json_t *services, const char *folder, struct failure *f);

#endif
