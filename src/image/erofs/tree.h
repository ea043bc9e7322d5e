/*
 * The tree of a layer in file-backed memory: inodes, directory entries, extended attributes, and
 * the path rules. Writing it out is writer.c's and meta.c's.
 */
#pragma once

#include "image/erofs/erofs.h"
#include "image/erofs/format.h"
#include "image/erofs/hash.h"

#define REF_NONE 0u

enum {                   /* inode flags */
       IF_INLINE = 1,    /* the last partial block goes behind the inode */
       IF_OPAQUE = 2,    /* directory: hides what lower layers have */
       IF_REACHABLE = 4, /* set while finishing */
};

/* One inode. References are arena references. */
struct tinode {
        uint64_t size;
        uint64_t tail; /* offset of the last partial block in the spool */
        uint64_t nid;
        int64_t mtime;
        uint32_t mtime_nsec;
        uint32_t mode, uid, gid, nlink, rdev;
        uint32_t blkaddr;
        uint32_t next;      /* in order of arrival */
        uint32_t parent;    /* directories */
        uint32_t dirents;   /* directories: list, newest first until it is sorted */
        uint32_t n_dirents; /* directories: list length, entries without inode included */
        uint32_t target;    /* symbolic links: NUL-terminated text */
        uint32_t xattrs;    /* struct txattrs */
        uint32_t flags;
};

enum {                  /* name flags */
       DF_WHITEOUT = 1, /* the inode is a whiteout */
       DF_HIDES = 2,    /* the layer removes the lower layers' entry, whatever replaces it */
};

/* One name. inode REF_NONE: removed again. */
struct tdirent {
        uint32_t next, parent, inode;
        uint16_t name_len;
        uint16_t flags;
        char name[];
};

/* One distinct attribute, shared by all inodes that have it. */
struct txattr {
        uint32_t refs;   /* reachable inodes; counted while finishing */
        uint32_t shared; /* 1 + offset/4 in the shared area, 0: not there */
        uint16_t value_len;
        uint8_t name_len, index;
        uint8_t bytes[]; /* name, then value: as in the image */
};

struct txattrs {
        uint32_t n;
        uint32_t refs[]; /* sorted by index and name */
};

struct tree {
        struct arena arena;
        struct refmap names;  /* (parent, name) → tdirent */
        struct refmap xattrs; /* bytes → txattr */
        uint32_t root;
        uint32_t first, last;          /* inodes in order of arrival */
        uint64_t entries, max_entries; /* inodes and hard links, replaced ones included */
};

int tree_open(struct tree *t, const char *temp_dir, uint64_t max_entries, struct cc_err *err);
void tree_close(struct tree *t);

static inline struct tinode *tree_inode(const struct tree *t, uint32_t ref)
{
        return arena_at(&t->arena, ref);
}

static inline struct tdirent *tree_dirent(const struct tree *t, uint32_t ref)
{
        return arena_at(&t->arena, ref);
}

/* The directory `path` (a parent: links followed, missing directories made). */
int tree_dir(struct tree *t, const char *path, size_t len, uint32_t *ret, struct cc_err *err);

/* Split at the last component: the directory, made if missing, and the name. Name length 0: the
 * path is the root itself. */
int tree_parent(struct tree *t, const char *path, uint32_t *ret_dir, const char **ret_name,
                size_t *ret_len, struct cc_err *err);

/* An existing non-directory by path, parents resolved without making any; REF_NONE if absent. */
int tree_lookup(struct tree *t, const char *path, uint32_t *ret, struct cc_err *err);

/* The entry for a name, made without inode if missing. */
int tree_name(struct tree *t, uint32_t dir, const char *name, size_t len, uint32_t *ret,
              struct cc_err *err);

/* Give a name its inode: the real entry wins over a whiteout. */
void tree_put(struct tree *t, uint32_t name, uint32_t inode);

/* One more inode or hard link; INVALID beyond the limit. */
int tree_count(struct tree *t, struct cc_err *err);

int tree_new_inode(struct tree *t, uint32_t mode, uint32_t *ret, struct cc_err *err);

/* Replace an inode's attributes. INVALID for names or sizes the format cannot hold; attributes of
 * namespaces that a layer must not set are dropped. `extra` is one more (NULL: none). */
int tree_set_xattrs(struct tree *t, uint32_t inode, const struct erofs_xattr *x, size_t n,
                    struct cc_err *err);
int tree_add_xattr(struct tree *t, uint32_t inode, const struct erofs_xattr *x, struct cc_err *err);

/* Bytes the attributes take behind the inode; `inline_all`: as if none were shared. */
size_t tree_xattr_size(const struct tree *t, const struct tinode *inode, bool inline_all);
