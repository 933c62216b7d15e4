/*
 * What is installed: programs, users, folders, the CA bundle, the configuration.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/doctor.h"
#include "api/own_tree.h"

#define CA_BUNDLE   "/etc/ssl/certs/ca-certificates.crt"
#define CONFIG_FILE "/etc/cordon/cordon.json"

static const char *const users[] = { "cordon", "cordon-keeper", "cordon-worker", "cordon-helper" };

enum { USER_COUNT = sizeof(users) / sizeof(users[0]) };

static void
check_users(struct doctor *d)
{
    char missing[128] = "";
    size_t used = 0;

    for (size_t i = 0; i < USER_COUNT; i++) {
        if (!getpwnam(users[i]))
            used += (size_t)snprintf(missing + used, sizeof(missing) - used, " %s", users[i]);
    }
    if (*missing)
        doctor_find(d, geteuid() == 0 ? FINDING_BAD : FINDING_WARN, "users",
                    "missing:%s; make each with useradd --system --no-create-home --shell "
                    "/usr/sbin/nologin",
                    missing);
    else
        doctor_find(d, FINDING_OK, "users", "%s, %s, %s and %s are there", users[0], users[1],
                    users[2], users[3]);
    if (geteuid() == 0)
        doctor_find(d, FINDING_OK, "uids",
                    "a cordond started by root gives each kind of process "
                    "a user of its own");
    else
        doctor_find(d, FINDING_WARN, "uids",
                    "a cordond started by you runs as you, keys and all: start it as root for "
                    "processes with users of their own");
}

/* --- Who may write -------------------------------------------------------------------------- */

/* "" when nobody but its owner, root or us may change what is at path; else who may. */
static const char *
who_else_may_write(const char *path)
{
    struct stat info;

    if (stat(path, &info) != 0)
        return "it is missing";
    if (info.st_uid != 0 && info.st_uid != geteuid())
        return "it belongs to another user";
    if (info.st_mode & S_IWOTH && !(S_ISDIR(info.st_mode) && info.st_mode & S_ISVTX))
        return "anybody may write to it";
    if (info.st_mode & S_IWGRP && info.st_gid != 0 && info.st_gid != getegid())
        return "a group may write to it";
    return "";
}

/* And the folders above it: who may write there may put something else in its place. */
static bool
is_safe(struct doctor *d, const char *name, const char *path)
{
    char at[PATH_MAX];

    if (!realpath(path, at)) {
        doctor_find(d, FINDING_BAD, name, "%s: %s", path, strerror(errno));
        return false;
    }
    for (;;) {
        const char *why = who_else_may_write(at);

        if (*why) {
            doctor_find(d, FINDING_BAD, name, "%s: %s: install it again, as root, umask 022", at,
                        why);
            return false;
        }
        if (strcmp(at, "/") == 0)
            return true;
        dirname(at);
    }
}

static void
check_programs(struct doctor *d, const char *root)
{
    static const char *const programs[] = {
        "bin/cordond",
        "bin/cordon",
        "libexec/cordon/manager",
        "libexec/cordon/keeper",
        "libexec/cordon/nursery",
        "libexec/cordon/checker",
        "libexec/cordon/key_decoder",
        "libexec/cordon/launcher",
        "libexec/cordon/resolver",
    };
    char path[PATH_MAX + 64];

    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", root, programs[i]);
        if (!is_safe(d, "programs", path))
            return;
    }
    doctor_find(d, FINDING_OK, "programs", "nobody else may change those in %s", root);
}

/* --- Folders and files ---------------------------------------------------------------------- */

static void
check_socket_folder(struct doctor *d)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    bool is_root = geteuid() == 0;
    char folder[PATH_MAX];
    struct stat info;

    if (is_root)
        snprintf(folder, sizeof(folder), "/run/cordon");
    else if (runtime && *runtime == '/')
        snprintf(folder, sizeof(folder), "%s/cordon", runtime);
    else {
        doctor_find(d, FINDING_WARN, "socket",
                    "$XDG_RUNTIME_DIR is not set: name a control socket with --socket");
        return;
    }
    if (stat(folder, &info) != 0)
        doctor_find(d, FINDING_OK, "socket", "%s is not there yet: cordond makes it", folder);
    else if (info.st_mode & (S_IWGRP | S_IWOTH))
        doctor_find(d, FINDING_BAD, "socket",
                    "others may put a socket of theirs into %s: chmod go-w %s", folder, folder);
    else
        doctor_find(d, FINDING_OK, "socket", "only its owner may write to %s", folder);
}

static void
check_ca_bundle(struct doctor *d)
{
    FILE *file = fopen(CA_BUNDLE, "re");
    char line[256];
    unsigned count = 0;

    if (!file) {
        doctor_find(d, FINDING_BAD, "ca_bundle",
                    "%s: %s: install ca-certificates, or no server can be verified without "
                    "cacertfile",
                    CA_BUNDLE, strerror(errno));
        return;
    }
    while (fgets(line, sizeof(line), file))
        count += strncmp(line, "-----BEGIN CERTIFICATE-----", 27) == 0;
    fclose(file);
    if (count == 0)
        doctor_find(d, FINDING_BAD, "ca_bundle",
                    "%s holds no certificate: run update-ca-certificates", CA_BUNDLE);
    else
        doctor_find(d, FINDING_OK, "ca_bundle", "%u certificates in %s", count, CA_BUNDLE);
}

/* cordond knows what may stand in it. */
static void
check_config(struct doctor *d, const char *root)
{
    char program[PATH_MAX + 64], text[512];
    const char *const arguments[] = { program, "--check-config", NULL };

    if (access(CONFIG_FILE, F_OK) != 0) {
        doctor_find(d, FINDING_OK, "config", "there is no %s: defaults", CONFIG_FILE);
        return;
    }
    if (!is_safe(d, "config", CONFIG_FILE))
        return;
    snprintf(program, sizeof(program), "%s/bin/cordond", root);
    if (doctor_run(arguments, text, sizeof(text)) == 0)
        doctor_find(d, FINDING_OK, "config", "%s is right", CONFIG_FILE);
    else
        doctor_find(d, FINDING_BAD, "config", "%s", *text ? text : "cordond cannot be started");
}

void
doctor_check_install(struct doctor *d)
{
    char self[PATH_MAX] = "";
    const char *root;

    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
        strcpy(self, "/usr/bin/cordon");
    root = dirname(dirname(self));
    check_users(d);
    check_programs(d, root);
    check_socket_folder(d);
    check_ca_bundle(d);
    check_config(d, root);
}
