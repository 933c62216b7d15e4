#include "ipc/board.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "ipc/message.h"

_Static_assert(sizeof(struct board_page) <= BOARD_PAGE_SIZE, "a worker has one page");
_Static_assert(offsetof(struct board_page, out) == offsetof(struct board_page, in) + 8,
               "they are read at once");

static const char *const names[WORKER_STATE_COUNT] = {
    [WORKER_SPAWNED] = "spawned", [WORKER_HELLO] = "hello",           [WORKER_CERTIFY] = "certify",
    [WORKER_CIPHER] = "cipher",   [WORKER_CONNECTION] = "connection", [WORKER_CLOSING] = "closing",
    [WORKER_ALERTED] = "alerted", [WORKER_CLOSED] = "closed",
};

const char *
worker_state_name(uint32_t state)
{
    return state < WORKER_STATE_COUNT ? names[state] : "unknown";
}

uint32_t
board_read_state(int board, uint32_t page)
{
    uint32_t state;
    off_t at = (off_t)page * BOARD_PAGE_SIZE + (off_t)offsetof(struct board_page, state);

    if (page >= BOARD_PAGES || pread(board, &state, sizeof state, at) != (ssize_t)sizeof state)
        return WORKER_STATE_COUNT;
    return state < WORKER_STATE_COUNT ? state : WORKER_STATE_COUNT;
}

void
board_read_bytes(int board, uint32_t page, uint64_t *in, uint64_t *out)
{
    uint64_t bytes[2];
    off_t at = (off_t)page * BOARD_PAGE_SIZE + (off_t)offsetof(struct board_page, in);

    *in = *out = 0;
    if (page >= BOARD_PAGES || pread(board, bytes, sizeof bytes, at) != (ssize_t)sizeof bytes)
        return;
    if (bytes[0] > INT64_MAX || bytes[1] > INT64_MAX)
        return;
    *in = bytes[0];
    *out = bytes[1];
}

enum result
board_new(int *fd)
{
    int board = memfd_create("cordon board", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (board < 0)
        return RESULT_POSIX;
    if (ftruncate(board, (off_t)BOARD_PAGES * BOARD_PAGE_SIZE) < 0 ||
        fcntl(board, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        fd_close(&board);
        return RESULT_POSIX;
    }
    *fd = board;
    return RESULT_OK;
}
