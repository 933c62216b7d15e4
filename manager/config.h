/*
 * The configuration file: one JSON object, its keys the fields of struct config.  A wrong one ends
 * the start with a sentence that names file, key and what is allowed.
 */
#ifndef CORDON_MANAGER_CONFIG_H
#define CORDON_MANAGER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "ipc/log.h"
#include "manager/manager.h"

#define CONFIG_DEFAULT_FILE "/etc/cordon/cordon.json"

void config_set_defaults(struct config *c);

/*
 * Reads text on top of *c and *level, and gives *services, as services_check does; name is the file's,
 * for why, and relative paths in it are from its folder.  On failure all three keep what they had.
 */
bool config_parse(struct config *c, enum log_level *level, json_t **services, const char *name,
                  const char *text, size_t size, char *why, size_t why_size);

/* The same from a file.  A file that is not there is a failure unless it may be missing. */
bool config_read(struct config *c, enum log_level *level, json_t **services, const char *path,
                 bool may_be_missing, char *why, size_t why_size);

#endif
