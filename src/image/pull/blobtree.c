/*
 * Layer blobs as a tree of names for boot.c. The format is the reader's (../erofs/reader.h); here
 * is what a layer means: whiteouts, opaque directories.
 */
#include "image/pull/blobtree.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "image/erofs/reader.h"

#define COPY_CHUNK ((size_t)256 << 10)

struct blob {
        char *path;
        int fd;
        struct erofs_reader reader;
};

struct blobtree {
        struct blob *blobs;
        size_t n;
};

static int open_blob(const char *path, struct blob *b, struct cc_err *err)
{
        b->path = xstrdup(path);
        b->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (b->fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        return erofs_reader_init(b->fd, cc_basename(b->path), &b->reader, err);
}

int blobtree_open(const struct cc_strv *paths, struct blobtree **ret, struct cc_err *err)
{
        BLOBTREE struct blobtree *t = xcalloc(1, sizeof(*t));
        const char *path;

        t->blobs = xcalloc(paths->len + 1, sizeof(*t->blobs));
        cc_strv_foreach (paths, i, path) {
                int r;

                t->n++;
                r = open_blob(path, &t->blobs[i], err);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(t);
        return 0;
}

void blobtree_close(struct blobtree *t)
{
        if (!t)
                return;
        for (size_t i = 0; i < t->n; i++) {
                if (t->blobs[i].fd >= 0)
                        close(t->blobs[i].fd);
                free(t->blobs[i].path);
        }
        free(t->blobs);
        free(t);
}

void blobtree_closep(struct blobtree **t)
{
        blobtree_close(*t);
}

/* 1 found, 0 absent. */
static int find_path(const struct erofs_reader *r, const char *path, struct erofs_inode *ret,
                     struct cc_err *err)
{
        int e = erofs_inode_get(r, r->root, ret, err);

        while (e == 0 && *path) {
                size_t n = strcspn(path, "/");
                uint64_t nid;

                if (!S_ISDIR(ret->mode))
                        return 0;
                e = erofs_lookup(r, ret, path, n, &nid, err);
                if (e <= 0)
                        return e;
                e = erofs_inode_get(r, nid, ret, err);
                path += n;
                path += *path == '/' ? 1 : 0;
        }
        return e < 0 ? e : 1;
}

static int tree_lookup(void *ctx, size_t layer, const char *path, struct node *ret,
                       struct cc_err *err)
{
        const struct blobtree *t = ctx;
        const struct erofs_reader *r = &t->blobs[layer].reader;
        EROFS_XATTRS struct erofs_xattrs x = { 0 };
        struct erofs_inode inode;
        int e = find_path(r, path, &inode, err);

        if (e <= 0) {
                ret->type = NODE_ABSENT;
                return e;
        }
        ret->id = inode.nid;
        ret->size = (int64_t)inode.size;
        ret->opaque = false;
        if (S_ISDIR(inode.mode)) {
                ret->type = NODE_DIR;
                e = erofs_xattrs_get(r, &inode, &x, err);
                ret->opaque = e == 0 && erofs_is_opaque(&x);
                return e < 0 ? e : 0;
        }
        if (S_ISREG(inode.mode))
                ret->type = NODE_FILE;
        else
                ret->type = erofs_is_whiteout(&inode) ? NODE_WHITEOUT : NODE_OTHER;
        return 0;
}

static int tree_list(void *ctx, size_t layer, const char *dir, struct cc_strv *ret,
                     struct cc_err *err)
{
        const struct blobtree *t = ctx;
        const struct erofs_reader *r = &t->blobs[layer].reader;
        struct erofs_dirpos pos = { 0 };
        struct erofs_dirbuf buf = { 0 };
        struct erofs_inode inode;
        struct erofs_dirent d;
        int e = find_path(r, dir, &inode, err);

        if (e <= 0 || !S_ISDIR(inode.mode))
                return e < 0 ? e : 0;
        while ((e = erofs_dir_next(r, &inode, &pos, &buf, &d, err)) > 0)
                if (!erofs_is_dots(&d))
                        cc_strv_take(ret, xstrndup(d.name, d.len));
        return e;
}

struct layer_tree blobtree_view(struct blobtree *t)
{
        return (struct layer_tree){ .n = t->n, .ctx = t, .lookup = tree_lookup, .list = tree_list };
}

int blobtree_copy(struct blobtree *t, const struct boot_file *file, int fd, struct cc_err *err)
{
        const struct erofs_reader *r = &t->blobs[file->layer].reader;
        CC_FREE char *buf = xmalloc(COPY_CHUNK);
        struct erofs_inode inode;
        int e = erofs_inode_get(r, file->node.id, &inode, err);

        for (uint64_t off = 0; e == 0 && off < inode.size;) {
                size_t n = inode.size - off < COPY_CHUNK ? (size_t)(inode.size - off) : COPY_CHUNK;

                e = erofs_read(r, &inode, off, buf, n, err);
                if (e == 0)
                        e = cc_write_all(fd, buf, n, err);
                off += n;
        }
        return e;
}
