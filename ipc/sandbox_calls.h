/*
 * The system calls that each kind of process makes: the allow-lists of ipc/sandbox.c, as data.
 */
#ifndef CORDON_IPC_SANDBOX_CALLS_H
#define CORDON_IPC_SANDBOX_CALLS_H

#include <stdint.h>

enum { SANDBOX_CONDITIONS = 2 };

/* (argument & mask) == value */
struct sandbox_condition {
    unsigned argument;
    uint64_t mask; /* 0: no condition */
    uint64_t value;
};

struct sandbox_call {
    const char *name; /* NULL: the end of the list */
    struct sandbox_condition when[SANDBOX_CONDITIONS];
};

extern const struct sandbox_call sandbox_worker_calls[];
extern const struct sandbox_call sandbox_keeper_calls[];
extern const struct sandbox_call sandbox_checker_calls[];
extern const struct sandbox_call sandbox_key_decoder_calls[];
extern const struct sandbox_call sandbox_resolver_calls[];
extern const struct sandbox_call sandbox_manager_calls[];

#endif
