/*
 * A cordond of this command's own: started as its child, and gone with it, also when the command
 * is killed, because cordond then sees a pipe close (--until-closed).
 */
#ifndef API_OWN_TREE_H
#define API_OWN_TREE_H

#include <stdbool.h>
#include <sys/types.h>

#include "api/command.h"
#include "api/control.h"

struct own_tree;

struct own_tree_setup {
    const char *socket;    /* NULL: in a new folder that nobody else may enter */
    bool is_usual_place;   /* socket is where cordond puts it when nobody says where */
    const char *config;    /* a file; NULL: none, not even the usual one */
    const char *log_level; /* of its log, which goes to our standard error */
    const char *exec_user; /* whom programs of services may run as; NULL */
    int interrupt;         /* readable: waiting ends; -1 */
};

/*
 * Starts it and waits until its control socket listens.  Borrows setup.  Gives *tree
 * (own_tree_end).
 */
enum exit_status own_tree_start(const struct arguments *a, const struct own_tree_setup *setup,
                                struct own_tree **tree);

const char *own_tree_socket(const struct own_tree *tree);

/* For poll: readable means that cordond has ended, and all below it with it or soon. */
int own_tree_pidfd(const struct own_tree *tree);

/* Asks it to stop; a second time: at once. */
void own_tree_stop(struct own_tree *tree);

/* Stops it if that was not asked for yet, waits for its end, and tidies up.  What waitpid says of
 * it.  NULL is fine. */
int own_tree_end(struct own_tree *tree);

#endif
