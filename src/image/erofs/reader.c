/* Superblock, inodes, data and directories. See reader.h; attributes are in readxattr.c. */
#include "image/erofs/reader.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/fs.h"
#include "image/erofs/readint.h"

/* Features whose files are recognised and refused one by one: up to long attribute prefixes. What
 * came later changes the inode itself. */
#define INCOMPAT_KNOWN 0x7fu

enum { /* compact inodes, where they differ from extended ones */
       COMPACT_SIZE = 32,
       COMPACT_NLINK = 6,
       COMPACT_UID = 24,
       COMPACT_GID = 26,
};

/* Files below this are read without looking for holes. */
#define SPARSE_MIN ((uint64_t)1 << 20)

int reader_bad(const struct erofs_reader *r, const char *what, struct cc_err *err)
{
        return cc_fail(err, CC_CORRUPT, "%s: %s", r->name, what);
}

int reader_pread(const struct erofs_reader *r, uint64_t off, void *buf, size_t n,
                 struct cc_err *err)
{
        if (off > r->size || n > r->size - off)
                return reader_bad(r, "an offset lies outside the file", err);
        return cc_pread_all(r->fd, buf, n, (off_t)off, err);
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

static uint64_t le(const uint8_t *base, size_t off, unsigned n)
{
        struct cc_cursor c = cc_cursor_init(base + off, n);

        return cc_cursor_le(&c, n);
}

static int check_super(struct erofs_reader *r, uint8_t *sb, struct cc_err *err)
{
        uint32_t checksum = (uint32_t)le(sb, SB_CHECKSUM, 4);
        uint64_t incompat = le(sb, SB_INCOMPAT, 4);

        if (le(sb, SB_MAGIC, 4) != EROFS_MAGIC)
                return reader_bad(r, "not an EROFS file system", err);
        if (sb[SB_BLKSZBITS] != 12)
                return cc_fail(err, CC_UNSUPPORTED, "%s: blocks are not of %u bytes", r->name,
                               EROFS_BLOCK);
        if (incompat & ~(uint64_t)INCOMPAT_KNOWN)
                return cc_fail(err, CC_UNSUPPORTED, "%s: unknown features 0x%llx", r->name,
                               (unsigned long long)incompat);
        if (le(sb, SB_COMPAT, 4) & EROFS_COMPAT_SB_CHKSUM) {
                put32(sb + SB_CHECKSUM, 0);
                if (crc32c(sb, EROFS_BLOCK - EROFS_SB_OFFSET) != checksum)
                        return reader_bad(r, "wrong checksum of the superblock", err);
        }
        if (le(sb, SB_BLOCKS, 4) * EROFS_BLOCK > r->size)
                return reader_bad(r, "the file is cut short", err);
        return 0;
}

int erofs_reader_init(int fd, const char *name, struct erofs_reader *ret, struct cc_err *err)
{
        struct erofs_reader r = { .fd = fd, .name = name };
        uint8_t sb[EROFS_BLOCK - EROFS_SB_OFFSET];
        struct stat st;
        int e;

        if (fstat(fd, &st) < 0)
                return cc_fail_errno(err, errno, "stat %s", name);
        if (!S_ISREG(st.st_mode) || st.st_size < (off_t)EROFS_BLOCK)
                return reader_bad(&r, "not an EROFS file system", err);
        r.size = (uint64_t)st.st_size;
        e = reader_pread(&r, EROFS_SB_OFFSET, sb, sizeof(sb), err);
        if (e == 0)
                e = check_super(&r, sb, err);
        if (e < 0)
                return e;
        r.root = le(sb, SB_ROOT_NID, 2);
        r.inodes = le(sb, SB_INOS, 8);
        r.build_time = (int64_t)le(sb, SB_BUILD_TIME, 8);
        r.build_time_nsec = (uint32_t)le(sb, SB_BUILD_TIME + 8, 4);
        r.meta = le(sb, SB_META_BLKADDR, 4) * EROFS_BLOCK;
        r.xattrs = le(sb, SB_XATTR_BLKADDR, 4) * EROFS_BLOCK;
        memcpy(r.uuid, sb + SB_UUID, sizeof(r.uuid));
        *ret = r;
        return 0;
}

uint8_t erofs_file_type(uint32_t mode)
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
        case S_IFSOCK:
                return FT_SOCK;
        case S_IFLNK:
                return FT_LNK;
        default:
                return 0;
        }
}

/* Where the data is. Of compressed and chunked files nothing is known. */
static int place_data(const struct erofs_reader *r, struct erofs_inode *inode, uint32_t u,
                      struct cc_err *err)
{
        uint64_t rest;

        inode->data = (uint64_t)u * EROFS_BLOCK;
        inode->tail_start = inode->size;
        if (inode->size > INT64_MAX)
                return reader_bad(r, "impossible file size", err);
        if (inode->layout != EROFS_LAYOUT_PLAIN && inode->layout != EROFS_LAYOUT_INLINE)
                return 0;
        if (inode->layout == EROFS_LAYOUT_INLINE && inode->size)
                /* The last block, full or not, sits behind the inode. */
                inode->tail_start = (inode->size - 1) / EROFS_BLOCK * EROFS_BLOCK;
        if (inode->tail_start &&
            (inode->data > r->size || inode->tail_start > r->size - inode->data))
                return reader_bad(r, "data of a file lies outside the image", err);
        rest = inode->size - inode->tail_start;
        if (rest && (inode->tail > r->size || rest > r->size - inode->tail))
                return reader_bad(r, "the end of a file lies outside the image", err);
        if (rest && inode->tail % EROFS_BLOCK + rest > EROFS_BLOCK)
                return reader_bad(r, "the end of a file crosses a block", err);
        return 0;
}

static void decode_extended(struct erofs_inode *inode, const uint8_t *raw)
{
        inode->size = le(raw, IN_SIZE, 8);
        inode->uid = (uint32_t)le(raw, IN_UID, 4);
        inode->gid = (uint32_t)le(raw, IN_GID, 4);
        inode->mtime = (int64_t)le(raw, IN_MTIME, 8);
        inode->mtime_nsec = (uint32_t)le(raw, IN_MTIME_NSEC, 4);
        inode->nlink = (uint32_t)le(raw, IN_NLINK, 4);
}

static void decode_compact(const struct erofs_reader *r, struct erofs_inode *inode,
                           const uint8_t *raw)
{
        inode->size = le(raw, IN_SIZE, 4);
        inode->uid = (uint32_t)le(raw, COMPACT_UID, 2);
        inode->gid = (uint32_t)le(raw, COMPACT_GID, 2);
        inode->nlink = (uint32_t)le(raw, COMPACT_NLINK, 2);
        inode->mtime = r->build_time;
        inode->mtime_nsec = r->build_time_nsec;
}

int erofs_inode_get(const struct erofs_reader *r, uint64_t nid, struct erofs_inode *ret,
                    struct cc_err *err)
{
        uint8_t raw[EROFS_INODE_SIZE] = { 0 };
        struct erofs_inode inode = { .nid = nid };
        uint32_t format;
        uint32_t icount;
        uint32_t u;
        uint64_t off;
        int e;

        if (nid > r->size / EROFS_SLOT)
                return reader_bad(r, "an inode lies outside the file", err);
        off = r->meta + nid * EROFS_SLOT;
        e = reader_pread(r, off, raw, COMPACT_SIZE, err);
        if (e < 0)
                return e;
        format = (uint32_t)le(raw, IN_FORMAT, 2);
        icount = (uint32_t)le(raw, IN_XATTR_ICOUNT, 2);
        inode.mode = (uint32_t)le(raw, IN_MODE, 2);
        inode.layout = format >> 1 & 7;
        u = (uint32_t)le(raw, IN_U, 4);
        if (!erofs_file_type(inode.mode))
                return reader_bad(r, "an inode has no file type", err);
        off += COMPACT_SIZE;
        if (format & EROFS_FORMAT_EXTENDED) {
                e = reader_pread(r, off, raw + COMPACT_SIZE, sizeof(raw) - COMPACT_SIZE, err);
                if (e < 0)
                        return e;
                off += sizeof(raw) - COMPACT_SIZE;
                decode_extended(&inode, raw);
        } else {
                decode_compact(r, &inode, raw);
        }
        if (inode.mtime_nsec >= 1000000000)
                return reader_bad(r, "impossible time of a file", err);
        inode.xattrs = off;
        inode.xattrs_size = icount ? EROFS_XATTR_HEADER + (icount - 1) * 4 : 0;
        inode.tail = off + inode.xattrs_size;
        if (S_ISREG(inode.mode) || S_ISDIR(inode.mode) || S_ISLNK(inode.mode)) {
                e = place_data(r, &inode, u, err);
                if (e < 0)
                        return e;
        } else if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode)) {
                /* linux/kdev_t.h new_decode_dev() */
                inode.major = u >> 8 & 0xfff;
                inode.minor = (u & 0xff) | (u >> 12 & 0xfff00);
        }
        *ret = inode;
        return 0;
}

int erofs_read(const struct erofs_reader *r, const struct erofs_inode *inode, uint64_t off,
               void *buf, size_t n, struct cc_err *err)
{
        uint8_t *p = buf;

        if (off > inode->size || n > inode->size - off)
                return cc_fail(err, CC_INVALID, "%s: read beyond the end of a file", r->name);
        if (inode->layout != EROFS_LAYOUT_PLAIN && inode->layout != EROFS_LAYOUT_INLINE)
                return cc_fail(err, CC_UNSUPPORTED,
                               "%s has compressed files: another builder made it", r->name);
        if (off < inode->tail_start) {
                uint64_t left = inode->tail_start - off;
                size_t k = n < left ? n : (size_t)left;
                int e = reader_pread(r, inode->data + off, p, k, err);

                if (e < 0)
                        return e;
                p += k;
                off += k;
                n -= k;
        }
        return n ? reader_pread(r, inode->tail + (off - inode->tail_start), p, n, err) : 0;
}

uint64_t erofs_next_data(const struct erofs_reader *r, const struct erofs_inode *inode,
                         uint64_t off)
{
        off_t at;

        if (inode->tail_start < SPARSE_MIN || off >= inode->tail_start)
                return off;
        at = lseek(r->fd, (off_t)(inode->data + off), SEEK_DATA);
        if (at < 0)
                return errno == ENXIO ? inode->tail_start : off;
        off = (uint64_t)at - inode->data;
        return off < inode->tail_start ? off : inode->tail_start;
}

int erofs_readlink(const struct erofs_reader *r, const struct erofs_inode *inode,
                   char ret[PATH_MAX], struct cc_err *err)
{
        int e;

        if (!S_ISLNK(inode->mode) || inode->size == 0 || inode->size >= PATH_MAX)
                return reader_bad(r, "impossible symbolic link", err);
        e = erofs_read(r, inode, 0, ret, (size_t)inode->size, err);
        if (e < 0)
                return e;
        ret[inode->size] = '\0';
        if (strlen(ret) != inode->size)
                return reader_bad(r, "a symbolic link has a NUL in its text", err);
        return 0;
}

static int load_block(const struct erofs_reader *r, const struct erofs_inode *dir, uint64_t block,
                      struct erofs_dirbuf *buf, struct cc_err *err)
{
        uint64_t left = dir->size - block;
        int e;

        if (buf->valid && buf->nid == dir->nid && buf->block == block)
                return 0;
        buf->valid = false;
        buf->len = left < EROFS_BLOCK ? (size_t)left : EROFS_BLOCK;
        e = erofs_read(r, dir, block, buf->data, buf->len, err);
        if (e < 0)
                return e;
        buf->nid = dir->nid;
        buf->block = block;
        buf->valid = true;
        return 0;
}

/* Entry i of the block: 1; 0 behind the last one. */
static int parse_entry(const struct erofs_reader *r, const struct erofs_dirbuf *buf, uint32_t i,
                       struct erofs_dirent *ret, struct cc_err *err)
{
        struct cc_cursor c = cc_cursor_init(buf->data, buf->len);
        size_t first;
        size_t from;
        size_t to = buf->len;

        (void)cc_cursor_seek(&c, 8);
        first = (size_t)cc_cursor_le(&c, 2);
        if (c.bad || first < EROFS_DIRENT_SIZE || first % EROFS_DIRENT_SIZE || first >= buf->len)
                return reader_bad(r, "damaged directory", err);
        if (i >= first / EROFS_DIRENT_SIZE)
                return 0;
        (void)cc_cursor_seek(&c, (size_t)i * EROFS_DIRENT_SIZE);
        ret->nid = cc_cursor_le(&c, 8);
        from = (size_t)cc_cursor_le(&c, 2);
        ret->type = (uint8_t)cc_cursor_le(&c, 1);
        if (i + 1 < first / EROFS_DIRENT_SIZE) {
                (void)cc_cursor_seek(&c, ((size_t)i + 1) * EROFS_DIRENT_SIZE + 8);
                to = (size_t)cc_cursor_le(&c, 2);
        }
        if (c.bad || from < first || to > buf->len || from >= to)
                return reader_bad(r, "damaged directory", err);
        ret->name = (const char *)buf->data + from;
        ret->len = strnlen(ret->name, to - from);
        /* Only the last name of a block may end before its space does. */
        if (ret->len == 0 || ret->len > EROFS_NAME_MAX || memchr(ret->name, '/', ret->len) ||
            (ret->len < to - from && to != buf->len))
                return reader_bad(r, "damaged name in a directory", err);
        return 1;
}

int erofs_dir_next(const struct erofs_reader *r, const struct erofs_inode *dir,
                   struct erofs_dirpos *pos, struct erofs_dirbuf *buf, struct erofs_dirent *ret,
                   struct cc_err *err)
{
        while (pos->block < dir->size) {
                int e = load_block(r, dir, pos->block, buf, err);

                if (e == 0)
                        e = parse_entry(r, buf, pos->entry, ret, err);
                if (e < 0)
                        return e;
                if (e > 0) {
                        pos->entry++;
                        return 1;
                }
                pos->block += EROFS_BLOCK;
                pos->entry = 0;
        }
        return 0;
}

int erofs_name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
        int c = memcmp(a, b, a_len < b_len ? a_len : b_len);

        if (c)
                return c;
        return a_len < b_len ? -1 : a_len > b_len;
}

int erofs_lookup(const struct erofs_reader *r, const struct erofs_inode *dir, const char *name,
                 size_t len, uint64_t *ret_nid, struct cc_err *err)
{
        struct erofs_dirpos pos = { 0 };
        struct erofs_dirbuf buf;
        struct erofs_dirent d;
        int e;

        buf.valid = false;
        while ((e = erofs_dir_next(r, dir, &pos, &buf, &d, err)) > 0) {
                if (d.len != len || memcmp(d.name, name, len) != 0)
                        continue;
                *ret_nid = d.nid;
                return 1;
        }
        return e;
}

bool erofs_is_whiteout(const struct erofs_inode *inode)
{
        return S_ISCHR(inode->mode) && inode->major == 0 && inode->minor == 0;
}
