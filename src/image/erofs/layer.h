/*
 * One image layer, as a registry or archive delivers it, into one EROFS image, in one pass: read →
 * decompress → (ring) → hash, parse tar, map whiteouts, write. Spec: images.md §1.4 and §2; what
 * happens to each hostile or odd entry is the table in docs/layers.md.
 *
 * What does not live here: where the bytes come from, the compressed digest, publishing the result
 * and boot-file policy; the caller has callbacks for them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "image/erofs/erofs.h"

/* Written into records next to a blob; changes whenever the same tar would give other bytes. */
#define LAYER_BUILDER "cocoon-erofs/1"

/*
 * Where the layer's bytes come from: gzip (any number of members), zstd (any frames, skippable ones
 * too) or plain tar, decided by content.
 */
struct layer_source {
        void *ctx;
        /*
         * Up to n bytes into buf: the count, 0 at the end, or a negative class with *err filled;
         * that error comes back from layer_convert as it is. May block. Called from one other
         * thread that layer_convert starts and joins; always called until it returned 0, whatever
         * follows the archive, so a hash taken here covers every byte. After an error anywhere
         * it is not called again: to cancel, return one.
         */
        ssize_t (*read)(void *ctx, void *buf, size_t n, struct cc_err *err);
};

/*
 * Sees what passes by; every member may be NULL. Called on layer_convert's own thread in tar
 * order. Paths are normalised (no leading '/', no "." components, ""= the root), NUL-terminated and
 * raw bytes. A non-zero return from data or end is a negative class with *err filled and ends the
 * conversion.
 */
struct layer_observer {
        void *ctx;
        /* A regular file of `size` bytes begins: true to get its content through data and end. */
        bool (*want)(void *ctx, const char *path, uint64_t size, uint32_t mode);
        int (*data)(void *ctx, const void *buf, size_t n, struct cc_err *err); /* holes as zeroes */
        int (*end)(void *ctx, struct cc_err *err); /* the wanted file is complete */
        /* Another entry of any type took the place of `path` and what was below it (not called for
         * directories and for regular files, which announce themselves through want; a hard link
         * names its target). */
        void (*other)(void *ctx, const char *path, uint32_t mode, const char *hardlink);
        /* `path` is deleted from the layers below, or, if opaque, everything below `path`. */
        void (*whiteout)(void *ctx, const char *path, bool opaque);
        /* Uncompressed tar bytes consumed so far, about once a MiB. */
        void (*progress)(void *ctx, uint64_t bytes);
};

/* What the conversion found and made. Hashes are lower-case hex. */
struct layer_result {
        char diff_id[65];      /* SHA-256 of the uncompressed stream, to its very end */
        uint64_t tar_size;     /* its bytes */
        uint64_t source_size;  /* bytes read from the source */
        char erofs_sha256[65]; /* SHA-256 of the image */
        uint64_t size;         /* its bytes */
        uint64_t entries;      /* names in the image */
        uint64_t skipped;      /* entries of unknown type left out, with a warning each layer */
};

/*
 * Convert one layer into `out_fd`: an empty regular file, open for reading and writing (borrowed;
 * the caller syncs and publishes it, and removes it after an error). spool_dir: a directory on a
 * real disk for unlinked scratch. limits and observer may be NULL. Anonymous memory stays under 64
 * MiB whatever the layer. Errors: CC_INVALID for an entry or a limit refused (with the entry's
 * name), CC_CORRUPT for a damaged or cut stream, CC_NO_SPACE, CC_CANCELED on SIGINT or SIGTERM,
 * CC_IO; or what the source returned.
 */
int layer_convert(const struct layer_source *source, int out_fd, const char *spool_dir,
                  const struct erofs_limits *limits, const struct layer_observer *observer,
                  struct layer_result *ret, struct cc_err *err);
