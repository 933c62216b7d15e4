#include "worker/text.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ipc/fd.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

#define LARGE_PAGE ((uintptr_t)2 << 20)

/* A copy that nobody can write to any more.  It is never mapped writable, so no page ever is both. */
static bool
copy_sealed(const char *start, size_t size, size_t room, int *copy)
{
    int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

    *copy = memfd_create("cordon text", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return *copy >= 0 && ftruncate(*copy, (off_t)room) == 0 &&
           pwrite(*copy, start, size, 0) == (ssize_t)size && fcntl(*copy, F_ADD_SEALS, seals) == 0;
}

/* [start, start + room) has nothing in it but these size bytes. */
static void
move(char *start, size_t size, size_t room, int protection)
{
    int copy;

    /* This very code is replaced by its equal while it runs. */
    if (copy_sealed(start, size, room, &copy) &&
        mmap(start, room, protection, MAP_PRIVATE | MAP_FIXED, copy, 0) != MAP_FAILED)
        (void)madvise(start, room, MADV_COLLAPSE);
    fd_close(&copy);
}

static uintptr_t
round_up(uintptr_t n)
{
    return (n + LARGE_PAGE - 1) & ~(LARGE_PAGE - 1);
}

static bool
is_free(const struct dl_phdr_info *program, uintptr_t start, uintptr_t end)
{
    for (int i = 0; i < program->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &program->dlpi_phdr[i];
        uintptr_t at = program->dlpi_addr + segment->p_vaddr;

        if (segment->p_type == PT_LOAD && at < end && at + segment->p_memsz > start)
            return false;
    }
    return true;
}

static int
on_program(struct dl_phdr_info *program, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    for (int i = 0; i < program->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &program->dlpi_phdr[i];
        uintptr_t start = program->dlpi_addr + segment->p_vaddr;
        uintptr_t end = start + segment->p_memsz;

        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W) ||
            segment->p_memsz < LARGE_PAGE / 2 || start % LARGE_PAGE != 0 ||
            !is_free(program, end, round_up(end)))
            continue;
        move((char *)start, segment->p_memsz, round_up(end) - start,
             segment->p_flags & PF_X ? PROT_READ | PROT_EXEC : PROT_READ);
    }
    return 1; /* the first one is this program */
}

void
text_to_large_pages(void)
{
    (void)dl_iterate_phdr(on_program, NULL);
}
