/* Sorting and packing of directories. See dir.h. */
#include "image/erofs/dir.h"

#include <string.h>
#include <sys/stat.h>

static bool in_order(const struct tdirent *a, const struct tdirent *b)
{
        size_t n = a->name_len < b->name_len ? a->name_len : b->name_len;
        int c = memcmp(a->name, b->name, n);

        return c ? c < 0 : a->name_len <= b->name_len;
}

static uint32_t merge(const struct tree *t, uint32_t a, uint32_t b)
{
        uint32_t head = REF_NONE;
        uint32_t *end = &head;

        while (a && b) {
                uint32_t *least;

                arena_tick(&t->arena);
                least = in_order(tree_dirent(t, a), tree_dirent(t, b)) ? &a : &b;

                *end = *least;
                end = &tree_dirent(t, *least)->next;
                *least = *end;
        }
        *end = a ? a : b;
        return head;
}

/* A merge sort of the list itself. */
void dir_sort(const struct tree *t, struct tinode *dir)
{
        uint32_t runs[32] = { REF_NONE }; /* run i is of 2^i names, or none */
        uint32_t next;
        uint32_t n = 0;
        uint32_t all = REF_NONE;

        for (uint32_t d = dir->dirents; d; d = next) {
                uint32_t run = d;
                unsigned i = 0;

                arena_tick(&t->arena);
                next = tree_dirent(t, d)->next;
                if (!tree_dirent(t, d)->inode)
                        continue;
                tree_dirent(t, d)->next = REF_NONE;
                for (; runs[i]; i++) {
                        run = merge(t, runs[i], run);
                        runs[i] = REF_NONE;
                }
                runs[i] = run;
                n++;
        }
        for (unsigned i = 0; i < CC_ARRAY_LEN(runs); i++)
                all = merge(t, runs[i], all);
        dir->dirents = all;
        dir->n_dirents = n;
}

/* Walks a directory's names in order, "." and ".." at their places among them. */
struct dir_iter {
        const struct tree *t;
        const struct tinode *dir;
        uint32_t self, next;
        unsigned dots; /* how many of "." and ".." are out */
};

struct dir_name {
        const char *name;
        size_t len;
        uint32_t inode;
};

static bool dots_first(const struct dir_iter *it)
{
        const struct tdirent *d;
        const char *dot = it->dots == 0 ? "." : "..";
        size_t n = it->dots == 0 ? 1 : 2;
        int c;

        if (it->dots == 2)
                return false;
        if (!it->next)
                return true;
        d = tree_dirent(it->t, it->next);
        c = memcmp(dot, d->name, n < d->name_len ? n : d->name_len);
        return c ? c < 0 : n < d->name_len;
}

static bool dir_next(struct dir_iter *it, struct dir_name *ret)
{
        const struct tdirent *d;

        if (dots_first(it)) {
                ret->name = it->dots == 0 ? "." : "..";
                ret->len = it->dots + 1;
                ret->inode = it->dots == 0 ? it->self : it->dir->parent;
                it->dots++;
                return true;
        }
        if (!it->next)
                return false;
        arena_tick(&it->t->arena);
        d = tree_dirent(it->t, it->next);
        *ret = (struct dir_name){ d->name, d->name_len, d->inode };
        it->next = d->next;
        return true;
}

static struct dir_iter dir_begin(const struct tree *t, uint32_t ref)
{
        const struct tinode *dir = tree_inode(t, ref);

        return (struct dir_iter){ .t = t, .dir = dir, .self = ref, .next = dir->dirents };
}

uint64_t dir_size(const struct tree *t, uint32_t ref)
{
        struct dir_iter it = dir_begin(t, ref);
        struct dir_name name;
        uint64_t blocks = 0;
        size_t used = 0;

        while (dir_next(&it, &name)) {
                if (used + EROFS_DIRENT_SIZE + name.len > EROFS_BLOCK) {
                        blocks++;
                        used = 0;
                }
                used += EROFS_DIRENT_SIZE + name.len;
        }
        return blocks * EROFS_BLOCK + used;
}

static uint8_t file_type(uint32_t mode)
{
        switch (mode & S_IFMT) {
        case S_IFREG:
                return FT_REG;
        case S_IFDIR:
                return FT_DIR;
        case S_IFCHR:
                return FT_CHR;
        case S_IFBLK:
                return FT_BLK;
        case S_IFIFO:
                return FT_FIFO;
        default:
                return FT_LNK;
        }
}

/* One directory block from the names in `names`. Returns its used size. */
static size_t build_block(const struct tree *t, const struct dir_name *names, size_t n,
                          uint8_t block[EROFS_BLOCK])
{
        size_t at = n * EROFS_DIRENT_SIZE;

        memset(block, 0, EROFS_BLOCK);
        for (size_t i = 0; i < n; i++) {
                const struct tinode *inode = tree_inode(t, names[i].inode);
                uint8_t *d = block + i * EROFS_DIRENT_SIZE;

                put64(d, inode->nid);
                put16(d + 8, (uint16_t)at);
                d[10] = file_type(inode->mode);
                memcpy(block + at, names[i].name, names[i].len);
                at += names[i].len;
        }
        return at;
}

int dir_blocks(const struct tree *t, uint32_t ref, dir_block_fn fn, void *ctx, struct cc_err *err)
{
        /* 12 + 1 bytes is the smallest entry. */
        struct dir_name names[EROFS_BLOCK / (EROFS_DIRENT_SIZE + 1)];
        struct dir_iter it = dir_begin(t, ref);
        uint8_t block[EROFS_BLOCK];
        struct dir_name name;
        size_t n = 0;
        size_t used = 0;

        while (dir_next(&it, &name)) {
                if (used + EROFS_DIRENT_SIZE + name.len > EROFS_BLOCK) {
                        int r = fn(ctx, block, build_block(t, names, n, block), false, err);

                        if (r < 0)
                                return r;
                        n = 0;
                        used = 0;
                }
                names[n++] = name;
                used += EROFS_DIRENT_SIZE + name.len;
        }
        return fn(ctx, block, build_block(t, names, n, block), true, err);
}
