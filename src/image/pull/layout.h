/* An unpacked image archive as a source: which image, its manifest, its layer files. */
#pragma once

#include "image/pull/archive.h"
#include "image/pull/digest.h"
#include "image/pull/manifest.h"

struct layout {
        char digest[DIGEST_TEXT_LEN + 1]; /* of the image manifest, or made from the layers */
        struct manifest manifest;
        struct image_config config;
        struct cc_strv files; /* layer files, bottom to top */
};
void layout_clear(struct layout *l); /* also the cleanup function */
#define LAYOUT CC_CLEANUP(layout_clear)

/* Read the image called `name` (its tag or full name) from `dir`; a lone image needs no name. */
int layout_open(const char *dir, enum archive_kind kind, const char *name, struct layout *ret,
                struct cc_err *err);

/* The digest of an image that is only a list of layers (images.md §4): SHA-256 over their hex
 * strings. */
void layout_digest_of_layers(const struct descriptor *layers, size_t n,
                             char ret[DIGEST_TEXT_LEN + 1]);
