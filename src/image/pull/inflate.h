/* Decompression by content, one layer of it: gunzip.h, or libarchive's filters, which only this
 * opens. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Which compressions may occur. A layer may not be, say, uuencoded just because a filter exists. */
enum inflate_set {
        INFLATE_LAYER,  /* gzip (all members), zstd (all frames, also skippable ones), plain */
        INFLATE_DISK,   /* gzip, zstd, xz, plain */
        INFLATE_KERNEL, /* gzip, xz, lzma, bzip2, zstd, LZ4 (also legacy frames) */
};

/* Bytes of the compressed stream: up to n into buf; *ret 0 at the end. */
typedef int (*inflate_source_fn)(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err);

struct inflate;

/* `what` names the object in errors and must outlive the stream, like ctx. */
int inflate_open(enum inflate_set set, inflate_source_fn source, void *ctx, const char *what,
                 struct inflate **ret, struct cc_err *err);

/* Next plain bytes; *ret 0 at the end. INVALID for a damaged stream, or the source's own error. */
int inflate_read(struct inflate *s, void *buf, size_t n, size_t *ret, struct cc_err *err);

/* Compressed bytes taken from the source so far. */
int64_t inflate_consumed(const struct inflate *s);

void inflate_close(struct inflate *s);
void inflate_closep(struct inflate **s); /* cleanup function */
#define INFLATE CC_CLEANUP(inflate_closep)
