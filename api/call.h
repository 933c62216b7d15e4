#ifndef API_CALL_H
#define API_CALL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * `cordon call`: one method of the control API, from the command line.
 *
 * Files that the options name are opened here, by the caller, and go as
 * descriptors.  When the result holds a handle (a connection, a listener, a
 * subscription) the call stays until Ctrl-C, because what it made ends with
 * it, and prints the events that come, one line each.
 */
enum exit_status {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NO_MANAGER = 3,
    EXIT_TLS = 4
};

enum { CALL_FDS_MAX = 64 };

struct call {
    const char *socket; /* borrowed, like all below; NULL: the usual places */
    const char *method;
    const char *params; /* JSON; "-": on standard input; NULL: none */
    bool is_json;       /* results and errors as one line of JSON on standard output */
    int fds[CALL_FDS_MAX];
    size_t fd_count;
};

enum exit_status call_run(const struct call *call);

/* Prints an error of the command's own, as is_json wants it.  Gives status. */
enum exit_status call_fail(bool is_json, enum exit_status status, const char *reason,
                           const char *message);

#endif
