#include "api/own_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/output.h"
#include "ipc/fd.h"

#define NO_CONFIG "/dev/null"

struct own_tree {
    pid_t pid;  /* 0: not started, or reaped */
    int pidfd;  /* owned */
    int life;   /* owned: closed, cordond stops */
    bool is_stopping;
    int status;
    char folder[80]; /* ours, to be removed; "": none */
    char socket[PATH_MAX];
};

/* What the two ends of a pipe are called. */
enum { READER, WRITER };

/* bin/cordond stands beside bin/cordon. */
static bool
find_cordond(char path[PATH_MAX])
{
    char self[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (size < 0)
        return false;
    self[size] = '\0';
    return snprintf(path, PATH_MAX, "%s/cordond", dirname(self)) < PATH_MAX;
}

/* The socket is made by the manager, which has a user of its own when root starts it. */
static bool
give_to_manager(const char *folder)
{
    const struct passwd *manager;

    if (geteuid() != 0)
        return true;
    manager = getpwnam("cordon");
    return manager == NULL || chown(folder, manager->pw_uid, manager->pw_gid) == 0;
}

static bool
make_folder(struct own_tree *tree)
{
    /* The manager of a tree that root starts could not enter root's own folder. */
    const char *above = geteuid() != 0 ? getenv("XDG_RUNTIME_DIR") : NULL;
    char folder[sizeof(tree->folder)];

    if (!above || above[0] != '/')
        above = getenv("TMPDIR");
    if (!above || above[0] != '/')
        above = "/tmp";
    if (snprintf(folder, sizeof(folder), "%s/cordon-XXXXXX", above) >= (int)sizeof(folder)) {
        errno = ENAMETOOLONG; /* for a socket below it */
        return false;
    }
    if (!mkdtemp(folder))
        return false;
    strcpy(tree->folder, folder);
    snprintf(tree->socket, sizeof(tree->socket), "%s/control.sock", folder);
    return give_to_manager(folder);
}

/* --- Starting ------------------------------------------------------------------------------- */

/* Both ends of ready and life are close-on-exec, but for the two that cordond has. */
static int
spawn(struct own_tree *tree, const struct own_tree_setup *setup, const char *program, int ready,
      int life)
{
    char ready_text[16], life_text[16];
    const char *arguments[16] = {
        "cordond",     "--config",       setup->config ? setup->config : NO_CONFIG,
        "--log-level", setup->log_level, "--ready-fd",
        ready_text,    "--until-closed", life_text
    };
    size_t count = 9;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, piped;
    int error;

    snprintf(ready_text, sizeof(ready_text), "%d", ready);
    snprintf(life_text, sizeof(life_text), "%d", life);
    if (!setup->is_usual_place) {
        arguments[count++] = "--socket";
        arguments[count++] = tree->socket;
    }
    if (setup->exec_user) {
        arguments[count++] = "--exec-user";
        arguments[count++] = setup->exec_user;
    }
    sigemptyset(&none);
    sigemptyset(&piped);
    sigaddset(&piped, SIGPIPE);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    /* A session of its own: Ctrl-C is for the command, which decides what becomes of the tree. */
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &piped);
    /* Onto itself: without close-on-exec.  Its standard output is not ours to write to. */
    posix_spawn_file_actions_adddup2(&actions, ready, ready);
    posix_spawn_file_actions_adddup2(&actions, life, life);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    error =
        posix_spawn(&tree->pid, program, &actions, &attributes, (char *const *)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return error;
}

/* One byte comes when the control socket listens; the end of the file, when it never will. */
static enum exit_status
wait_until_ready(const struct arguments *a, int ready, int interrupt)
{
    struct pollfd wait[] = { { .fd = ready, .events = POLLIN },
                             { .fd = interrupt, .events = POLLIN } };
    char byte;

    for (;;) {
        if (poll(wait, 2, -1) < 0 && errno != EINTR)
            return output_fail(a, EXIT_FAILED, "internal", "%s", strerror(errno));
        if (wait[1].revents)
            return output_fail(a, EXIT_FAILED, "cancelled", "interrupted");
        if (!wait[0].revents)
            continue;
        if (read(ready, &byte, 1) == 1)
            return EXIT_OK;
        return output_fail(a, EXIT_FAILED, "no_manager", "cordond did not start; it has said why");
    }
}

static enum exit_status
spawn_and_wait(const struct arguments *a, struct own_tree *tree, const struct own_tree_setup *setup)
{
    int ready[2] = { -1, -1 }, life[2] = { -1, -1 };
    char program[PATH_MAX];
    enum exit_status status;
    int error;

    if (!find_cordond(program))
        return output_fail(a, EXIT_FAILED, "internal", "its own path cannot be found");
    if (pipe2(ready, O_CLOEXEC) != 0 || pipe2(life, O_CLOEXEC) != 0) {
        error = errno;
    } else {
        tree->life = life[WRITER];
        life[WRITER] = -1;
        error = spawn(tree, setup, program, ready[WRITER], life[READER]);
    }
    fd_close(&ready[WRITER]);
    fd_close(&life[READER]);
    if (error != 0)
        status = output_fail(a, EXIT_FAILED, "posix", "%s: %s", program, strerror(error));
    else
        status = wait_until_ready(a, ready[READER], setup->interrupt);
    fd_close(&ready[READER]);
    if (status != EXIT_OK)
        return status;
    tree->pidfd = (int)syscall(SYS_pidfd_open, tree->pid, 0);
    return tree->pidfd >= 0
               ? EXIT_OK
               : output_fail(a, EXIT_FAILED, "posix", "pidfd_open: %s", strerror(errno));
}

enum exit_status
own_tree_start(const struct arguments *a, const struct own_tree_setup *setup, struct own_tree **out)
{
    struct own_tree *tree = calloc(1, sizeof(*tree));
    enum exit_status status;

    if (!tree)
        return output_fail(a, EXIT_FAILED, "no_memory", "there is not enough memory");
    tree->pidfd = tree->life = -1;
    if (setup->socket)
        snprintf(tree->socket, sizeof(tree->socket), "%s", setup->socket);
    if (!setup->socket && !make_folder(tree))
        status = output_fail(a, EXIT_FAILED, "posix", "no folder for a control socket: %s",
                             strerror(errno));
    else
        status = spawn_and_wait(a, tree, setup);
    if (status == EXIT_OK)
        *out = tree;
    else
        own_tree_end(tree);
    return status;
}

const char *
own_tree_socket(const struct own_tree *tree)
{
    return tree->socket;
}

int
own_tree_pidfd(const struct own_tree *tree)
{
    return tree->pidfd;
}

/* --- Ending --------------------------------------------------------------------------------- */

void
own_tree_stop(struct own_tree *tree)
{
    /* Of two SIGTERM that it has not read yet only one would be left. */
    int number = tree->is_stopping ? SIGINT : SIGTERM;

    tree->is_stopping = true;
    if (tree->pid > 0) /* our own child, not reaped: nobody else has its number */
        kill(tree->pid, number);
}

int
own_tree_end(struct own_tree *tree)
{
    int status = 0;

    if (!tree)
        return 0;
    if (!tree->is_stopping)
        own_tree_stop(tree);
    while (tree->pid > 0 && waitpid(tree->pid, &status, 0) < 0 && errno == EINTR) {}
    fd_close(&tree->pidfd);
    fd_close(&tree->life);
    if (tree->folder[0]) {
        unlink(tree->socket); /* left there by a tree that was killed */
        rmdir(tree->folder);
    }
    free(tree);
    return status;
}
