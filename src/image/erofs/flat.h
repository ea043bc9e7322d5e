/*
 * Flat mode (images.md §10.1): the converted layers of an image merged into one, for VMs whose
 * layers and devices exceed what a driver can attach. Upper layers win; whiteouts and opaque
 * directories act on the layers below and leave no trace; hard links keep their count within what
 * remains.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "image/erofs/erofs.h"

/* One converted layer. */
struct flat_layer {
        int fd;             /* the image, open for reading (borrowed) */
        const char *digest; /* "sha256:<hex>" or the bare hex of the layer */
};

/* The flat image's name: hex SHA-256 of "flat1\n" and the layers' hex digests joined by "\n",
 * bottom first. */
void flat_name(const struct flat_layer *layers, size_t n, char ret[65]);

/*
 * Merge `n` layers, bottom first, into `out_fd` (see layer_convert for out_fd, spool_dir and
 * limits). The UUID is the version-5 UUID of flat_name(). erofs_sha256 gets the image's hex
 * SHA-256. Errors: CC_CORRUPT (a layer's image is damaged; the digest is named), and those of the
 * writer.
 */
int flat_merge(const struct flat_layer *layers, size_t n, int out_fd, const char *spool_dir,
               const struct erofs_limits *limits, struct erofs_stats *ret, char erofs_sha256[65],
               struct cc_err *err);
