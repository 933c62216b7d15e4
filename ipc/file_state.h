/*
 * Whether a file is still what it was: what stat(2) says of it, to be kept and compared.  Equal states
 * are the same file with the same content.
 */
#ifndef CORDON_IPC_FILE_STATE_H
#define CORDON_IPC_FILE_STATE_H

#include <stdbool.h>
#include <stdint.h>

/* Without padding: it goes over a mailbox as bytes. */
struct file_state {
    uint64_t device, inode, size;
    int64_t modified_s, modified_ns, changed_s, changed_ns;
    uint64_t error;  /* errno; 0: the others count */
    uint64_t unsure; /* 0, or a number of its own: see file_state_settle */
};

/* NULL: a state of its own, of no file. */
void file_state_of_path(const char *path, struct file_state *state);
void file_state_of_fd(int fd, struct file_state *state);

bool file_state_is_equal(const struct file_state *a, const struct file_state *b);

/*
 * The times of a file move in ticks: what is written in the tick in which it was looked at changes no
 * time.  The state of a file that has just been written is therefore equal to no other, until the caller
 * knows that it does not matter and says so here.
 */
void file_state_settle(struct file_state *state);

#endif
