/*
 * Which kernel and initramfs an image boots with (images.md §1.5): candidates over all layers as
 * the guest would see them, paired by version. Works on an abstract tree; blobs are read elsewhere.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum node_type { NODE_ABSENT, NODE_FILE, NODE_DIR, NODE_WHITEOUT, NODE_OTHER };

struct node {
        enum node_type type;
        bool opaque; /* a directory that hides those below */
        uint64_t id; /* for whoever reads the file */
        int64_t size;
};

/* Layers 0 (bottom) to n-1. Paths have no leading slash; "" is the root. */
struct layer_tree {
        size_t n;
        void *ctx;
        /* ABSENT is an answer, not an error. */
        int (*lookup)(void *ctx, size_t layer, const char *path, struct node *ret,
                      struct cc_err *err);
        /* Names in a directory; an absent one has none. */
        int (*list)(void *ctx, size_t layer, const char *dir, struct cc_strv *ret,
                    struct cc_err *err);
};

struct boot_file {
        char *path; /* "boot/vmlinuz-6.1.0-18" */
        size_t layer;
        struct node node;
};
void boot_file_clear(struct boot_file *f);

/* Resolve `path` as overlayfs would, without following symbolic links. False when there is no
 * regular file. */
int boot_resolve(const struct layer_tree *tree, const char *path, struct boot_file *ret,
                 bool *ret_found, struct cc_err *err);

/*
 * Choose kernel and initramfs. With labels (NULL: none) exactly those paths. Otherwise regular
 * files vmlinuz* and initrd.img* of / and /boot, not ending in ".old": the highest version that has
 * both; if no version has, a single kernel and a single initramfs. INVALID, listing the candidates,
 * when that gives no pair.
 */
int boot_choose(const struct layer_tree *tree, const char *kernel_label, const char *initrd_label,
                struct boot_file *ret_kernel, struct boot_file *ret_initrd, struct cc_err *err);
