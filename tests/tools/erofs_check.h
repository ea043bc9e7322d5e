/*
 * An independent reader of the images our writer makes, for tests: it shares no code with
 * src/image/erofs. erofs_check() walks everything and names the first rule that is broken; the rest
 * looks things up.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct erofs_image {
        const uint8_t *bytes;
        size_t len;
};

struct erofs_node {
        uint64_t nid, size, at, xattr_size; /* at: offset of the inode in the image */
        uint32_t mode, uid, gid, nlink, rdev, block, nsec;
        int64_t mtime;
        bool is_inline;
};

/* NULL, or what is wrong (a static buffer). */
const char *erofs_check(const struct erofs_image *image);

/* By path from the root, no links followed. */
bool erofs_find(const struct erofs_image *image, const char *path, struct erofs_node *ret);

/* Content of a file or text of a symbolic link; *ret is malloc()ed, with a NUL behind it. */
bool erofs_content(const struct erofs_image *image, const struct erofs_node *node, uint8_t **ret);

/* Size of an attribute's value (full name), -1 if it has none; *ret points into the image. */
long erofs_xattr_get(const struct erofs_image *image, const struct erofs_node *node,
                     const char *name, const uint8_t **ret);

/* Number of names but "." and ".."; -1 when it is no directory. */
long erofs_count(const struct erofs_image *image, const char *path);
