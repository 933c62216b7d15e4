#include "worker/recorder.h"

#include "ipc/clock.h"

void
recorder_note(struct board_page *page, enum worker_state state, enum worker_event event,
              uint64_t size)
{
    struct board_event *slot = &page->events[page->event_count % BOARD_EVENTS];

    slot->at_ms = clock_now_ms();
    slot->state = (uint32_t)state;
    slot->event = (uint32_t)event;
    slot->size = size;
    page->event_count++;
    /* Last, and not before the rest: the reader may come at any moment. */
    __atomic_store_n(&page->state, (uint32_t)state, __ATOMIC_RELEASE);
}

void
recorder_bytes(struct board_page *page, uint64_t in, uint64_t out)
{
    page->in = in;
    page->out = out;
}
