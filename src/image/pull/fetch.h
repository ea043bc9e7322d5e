/* Bytes of a registry: small objects into memory, layers into a stage, always digest-checked. */
#pragma once

#include "image/pull/auth.h"
#include "image/pull/manifest.h"
#include "image/pull/stage.h"

typedef void (*fetch_progress_fn)(void *ctx, int64_t bytes);

/*
 * Fetch a manifest or index by tag or digest. When `digest` is given the bytes must have it.
 * *ret_digest receives the digest of the bytes (DIGEST_TEXT_LEN + 1).
 */
int fetch_manifest(struct registry *g, struct http *h, const char *target, const char *digest,
                   struct http_response *ret, char *ret_digest, struct cc_err *err);

/* Fetch a small blob (at most MANIFEST_MAX) into memory. Caller frees *ret. */
int fetch_small_blob(struct registry *g, struct http *h, const struct descriptor *d, char **ret,
                     size_t *ret_len, struct cc_err *err);

/*
 * Download a layer into `s`: size and SHA-256 are verified over the bytes as they come; a broken or
 * stalled connection resumes behind the last of them. Tries are counted anew after progress.
 * Does not end the stage. *ret_resumed tells that the bytes come from several answers.
 */
int fetch_layer(struct registry *g, struct http *h, const struct descriptor *d, struct stage *s,
                fetch_progress_fn progress, void *ctx, bool *ret_resumed, struct cc_err *err);
