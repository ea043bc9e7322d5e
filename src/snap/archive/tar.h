/*
 * The tar of snapshots (state.md §5): ustar with pax records, sparse members by a record of our
 * own. Headers only; content goes through stream.h.
 */
#pragma once

#include "base/str.h"
#include "snap/archive/stream.h"

#define TAR_BLOCK 512

/* A data range of a sparse file. */
struct tar_range {
        int64_t offset, length;
};

enum tar_kind { TAR_END, TAR_FILE, TAR_DIR };

struct tar_member {
        enum tar_kind kind;
        char *name;   /* one leading "./" removed; checked for nothing else */
        int64_t size; /* bytes of content in the archive */
        bool sparse;
        struct tar_range *ranges;
        size_t n_ranges;
        int64_t logical; /* sparse: size of the file */
};
void tar_member_clear(struct tar_member *m); /* also the cleanup function */

/*
 * The next header. Links, devices and anything unknown are INVALID; a bad checksum, a malformed
 * number or record CORRUPT; the stream's end before the two blocks of zeroes `archive truncated`.
 */
int tar_next(struct source *s, struct tar_member *ret, struct cc_err *err);

/* Exactly n bytes of content, or `archive truncated`. */
int tar_read(struct source *s, void *buf, size_t n, struct cc_err *err);

/* What fills the last block behind `size` bytes of content. */
int tar_skip_padding(struct source *s, int64_t size, struct cc_err *err);

/* The header of a regular file; with ranges (may be none: all hole) of a sparse one. */
struct tar_file {
        const char *name;
        unsigned mode;
        int64_t mtime; /* seconds */
        int64_t size;  /* logical */
        bool sparse;
        const struct tar_range *ranges;
        size_t n_ranges;
};
int tar_put_header(struct sink *s, const struct tar_file *f, struct cc_err *err);
int tar_put_padding(struct sink *s, int64_t size, struct cc_err *err);
int tar_put_end(struct sink *s, struct cc_err *err);

/* Merge ranges across ever larger gaps until their record fits what every reader takes. *n
 * shrinks. */
void tar_fit_ranges(struct tar_range *ranges, size_t *n);
