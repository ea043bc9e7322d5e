/*
 * A small reader of the EROFS that we write: uncompressed inodes, flat data. Enough to find and
 * copy boot files; blobs from other builders with compressed data are refused when such data is
 * needed. Every offset comes from a file that may be damaged, so each read is bounded by the file's
 * size.
 *
 * On disk (little endian): superblock at 1024; inode `nid` at meta_blkaddr * block + nid * 32, 32
 * or 64 bytes, then extended attributes, then (inline layout) the tail of the data; directories are
 * blocks of 12-byte entries followed by their names.
 */
#include "image/pull/blobtree.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cursor.h"
#include "base/fs.h"

enum {
        SUPER_OFF = 1024,
        SUPER_LEN = 128,
        SLOT = 32,
        INODE_COMPACT = 32,
        INODE_EXTENDED = 64,
        DIRENT = 12,
        LAYOUT_FLAT_PLAIN = 0,
        LAYOUT_FLAT_INLINE = 2,
        XATTR_HEADER = 12,
        XATTR_INDEX_TRUSTED = 4,
        XATTR_MAX = 1 << 16,
        DIR_MAX = 64 << 20,
        COPY_CHUNK = 1 << 18,
};

#define EROFS_MAGIC 0xE0F5E1E2u

struct blob {
        char *path;
        int fd;
        int64_t size;
        uint32_t block;
        uint64_t root;
        uint64_t meta_off, xattr_off;
};

struct blobtree {
        struct blob *blobs;
        size_t n;
};

struct inode {
        uint32_t mode, layout;
        uint64_t size;
        uint64_t data;  /* byte offset of the full blocks */
        uint64_t xattr; /* byte offset of the attributes */
        uint32_t xattr_len;
        uint64_t tail; /* byte offset of the inline tail */
        uint32_t rdev;
};

static int bad(const struct blob *b, const char *what, struct cc_err *err)
{
        return cc_fail(err, CC_CORRUPT, "blob %s: %s", cc_basename(b->path), what);
}

static int read_at(const struct blob *b, uint64_t off, void *buf, size_t n, struct cc_err *err)
{
        if (off > (uint64_t)b->size || n > (uint64_t)b->size - off)
                return bad(b, "an offset lies outside the file", err);
        return cc_pread_all(b->fd, buf, n, (off_t)off, err);
}

static int open_blob(const char *path, struct blob *b, struct cc_err *err)
{
        uint8_t raw[SUPER_LEN] = { 0 };
        struct cc_cursor c = cc_cursor_init(raw, sizeof(raw));
        struct stat st;
        uint64_t bits;
        int r;

        b->path = xstrdup(path);
        b->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (b->fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        if (fstat(b->fd, &st) < 0)
                return cc_fail_errno(err, errno, "stat %s", path);
        b->size = st.st_size;
        r = read_at(b, SUPER_OFF, raw, sizeof(raw), err);
        if (r < 0)
                return r;
        if (cc_cursor_le(&c, 4) != EROFS_MAGIC)
                return bad(b, "not an EROFS file system", err);
        (void)cc_cursor_seek(&c, 12);
        bits = cc_cursor_le(&c, 1);
        if (bits < 9 || bits > 16)
                return bad(b, "impossible block size", err);
        b->block = 1u << bits;
        (void)cc_cursor_seek(&c, 14);
        b->root = cc_cursor_le(&c, 2);
        (void)cc_cursor_seek(&c, 40);
        b->meta_off = cc_cursor_le(&c, 4) * b->block;
        b->xattr_off = cc_cursor_le(&c, 4) * b->block;
        return 0;
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

static int read_inode(const struct blob *b, uint64_t nid, struct inode *ret, struct cc_err *err)
{
        uint8_t raw[INODE_EXTENDED] = { 0 };
        struct cc_cursor c = cc_cursor_init(raw, sizeof(raw));
        uint64_t off;
        uint64_t format;
        uint64_t icount;
        uint64_t base;
        bool extended;
        int r;

        if (nid > (uint64_t)b->size / SLOT)
                return bad(b, "an inode number lies outside the file", err);
        off = b->meta_off + nid * SLOT;
        r = read_at(b, off, raw, INODE_COMPACT, err);
        if (r < 0)
                return r;
        format = cc_cursor_le(&c, 2);
        icount = cc_cursor_le(&c, 2);
        *ret = (struct inode){ .mode = (uint32_t)cc_cursor_le(&c, 2) };
        extended = format & 1;
        if (extended) {
                r = read_at(b, off, raw, INODE_EXTENDED, err);
                if (r < 0)
                        return r;
        }
        (void)cc_cursor_seek(&c, 8);
        ret->size = cc_cursor_le(&c, extended ? 8 : 4);
        (void)cc_cursor_seek(&c, 16);
        ret->rdev = (uint32_t)cc_cursor_le(&c, 4);
        ret->layout = (uint32_t)(format >> 1) & 7;
        ret->data = (uint64_t)ret->rdev * b->block;
        base = off + (extended ? INODE_EXTENDED : INODE_COMPACT);
        ret->xattr = base;
        ret->xattr_len = icount ? (uint32_t)(XATTR_HEADER + (icount - 1) * 4) : 0;
        ret->tail = base + ret->xattr_len;
        return 0;
}

/* n bytes of a file at `off`; the caller keeps inside the size. */
static int read_data(const struct blob *b, const struct inode *inode, uint64_t off, void *buf,
                     size_t n, struct cc_err *err)
{
        uint8_t *p = buf;
        uint64_t tail_start = inode->size;

        if (inode->layout == LAYOUT_FLAT_INLINE)
                /* The last block, full or not, sits behind the inode. */
                tail_start = inode->size ? (inode->size - 1) / b->block * b->block : 0;
        else if (inode->layout != LAYOUT_FLAT_PLAIN)
                return cc_fail(err, CC_UNSUPPORTED,
                               "blob %s has compressed files: another builder made it",
                               cc_basename(b->path));
        if (off < tail_start) {
                size_t k = n < tail_start - off ? n : (size_t)(tail_start - off);
                int r = read_at(b, inode->data + off, p, k, err);

                if (r < 0)
                        return r;
                p += k;
                off += k;
                n -= k;
        }
        return n ? read_at(b, inode->tail + (off - tail_start), p, n, err) : 0;
}

/* Called for each name of a directory; non-zero ends the walk and is returned. */
typedef int (*dirent_fn)(void *ctx, const char *name, size_t n, uint64_t nid);

static int walk_block(const struct blob *b, const uint8_t *block, size_t len, dirent_fn fn,
                      void *ctx, struct cc_err *err)
{
        struct cc_cursor c = cc_cursor_init(block, len);
        size_t first;
        size_t count;

        (void)cc_cursor_seek(&c, 8);
        first = (size_t)cc_cursor_le(&c, 2);
        if (c.bad || first < DIRENT || first % DIRENT || first > len)
                return bad(b, "damaged directory", err);
        count = first / DIRENT;
        for (size_t i = 0; i < count; i++) {
                size_t from;
                size_t to = len;
                uint64_t nid;
                int r;

                (void)cc_cursor_seek(&c, i * DIRENT);
                nid = cc_cursor_le(&c, 8);
                from = (size_t)cc_cursor_le(&c, 2);
                if (i + 1 < count) {
                        (void)cc_cursor_seek(&c, (i + 1) * DIRENT + 8);
                        to = (size_t)cc_cursor_le(&c, 2);
                }
                if (c.bad || from < first || to > len || from >= to)
                        return bad(b, "damaged directory", err);
                r = fn(ctx, (const char *)block + from,
                       strnlen((const char *)block + from, to - from), nid);
                if (r)
                        return r;
        }
        return 0;
}

static int walk_dir(const struct blob *b, const struct inode *dir, dirent_fn fn, void *ctx,
                    struct cc_err *err)
{
        CC_FREE uint8_t *block = xmalloc(b->block);

        if (dir->size > DIR_MAX)
                return bad(b, "a directory is too large", err);
        for (uint64_t off = 0; off < dir->size; off += b->block) {
                size_t len = dir->size - off < b->block ? (size_t)(dir->size - off) : b->block;
                int r = read_data(b, dir, off, block, len, err);

                if (r == 0)
                        r = walk_block(b, block, len, fn, ctx, err);
                if (r)
                        return r;
        }
        return 0;
}

struct wanted {
        const char *name;
        size_t n;
        uint64_t nid;
};

static int match_name(void *ctx, const char *name, size_t n, uint64_t nid)
{
        struct wanted *w = ctx;

        if (n != w->n || memcmp(name, w->name, n) != 0)
                return 0;
        w->nid = nid;
        return 1;
}

/* 1 found, 0 absent. */
static int find_path(const struct blob *b, const char *path, struct inode *ret, uint64_t *ret_nid,
                     struct cc_err *err)
{
        uint64_t nid = b->root;
        int r = read_inode(b, nid, ret, err);

        while (r == 0 && *path) {
                struct wanted w = { .name = path, .n = strcspn(path, "/") };

                if (!S_ISDIR(ret->mode))
                        return 0;
                r = walk_dir(b, ret, match_name, &w, err);
                if (r <= 0)
                        return r;
                nid = w.nid;
                r = read_inode(b, nid, ret, err);
                path += w.n;
                path += *path == '/' ? 1 : 0;
        }
        if (r < 0)
                return r;
        *ret_nid = nid;
        return 1;
}

/* Is the entry at the cursor trusted.overlay.opaque=y? Moves behind it. */
static bool entry_is_opaque(struct cc_cursor *c)
{
        static const char name[] = "overlay.opaque";
        uint64_t name_len = cc_cursor_le(c, 1);
        uint64_t index = cc_cursor_le(c, 1);
        uint64_t value_len = cc_cursor_le(c, 2);
        const uint8_t *p = cc_cursor_get(c, name_len);
        const uint8_t *value = cc_cursor_get(c, value_len);
        size_t used = 4 + (size_t)name_len + (size_t)value_len;

        (void)cc_cursor_get(c, (4 - used % 4) % 4);
        return p && value && index == XATTR_INDEX_TRUSTED && name_len == sizeof(name) - 1 &&
               memcmp(p, name, name_len) == 0 && value_len == 1 && *value == 'y';
}

static int is_opaque(const struct blob *b, const struct inode *inode, bool *ret, struct cc_err *err)
{
        CC_FREE uint8_t *raw = NULL;
        struct cc_cursor c;
        uint64_t shared;
        int r;

        *ret = false;
        if (inode->xattr_len < XATTR_HEADER)
                return 0;
        raw = xmalloc(inode->xattr_len);
        r = read_at(b, inode->xattr, raw, inode->xattr_len, err);
        if (r < 0)
                return r;
        c = cc_cursor_init(raw, inode->xattr_len);
        (void)cc_cursor_seek(&c, 4);
        shared = cc_cursor_le(&c, 1);
        (void)cc_cursor_seek(&c, XATTR_HEADER);
        for (uint64_t i = 0; i < shared; i++) {
                uint8_t entry[64] = { 0 };
                struct cc_cursor e = cc_cursor_init(entry, sizeof(entry));
                uint64_t off = b->xattr_off + cc_cursor_le(&c, 4) * 4;
                size_t n = sizeof(entry);

                if (c.bad || off >= (uint64_t)b->size)
                        return bad(b, "damaged extended attributes", err);
                /* The opaque mark is short: what does not fit here is another attribute. */
                if (n > (uint64_t)b->size - off)
                        n = (size_t)((uint64_t)b->size - off);
                r = read_at(b, off, entry, n, err);
                if (r < 0)
                        return r;
                *ret |= entry_is_opaque(&e);
        }
        while (cc_cursor_left(&c) >= 4)
                *ret |= entry_is_opaque(&c);
        return 0;
}

static int tree_lookup(void *ctx, size_t layer, const char *path, struct node *ret,
                       struct cc_err *err)
{
        const struct blobtree *t = ctx;
        const struct blob *b = &t->blobs[layer];
        struct inode inode;
        int r = find_path(b, path, &inode, &ret->id, err);

        if (r <= 0) {
                ret->type = NODE_ABSENT;
                return r;
        }
        ret->size = (int64_t)inode.size;
        ret->opaque = false;
        if (S_ISREG(inode.mode) && ret->size >= 0) {
                ret->type = NODE_FILE;
        } else if (S_ISDIR(inode.mode)) {
                ret->type = NODE_DIR;
                return is_opaque(b, &inode, &ret->opaque, err);
        } else {
                ret->type = S_ISCHR(inode.mode) && inode.rdev == 0 ? NODE_WHITEOUT : NODE_OTHER;
        }
        return 0;
}

static int add_name(void *ctx, const char *name, size_t n, uint64_t nid)
{
        struct cc_strv *list = ctx;

        if (!(n == 1 && name[0] == '.') && !(n == 2 && memcmp(name, "..", 2) == 0))
                cc_strv_take(list, xstrndup(name, n));
        return 0;
}

static int tree_list(void *ctx, size_t layer, const char *dir, struct cc_strv *ret,
                     struct cc_err *err)
{
        const struct blobtree *t = ctx;
        const struct blob *b = &t->blobs[layer];
        struct inode inode;
        uint64_t nid;
        int r = find_path(b, dir, &inode, &nid, err);

        if (r <= 0 || !S_ISDIR(inode.mode))
                return r < 0 ? r : 0;
        return walk_dir(b, &inode, add_name, ret, err);
}

struct layer_tree blobtree_view(struct blobtree *t)
{
        return (struct layer_tree){ .n = t->n, .ctx = t, .lookup = tree_lookup, .list = tree_list };
}

int blobtree_copy(struct blobtree *t, const struct boot_file *file, int fd, struct cc_err *err)
{
        const struct blob *b = &t->blobs[file->layer];
        CC_FREE char *buf = xmalloc(COPY_CHUNK);
        struct inode inode;
        int r = read_inode(b, file->node.id, &inode, err);

        for (uint64_t off = 0; r == 0 && off < inode.size;) {
                size_t n = inode.size - off < COPY_CHUNK ? (size_t)(inode.size - off) : COPY_CHUNK;

                r = read_data(b, &inode, off, buf, n, err);
                if (r == 0)
                        r = cc_write_all(fd, buf, n, err);
                off += n;
        }
        return r;
}
