/*
 * Memory that is a file: the tree of a layer may have millions of entries, and page cache gives way
 * under pressure where the heap does not. References are 32-bit counts of 8 bytes; 0 is none. Space
 * is allocated on disk before it is mapped, so a full disk is an error here and never a SIGBUS.
 *
 * What is mapped counts as the process's memory although the kernel could take it back at any time.
 * So that nobody has to argue about that, it is unmapped when it has become much: see arena_tick().
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct arena {
        uint8_t *base; /* a reserved range: pointers stay valid */
        size_t used, mapped;
        int fd;
        struct arena_trim *trim;
};

struct arena_trim {
        unsigned ticks;
        int statm; /* -1: no way to know */
        size_t page;
};

/* An unlinked temporary file in `dir`. */
int temp_file(const char *dir, int *ret, struct cc_err *err);

int arena_open(struct arena *a, const char *dir, struct cc_err *err);
void arena_close(struct arena *a);

/* n zeroed bytes. NO_SPACE when the disk or the range is full. */
int arena_alloc(struct arena *a, size_t n, uint32_t *ret, struct cc_err *err);

void arena_trim(const struct arena *a);

/* To be called for every few references that are followed, wherever they may point. Pointers stay
 * valid; the next use of one may have to bring its page back. */
static inline void arena_tick(const struct arena *a)
{
        if (++a->trim->ticks % 64 == 0)
                arena_trim(a);
}

static inline void *arena_at(const struct arena *a, uint32_t ref)
{
        return a->base + (size_t)ref * 8;
}
