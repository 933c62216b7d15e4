/* api/cordon.api.json, which is part of the program. */
#ifndef API_DESCRIPTION_H
#define API_DESCRIPTION_H

#include <jansson.h>
#include <stdbool.h>

/* The whole of it; borrowed for ever. */
const json_t *description(void);

/* Whether the option of this name is a file, in any type of options that has it. */
bool description_is_file(const char *option);

#endif
