/*
 * Reading ahead: a thread pulls from a source into a bounded ring while the reader works on what is
 * there, so that decompression and conversion of one layer overlap.
 */
#pragma once

#include "image/pull/inflate.h"

struct ahead;

/* Start the thread; from now on only it calls `source`. */
int ahead_start(inflate_source_fn source, void *ctx, struct ahead **ret, struct cc_err *err);

/* As an inflate_source_fn with the struct ahead as ctx: the bytes in order, then the source's own
 * error or its end. */
int ahead_read(void *ahead, void *buf, size_t n, size_t *ret, struct cc_err *err);

/* End the thread (it finishes the call it is in) and free. NULL is fine. */
void ahead_stop(struct ahead *a);
void ahead_stopp(struct ahead **a); /* cleanup function */
#define AHEAD CC_CLEANUP(ahead_stopp)
