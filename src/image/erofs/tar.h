/*
 * A layer's tar into the writer: libarchive's tar reader on plain (uncompressed) bytes, OCI
 * whiteout names mapped, hostile entries refused (docs/layers.md). Decompression and digests are
 * the caller's.
 */
#pragma once

#include "image/erofs/erofs.h"

/* The next plain tar bytes, *ret_n 0 at the end. They stay valid until the next call. */
typedef int (*erofs_source_fn)(void *ctx, const void **ret, size_t *ret_n, struct cc_err *err);

/*
 * Read one tar to its end-of-archive marker and on to the end of the stream, adding every entry.
 * INVALID names the entry; the source's own error is passed through. The caller finishes the
 * writer.
 */
int erofs_add_tar(struct erofs_writer *w, erofs_source_fn source, void *ctx, struct cc_err *err);

/* Version-5 UUID in the URL namespace over a text: the identity of an image (images.md §2). */
void erofs_uuid(const char *text, uint8_t ret[16]);
