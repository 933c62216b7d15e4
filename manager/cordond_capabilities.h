/* Capabilities, by the system call: two words of it need no library. */
#ifndef CORDON_MANAGER_CORDOND_CAPABILITIES_H
#define CORDON_MANAGER_CORDOND_CAPABILITIES_H

#include <stdint.h>

#include "ipc/result.h"

/* What cordond needs to start, limit and end its children. */
extern const uint64_t capabilities_of_cordond;
/* Ports below 1024. */
extern const uint64_t capabilities_of_manager;

/* Gives up all but those in mask; what we do not have we do not get.  POSIX (errno). */
MUST_CHECK enum result capabilities_keep(uint64_t mask);

/* The same, and those that are left survive execve(2) of a plain file.  POSIX (errno). */
MUST_CHECK enum result capabilities_pass_on(uint64_t mask);

#endif
