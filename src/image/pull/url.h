/*
 * A large file from a URL (images.md §3): several ranges at a time, resumed where a connection or a
 * process broke, judged by its first bytes before the rest is fetched.
 *
 * The file grows in place; beside it a journal notes which parts are complete, so that a later call
 * of the same boot can go on. Both belong to the caller's lock.
 */
#pragma once

#include "base/err.h"
#include "config/config.h"
#include "image/pull/cancel.h"

struct url_fetch {
        const struct config *config; /* pull_conns, cloudimg_max_size */
        struct cancel *cancel;
        const char *url;
        const char *path;    /* the file; what an earlier call left there is used */
        const char *journal; /* stays until the caller needs the file no more */
        void (*progress)(void *ctx, int64_t bytes, int64_t total); /* total 0: unknown */
        void *ctx;
};

/*
 * Complete `path`. On failure *ret_resumable tells whether the next call could go on from what is
 * there; if not, both files are gone. Errors: NETWORK, TIMEOUT, CANCELED (may be resumed);
 * INVALID for what is no disk image or too large; CORRUPT when the file changed meanwhile.
 */
int url_fetch(const struct url_fetch *f, bool *ret_resumable, struct cc_err *err);
