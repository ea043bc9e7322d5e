/* What the two halves of the writer share: entries and data (writer.c), metadata (meta.c). */
#pragma once

#include "image/erofs/output.h"
#include "image/erofs/tree.h"

struct erofs_writer {
        struct tree tree;
        struct output out;   /* the image from block 1 on */
        struct output spool; /* last partial blocks, in order of arrival */
        uint64_t max_bytes, bytes;
        void (*settled)(void *ctx, uint64_t bytes); /* see erofs_writer_args */
        void *settled_ctx;

        /* The regular file being filled, REF_NONE between files. */
        uint32_t file;
        uint64_t done; /* bytes of it so far */
        uint8_t tail[EROFS_BLOCK];
};

/* Directories, attributes, inodes, superblock. */
int erofs_write_metadata(struct erofs_writer *w, const uint8_t uuid[16], struct erofs_stats *ret,
                         struct cc_err *err);
