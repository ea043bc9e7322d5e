/*
 * The EROFS writer: entries in, one image out, in one pass over the data. File data goes straight
 * to the output; names and attributes wait in file-backed memory and last partial blocks in a
 * temporary file, until finish() writes directories, attributes and inodes behind the data. The
 * image is a pure function of the entries, their order and the UUID.
 *
 * What does not live here: tar and OCI whiteout names (tar.h), merging of layers (flat.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define EROFS_MAX_ENTRIES_DEFAULT 5000000u

struct erofs_xattr {
        const char *name; /* full name: "security.capability" */
        const void *value;
        size_t size;
};

struct erofs_entry {
        const char *path; /* relative; "" and "." are the root; "." components are skipped */
        mode_t mode;      /* type and permissions; a hard link needs none */
        uint32_t uid, gid;
        int64_t mtime; /* seconds */
        uint32_t mtime_nsec;
        uint32_t major, minor;
        const char *target; /* text of a symbolic link, or path of a hard link's other name */
        bool hardlink;
        uint64_t size; /* regular files: exactly what data() will cover, holes included */
        const struct erofs_xattr *xattrs;
        size_t n_xattrs;
};

struct erofs_writer_args {
        int fd;               /* new, empty, seekable; not closed */
        const char *temp_dir; /* for unlinked temporary files */
        uint64_t max_bytes;   /* sum of file sizes; 0: unlimited */
        uint64_t max_entries; /* 0: EROFS_MAX_ENTRIES_DEFAULT */
        /* May be NULL. While finish() runs: the first `bytes` of the file will not change any
         * more. They ascend to the size of the image. */
        void (*settled)(void *ctx, uint64_t bytes);
        void *settled_ctx;
};

struct erofs_stats {
        uint64_t bytes; /* size of the image */
        uint64_t inodes;
        uint64_t entries; /* as given */
};

struct erofs_writer;

int erofs_writer_open(const struct erofs_writer_args *args, struct erofs_writer **ret,
                      struct cc_err *err);
void erofs_writer_close(struct erofs_writer *w); /* NULL is fine */
void erofs_writer_closep(struct erofs_writer **w);
#define EROFS_WRITER CC_CLEANUP(erofs_writer_closep)

/*
 * Add one entry. Its parents are resolved inside the tree, through symbolic links, as a runtime
 * unpacking below a root would; missing ones are made (0755, root, time 0). A later entry replaces
 * an earlier one; a directory over a directory only takes the new attributes. INVALID: "..",
 * components over 255 bytes, paths over 4095, a hard link to nothing or to a directory, a file used
 * as a directory, too many links on the way, limits exceeded.
 */
int erofs_writer_entry(struct erofs_writer *w, const struct erofs_entry *e, struct cc_err *err);

/* Data of the regular file that was added last; offsets ascend, gaps are holes. */
int erofs_writer_data(struct erofs_writer *w, const void *data, size_t n, uint64_t offset,
                      struct cc_err *err);

/* OCI markers (images.md §2.2): `dir` is the path of the directory, resolved like a parent. */
int erofs_writer_whiteout(struct erofs_writer *w, const char *dir, const char *name,
                          struct cc_err *err);
int erofs_writer_opaque(struct erofs_writer *w, const char *dir, struct cc_err *err);

/* Write everything that is left. The caller syncs and publishes the file. */
int erofs_writer_finish(struct erofs_writer *w, const uint8_t uuid[16], struct erofs_stats *ret,
                        struct cc_err *err);
