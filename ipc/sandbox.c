#include "ipc/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <seccomp.h>

#include "ipc/log.h"
#include "ipc/sandbox_calls.h"
#include "ipc/walls.h"

/* --- what each kind gets ---------------------------------------------------------------------- */

enum {
    ALWAYS = WALL_BIT(WALL_SECCOMP) | WALL_BIT(WALL_NO_NEW_PRIVS) | WALL_BIT(WALL_NOT_DUMPABLE),
    ALONE = WALL_BIT(WALL_EMPTY_ROOT) | WALL_BIT(WALL_NETWORK) | WALL_BIT(WALL_IPC),
    POWERLESS = WALL_BIT(WALL_NO_CAPABILITIES),
};

struct policy {
    uint32_t walls; /* those that it puts up, if it can */
    const struct sandbox_call *calls;
    uint32_t otherwise; /* what a call that is not listed meets */
};

/*
 * Whoever reads what an enemy may have written is killed at the first call that it does not make:
 * something else runs in it then.  The manager reads no peer's bytes, and its end is everybody's;
 * the resolver loads name services that we do not know: to these two a call just fails.
 *
 * The keeper stays in the machine's user namespace: in another it would not see whose the key
 * files are.  The manager may have the one capability that cordond has left it.
 */
/* clang-format off */
static const struct policy policies[SANDBOX_KIND_COUNT] = {
    [SANDBOX_NURSERY]     = { ALWAYS | POWERLESS | ALONE, sandbox_worker_calls,      SCMP_ACT_KILL_PROCESS },
    [SANDBOX_CHECKER]     = { ALWAYS | POWERLESS | ALONE, sandbox_checker_calls,     SCMP_ACT_KILL_PROCESS },
    [SANDBOX_KEY_DECODER] = { ALWAYS | POWERLESS | ALONE, sandbox_key_decoder_calls, SCMP_ACT_KILL_PROCESS },
    [SANDBOX_KEEPER]      = { ALWAYS | POWERLESS,         sandbox_keeper_calls,      SCMP_ACT_KILL_PROCESS },
    [SANDBOX_RESOLVER]    = { ALWAYS | POWERLESS,         sandbox_resolver_calls,    SCMP_ACT_ERRNO(EPERM) },
    [SANDBOX_MANAGER]     = { ALWAYS,                     sandbox_manager_calls,     SCMP_ACT_ERRNO(EPERM) },
};
/* clang-format on */

/* error: 0 or errno, which is what each of the steps below gives. */
static void
note(uint32_t *standing, enum wall wall, int error)
{
    if (error == 0)
        *standing |= WALL_BIT(wall);
    else
        log_debug("a wall does not stand wall=%s error=%s", wall_name(wall), posix_name(error));
}

/* --- namespaces ------------------------------------------------------------------------------- */

static int
leave(int namespaces)
{
    return unshare(namespaces) == 0 ? 0 : errno;
}

/* The root becomes a file system without files, which nobody can write to. */
static int
leave_files(void)
{
    static const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("cordon", "/tmp", "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") != 0 ||
        chdir("/tmp") != 0 || syscall(SYS_pivot_root, ".", ".") != 0 ||
        umount2(".", MNT_DETACH) != 0 || chdir("/") != 0)
        return errno;
    return 0;
}

/* In a user namespace of its own, a process has the privilege to leave everything else. */
static void
leave_the_machine(uint32_t *standing)
{
    int error = leave(CLONE_NEWUSER);

    note(standing, WALL_NETWORK, error != 0 ? error : leave(CLONE_NEWNET));
    note(standing, WALL_IPC, error != 0 ? error : leave(CLONE_NEWIPC));
#ifdef CORDON_SANITIZED /* whose reports are files */
    error = ENOTSUP;
#endif
    note(standing, WALL_EMPTY_ROOT, error != 0 ? error : leave_files());
}

/* --- privileges ------------------------------------------------------------------------------- */

static bool
has_capabilities(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];

    return syscall(SYS_capget, &header, data) != 0 || data[0].permitted != 0 ||
           data[1].permitted != 0;
}

/* For good: nothing that it could execute would give them back. */
static int
drop_capabilities(void)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };

    /* Whoever may not drop them from the bounding set has none that he could gain either. */
    for (unsigned long i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
        (void)prctl(PR_CAPBSET_DROP, i, 0, 0, 0);
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 ||
        syscall(SYS_capset, &header, none) != 0)
        return errno;
    return has_capabilities() ? EPERM : 0;
}

static int
gain_nothing(void)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return errno;
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : EPERM;
}

/* After every change of user and privileges, each of which may undo it. */
static int
hide_memory(void)
{
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return errno;
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : EPERM;
}

/* --- the filter ------------------------------------------------------------------------------- */

#ifndef CORDON_SANITIZED

/* 0 or a negative errno, as libseccomp has it. */
static int
allow(scmp_filter_ctx filter, const struct sandbox_call *call)
{
    struct scmp_arg_cmp when[SANDBOX_CONDITIONS];
    int number = seccomp_syscall_resolve_name(call->name);
    unsigned count = 0;

    /* Not every machine has every one. */
    if (number == __NR_SCMP_ERROR)
        return 0;
    for (; count < SANDBOX_CONDITIONS && call->when[count].mask != 0; count++) {
        const struct sandbox_condition *c = &call->when[count];

        when[count] = (struct scmp_arg_cmp){ c->argument, SCMP_CMP_MASKED_EQ, c->mask, c->value };
    }
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, count, when);
}

static int
fill(scmp_filter_ctx filter, const struct policy *policy)
{
    int error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0); /* stands already */
    /* A binary tree: the kernel walks it at each call whose arguments count. */
    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (const struct sandbox_call *call = policy->calls; error == 0 && call->name; call++)
        error = allow(filter, call);
    return error;
}

static int
install_filter(const struct policy *policy)
{
    scmp_filter_ctx filter = seccomp_init(policy->otherwise);
    int error = filter != NULL ? fill(filter, policy) : -ENOMEM;

    if (error == 0)
        error = seccomp_load(filter);
    if (filter != NULL)
        seccomp_release(filter);
    return -error;
}

#else

/* The sanitizers make calls that nobody else makes. */
static int
install_filter(const struct policy *policy)
{
    (void)policy;
    return ENOTSUP;
}

#endif

uint32_t
sandbox_enter(enum sandbox_kind kind)
{
    const struct policy *policy = &policies[kind];
    uint32_t standing = 0;

    if (policy->walls & ALONE)
        leave_the_machine(&standing);
    if (policy->walls & POWERLESS)
        note(&standing, WALL_NO_CAPABILITIES, drop_capabilities());
    note(&standing, WALL_NO_NEW_PRIVS, gain_nothing());
    note(&standing, WALL_NOT_DUMPABLE, hide_memory());
    note(&standing, WALL_SECCOMP, install_filter(policy));
    return standing;
}

void
sandbox_enter_or_end(enum sandbox_kind kind)
{
    uint32_t missing = walls_required() & policies[kind].walls & ~sandbox_enter(kind);

    for (int i = 0; i < WALL_COUNT; i++) {
        if (missing & WALL_BIT(i))
            log_error("a wall that this process needs does not stand wall=%s",
                      wall_name((enum wall)i));
    }
    if (missing != 0)
        exit(EXIT_FAILURE);
}
