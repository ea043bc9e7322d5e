/*
 * Flat mode (images.md §10.1): the layers of an image merged into one, as overlayfs would show
 * them.
 *
 * Per name the topmost layer that has it decides. A whiteout there: the name is gone. A file: that
 * file. A directory: its attributes are the topmost one's, its content is merged from all layers
 * down to the first that is opaque there, or has no directory there but something else. Hard links
 * are those of one layer; a name that an upper layer replaced leaves the others alone. An opaque
 * root hides nothing: overlayfs pays no heed to it, and a VM must see one tree in both forms.
 *
 * The result has no whiteouts and no trusted.overlay.* attributes. It is a pure function of the
 * layers' trees: entries are written depth first, each directory's names in byte order.
 */
#pragma once

#include "image/erofs/reader.h"

/* Goes to the caller now and then with the bytes of file data copied so far; non-zero stops. */
typedef int (*erofs_flat_fn)(void *ctx, uint64_t bytes, struct cc_err *err);

/*
 * Merge n layers, bottom to top, into a fresh writer; the caller finishes it. Memory: one block per
 * layer and, per level of depth, a hundred bytes per layer; hard links are remembered in a
 * temporary file in `temp_dir`. CORRUPT and UNSUPPORTED name the layer; INVALID what the writer
 * cannot take.
 */
int erofs_flatten(const struct erofs_reader *layers, size_t n, struct erofs_writer *w,
                  const char *temp_dir, erofs_flat_fn progress, void *ctx, struct cc_err *err);
