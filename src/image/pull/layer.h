/* One layer from a source (registry or layout directory) to an EROFS file in the scratch. */
#pragma once

#include "image/pull/convert.h"
#include "image/pull/fetch.h"

struct layer_request {
        const struct config *config;
        const struct descriptor *descriptor;
        const char *diff_id;        /* expected, or NULL */
        const char *stage;          /* file to stage the download in; removed afterwards */
        const char *out;            /* EROFS file to make */
        fetch_progress_fn progress; /* may be NULL */
        void *progress_ctx;
};

/*
 * Download and convert at the same time. When both fail the transfer is to blame: a converter sees
 * wrong bytes before their digest is known. Stitched bytes of a resumed download that turn out
 * wrong are fetched once more from the start.
 */
int layer_from_registry(const struct layer_request *rq, struct registry *g, struct http *h,
                        struct built_layer *ret, struct cc_err *err);

/* Verify and convert a blob file of an image layout. */
int layer_from_file(const struct layer_request *rq, const char *file, struct built_layer *ret,
                    struct cc_err *err);
