/* A bounded number of threads over a list of items; the first failure stops all. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "image/pull/cancel.h"

/* `worker` is below the number of workers: an index for per-thread state. */
typedef int (*work_fn)(void *ctx, size_t worker, size_t item, struct cc_err *err);

/*
 * Run fn for items 0..n-1 on up to `workers` threads and wait for all. On a failure the switch is
 * fired, no further item starts, and the first failure that is not CANCELED is reported.
 */
int work_run(size_t n, size_t workers, struct cancel *cancel, work_fn fn, void *ctx,
             struct cc_err *err);
