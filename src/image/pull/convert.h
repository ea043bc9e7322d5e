/*
 * One layer from compressed bytes to an EROFS file: decompression, the digest of the plain tar, the
 * bounds against bombs, and the writer of erofs/. Where the bytes come from is the caller's.
 */
#pragma once

#include "config/config.h"
#include "image/pull/digest.h"
#include "image/pull/inflate.h"

struct built_layer {
        char erofs_sha256[DIGEST_HEX_LEN + 1];
        char diff_id[DIGEST_TEXT_LEN + 1];
};

/* "cocoon-erofs/1": recorded with every blob (images.md §2.4). */
const char *convert_builder(void);

/*
 * Convert the layer read from `source` into the new file `out`. `diff_id` (may be NULL) is what the
 * plain tar must have. On failure `out` is removed. INVALID or CORRUPT blame the bytes; IO and
 * NO_SPACE this host.
 */
int convert_layer(const struct config *config, inflate_source_fn source, void *ctx,
                  const char *diff_id, const char *out, struct built_layer *ret,
                  struct cc_err *err);
