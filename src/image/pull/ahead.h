/*
 * Reading ahead: a thread pulls from a source into a bounded ring while the reader works on what is
 * there, so that decompression and conversion of one layer overlap; a second thread can compute the
 * digest of what passes.
 */
#pragma once

#include "image/pull/digest.h"
#include "image/pull/inflate.h"

struct ahead;

/* Who computes the digest of what passes: the reader where that is all it does, else a thread of
 * its own. */
enum ahead_digest { AHEAD_BY_READER, AHEAD_BY_THREAD };

/* Start; from now on only our thread calls `source`. `digest` (NULL: none) gets every byte; it is
 * the caller's again once ahead_next() gave the end, or after ahead_stop(). */
int ahead_start(inflate_source_fn source, void *ctx, struct digest *digest, enum ahead_digest how,
                struct ahead **ret, struct cc_err *err);

/* The next bytes, in order; *ret stays valid until the next call. *ret_n 0 at the end; an error is
 * the source's own. `ahead` is a struct ahead: this is an erofs_source_fn. */
int ahead_next(void *ahead, const void **ret, size_t *ret_n, struct cc_err *err);

/* End the threads (they finish the call they are in) and free. NULL is fine. */
void ahead_stop(struct ahead *a);
void ahead_stopp(struct ahead **a); /* cleanup function */
#define AHEAD CC_CLEANUP(ahead_stopp)
