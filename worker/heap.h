/*
 * The heap that workers inherit.
 *
 * A worker pays for each page that it is the first to write to.  What the
 * nursery has freed lies in holes all over its heap, and a worker's many small
 * blocks would go there, a page each.  So the nursery fills the holes before it
 * forks, and a worker's blocks lie side by side behind them.
 */
#ifndef CORDON_WORKER_HEAP_H
#define CORDON_WORKER_HEAP_H

/* Once, at the start. */
void heap_init(void);

/* Fills the holes that there are now, and only those. */
void heap_settle(void);

#endif
