/*
 * The parameter checker: one piece of code that knows no method, driven by the description.
 * Unknown members, wrong types, values out of range and descriptors that are not what they should
 * be are refused by name before a method sees anything; absent members get their defaults.
 */
#ifndef CORDON_MANAGER_PARAMS_H
#define CORDON_MANAGER_PARAMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "manager/description.h"
#include "manager/failure.h"

struct params_source {
    const int *fds; /* borrowed: what came with the request */
    size_t fd_count;
    bool may_name_paths; /* the client is an operator's */
    const char
        *folder; /* relative paths of files are from here, and made absolute; NULL: refused */
};

/*
 * Checks params (an object; borrows it, removes nulls, puts defaults in) against the method.
 * OK; else *f says what is wrong: invalid_params, options, descriptors or not_supported.
 */
MUST_CHECK enum result params_check(const struct method *method, json_t *params,
                                    const struct params_source *source, struct failure *f);

/* The strict base64 of RFC 4648, section 4: how many bytes it stands for; false if it is none. */
bool params_base64_size(const char *text, size_t size, size_t *decoded);

#endif
