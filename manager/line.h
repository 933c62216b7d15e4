/*
 * The line reader of a control client: lines with the descriptors that came with them.
 *
 * The kernel may merge writes and split lines anywhere, so descriptors are tied to lines by order
 * alone: a first-in-first-out queue from which a complete line takes as many as it announces.
 * Passwords pass through here: buffers are wiped before they are given back.
 */
#ifndef CORDON_MANAGER_LINE_H
#define CORDON_MANAGER_LINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "ipc/fd.h"
#include "manager/failure.h"

enum {
    LINE_SIZE_MAX = 65536,   /* without its newline */
    LINE_UNCLAIMED_MAX = 64, /* descriptors that no complete line has taken */
    LINE_DEPTH_MAX = 32,
    LINE_VALUES_MAX = 10000,
};

struct line_reader {
    char *bytes; /* owned; NULL while there is nothing */
    size_t room;
    size_t start, end;                             /* what is not a line yet is between them */
    size_t searched;                               /* there is no newline between start and this */
    int fds[LINE_UNCLAIMED_MAX + FD_MAX_RECEIVED]; /* owned; the oldest first */
    size_t fd_count;
};

void line_reader_init(struct line_reader *r);
/* Wipes, and closes what nobody took. */
void line_reader_fini(struct line_reader *r);

/*
 * Receives once, without waiting.  Call it only when line_reader_next has said WOULD_BLOCK.
 * OK: something came.  CHANNEL_CLOSED: end of file.  DESCRIPTORS: some were lost, all are closed.
 * WOULD_BLOCK, CHANNEL_FAILED (errno), NO_MEMORY.
 */
MUST_CHECK enum result line_reader_receive(struct line_reader *r, int socket);

/*
 * The next complete line, without its newline, valid until the next call, which wipes it.
 * WOULD_BLOCK: there is none.  LINE_TOO_LONG: what is there cannot become one.  DESCRIPTORS: there
 * is no line, and more descriptors are waiting than may.
 */
MUST_CHECK enum result line_reader_next(struct line_reader *r, char **line, size_t *size);

/* Gives the count oldest descriptors.  false: there are fewer; then nothing changes. */
bool line_reader_claim(struct line_reader *r, int *fds, size_t count);

/* Closes the descriptors that nobody took. */
void line_reader_drop_fds(struct line_reader *r);

/*
 * A JSON object from bytes, refused when it is nested deeper than 32, has more values than values_max,
 * has duplicate keys or NUL, is followed by anything, or is none.  Gives it; NULL: *f says what is
 * wrong (PARSE_ERROR) and where.
 */
json_t *line_parse(const char *bytes, size_t size, size_t values_max, struct failure *f);

#endif
