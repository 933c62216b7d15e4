#include "manager/cordond_programs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { UID_NOBODY = 65534 };

struct program_rule {
    const char *name;  /* of the file, and in logs */
    const char *title; /* argv[0] */
    const char *user;
    bool else_nobody; /* the user may be missing */
    bool all_descriptors;
    bool may_bind_low;
};

/* clang-format off */
static const struct program_rule rules[PROCESS_KIND_COUNT] = {
    [PROCESS_KEEPER]      = {"keeper", "cordon keeper", "cordon-keeper", false, true, false},
    [PROCESS_NURSERY]     = {"nursery", "cordon nursery", "cordon-worker", true, false, false},
    [PROCESS_RESOLVER]    = {"resolver", "cordon resolver", "cordon-helper", false, false, false},
    [PROCESS_CHECKER]     = {"checker", "cordon checker", "cordon-helper", false, false, false},
    [PROCESS_KEY_DECODER] = {"key_decoder", "cordon key_decoder", "cordon-keeper", false, false, false},
    [PROCESS_MANAGER]     = {"manager", "cordon manager", "cordon", false, true, true},
    /* One of exec_users. */
    [PROCESS_LAUNCHER]    = {"launcher", "cordon launcher", NULL, false, false, false},
};
/* clang-format on */

const char *
program_name(enum process_kind kind)
{
    return kind < PROCESS_KIND_COUNT ? rules[kind].name : "unknown";
}

static bool
is_listed(const char *const *users, size_t count, const char *user)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(users[i], user) == 0)
            return true;
    }
    return false;
}

static void
tell_missing(const char *const *users, size_t count)
{
    fprintf(stderr,
            "cordond: run as root, it starts its processes as users of their own, and %s missing.\n"
            "Make %s, then start cordond again:\n",
            count == 1 ? "one is" : "some are", count == 1 ? "it" : "them");
    for (size_t i = 0; i < count; i++)
        fprintf(stderr, "    useradd --system --no-create-home --shell /usr/sbin/nologin %s\n",
                users[i]);
}

bool
programs_find_users(struct programs *p)
{
    const char *missing[PROCESS_KIND_COUNT];
    size_t missing_count = 0;

    p->change_user = geteuid() == 0;
    for (size_t i = 0; p->change_user && i < PROCESS_KIND_COUNT; i++) {
        const struct passwd *user;

        if (rules[i].user == NULL)
            continue;
        user = getpwnam(rules[i].user);
        if (user != NULL) {
            p->of[i].uid = user->pw_uid;
            p->of[i].gid = user->pw_gid;
        } else if (rules[i].else_nobody) {
            p->of[i].uid = UID_NOBODY;
            p->of[i].gid = UID_NOBODY;
        } else if (!is_listed(missing, missing_count, rules[i].user)) {
            missing[missing_count++] = rules[i].user;
        }
    }
    if (missing_count > 0)
        tell_missing(missing, missing_count);
    return missing_count == 0;
}

static bool
is_of_the_tree(const struct programs *p, uid_t uid)
{
    for (size_t i = 0; i < PROCESS_KIND_COUNT; i++) {
        if (rules[i].user != NULL && p->of[i].uid == uid)
            return true;
    }
    return false;
}

/* What a program could do as this user; NULL: nothing that speaks against it. */
static const char *
fault_of_user(const struct programs *p, uid_t uid)
{
    if (uid == 0)
        return "a program of root's could do anything";
    if (p->change_user && is_of_the_tree(p, uid))
        return "it belongs to a process of Cordon's own";
    if (!p->change_user && uid != geteuid())
        return "only root can start programs as another user";
    return NULL;
}

static bool
allow_user(struct programs *p, const char *name)
{
    const struct passwd *user = getpwnam(name);
    const char *fault = user != NULL ? fault_of_user(p, user->pw_uid) : "there is no such user";
    struct exec_user *out = &p->exec_users[p->exec_user_count];

    if (fault == NULL && strlen(name) >= sizeof(out->name))
        fault = "the name is too long";
    if (fault != NULL) {
        fprintf(stderr, "cordond: --exec-user %s: %s\n", name, fault);
        return false;
    }
    strcpy(out->name, name);
    out->uid = user->pw_uid;
    out->gid = user->pw_gid;
    p->exec_user_count++;
    return true;
}

bool
programs_find_exec_users(struct programs *p, const char *const *names, size_t count)
{
    const struct passwd *user;
    char name[64];

    for (size_t i = 0; i < count; i++) {
        if (!allow_user(p, names[i]))
            return false;
    }
    if (count > 0)
        return true;
    user = p->change_user ? getpwnam("cordon-exec") : getpwuid(geteuid());
    if (user == NULL || user->pw_uid == 0)
        return true;
    snprintf(name, sizeof(name), "%s", user->pw_name); /* the next look-up writes over it */
    return allow_user(p, name);
}

static bool
open_one(struct program *program, const struct program_rule *rule, const char *folder)
{
    char path[PATH_MAX];

    program->title = rule->title;
    program->all_descriptors = rule->all_descriptors;
    program->may_bind_low = rule->may_bind_low;
    if (snprintf(path, sizeof(path), "%s/%s", folder, rule->name) >= (int)sizeof(path)) {
        fprintf(stderr, "cordond: the path of %s is too long\n", rule->name);
        return false;
    }
    program->binary = open(path, O_PATH | O_CLOEXEC);
    if (program->binary < 0) {
        fprintf(stderr, "cordond: cannot open %s: %s\n", path, strerror(errno));
        return false;
    }
    return true;
}

bool
programs_open(struct programs *p, const char *folder)
{
    p->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (p->null < 0) {
        fprintf(stderr, "cordond: cannot open /dev/null: %s\n", strerror(errno));
        return false;
    }
    for (size_t i = 0; i < PROCESS_KIND_COUNT; i++) {
        if (!open_one(&p->of[i], &rules[i], folder))
            return false;
    }
    return true;
}
