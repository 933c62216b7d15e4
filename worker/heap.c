#include "worker/heap.h"

#include <malloc.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* What a worker's blocks take, and more than any hole has. */
enum { ROOM = 1 << 20, LARGEST = 1 << 16, SMALLEST = 1 << 4 };

void
heap_init(void)
{
    /* One heap: large blocks lie in it too, and what is free stays. */
    mallopt(M_MMAP_THRESHOLD, ROOM);
    mallopt(M_TRIM_THRESHOLD, 2 * ROOM);
}

#ifndef CORDON_SANITIZED /* whose heap is another one */

/* A block that fills a hole. */
struct filling {
    struct filling *next;
};

static struct filling *fillings;

static void
fill_holes(uintptr_t end, size_t size)
{
    struct filling *f;

    while ((f = malloc(size)) != NULL && (uintptr_t)f < end) {
        f->next = fillings;
        fillings = f;
    }
    free(f);
}

void
heap_settle(void)
{
    void *end;

    while (fillings != NULL) {
        struct filling *next = fillings->next;

        free(fillings);
        fillings = next;
    }
    end = malloc(ROOM - 64);
    for (size_t size = LARGEST; end != NULL && size >= SMALLEST; size /= 2)
        fill_holes((uintptr_t)end, size);
    free(end);
}

#else

void
heap_settle(void)
{
}

#endif
