/* Progress events from worker threads, one at a time and not more often than anyone can look. */
#pragma once

#include <pthread.h>

#include "image/module.h"

struct reporter {
        const struct image_env *env;
        size_t total; /* layers */
        pthread_mutex_t lock;
        int64_t last; /* time of the last transfer event */
};

/* One layer's view, to hand to fetch.h as context. */
struct reporter_layer {
        struct reporter *reporter;
        size_t index;
        const char *digest;
        int64_t total_bytes;
        int64_t last; /* time of the last event */
};

void reporter_init(struct reporter *r, const struct image_env *env, size_t total);
void reporter_free(struct reporter *r);
void reporter_phase(struct reporter *r, enum image_phase phase);

/* Bytes of a file that is no layer; total 0: unknown. Calls must not overlap. */
void reporter_transfer(struct reporter *r, enum image_phase phase, int64_t bytes, int64_t total);

/* A fetch_progress_fn; `ctx` is a struct reporter_layer. At most 20 events a second, and the last.
 */
void reporter_layer_bytes(void *ctx, int64_t bytes);
