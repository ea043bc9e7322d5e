/*
 * The merged blob of an OCI image (images.md §10.1): naming, locking, building, recording. How
 * layers merge is ../erofs/flat.h.
 *
 * Theory of operation. The blob's name follows from the layers' digests, its bytes from the layers'
 * bytes, so it is made at most once and never replaced. One process makes it under the exclusive
 * lock of its name while shared locks keep the layers; others wait for the lock, then find it. It
 * appears by rename, complete and synced. The record gets it in the same way a pulled layer gets
 * there: blob first, record second; what a crash leaves between the two is found by the next call
 * or taken by gc.
 */
#pragma once

#include "image/module.h"
#include "image/pull/digest.h"

/* The name: hex SHA-256 of "flat1\n" and the layer digests (sha256:<hex>, bottom to top) joined by
 * "\n". INVALID without layers. */
int flatten_name(const struct image_record *image, char ret[DIGEST_HEX_LEN + 1],
                 struct cc_err *err);

/*
 * image_module.flatten: make the blob unless it exists and set image->flat, also in the store if
 * the record there still stands for the same manifest. On failure nothing is left behind and *image
 * is as before.
 */
int image_flatten(const struct image_env *env, struct image_record *image, struct cc_err *err);
