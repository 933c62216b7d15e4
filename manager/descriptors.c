#include "manager/descriptors.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <unistd.h>

#include "ipc/fd.h"

/* Stocks of mailbox pairs (160) and keeper channels, boards, helpers, and messages that wait with theirs. */
enum { RESERVED = 512 };

static int for_others = INT_MAX;
static int expected;

void
descriptors_open(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur > INT_MAX)
        return;
    for_others = (int)files.rlim_cur -
                 (files.rlim_cur >= 2 * RESERVED ? RESERVED : (int)files.rlim_cur / 2);
}

uint32_t
descriptors_for_others(void)
{
    return (uint32_t)for_others;
}

void
descriptors_expect(int change)
{
    expected += change;
    assert(expected >= 0);
}

bool
descriptor_is_reserved(int fd)
{
    return fd >= for_others - expected;
}

bool
descriptors_have_room(struct failure *f)
{
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    bool has_room = fd >= 0 && !descriptor_is_reserved(fd);

    fd_close(&fd);
    if (!has_room)
        failure_limit(f, "descriptors", for_others);
    return has_room;
}
