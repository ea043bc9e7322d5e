/*
 * The second half of the writer: everything behind the file data.
 *
 *   1. count links and mark what is reachable from the root, sort directories and measure them;
 *      overlay markers become attributes
 *   2. decide which attributes are shared (used by two or more inodes)
 *   3. give directories their blocks
 *   4. give every inode its place; one with an inline tail never crosses a block
 *   5. write the superblock, directory blocks, shared attributes, inodes
 *
 * A directory is always made after the one it is in, and never moves, so one pass in order of
 * arrival sees every directory before those below it. (A file may be older than the directory of a
 * later hard link: it is complete only after the whole pass.)
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/sys.h"
#include "image/erofs/dir.h"
#include "image/erofs/writer.h"

struct layout {
        struct erofs_writer *w;
        struct tree *t;
        uint64_t inodes;
        uint32_t xattr_block, meta_block;
        uint64_t meta_size;
        uint32_t shared_size;
};

static uint32_t next_inode(const struct tree *t, uint32_t ref)
{
        arena_tick(&t->arena);
        return tree_inode(t, ref)->next;
}

static int add_marker(struct tree *t, uint32_t ref, const char *name, const char *value,
                      struct cc_err *err)
{
        struct erofs_xattr x = { .name = name, .value = value, .size = strlen(value) };

        return tree_add_xattr(t, ref, &x, err);
}

static int mark_dir(struct tree *t, uint32_t ref, struct cc_err *err)
{
        struct tinode *dir = tree_inode(t, ref);
        bool whiteouts = false;
        int r = 0;

        for (uint32_t d = dir->dirents; d; d = tree_dirent(t, d)->next) {
                struct tinode *child;

                arena_tick(&t->arena);
                if (!tree_dirent(t, d)->inode)
                        continue;
                child = tree_inode(t, tree_dirent(t, d)->inode);
                child->flags |= IF_REACHABLE;
                if (S_ISDIR(child->mode)) {
                        child->nlink = 2;
                        dir->nlink++;
                } else {
                        child->nlink++;
                }
                whiteouts |= tree_dirent(t, d)->flags & DF_WHITEOUT;
        }
        /* Here, while its names are at hand: the next directory's may be anywhere. */
        dir_sort(t, dir);
        dir->size = dir_size(t, ref);
        if (dir->flags & IF_OPAQUE)
                r = add_marker(t, ref, "trusted.overlay.opaque", "y", err);
        /* Without it overlayfs lists the whiteouts of a directory that only one layer has. */
        if (r == 0 && whiteouts)
                r = add_marker(t, ref, "trusted.overlay.origin", "", err);
        return r;
}

static int mark(struct layout *l, struct cc_err *err)
{
        tree_inode(l->t, l->t->root)->flags |= IF_REACHABLE;
        tree_inode(l->t, l->t->root)->nlink = 2;
        for (uint32_t ref = l->t->first; ref; ref = next_inode(l->t, ref)) {
                struct tinode *inode = tree_inode(l->t, ref);

                if (inode->flags & IF_REACHABLE && S_ISDIR(inode->mode)) {
                        int r = mark_dir(l->t, ref, err);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static size_t entry_size(const struct txattr *x)
{
        return (EROFS_XATTR_ENTRY + (size_t)x->name_len + x->value_len + 3) & ~(size_t)3;
}

/* Shared ids are given in the order in which the attributes are met the second time. */
static int share_xattrs(struct layout *l, struct cc_err *err)
{
        for (uint32_t ref = l->t->first; ref; ref = next_inode(l->t, ref)) {
                const struct tinode *inode = tree_inode(l->t, ref);
                const struct txattrs *set;

                if (!(inode->flags & IF_REACHABLE) || !inode->xattrs)
                        continue;
                set = arena_at(&l->t->arena, inode->xattrs);
                for (uint32_t i = 0; i < set->n; i++) {
                        struct txattr *x = arena_at(&l->t->arena, set->refs[i]);

                        arena_tick(&l->t->arena);
                        if (++x->refs != 2)
                                continue;
                        if (l->shared_size > UINT32_MAX - 2 * 65536)
                                return cc_fail(err, CC_INVALID, "too many extended attributes");
                        x->shared = 1 + l->shared_size / 4;
                        l->shared_size += (uint32_t)entry_size(x);
                }
        }
        return 0;
}

/* Directory blocks follow the file data; a last partial block goes behind the inode if it fits
 * there. */
static int place_dirs(struct layout *l, struct cc_err *err)
{
        uint64_t block = output_pos(&l->w->out) / EROFS_BLOCK;

        for (uint32_t ref = l->t->first; ref; ref = next_inode(l->t, ref)) {
                struct tinode *dir = tree_inode(l->t, ref);
                uint64_t tail;

                if (!S_ISDIR(dir->mode) || !(dir->flags & IF_REACHABLE))
                        continue;
                tail = dir->size % EROFS_BLOCK;
                if (tail &&
                    EROFS_INODE_SIZE + tree_xattr_size(l->t, dir, false) + tail <= EROFS_BLOCK)
                        dir->flags |= IF_INLINE;
                if (dir->size >= EROFS_BLOCK || !(dir->flags & IF_INLINE))
                        dir->blkaddr = (uint32_t)block;
                block += dir->size / EROFS_BLOCK + (tail && !(dir->flags & IF_INLINE));
                if (block >= UINT32_MAX)
                        return cc_fail(err, CC_INVALID, "image would exceed 16 TiB");
        }
        l->xattr_block = (uint32_t)block;
        l->meta_block = l->xattr_block + (l->shared_size + EROFS_BLOCK - 1) / EROFS_BLOCK;
        return 0;
}

static uint64_t inode_head(const struct layout *l, const struct tinode *inode)
{
        return EROFS_INODE_SIZE + tree_xattr_size(l->t, inode, false);
}

static void place_inodes(struct layout *l)
{
        uint64_t pos = EROFS_ROOT_NID * EROFS_SLOT;

        for (uint32_t ref = l->t->first; ref; ref = next_inode(l->t, ref)) {
                struct tinode *inode = tree_inode(l->t, ref);
                uint64_t head;
                uint64_t tail;

                if (!(inode->flags & IF_REACHABLE))
                        continue;
                l->inodes++;
                head = inode_head(l, inode);
                tail = inode->flags & IF_INLINE ? inode->size % EROFS_BLOCK : 0;
                /* Older kernels call an inline symbolic link corrupt unless all of it, inode
                 * included, lies in one block. */
                if (tail && pos % EROFS_BLOCK + head + tail > EROFS_BLOCK)
                        pos = (pos + EROFS_BLOCK - 1) / EROFS_BLOCK * EROFS_BLOCK;
                inode->nid = pos / EROFS_SLOT;
                pos += head + tail;
                pos = (pos + EROFS_SLOT - 1) / EROFS_SLOT * EROFS_SLOT;
        }
        /* fsck.erofs reads an attribute header behind every inode, even the last without any. */
        l->meta_size = pos + EROFS_XATTR_HEADER;
}

struct dir_out {
        struct output *out;
        bool is_inline, tail; /* tail: write the last block and only it, without padding */
};

static int write_dir_block(void *ctx, const uint8_t *block, size_t used, bool last,
                           struct cc_err *err)
{
        struct dir_out *o = ctx;
        bool partial = last && o->is_inline && used < EROFS_BLOCK;

        if (partial != o->tail)
                return 0;
        return output_write(o->out, block, partial ? used : EROFS_BLOCK, err);
}

static int write_dirs(struct layout *l, struct cc_err *err)
{
        for (uint32_t ref = l->t->first; ref; ref = next_inode(l->t, ref)) {
                const struct tinode *dir = tree_inode(l->t, ref);
                struct dir_out o = { &l->w->out, dir->flags & IF_INLINE, false };
                int r;

                if (!S_ISDIR(dir->mode) || !(dir->flags & IF_REACHABLE) || dir->blkaddr == 0)
                        continue;
                r = dir_blocks(l->t, ref, write_dir_block, &o, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int write_xattr(struct output *o, const struct txattr *x, struct cc_err *err)
{
        uint8_t head[EROFS_XATTR_ENTRY];
        size_t n = (size_t)x->name_len + x->value_len;
        int r;

        head[0] = x->name_len;
        head[1] = x->index;
        put16(head + 2, x->value_len);
        r = output_write(o, head, sizeof(head), err);
        if (r == 0)
                r = output_write(o, x->bytes, n, err);
        return r < 0 ? r : output_zero(o, entry_size(x) - sizeof(head) - n, err);
}

/* In the order in which share_xattrs() gave the ids: an attribute is due when its turn comes again.
 */
static int write_shared(struct layout *l, struct cc_err *err)
{
        uint32_t next = 1;

        for (uint32_t ref = l->t->first; ref; ref = next_inode(l->t, ref)) {
                const struct tinode *inode = tree_inode(l->t, ref);
                const struct txattrs *set;

                if (!(inode->flags & IF_REACHABLE) || !inode->xattrs)
                        continue;
                set = arena_at(&l->t->arena, inode->xattrs);
                for (uint32_t i = 0; i < set->n; i++) {
                        const struct txattr *x = arena_at(&l->t->arena, set->refs[i]);
                        int r;

                        arena_tick(&l->t->arena);
                        if (x->shared != next)
                                continue;
                        r = write_xattr(&l->w->out, x, err);
                        if (r < 0)
                                return r;
                        next += (uint32_t)entry_size(x) / 4;
                }
        }
        return output_zero(&l->w->out, -(uint64_t)l->shared_size % EROFS_BLOCK, err);
}

static int write_xattrs(struct layout *l, const struct tinode *inode, struct cc_err *err)
{
        uint8_t head[EROFS_XATTR_HEADER] = { 0 };
        const struct txattrs *set;
        uint8_t id[4];
        int r = 0;

        if (!inode->xattrs)
                return 0;
        set = arena_at(&l->t->arena, inode->xattrs);
        for (uint32_t i = 0; i < set->n; i++)
                head[4] = (uint8_t)(head[4] +
                                    !!((struct txattr *)arena_at(&l->t->arena, set->refs[i]))
                                              ->shared);
        r = output_write(&l->w->out, head, sizeof(head), err);
        for (int shared = 1; r == 0 && shared >= 0; shared--) {
                for (uint32_t i = 0; r == 0 && i < set->n; i++) {
                        const struct txattr *x = arena_at(&l->t->arena, set->refs[i]);

                        if (!!x->shared != shared)
                                continue;
                        put32(id, x->shared - 1);
                        r = shared ? output_write(&l->w->out, id, sizeof(id), err)
                                   : write_xattr(&l->w->out, x, err);
                }
        }
        return r;
}

/* Tails were spooled in order of arrival: reading them is sequential. */
struct tail_reader {
        int fd;
        uint64_t base;
        size_t len;
        uint8_t *buf;
};

#define TAIL_BUFFER ((size_t)1 << 20)

static int read_tail(struct tail_reader *t, uint64_t off, size_t n, const uint8_t **ret,
                     struct cc_err *err)
{
        if (off < t->base || off + n > t->base + t->len) {
                size_t have = 0;

                while (have < TAIL_BUFFER) {
                        ssize_t r = pread(t->fd, t->buf + have, TAIL_BUFFER - have,
                                          (off_t)(off + have));

                        if (r < 0 && errno == EINTR)
                                continue;
                        if (r < 0)
                                return cc_fail_errno(err, errno, "read temporary file");
                        if (r == 0)
                                break;
                        have += (size_t)r;
                }
                t->base = off;
                t->len = have;
        }
        if (off + n > t->base + t->len)
                return cc_fail(err, CC_INTERNAL, "temporary file ends early");
        *ret = t->buf + (off - t->base);
        return 0;
}

static int write_inode(struct layout *l, uint32_t ref, uint32_t ino, struct tail_reader *tails,
                       struct cc_err *err)
{
        const struct tinode *inode = tree_inode(l->t, ref);
        size_t xattrs = tree_xattr_size(l->t, inode, false);
        size_t tail = inode->flags & IF_INLINE ? inode->size % EROFS_BLOCK : 0;
        uint8_t raw[EROFS_INODE_SIZE] = { 0 };
        struct dir_out o = { &l->w->out, true, true };
        const uint8_t *bytes = NULL;
        int r;

        put16(raw + IN_FORMAT, (uint16_t)(EROFS_FORMAT_EXTENDED |
                                          (tail ? EROFS_LAYOUT_INLINE : EROFS_LAYOUT_PLAIN) << 1));
        if (xattrs)
                put16(raw + IN_XATTR_ICOUNT, (uint16_t)(1 + (xattrs - EROFS_XATTR_HEADER) / 4));
        put16(raw + IN_MODE, (uint16_t)inode->mode);
        put64(raw + IN_SIZE, inode->size);
        put32(raw + IN_U,
              S_ISCHR(inode->mode) || S_ISBLK(inode->mode) ? inode->rdev : inode->blkaddr);
        put32(raw + IN_INO, ino);
        put32(raw + IN_UID, inode->uid);
        put32(raw + IN_GID, inode->gid);
        put64(raw + IN_MTIME, (uint64_t)inode->mtime);
        put32(raw + IN_MTIME_NSEC, inode->mtime_nsec);
        put32(raw + IN_NLINK, inode->nlink);
        r = output_write(&l->w->out, raw, sizeof(raw), err);
        if (r == 0)
                r = write_xattrs(l, inode, err);
        if (r < 0 || !tail)
                return r;
        if (S_ISDIR(inode->mode))
                return dir_blocks(l->t, ref, write_dir_block, &o, err);
        r = read_tail(tails, inode->tail, tail, &bytes, err);
        return r < 0 ? r : output_write(&l->w->out, bytes, tail, err);
}

static int write_inodes(struct layout *l, struct cc_err *err)
{
        CC_FREE uint8_t *buf = xmalloc(TAIL_BUFFER);
        struct tail_reader tails = { .fd = l->w->spool.fd, .buf = buf };
        uint64_t meta = (uint64_t)l->meta_block * EROFS_BLOCK;
        uint32_t ino = 0;

        for (uint32_t ref = l->t->first; ref; ref = next_inode(l->t, ref)) {
                const struct tinode *inode = tree_inode(l->t, ref);
                uint64_t at = meta + inode->nid * EROFS_SLOT;
                int r;

                if (!(inode->flags & IF_REACHABLE))
                        continue;
                r = output_zero(&l->w->out, at - output_pos(&l->w->out), err);
                if (r == 0)
                        r = write_inode(l, ref, ++ino, &tails, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* CRC-32C with an all-ones seed and no final inversion, as the kernel checks it. */
static uint32_t crc32c(const uint8_t *p, size_t n)
{
        uint32_t crc = ~0u;

        for (size_t i = 0; i < n; i++) {
                crc ^= p[i];
                for (int k = 0; k < 8; k++)
                        crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        }
        return crc;
}

static int write_superblock(struct layout *l, const uint8_t uuid[16], uint64_t blocks,
                            struct cc_err *err)
{
        uint8_t block[EROFS_BLOCK] = { 0 };
        uint8_t *sb = block + EROFS_SB_OFFSET;

        put32(sb + SB_MAGIC, EROFS_MAGIC);
        put32(sb + SB_COMPAT, EROFS_COMPAT_SB_CHKSUM | EROFS_COMPAT_MTIME);
        sb[SB_BLKSZBITS] = 12;
        put16(sb + SB_ROOT_NID, EROFS_ROOT_NID);
        put64(sb + SB_INOS, l->inodes);
        put32(sb + SB_BLOCKS, (uint32_t)blocks);
        put32(sb + SB_META_BLKADDR, l->meta_block);
        put32(sb + SB_XATTR_BLKADDR, l->xattr_block);
        memcpy(sb + SB_UUID, uuid, 16);
        put32(sb + SB_CHECKSUM, crc32c(sb, EROFS_BLOCK - EROFS_SB_OFFSET));
        return output_write_at(l->w->out.fd, block, sizeof(block), 0, err);
}

/* With every place given away the superblock is known, and all before the directories final. The
 * size comes first: what is still to be written reads as zeros then, as what never will. */
static int write_head(struct layout *l, const uint8_t uuid[16], uint64_t blocks, struct cc_err *err)
{
        struct output *o = &l->w->out;
        int r = output_flush(o, err);

        if (r < 0)
                return r;
        if (cc_sys.ftruncate(o->fd, (off_t)(blocks * EROFS_BLOCK)) < 0)
                return cc_fail_errno(err, errno, "set size of image");
        r = write_superblock(l, uuid, blocks, err);
        if (r < 0 || !l->w->settled)
                return r;
        o->written = l->w->settled;
        o->written_ctx = l->w->settled_ctx;
        o->written(o->written_ctx, o->base);
        return 0;
}

int erofs_write_metadata(struct erofs_writer *w, const uint8_t uuid[16], struct erofs_stats *ret,
                         struct cc_err *err)
{
        struct layout l = { .w = w, .t = &w->tree };
        uint64_t blocks;
        int r = mark(&l, err);

        if (r == 0)
                r = share_xattrs(&l, err);
        if (r == 0)
                r = place_dirs(&l, err);
        if (r < 0)
                return r;
        place_inodes(&l);
        blocks = l.meta_block + (l.meta_size + EROFS_BLOCK - 1) / EROFS_BLOCK;
        if (blocks >= UINT32_MAX || l.inodes >= UINT32_MAX)
                return cc_fail(err, CC_INVALID, "image would exceed 16 TiB");
        r = write_head(&l, uuid, blocks, err);
        if (r == 0)
                r = write_dirs(&l, err);
        if (r == 0)
                r = write_shared(&l, err);
        if (r == 0)
                r = write_inodes(&l, err);
        if (r == 0)
                r = output_flush(&w->out, err);
        if (r < 0)
                return r;
        if (w->settled)
                w->settled(w->settled_ctx, blocks * EROFS_BLOCK);
        *ret = (struct erofs_stats){ .bytes = blocks * EROFS_BLOCK,
                                     .inodes = l.inodes,
                                     .entries = w->tree.entries };
        return 0;
}
