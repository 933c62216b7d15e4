/*
 * The nursery's code on large pages.
 *
 * A worker has to fault in the code it runs, 64 KiB at a time; from pages of
 * 2 MiB that takes three faults instead of forty.
 */
#ifndef CORDON_WORKER_TEXT_H
#define CORDON_WORKER_TEXT_H

/*
 * Moves code and constants of a statically linked program to pages of 2 MiB, if the kernel has any
 * to give; nothing changes but that.  Once, at the start.
 */
void text_to_large_pages(void);

#endif
