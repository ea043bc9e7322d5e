/*
 * A reader of EROFS images as our writer makes them: uncompressed, 4 KiB blocks, compact or
 * extended inodes, flat data with or without an inline tail, inline and shared attributes. Images
 * of other builders open too; a file that is compressed or chunked is refused when its data is
 * asked for.
 *
 * The bytes are taken for hostile: every offset is checked against the size of the file, nothing
 * recurses, and CORRUPT is the answer to all that does not add up. Only pread is used, so one
 * reader serves several threads.
 *
 * What does not live here: the meaning of layers (flat.h, ../pull/blobtree.h).
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "image/erofs/erofs.h"
#include "image/erofs/format.h"

/* A path of this many components exceeds PATH_MAX. */
#define EROFS_MAX_DEPTH (PATH_MAX / 2u)

/* No resources of its own: nothing to close. */
struct erofs_reader {
        int fd;           /* borrowed; its position is not used except by erofs_next_data() */
        const char *name; /* borrowed; for messages */
        uint64_t size;
        uint64_t meta, xattrs; /* byte offsets of the areas */
        uint64_t root;         /* nid */
        uint64_t inodes;       /* as the superblock counts them */
        int64_t build_time;    /* mtime of compact inodes */
        uint32_t build_time_nsec;
        uint8_t uuid[16];
};

struct erofs_inode {
        uint64_t nid; /* names with the same nid are hard links of one file */
        uint64_t size;
        int64_t mtime;
        uint32_t mtime_nsec;
        uint32_t mode, uid, gid, nlink;
        uint32_t major, minor; /* devices */

        /* Where things are, in bytes; checked when the inode was read. */
        uint32_t layout;
        uint32_t xattrs_size; /* 0: none */
        uint64_t data, tail_start, tail, xattrs;
};

/* Check superblock and its checksum. CORRUPT: no EROFS, damaged or cut short; UNSUPPORTED: features
 * or a block size that our writer does not use. */
int erofs_reader_init(int fd, const char *name, struct erofs_reader *ret, struct cc_err *err);

/* Fill *ret from the inode `nid`. Data of regular files, directories and symbolic links lies inside
 * the file afterwards. */
int erofs_inode_get(const struct erofs_reader *r, uint64_t nid, struct erofs_inode *ret,
                    struct cc_err *err);

/* n bytes of a file at `off`; INVALID beyond its size, UNSUPPORTED for compressed data. */
int erofs_read(const struct erofs_reader *r, const struct erofs_inode *inode, uint64_t off,
               void *buf, size_t n, struct cc_err *err);

/* The first offset from `off` on that may hold anything but zeros: holes of the image file are
 * skipped. At most the size. */
uint64_t erofs_next_data(const struct erofs_reader *r, const struct erofs_inode *inode,
                         uint64_t off);

/* The text of a symbolic link: 1 to PATH_MAX - 1 bytes and a NUL. */
int erofs_readlink(const struct erofs_reader *r, const struct erofs_inode *inode,
                   char ret[PATH_MAX], struct cc_err *err);

struct erofs_dirent {
        const char *name; /* no NUL; in the buffer, valid until it is used again */
        size_t len;       /* 1 to 255; the name has neither NUL nor '/' */
        uint64_t nid;
        uint8_t type; /* enum erofs_ftype, as the entry has it */
};

/* Start at all zeros. A position can be kept and copied without its buffer. */
struct erofs_dirpos {
        uint64_t block; /* byte offset in the directory */
        uint32_t entry;
};

/* One directory block. One buffer serves any number of directories of one reader in turn. */
struct erofs_dirbuf {
        bool valid;
        uint64_t nid, block;
        size_t len;
        uint8_t data[EROFS_BLOCK];
};

/* The entry at *pos, which moves behind it: 1; 0 at the end. "." and ".." are entries like all.
 * The order is as on disk: whether it is sorted is the caller's to check (erofs_name_compare). */
int erofs_dir_next(const struct erofs_reader *r, const struct erofs_inode *dir,
                   struct erofs_dirpos *pos, struct erofs_dirbuf *buf, struct erofs_dirent *ret,
                   struct cc_err *err);

/* Order of names in a directory: bytes, then length. */
int erofs_name_compare(const char *a, size_t a_len, const char *b, size_t b_len);

static inline bool erofs_is_dots(const struct erofs_dirent *d)
{
        return d->name[0] == '.' && (d->len == 1 || (d->len == 2 && d->name[1] == '.'));
}

/* The directory-entry type of an inode; 0 for a mode that no entry can have. */
uint8_t erofs_file_type(uint32_t mode);

/* Find one name: 1 and its nid, or 0. */
int erofs_lookup(const struct erofs_reader *r, const struct erofs_inode *dir, const char *name,
                 size_t len, uint64_t *ret_nid, struct cc_err *err);

/* Attributes with full names, values copied. */
struct erofs_xattrs {
        struct erofs_xattr *v;
        size_t n;
};
int erofs_xattrs_get(const struct erofs_reader *r, const struct erofs_inode *inode,
                     struct erofs_xattrs *ret, struct cc_err *err);
void erofs_xattrs_clear(struct erofs_xattrs *x); /* also the cleanup function */
#define EROFS_XATTRS CC_CLEANUP(erofs_xattrs_clear)

/* The markers of layers (images.md §2.2). */
bool erofs_is_whiteout(const struct erofs_inode *inode);
bool erofs_is_opaque(const struct erofs_xattrs *x);

/*
 * Check the whole structure of the image in `fd`: every name leads to an inode of its type,
 * directories are sorted, "." and ".." right, each directory has one name, link counts and the
 * number of inodes agree, data, tails, link texts and attributes are where they can be. CORRUPT
 * says what is wrong first; file contents are not read.
 */
int erofs_reader_check(int fd, const char *name, struct cc_err *err);
