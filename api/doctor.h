/*
 * What is checked on a machine: one finding a line, each with what to do about it.
 */
#ifndef API_DOCTOR_H
#define API_DOCTOR_H

#include <jansson.h>

#include "api/command.h"

enum finding_level { FINDING_OK, FINDING_WARN, FINDING_BAD };

struct doctor {
    const struct arguments *a;
    json_t *findings; /* owned: [{level, name, text}] */
    unsigned bad;
    json_t *status; /* owned: of the manager that runs; NULL */
};

/* Adds a finding. */
void doctor_find(struct doctor *d, enum finding_level level, const char *name, const char *format,
                 ...) __attribute__((format(printf, 4, 5)));

/* doctor_system.c: kernel and limits, doctor_install.c: files and users, doctor_library.c. */
void doctor_check_system(struct doctor *d);
void doctor_check_install(struct doctor *d);
void doctor_check_libraries(struct doctor *d);

/* The first line of a file, without its newline; NULL: it cannot be read. */
const char *doctor_read_line(const char *path, char *text, size_t size);

/* Runs a program, arguments[0] with a path; the first line it says goes to text.  Its exit status; -1:
 * it did not run. */
int doctor_run(const char *const *arguments, char *text, size_t size);

/* cordond's default, of which the limits must have room. */
enum { DOCTOR_CONNECTIONS = 20000 };

#endif
