/*
 * A VMM's binary: finding it, and remembering what it said of itself. Asking costs processes, so an
 * answer is kept under the cache directory and holds as long as path, modification time and size
 * stay the same. What is asked, and what an answer must look like, is each driver's.
 */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/json.h"

struct hv_binary {
        char *path;       /* absolute, or as configured */
        int64_t mtime_ns; /* since the epoch */
        int64_t size;     /* bytes */
};

void hv_binary_clear(struct hv_binary *b); /* also the cleanup function */
#define HV_BINARY CC_CLEANUP(hv_binary_clear)

/* Find `name` (a name looked up in PATH, or a path). Messages begin with `vmm`; `fix` is the hint
 * of the UNAVAILABLE error when there is none. */
int hv_binary_find(const char *vmm, const char *name, const char *fix, struct hv_binary *ret,
                   struct cc_err *err);

/* The answer that was remembered for exactly this file (owned by the caller), NULL if there is
 * none. cache_dir NULL or "": nothing is cached. The file may have been written by anybody's
 * version: the caller checks every field. */
json_t *hv_binary_recall(const struct hv_binary *b, const char *cache_dir, const char *file);

/* Remember `answer` (borrowed). Best effort: a cache that cannot be written costs time, nothing
 * else. */
void hv_binary_remember(const struct hv_binary *b, const char *cache_dir, const char *file,
                        json_t *answer);
