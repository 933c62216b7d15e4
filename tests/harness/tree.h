/*
 * A Cordon of the test's own: cordond from $CORDON_ROOT with a control socket in
 * a private folder, its log in a file.
 */
#ifndef CORDON_TESTS_HARNESS_TREE_H
#define CORDON_TESTS_HARNESS_TREE_H

#include <stdbool.h>
#include <sys/types.h>

#include "tests/harness/processes.h"

#ifdef __cplusplus
extern "C" {
#endif

struct harness_tree;

struct harness_tree_options {
    const char *config;    /* the text of a configuration file; NULL: none */
    const char *log_level; /* NULL: debug */
    const char *log_format; /* NULL: none is named */
    bool as_nobody;        /* when the test is root: everything runs as uid 65534 */
    const char *passwd;    /* a file to find as /etc/passwd, in a mount namespace; needs root */
    int log_fd;            /* stderr, borrowed; 0: a file, without which there is no harness_tree_log */
    unsigned descriptors;  /* RLIMIT_NOFILE; 0: ours */
    bool default_socket;   /* no --socket; as nobody, $XDG_RUNTIME_DIR is the folder */
    bool expect_failure;   /* do not wait for the ready descriptor */
};

/*
 * Starts cordond and waits until its control socket listens.  options: NULL for none.  NULL: it did
 * not get there, and the log has been printed.
 */
struct harness_tree *harness_tree_start(const struct harness_tree_options *options);

/* SIGTERM, and waits.  The status as from waitpid; -1: it did not end in time (and is killed). */
int harness_tree_stop(struct harness_tree *t);

/* Waits for cordond's end without asking for it. The same results. */
int harness_tree_wait(struct harness_tree *t, int64_t deadline_ms);

/* Kills what is left of it, removes the folder.  NULL is fine. */
void harness_tree_free(struct harness_tree *t);

pid_t harness_tree_pid(const struct harness_tree *t); /* of cordond */
bool harness_tree_is_running(const struct harness_tree *t);
const char *harness_tree_socket(const struct harness_tree *t);
const char *harness_tree_folder(const struct harness_tree *t);

/* "cordon keeper"; 0: there is none. */
pid_t harness_tree_process(const struct harness_tree *t, const char *title);

/* A signal to one of its processes, cordond included. */
bool harness_tree_signal(const struct harness_tree *t, pid_t pid, int number);

/* After cordond's end: whether everything it started ends too. Orphans are reaped here. */
bool harness_tree_nothing_left(struct harness_tree *t, int64_t deadline_ms);

/* The log so far.  Gives (free). */
char *harness_tree_log(const struct harness_tree *t);

/* Bytes of log so far: where harness_tree_wait_log begins to look. */
size_t harness_tree_log_size(const struct harness_tree *t);

/* Waits until a line that matches (extended regular expression) is in the log behind `from`. */
bool harness_tree_wait_log(const struct harness_tree *t, const char *pattern, size_t from,
                           int64_t deadline_ms);

#ifdef __cplusplus
}
#endif

#endif
