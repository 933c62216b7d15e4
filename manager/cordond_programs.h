/*
 * The programs cordond starts: which file, as which user, with which limits.
 *
 * Files are opened and users looked up once, at start: whoever changes a folder
 * or /etc/passwd later changes nothing for this tree.
 */
#ifndef CORDON_MANAGER_CORDOND_PROGRAMS_H
#define CORDON_MANAGER_CORDOND_PROGRAMS_H

#include <stdbool.h>
#include <sys/types.h>

#include "ipc/message.h"

struct program {
    const char *title; /* argv[0] */
    int binary;        /* owned */
    uid_t uid;         /* meaningful with change_user of struct programs */
    gid_t gid;
    bool all_descriptors;   /* RLIMIT_NOFILE up to the hard limit */
    bool may_bind_low;      /* ports below 1024 */
    char *const *arguments; /* borrowed, after argv[0], NULL at the end; NULL: none */
};

/* Whom services' programs may run as. */
struct exec_user {
    char name[64];
    uid_t uid;
    gid_t gid;
};

struct programs {
    bool change_user; /* we are root */
    struct exec_user exec_users[EXEC_USERS_MAX];
    size_t exec_user_count;
    int null;         /* owned; /dev/null */
    struct program of[PROCESS_KIND_COUNT];
};

/* The program's word in logs: "nursery". */
const char *program_name(enum process_kind kind);

/*
 * Looks up the users when we are root.  false: some are missing, and a text for people with the
 * commands that make them has gone to stderr.
 */
MUST_CHECK bool programs_find_users(struct programs *p);

/*
 * Allows those that names lists; none: cordon-exec, if there is one, or, when we are not root, our own user.
 * Never root, nor a user of our own processes.  After programs_find_users.  false: a text for people has
 * gone to stderr.
 */
MUST_CHECK bool programs_find_exec_users(struct programs *p, const char *const *names,
                                         size_t count);

/* Opens <folder>/manager and the others.  false: one cannot be opened, and stderr says which. */
MUST_CHECK bool programs_open(struct programs *p, const char *folder);

#endif
