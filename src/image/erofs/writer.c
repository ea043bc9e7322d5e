/* Entries and their data. See erofs.h; finish() continues in meta.c. */
#include "image/erofs/writer.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"

int erofs_writer_open(const struct erofs_writer_args *args, struct erofs_writer **ret,
                      struct cc_err *err)
{
        EROFS_WRITER struct erofs_writer *w = xcalloc(1, sizeof(*w));
        int spool;
        int r;

        r = tree_open(&w->tree, args->temp_dir, args->max_entries, err);
        if (r < 0)
                return r;
        r = temp_file(args->temp_dir, &spool, err);
        if (r < 0)
                return r;
        output_init(&w->spool, spool);
        output_init(&w->out, args->fd);
        w->max_bytes = args->max_bytes;
        w->settled = args->settled;
        w->settled_ctx = args->settled_ctx;
        *ret = TAKE_PTR(w);
        return output_zero(&(*ret)->out, EROFS_BLOCK, err);
}

void erofs_writer_close(struct erofs_writer *w)
{
        if (!w)
                return;
        tree_close(&w->tree);
        if (w->spool.buf)
                close(w->spool.fd);
        output_free(&w->spool);
        output_free(&w->out);
        free(w);
}

void erofs_writer_closep(struct erofs_writer **w)
{
        erofs_writer_close(*w);
}

static int next_block(struct erofs_writer *w, uint32_t *ret, struct cc_err *err)
{
        uint64_t block = output_pos(&w->out) / EROFS_BLOCK;

        if (block >= UINT32_MAX)
                return cc_fail(err, CC_INVALID, "image would exceed 16 TiB");
        *ret = (uint32_t)block;
        return 0;
}

static int pad_block(struct output *o, struct cc_err *err)
{
        uint64_t over = output_pos(o) % EROFS_BLOCK;

        return over ? output_zero(o, EROFS_BLOCK - over, err) : 0;
}

/* Where the inline tail of the current file begins; its size without one. */
static uint64_t tail_start(const struct tinode *inode)
{
        return inode->flags & IF_INLINE ? inode->size & ~(uint64_t)(EROFS_BLOCK - 1) : inode->size;
}

/* Data of the current file at its end so far; NULL data: zeros. */
static int append(struct erofs_writer *w, const uint8_t *data, uint64_t n, struct cc_err *err)
{
        const struct tinode *inode = tree_inode(&w->tree, w->file);
        uint64_t start = tail_start(inode);
        uint64_t head = w->done >= start ? 0 : n < start - w->done ? n : start - w->done;
        int r = 0;

        if (head)
                r = data ? output_write(&w->out, data, (size_t)head, err)
                         : output_zero(&w->out, head, err);
        w->done += head;
        n -= head;
        if (r == 0 && n) {
                if (data)
                        memcpy(w->tail + (w->done - start), data + head, (size_t)n);
                w->done += n;
        }
        return r;
}

/* Fill what the data left out (a trailing hole) and put the tail where it belongs. */
static int end_file(struct erofs_writer *w, struct cc_err *err)
{
        struct tinode *inode;
        int r;

        if (!w->file)
                return 0;
        inode = tree_inode(&w->tree, w->file);
        r = append(w, NULL, inode->size - w->done, err);
        if (r == 0 && inode->flags & IF_INLINE) {
                inode->tail = output_pos(&w->spool);
                r = output_write(&w->spool, w->tail, inode->size % EROFS_BLOCK, err);
        }
        w->file = REF_NONE;
        return r < 0 ? r : pad_block(&w->out, err);
}

/* Begin the data of a new regular file or symbolic link. The tail goes behind the inode if that
 * fits into one block even with all attributes inline: they are shared or not only at the end. */
static int begin_file(struct erofs_writer *w, uint32_t ref, uint64_t size, struct cc_err *err)
{
        struct tinode *inode = tree_inode(&w->tree, ref);
        uint64_t tail = size % EROFS_BLOCK;

        if (w->max_bytes && (size > w->max_bytes || w->bytes > w->max_bytes - size))
                return cc_fail(err, CC_INVALID, "layer unpacks to more than %llu bytes",
                               (unsigned long long)w->max_bytes);
        /* Before a hole takes the output where pwrite would blame this host. */
        if (size / EROFS_BLOCK >= UINT32_MAX - output_pos(&w->out) / EROFS_BLOCK)
                return cc_fail(err, CC_INVALID, "image would exceed 16 TiB");
        w->bytes += size;
        inode->size = size;
        if (tail && EROFS_INODE_SIZE + tree_xattr_size(&w->tree, inode, true) + tail <= EROFS_BLOCK)
                inode->flags |= IF_INLINE;
        w->file = ref;
        w->done = 0;
        memset(w->tail, 0, sizeof(w->tail));
        if (tail_start(inode) == 0)
                return 0;
        return next_block(w, &inode->blkaddr, err);
}

int erofs_writer_data(struct erofs_writer *w, const void *data, size_t n, uint64_t offset,
                      struct cc_err *err)
{
        const struct tinode *inode;
        int r;

        if (!w->file)
                return cc_fail(err, CC_INVALID, "data for an entry that has none");
        inode = tree_inode(&w->tree, w->file);
        if (offset < w->done || offset > inode->size || n > inode->size - offset)
                return cc_fail(err, CC_INVALID, "data outside the size of the file");
        r = append(w, NULL, offset - w->done, err);
        return r < 0 ? r : append(w, data, n, err);
}

/* linux/kdev_t.h new_encode_dev() */
static uint32_t encode_dev(uint32_t major, uint32_t minor)
{
        return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

static int check_entry(const struct erofs_entry *e, struct cc_err *err)
{
        if (e->hardlink)
                return 0;
        switch (e->mode & S_IFMT) {
        case S_IFREG:
                if (e->size > INT64_MAX - EROFS_BLOCK)
                        return cc_fail(err, CC_INVALID, "file size out of range");
                return 0;
        case S_IFLNK:
                if (!e->target || !*e->target || strnlen(e->target, PATH_MAX) >= PATH_MAX)
                        return cc_fail(err, CC_INVALID,
                                       "symbolic link is empty or longer than %d bytes",
                                       PATH_MAX - 1);
                return 0;
        case S_IFCHR:
        case S_IFBLK:
                if (e->major > 0xfff || e->minor > 0xfffff)
                        return cc_fail(err, CC_INVALID, "device number out of range");
                return 0;
        case S_IFDIR:
        case S_IFIFO:
                return 0;
        default:
                return cc_fail(err, CC_INVALID, "unknown file type");
        }
}

static int set_attributes(struct erofs_writer *w, uint32_t ref, const struct erofs_entry *e,
                          struct cc_err *err)
{
        struct tinode *inode = tree_inode(&w->tree, ref);

        inode->mode = (uint32_t)e->mode & (S_IFMT | 07777);
        inode->uid = e->uid;
        inode->gid = e->gid;
        inode->mtime = e->mtime;
        inode->mtime_nsec = e->mtime_nsec < 1000000000 ? e->mtime_nsec : 0;
        if (S_ISCHR(e->mode) || S_ISBLK(e->mode))
                inode->rdev = encode_dev(e->major, e->minor);
        return tree_set_xattrs(&w->tree, ref, e->xattrs, e->n_xattrs, err);
}

static int fill_symlink(struct erofs_writer *w, uint32_t ref, const char *target,
                        struct cc_err *err)
{
        size_t n = strlen(target);
        uint32_t text = REF_NONE;
        int r = arena_alloc(&w->tree.arena, n + 1, &text, err);

        if (r < 0)
                return r;
        memcpy(arena_at(&w->tree.arena, text), target, n);
        tree_inode(&w->tree, ref)->target = text;
        r = begin_file(w, ref, n, err);
        if (r == 0)
                r = erofs_writer_data(w, target, n, 0, err);
        return r < 0 ? r : end_file(w, err);
}

static int add_directory(struct erofs_writer *w, uint32_t dir, uint32_t name,
                         const struct erofs_entry *e, struct cc_err *err)
{
        struct tdirent *d = tree_dirent(&w->tree, name);
        uint32_t ref = d->inode;
        int r;

        if (!ref || d->flags & DF_WHITEOUT || !S_ISDIR(tree_inode(&w->tree, ref)->mode)) {
                r = tree_new_inode(&w->tree, S_IFDIR, &ref, err);
                if (r < 0)
                        return r;
                tree_inode(&w->tree, ref)->parent = dir;
                if (d->flags & DF_HIDES)
                        tree_inode(&w->tree, ref)->flags |= IF_OPAQUE;
        }
        tree_put(&w->tree, name, ref);
        return set_attributes(w, ref, e, err);
}

static int add_hardlink(struct erofs_writer *w, uint32_t name, const struct erofs_entry *e,
                        struct cc_err *err)
{
        uint32_t ref = REF_NONE;
        int r = tree_lookup(&w->tree, e->target ? e->target : "", &ref, err);

        if (r < 0)
                return cc_wrap(err, "hard link");
        r = tree_count(&w->tree, err);
        if (r < 0)
                return r;
        if (!ref)
                return cc_fail(err, CC_INVALID,
                               "hard link to \"%.200s\", which is no file of this layer",
                               e->target ? e->target : "");
        tree_put(&w->tree, name, ref);
        return 0;
}

int erofs_writer_entry(struct erofs_writer *w, const struct erofs_entry *e, struct cc_err *err)
{
        const char *name = NULL;
        size_t len = 0;
        uint32_t dir = REF_NONE;
        uint32_t dirent = REF_NONE;
        uint32_t ref = REF_NONE;
        int r = end_file(w, err);

        if (r == 0)
                r = check_entry(e, err);
        if (r == 0)
                r = tree_parent(&w->tree, e->path, &dir, &name, &len, err);
        if (r != 0)
                return r;
        if (len == 0) {
                if (e->hardlink || !S_ISDIR(e->mode))
                        return cc_fail(err, CC_INVALID, "the root is not a directory");
                return set_attributes(w, w->tree.root, e, err);
        }
        r = tree_name(&w->tree, dir, name, len, &dirent, err);
        if (r < 0)
                return r;
        if (e->hardlink)
                return add_hardlink(w, dirent, e, err);
        if (S_ISDIR(e->mode))
                return add_directory(w, dir, dirent, e, err);
        r = tree_new_inode(&w->tree, (uint32_t)e->mode, &ref, err);
        if (r == 0)
                r = set_attributes(w, ref, e, err);
        if (r < 0)
                return r;
        tree_put(&w->tree, dirent, ref);
        /* To overlayfs a device 0:0 is a whiteout, whoever made it. */
        if (S_ISCHR(e->mode) && e->major == 0 && e->minor == 0)
                tree_dirent(&w->tree, dirent)->flags |= DF_WHITEOUT | DF_HIDES;
        if (S_ISREG(e->mode))
                return begin_file(w, ref, e->size, err);
        return S_ISLNK(e->mode) ? fill_symlink(w, ref, e->target, err) : 0;
}

int erofs_writer_whiteout(struct erofs_writer *w, const char *dir, const char *name,
                          struct cc_err *err)
{
        size_t len = strlen(name);
        uint32_t parent = REF_NONE;
        uint32_t dirent = REF_NONE;
        uint32_t ref = REF_NONE;
        int r = end_file(w, err);

        if (r < 0)
                return r;
        if (len == 0 || len > EROFS_NAME_MAX || strchr(name, '/') || strcmp(name, ".") == 0 ||
            strcmp(name, "..") == 0)
                return cc_fail(err, CC_INVALID, "whiteout of no valid name");
        r = tree_dir(&w->tree, dir, strlen(dir), &parent, err);
        if (r == 0)
                r = tree_name(&w->tree, parent, name, len, &dirent, err);
        if (r != 0)
                return r;
        tree_dirent(&w->tree, dirent)->flags |= DF_HIDES;
        ref = tree_dirent(&w->tree, dirent)->inode;
        if (ref) {
                /* The real entry wins; a directory then hides what is below it. */
                if (S_ISDIR(tree_inode(&w->tree, ref)->mode))
                        tree_inode(&w->tree, ref)->flags |= IF_OPAQUE;
                return 0;
        }
        r = tree_new_inode(&w->tree, S_IFCHR, &ref, err);
        if (r < 0)
                return r;
        tree_dirent(&w->tree, dirent)->inode = ref;
        tree_dirent(&w->tree, dirent)->flags |= DF_WHITEOUT;
        return 0;
}

int erofs_writer_opaque(struct erofs_writer *w, const char *dir, struct cc_err *err)
{
        uint32_t ref = REF_NONE;
        int r = end_file(w, err);

        if (r == 0)
                r = tree_dir(&w->tree, dir, strlen(dir), &ref, err);
        if (r == 0)
                tree_inode(&w->tree, ref)->flags |= IF_OPAQUE;
        return r;
}

int erofs_writer_finish(struct erofs_writer *w, const uint8_t uuid[16], struct erofs_stats *ret,
                        struct cc_err *err)
{
        int r = end_file(w, err);

        if (r == 0)
                r = output_flush(&w->spool, err);
        return r < 0 ? r : erofs_write_metadata(w, uuid, ret, err);
}
