/*
 * The structural check of an image. See erofs_reader_check() in reader.h.
 *
 * Termination on hostile images: names have bytes of their own, so an image of n bytes has at most
 * n / 13 of them; whoever shows more shows some twice. Work and memory are linear in that, and the
 * depth of the walk has a limit of its own.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "image/erofs/readint.h"

#define MIN_NAME (EROFS_DIRENT_SIZE + 1) /* bytes */

/* One name of the tree, for counting links. */
struct ref {
        uint64_t nid;
        uint32_t nlink;
        bool dir;
};

/* A directory being walked. */
struct frame {
        struct erofs_inode dir;
        struct erofs_dirpos pos;
        uint64_t parent;
        uint64_t subdirs;
        bool self, up; /* "." and ".." were there */
        uint8_t last_len;
        char last[EROFS_NAME_MAX];
};

struct check {
        struct erofs_reader r;
        struct erofs_dirbuf buf;
        struct frame *stack;
        size_t depth, stack_size;
        struct ref *refs;
        size_t n_refs, refs_size;
};

static void check_free(struct check *c)
{
        free(c->stack);
        free(c->refs);
}

static int add_ref(struct check *c, const struct erofs_inode *inode, struct cc_err *err)
{
        if (c->n_refs > c->r.size / MIN_NAME)
                return reader_bad(&c->r, "more names than bytes for them", err);
        if (c->n_refs == c->refs_size) {
                c->refs_size = c->refs_size ? c->refs_size * 2 : 256;
                c->refs = xreallocarray(c->refs, c->refs_size, sizeof(*c->refs));
        }
        c->refs[c->n_refs++] = (struct ref){ .nid = inode->nid,
                                             .nlink = inode->nlink,
                                             .dir = S_ISDIR(inode->mode) };
        return 0;
}

static int check_inode(const struct check *c, const struct erofs_inode *inode, struct cc_err *err)
{
        EROFS_XATTRS struct erofs_xattrs x = { 0 };
        char target[PATH_MAX];
        int e = erofs_xattrs_get(&c->r, inode, &x, err);

        if (e < 0)
                return e;
        if (S_ISLNK(inode->mode))
                return erofs_readlink(&c->r, inode, target, err);
        return 0;
}

static int push(struct check *c, const struct erofs_inode *dir, uint64_t parent, struct cc_err *err)
{
        if (c->depth == EROFS_MAX_DEPTH)
                return reader_bad(&c->r, "directories are nested too deeply", err);
        if (c->depth == c->stack_size) {
                c->stack_size = c->stack_size ? c->stack_size * 2 : 16;
                c->stack = xreallocarray(c->stack, c->stack_size, sizeof(*c->stack));
        }
        c->stack[c->depth++] = (struct frame){ .dir = *dir, .parent = parent };
        return 0;
}

/* The ".." of a directory before anything below it is looked at. */
static int check_up(const struct check *c, const struct erofs_inode *dir, uint64_t parent,
                    struct cc_err *err)
{
        uint64_t up;
        int e = erofs_lookup(&c->r, dir, "..", 2, &up, err);

        if (e < 0)
                return e;
        if (e == 0 || up != parent)
                return reader_bad(&c->r, "wrong \"..\" in a directory", err);
        return 0;
}

static int check_dots(struct check *c, struct frame *f, const struct erofs_dirent *d,
                      struct cc_err *err)
{
        uint64_t want = d->len == 1 ? f->dir.nid : f->parent;

        if (d->type != FT_DIR || d->nid != want)
                return reader_bad(&c->r, "wrong \".\" or \"..\" in a directory", err);
        f->self |= d->len == 1;
        f->up |= d->len == 2;
        return 0;
}

static int check_entry(struct check *c, struct frame *f, const struct erofs_dirent *d,
                       struct cc_err *err)
{
        uint64_t parent = f->dir.nid;
        struct erofs_inode inode;
        int e;

        if (f->last_len && erofs_name_compare(f->last, f->last_len, d->name, d->len) >= 0)
                return reader_bad(&c->r, "a directory is not sorted", err);
        memcpy(f->last, d->name, d->len);
        f->last_len = (uint8_t)d->len;
        if (erofs_is_dots(d))
                return check_dots(c, f, d, err);
        e = erofs_inode_get(&c->r, d->nid, &inode, err);
        if (e < 0)
                return e;
        if (d->type != erofs_file_type(inode.mode))
                return reader_bad(&c->r, "a name has another type than its inode", err);
        e = add_ref(c, &inode, err);
        if (e == 0)
                e = check_inode(c, &inode, err);
        if (e < 0 || !S_ISDIR(inode.mode))
                return e;
        f->subdirs++;
        e = check_up(c, &inode, parent, err);
        return e < 0 ? e : push(c, &inode, parent, err);
}

static int check_end(const struct check *c, const struct frame *f, struct cc_err *err)
{
        if (!f->self || !f->up)
                return reader_bad(&c->r, "a directory without \".\" or \"..\"", err);
        /* The compact form cannot count further: then 1 means "unknown", as on other systems. */
        if (f->dir.nlink != 2 + f->subdirs && f->dir.nlink != 1)
                return reader_bad(&c->r, "wrong link count of a directory", err);
        return 0;
}

static int walk(struct check *c, struct cc_err *err)
{
        while (c->depth) {
                struct frame *f = &c->stack[c->depth - 1];
                struct erofs_dirent d;
                int e = erofs_dir_next(&c->r, &f->dir, &f->pos, &c->buf, &d, err);

                if (e > 0) {
                        e = check_entry(c, f, &d, err);
                } else if (e == 0) {
                        e = check_end(c, f, err);
                        c->depth--;
                }
                if (e < 0)
                        return e;
        }
        return 0;
}

static int by_nid(const void *a, const void *b)
{
        const struct ref *x = a;
        const struct ref *y = b;

        return x->nid < y->nid ? -1 : x->nid > y->nid;
}

static int check_links(const struct check *c, struct cc_err *err)
{
        uint64_t inodes = 0;
        size_t i = 0;

        qsort(c->refs, c->n_refs, sizeof(*c->refs), by_nid);
        while (i < c->n_refs) {
                size_t n = 1;

                while (i + n < c->n_refs && c->refs[i + n].nid == c->refs[i].nid)
                        n++;
                if (c->refs[i].dir && n > 1)
                        return reader_bad(&c->r, "a directory has two names", err);
                if (!c->refs[i].dir && c->refs[i].nlink != n)
                        return reader_bad(&c->r, "wrong link count of a file", err);
                inodes++;
                i += n;
        }
        if (inodes != c->r.inodes)
                return reader_bad(&c->r, "wrong number of inodes", err);
        return 0;
}

int erofs_reader_check(int fd, const char *name, struct cc_err *err)
{
        CC_CLEANUP(check_free) struct check c = { 0 };
        struct erofs_inode root = { 0 };
        int e = erofs_reader_init(fd, name, &c.r, err);

        if (e == 0)
                e = erofs_inode_get(&c.r, c.r.root, &root, err);
        if (e < 0)
                return e;
        if (!S_ISDIR(root.mode))
                return reader_bad(&c.r, "the root is not a directory", err);
        e = add_ref(&c, &root, err);
        if (e == 0)
                e = check_inode(&c, &root, err);
        if (e == 0)
                e = check_up(&c, &root, root.nid, err);
        if (e == 0)
                e = push(&c, &root, root.nid, err);
        if (e == 0)
                e = walk(&c, err);
        return e < 0 ? e : check_links(&c, err);
}
