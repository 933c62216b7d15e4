/*
 * The description of the control API (api/cordon.api.json, part of the program), made ready for
 * looking things up: methods by name and alias, types with the fields they include.
 *
 * It is our own text, so a fault in it is our own mistake: description_open
 * finds it at start, and the lookups assert.
 */
#ifndef CORDON_MANAGER_DESCRIPTION_H
#define CORDON_MANAGER_DESCRIPTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum role { ROLE_ANY, ROLE_OWNER, ROLE_ADMINISTRATOR };

struct method {
    const char *name; /* not an alias */
    size_t number;    /* from 0, in the order of the description */
    enum role role;
    const json_t *params;      /* shapes by name */
    const json_t *exactly_one; /* NULL or an array of groups */
    size_t fds_max;            /* descriptors that may come with it */
};

/* Reads a description; false: why says what is wrong with it. */
bool description_open(const char *text, size_t size, char *why, size_t why_size);
void description_close(void);

const json_t *description_whole(void);
size_t description_method_count(void);

/* By name or alias; NULL if there is none. */
const struct method *description_method(const char *name);
const struct method *description_method_at(size_t number);

/* The members of a type, those of included types among them. */
const json_t *description_type_fields(const char *type);
/* Whether a fault inside is reason options. */
bool description_type_is_options(const char *type);

#endif
