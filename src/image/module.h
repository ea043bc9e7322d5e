/*
 * The loadable image module (cocoon-image.so): everything that needs libcurl, libarchive or
 * libcrypto. The main binary opens it with cc_module_open("image") when a verb needs it.
 */
#pragma once

#include "base/module.h"
#include "config/config.h"
#include "image/image.h"
#include "meta/meta.h"

/* Progress of a pull, import or flatten; called from worker threads one at a time. */
enum image_phase {
        IMAGE_RESOLVE,
        IMAGE_LAYER,
        IMAGE_CONVERT,
        IMAGE_COMMIT,
        IMAGE_DONE,
        IMAGE_DOWNLOAD, /* of a cloud image: bytes and total_bytes only */
};
struct image_progress {
        enum image_phase phase;
        size_t index, total;        /* layer index and number of layers */
        const char *digest;         /* of the layer, or NULL */
        int64_t bytes, total_bytes; /* of the layer; total 0: unknown */
};
typedef void (*image_progress_fn)(void *ctx, const struct image_progress *p);

struct image_env {
        const struct config *config;
        struct meta *meta;          /* used from the calling thread only */
        image_progress_fn progress; /* may be NULL */
        void *progress_ctx;
};

struct image_module {
        struct cc_module_header header;

        /* Pull one image (OCI reference or URL). *ret: the committed record. `unchanged` (may be
         * NULL) tells that nothing had to be fetched. */
        int (*pull)(const struct image_env *env, const char *ref, bool force,
                    struct image_record *ret, bool *unchanged, struct cc_err *err);

        /* Import under `name`; no files: standard input. *ret_kind oci | cloudimg. */
        int (*import)(const struct image_env *env, const char *name, const char *const *files,
                      size_t n, char ret_kind[16], struct image_record *ret, struct cc_err *err);

        /* Make the merged blob of an OCI image (images.md §10.1) and record it; a no-op when it
         * exists. */
        int (*flatten)(const struct image_env *env, struct image_record *image, struct cc_err *err);

        /* Extract the ELF vmlinux of a kernel file (bzImage or ELF) atomically to `dest`. */
        int (*vmlinux)(const char *kernel, const char *dest, struct cc_err *err);

        /* SHA-256 of a file as lower-case hex. */
        int (*digest)(const char *path, char ret[65], struct cc_err *err);

        /* Files that are no images: tool_download() and tool_unpack() of pull/tool.h. */
        int (*download)(const char *url, const char *sha256, int64_t max, const char *dest,
                        struct cc_err *err);
        int (*unpack)(const char *archive, const char *name, int64_t max, const char *dest,
                      struct cc_err *err);
};
/* The module exports `const struct image_module cocoon_module_image`. */
