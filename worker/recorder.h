/*
 * The flight recorder: a worker's page of the board, which the manager reads
 * after the worker's death.
 */
#ifndef CORDON_WORKER_RECORDER_H
#define CORDON_WORKER_RECORDER_H

#include "ipc/board.h"
#include "worker/worker_fsm.h"

/* Writes an event, and then the state after it. */
void recorder_note(struct board_page *page, enum worker_state state, enum worker_event event,
                   uint64_t size);

/* Plaintext moved so far. */
void recorder_bytes(struct board_page *page, uint64_t in, uint64_t out);

#endif
