/*
 * The descriptors that go with a request: files are opened here, by the caller, so that the
 * manager never reads one that the caller may not.
 */
#ifndef API_FILES_H
#define API_FILES_H

#include <jansson.h>
#include <stddef.h>

#include "api/command.h"

enum { FILES_MAX = 64 };

struct files {
    int fds[FILES_MAX]; /* those from own_from on are owned */
    size_t count;
    size_t own_from;
};

/*
 * Opens the files that options name, as text where the API knows a file, or as {"file": PATH}, and
 * puts {"fd_index": N} in their place.  Borrows options; NULL is fine.
 */
enum exit_status files_open(struct files *files, const struct arguments *a, json_t *options);

void files_close(struct files *files);

#endif
