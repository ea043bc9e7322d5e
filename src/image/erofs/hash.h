/* A hash table of arena references, keyed against flooding: names come from hostile layers. */
#pragma once

#include <stdbool.h>

#include "image/erofs/arena.h"

struct refmap {
        struct arena *arena;
        uint64_t key[2];
        uint32_t table; /* arena: capacity x struct slot */
        uint32_t capacity, count;
        /* Whether the object `ref` has this key. */
        bool (*equal)(const struct arena *a, uint32_t ref, uint32_t scope, const void *key,
                      size_t n);
};

/* SipHash-1-3 over scope and key. */
uint64_t refmap_hash(const struct refmap *m, uint32_t scope, const void *key, size_t n);

/* Draws the secret key. `equal` is set by the caller. */
int refmap_init(struct refmap *m, struct arena *arena, struct cc_err *err);

/* The reference, or 0. */
uint32_t refmap_find(const struct refmap *m, uint32_t scope, const void *key, size_t n);

/* Insert an object under its key, which is not in the map. */
int refmap_add(struct refmap *m, uint32_t scope, const void *key, size_t n, uint32_t ref,
               struct cc_err *err);
