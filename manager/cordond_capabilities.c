#include "manager/cordond_capabilities.h"

#include <linux/capability.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(capability) (UINT64_C(1) << (capability))

const uint64_t capabilities_of_cordond = BIT(CAP_SETUID) | BIT(CAP_SETGID) | BIT(CAP_KILL) |
                                         BIT(CAP_NET_BIND_SERVICE);
const uint64_t capabilities_of_manager = BIT(CAP_NET_BIND_SERVICE);

static enum result
set(uint64_t mask, bool inherit, uint64_t *left)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &header, data) != 0)
        return RESULT_POSIX;
    *left = mask & (data[0].permitted | (uint64_t)data[1].permitted << 32);
    for (int i = 0; i < 2; i++) {
        data[i].permitted = (uint32_t)(*left >> 32 * i);
        data[i].effective = data[i].permitted;
        data[i].inheritable = inherit ? data[i].permitted : 0;
    }
    return syscall(SYS_capset, &header, data) == 0 ? RESULT_OK : RESULT_POSIX;
}

enum result
capabilities_keep(uint64_t mask)
{
    uint64_t left;

    return set(mask, false, &left);
}

enum result
capabilities_pass_on(uint64_t mask)
{
    uint64_t left;
    enum result result = set(mask, true, &left);

    if (result != RESULT_OK)
        return result;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return RESULT_POSIX;
    for (unsigned long i = 0; i < 64; i++) {
        if ((left & BIT(i)) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) != 0)
            return RESULT_POSIX;
    }
    return RESULT_OK;
}
