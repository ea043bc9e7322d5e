/*
 * Directories as the format has them: names in byte order, "." and ".." among them, packed into
 * blocks of entries followed by their names. Where the blocks go is meta.c's.
 */
#pragma once

#include <stdbool.h>

#include "image/erofs/tree.h"

/* Relink the list of names in byte order, dropping those without an inode. Takes no memory beyond
 * the arena, however large the directory. */
void dir_sort(const struct tree *t, struct tinode *dir);

/* i_size of a sorted directory: whole blocks and the used bytes of the last. */
uint64_t dir_size(const struct tree *t, uint32_t ref);

/* Gets a block padded with zeros, and how much of it is used. */
typedef int (*dir_block_fn)(void *ctx, const uint8_t *block, size_t used, bool last,
                            struct cc_err *err);

/* Build the blocks of a sorted directory, whose inodes all have their nid, one after the other. The
 * first failure of `fn` ends it and is returned. */
int dir_blocks(const struct tree *t, uint32_t ref, dir_block_fn fn, void *ctx, struct cc_err *err);
