#include "ipc/file_state.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { TICK_NS = 50000000 }; /* generous: a tick is 1 to 10 ms */

/* Nanoseconds since 1970: no two are the same, as good as. */
static int64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
fill(struct file_state *state, int failed, const struct stat *info)
{
    int64_t now;

    memset(state, 0, sizeof(*state));
    if (failed) {
        state->error = (uint64_t)errno;
        return;
    }
    state->device = info->st_dev;
    state->inode = info->st_ino;
    state->size = (uint64_t)info->st_size;
    state->modified_s = info->st_mtim.tv_sec;
    state->modified_ns = info->st_mtim.tv_nsec;
    state->changed_s = info->st_ctim.tv_sec;
    state->changed_ns = info->st_ctim.tv_nsec;
    now = now_ns();
    if (now - (state->changed_s * 1000000000 + state->changed_ns) < TICK_NS)
        state->unsure = (uint64_t)now;
}

void
file_state_of_path(const char *path, struct file_state *state)
{
    struct stat info;

    memset(state, 0, sizeof(*state));
    if (path)
        fill(state, stat(path, &info), &info);
}

void
file_state_of_fd(int fd, struct file_state *state)
{
    struct stat info;

    fill(state, fstat(fd, &info), &info);
}

bool
file_state_is_equal(const struct file_state *a, const struct file_state *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

void
file_state_settle(struct file_state *state)
{
    state->unsure = 0;
}
