/* The layers of an image as a tree to search (boot.h), read from their EROFS blobs. */
#pragma once

#include "image/pull/boot.h"

struct blobtree;

/* Open the blob files, bottom to top. CORRUPT for a file that is not a blob we can read. */
int blobtree_open(const struct cc_strv *paths, struct blobtree **ret, struct cc_err *err);
void blobtree_close(struct blobtree *t);
void blobtree_closep(struct blobtree **t); /* cleanup function */
#define BLOBTREE CC_CLEANUP(blobtree_closep)

/* For boot_choose(); valid while `t` is open. */
struct layer_tree blobtree_view(struct blobtree *t);

/* Write a file's bytes to fd (at its position). CORRUPT if the blob ends early. */
int blobtree_copy(struct blobtree *t, const struct boot_file *file, int fd, struct cc_err *err);
