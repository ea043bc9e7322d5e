/*
 * Our own EROFS images: the streaming writer and the bounds-checked reader (images.md §2).
 *
 * The writer takes entries in any order and writes one image front to back: block 0 holds the
 * superblock and the root inode; then come, in the order of arrival, the full blocks of each file
 * and, in groups, the inodes with their last partial block ("tail") packed behind them; the
 * directories and the shared xattrs close the image. The bytes are a pure function of the calls:
 * no clock, no host name lookup, no hash seed reaches them.
 *
 * Format: 4 KiB blocks, uncompressed, 64-byte extended inodes throughout (each keeps its own
 * mtime), flat-plain and flat-inline layouts, no incompatible feature bit: every kernel from 5.10
 * on reads it. build_time is 0, the superblock checksum is set.
 *
 * What does not live here: tar, compression and whiteout names (layer.h), merging layers (flat.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define EROFS_PATH_MAX   4096 /* bytes of an entry's path, as it comes */
#define EROFS_NAME_MAX   255  /* bytes of one component */
#define EROFS_TARGET_MAX 4095 /* bytes of a symbolic link's target; the kernel takes no more */
#define EROFS_XATTRS_MAX 255  /* xattrs of one inode; the on-disk count is one byte */

/* Bounds on what a foreign stream may make us store. A zero member takes its default. */
struct erofs_limits {
        uint64_t entries;  /* names, implied directories included; default 5,000,000 */
        uint64_t unpacked; /* bytes of file content, holes included, and xattrs; default 64 GiB */
        uint64_t ratio;    /* layer_convert: uncompressed / compressed, looked at from 1 GiB on;
                              default 500 */
};

/* One extended attribute with its full name ("user.a"). Namespaces: user, trusted, security,
 * system.posix_acl_access, system.posix_acl_default. Value: at most 65,535 bytes. */
struct erofs_xattr {
        const char *name;
        const void *value;
        size_t len;
};

/* What an entry is, besides its name and content. */
struct erofs_meta {
        uint32_t mode; /* S_IFMT and permission bits; a symbolic link's permissions become 0777 */
        uint32_t uid;
        uint32_t gid;
        int64_t mtime;
        uint32_t mtime_nsec;
        uint32_t major, minor; /* block and character devices: at most 12 and 20 bits */
        const char *target;    /* symbolic links: NUL-terminated, 1 … EROFS_TARGET_MAX bytes */
        const struct erofs_xattr *xattrs; /* sorted or not; no name twice */
        size_t n_xattrs;
};

/* What came out. */
struct erofs_stats {
        uint64_t entries;  /* live names in the image, the root not counted */
        uint64_t size;     /* bytes of the image, a multiple of 4096 */
        uint64_t unpacked; /* bytes of file content taken in */
};

struct erofs_writer;

/*
 * A writer into `fd`: an empty regular file open for reading and writing (borrowed; neither synced
 * nor closed). Bookkeeping goes to an unlinked file in `spool_dir`, mapped shared, so that it is
 * page cache and not anonymous memory; about 100 bytes and the name per entry. Errors: CC_IO and
 * its kin; CC_NO_SPACE.
 */
int erofs_writer_new(int fd, const char *spool_dir, const struct erofs_limits *limits,
                     struct erofs_writer **ret, struct cc_err *err);

/* Free the writer and its spool; NULL is fine. Does not touch fd. */
void erofs_writer_free(struct erofs_writer *w);
static inline void erofs_writer_freep(struct erofs_writer **w)
{
        erofs_writer_free(*w);
}

/*
 * Paths: `path` is `len` raw bytes, components separated by '/'; leading '/' and "." components are
 * dropped, ".." is refused (CC_INVALID), as are components over 255 bytes and paths over 4096.
 * Missing parents become directories 0755 root:root with mtime 0. A parent that is a symbolic
 * link in this image is followed inside the image's root (at most 40 times), as container
 * runtimes do; any other non-directory parent is CC_INVALID.
 * An entry replaces an earlier one of its name together with everything below it; a directory over
 * a directory only takes the new metadata. A path that comes down to nothing is the root, which
 * must be a directory.
 */

/* Add anything but a regular file. */
int erofs_writer_add(struct erofs_writer *w, const char *path, size_t len,
                     const struct erofs_meta *meta, struct cc_err *err);

/* Begin a regular file of `size` bytes; erofs_writer_data() and erofs_writer_file_end() follow.
 * CC_NO_SPACE if the file system of fd cannot take `size` more bytes, holes included. */
int erofs_writer_file(struct erofs_writer *w, const char *path, size_t len,
                      const struct erofs_meta *meta, uint64_t size, struct cc_err *err);

/* The next bytes of the file at `offset`, which never goes backwards; gaps read as zeroes and cost
 * no disk. CC_INVALID past the size. */
int erofs_writer_data(struct erofs_writer *w, uint64_t offset, const void *data, size_t n,
                      struct cc_err *err);
int erofs_writer_file_end(struct erofs_writer *w, struct cc_err *err);

/* A further name for an entry that exists and is no directory; both paths as above. Linking a name
 * to itself changes nothing. CC_INVALID if there is no such entry. */
int erofs_writer_link(struct erofs_writer *w, const char *path, size_t len, const char *target,
                      size_t target_len, struct cc_err *err);

/* `path` was deleted (images.md §2.2): a character device 0:0 unless this image has, or gets, an
 * entry of that name; such a directory becomes opaque instead. A directory that ends up
 * holding a whiteout gets the empty xattr trusted.overlay.origin. */
int erofs_writer_whiteout(struct erofs_writer *w, const char *path, size_t len, struct cc_err *err);

/* The directory `path` (made if missing) hides what lies below it: trusted.overlay.opaque=y. */
int erofs_writer_opaque(struct erofs_writer *w, const char *path, size_t len, struct cc_err *err);

/* Lay out the directories and finish the image. The writer is of no use afterwards. */
int erofs_writer_finish(struct erofs_writer *w, const uint8_t uuid[16], struct erofs_stats *ret,
                        struct cc_err *err);

/* RFC 9562 version-5 UUID in the URL name space. */
void erofs_uuid_v5(const char *name, uint8_t ret[16]);

/* CRC-32C, seed and result not inverted (the superblock's way: seed ~0). */
uint32_t erofs_crc32c(uint32_t seed, const void *data, size_t n);
