/*
 * The merge. A walk with an explicit stack: every level is one directory of the result with its
 * parts, the directories of the layers it consists of, top first. Their names come in byte order,
 * so merging is picking the least name of all parts again and again.
 */
#include "image/erofs/flat.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/str.h"
#include "image/erofs/hash.h"

#define CHUNK ((size_t)256 << 10)

/* A directory of one layer inside a directory of the result. */
struct part {
        size_t layer;
        struct erofs_inode dir;
        struct erofs_dirpos pos;
};

/* A directory of the result. */
struct level {
        size_t first, n; /* parts */
        size_t path_len; /* the path without the name being handled */
        size_t last_len;
        char last[EROFS_NAME_MAX];
};

/* What a part has next. */
struct head {
        bool valid;
        struct erofs_dirent d;
        struct erofs_dirpos next;
};

/* The first name under which a file of several names was written. */
struct first_name {
        uint64_t nid;
        uint32_t layer;
        char path[];
};

struct merge {
        const struct erofs_reader *layers;
        size_t n_layers;
        struct erofs_writer *w;
        struct erofs_dirbuf *bufs; /* by layer */
        struct head *heads;        /* by place among the parts of the current level */
        struct part *parts;
        size_t n_parts, parts_size;
        struct level *levels;
        size_t depth, levels_size;
        struct cc_buf path;
        struct arena arena;
        struct refmap names; /* struct first_name by layer and nid */
        uint8_t *chunk;
        uint64_t bytes;
        erofs_flat_fn progress;
        void *ctx;
};

static bool first_equal(const struct arena *a, uint32_t ref, uint32_t scope, const void *key,
                        size_t n)
{
        const struct first_name *f = arena_at(a, ref);

        return f->layer == scope && memcmp(&f->nid, key, n) == 0;
}

static int merge_init(struct merge *m, const char *temp_dir, struct cc_err *err)
{
        int r = arena_open(&m->arena, temp_dir, err);

        if (r < 0)
                return r;
        r = refmap_init(&m->names, &m->arena, err);
        if (r < 0) {
                arena_close(&m->arena);
                return r;
        }
        m->names.equal = first_equal;
        m->bufs = xcalloc(m->n_layers, sizeof(*m->bufs));
        m->heads = xcalloc(m->n_layers, sizeof(*m->heads));
        m->chunk = xmalloc(CHUNK);
        cc_buf_reserve(&m->path, PATH_MAX);
        m->path.data[0] = '\0'; /* the root */
        return 0;
}

static void merge_free(struct merge *m)
{
        arena_close(&m->arena);
        cc_buf_free(&m->path);
        free(m->bufs);
        free(m->heads);
        free(m->parts);
        free(m->levels);
        free(m->chunk);
}

static void set_path(struct merge *m, size_t dir_len, const char *name, size_t len)
{
        m->path.len = dir_len;
        if (dir_len)
                cc_buf_char(&m->path, '/');
        cc_buf_add(&m->path, name, len);
}

/* ---- One entry ---- */

static int copy_data(struct merge *m, const struct erofs_reader *r, const struct erofs_inode *inode,
                     struct cc_err *err)
{
        uint64_t off = 0;

        while ((off = erofs_next_data(r, inode, off)) < inode->size) {
                uint64_t left = inode->size - off;
                size_t n = left < CHUNK ? (size_t)left : CHUNK;
                int e = erofs_read(r, inode, off, m->chunk, n, err);

                if (e == 0)
                        e = erofs_writer_data(m->w, m->chunk, n, off, err);
                if (e < 0)
                        return e;
                off += n;
                m->bytes += n;
                if (m->progress && (e = m->progress(m->ctx, m->bytes, err)) < 0)
                        return e;
        }
        return 0;
}

/* Of a file with several names only the first is written; NULL when this is the first. */
static int first_name(struct merge *m, size_t layer, const struct erofs_inode *inode,
                      const char **ret, struct cc_err *err)
{
        uint32_t ref = refmap_find(&m->names, (uint32_t)layer, &inode->nid, sizeof(inode->nid));
        struct first_name *f;
        int e;

        if (ref) {
                *ret = ((struct first_name *)arena_at(&m->arena, ref))->path;
                return 0;
        }
        e = arena_alloc(&m->arena, sizeof(*f) + m->path.len + 1, &ref, err);
        if (e < 0)
                return e;
        f = arena_at(&m->arena, ref);
        f->nid = inode->nid;
        f->layer = (uint32_t)layer;
        memcpy(f->path, m->path.data, m->path.len);
        *ret = NULL;
        return refmap_add(&m->names, (uint32_t)layer, &inode->nid, sizeof(inode->nid), ref, err);
}

/* The inode at m->path. `x` are its attributes; the overlay's own are left out by the writer. */
static int put_inode(struct merge *m, size_t layer, const struct erofs_inode *inode,
                     const struct erofs_xattrs *x, struct cc_err *err)
{
        const struct erofs_reader *r = &m->layers[layer];
        struct erofs_entry entry = {
                .path = m->path.data,
                .mode = inode->mode,
                .uid = inode->uid,
                .gid = inode->gid,
                .mtime = inode->mtime,
                .mtime_nsec = inode->mtime_nsec,
                .major = inode->major,
                .minor = inode->minor,
                .xattrs = x->v,
                .n_xattrs = x->n,
        };
        char target[PATH_MAX];
        int e;

        if (S_ISLNK(inode->mode)) {
                e = erofs_readlink(r, inode, target, err);
                if (e < 0)
                        return e;
                entry.target = target;
        }
        if (S_ISREG(inode->mode))
                entry.size = inode->size;
        e = erofs_writer_entry(m->w, &entry, err);
        if (e < 0 || !S_ISREG(inode->mode))
                return e;
        return copy_data(m, r, inode, err);
}

static int put_file(struct merge *m, size_t layer, const struct erofs_inode *inode,
                    struct cc_err *err)
{
        EROFS_XATTRS struct erofs_xattrs x = { 0 };
        const char *first = NULL;
        int e = 0;

        if (inode->nlink > 1)
                e = first_name(m, layer, inode, &first, err);
        if (e == 0 && first) {
                struct erofs_entry entry = { .path = m->path.data,
                                             .target = first,
                                             .hardlink = true };

                return erofs_writer_entry(m->w, &entry, err);
        }
        if (e == 0)
                e = erofs_xattrs_get(&m->layers[layer], inode, &x, err);
        return e < 0 ? e : put_inode(m, layer, inode, &x, err);
}

/* ---- Directories ---- */

static struct level *push_level(struct merge *m)
{
        if (m->depth == m->levels_size) {
                m->levels_size = m->levels_size ? m->levels_size * 2 : 16;
                m->levels = xreallocarray(m->levels, m->levels_size, sizeof(*m->levels));
        }
        m->levels[m->depth] = (struct level){ .first = m->n_parts, .path_len = m->path.len };
        return &m->levels[m->depth++];
}

static void push_part(struct merge *m, size_t layer, const struct erofs_inode *dir)
{
        if (m->n_parts == m->parts_size) {
                m->parts_size = m->parts_size ? m->parts_size * 2 : 16;
                m->parts = xreallocarray(m->parts, m->parts_size, sizeof(*m->parts));
        }
        m->parts[m->n_parts++] = (struct part){ .layer = layer, .dir = *dir };
}

/* One more layer's directory below the new level. The topmost one gives the attributes. *more: the
 * next layer down may add to it. */
static int join(struct merge *m, size_t layer, const struct erofs_inode *dir, bool *more,
                struct cc_err *err)
{
        EROFS_XATTRS struct erofs_xattrs x = { 0 };
        struct level *level = &m->levels[m->depth - 1];
        int e = erofs_xattrs_get(&m->layers[layer], dir, &x, err);

        if (e == 0 && level->n == 0)
                e = put_inode(m, layer, dir, &x, err);
        if (e < 0)
                return e;
        push_part(m, layer, dir);
        level->n++;
        *more = !erofs_is_opaque(&x);
        return 0;
}

/* The next name of a part, dots left out. */
static int peek(struct merge *m, const struct level *level, size_t i, struct cc_err *err)
{
        struct part *p = &m->parts[level->first + i];
        const struct erofs_reader *r = &m->layers[p->layer];
        struct head *h = &m->heads[i];
        int e;

        do {
                h->next = p->pos;
                e = erofs_dir_next(r, &p->dir, &h->next, &m->bufs[p->layer], &h->d, err);
                if (e > 0 && erofs_is_dots(&h->d))
                        p->pos = h->next;
        } while (e > 0 && erofs_is_dots(&h->d));
        h->valid = e > 0;
        if (e > 0 && level->last_len &&
            erofs_name_compare(level->last, level->last_len, h->d.name, h->d.len) >= 0)
                return cc_fail(err, CC_CORRUPT, "%s: a directory is not sorted", r->name);
        return e < 0 ? e : 0;
}

/* The inode a part has under the current name. */
static int load(struct merge *m, const struct part *p, const struct head *h,
                struct erofs_inode *ret, struct cc_err *err)
{
        const struct erofs_reader *r = &m->layers[p->layer];
        int e = erofs_inode_get(r, h->d.nid, ret, err);

        if (e == 0 && h->d.type != erofs_file_type(ret->mode))
                return cc_fail(err, CC_CORRUPT, "%s: a name has another type than its inode",
                               r->name);
        return e;
}

static int put_name(struct merge *m, size_t first, size_t n, struct cc_err *err)
{
        bool dir = false;
        bool more = true;

        for (size_t i = 0; i < n && more; i++) {
                /* Pushing moves the array: no pointer into it stays. */
                struct part part = m->parts[first + i];
                struct erofs_inode inode;
                int e;

                if (!m->heads[i].valid)
                        continue;
                e = load(m, &part, &m->heads[i], &inode, err);
                if (e < 0)
                        return e;
                if (!S_ISDIR(inode.mode)) {
                        if (!dir && !erofs_is_whiteout(&inode))
                                return put_file(m, part.layer, &inode, err);
                        return 0;
                }
                if (!dir)
                        (void)push_level(m);
                dir = true;
                e = join(m, part.layer, &inode, &more, err);
                if (e < 0)
                        return e;
        }
        return 0;
}

/* Handle the least name of the top level. 0: the level is done. */
static int step(struct merge *m, struct cc_err *err)
{
        struct level *level = &m->levels[m->depth - 1];
        const struct erofs_dirent *least = NULL;
        size_t first = level->first;
        size_t n = level->n;
        int e;

        for (size_t i = 0; i < n; i++) {
                const struct erofs_dirent *d = &m->heads[i].d;

                e = peek(m, level, i, err);
                if (e < 0)
                        return e;
                if (m->heads[i].valid &&
                    (!least || erofs_name_compare(d->name, d->len, least->name, least->len) < 0))
                        least = d;
        }
        if (!least)
                return 0;
        memcpy(level->last, least->name, least->len);
        level->last_len = least->len;
        set_path(m, level->path_len, level->last, level->last_len);
        /* From here on a head is valid if it has this very name. */
        for (size_t i = 0; i < n; i++) {
                struct head *h = &m->heads[i];

                h->valid = h->valid && erofs_name_compare(h->d.name, h->d.len, level->last,
                                                          level->last_len) == 0;
                if (h->valid)
                        m->parts[first + i].pos = h->next;
        }
        e = put_name(m, first, n, err);
        return e < 0 ? e : 1;
}

static int put_root(struct merge *m, struct cc_err *err)
{
        (void)push_level(m);
        for (size_t i = m->n_layers; i-- > 0;) {
                struct erofs_inode root;
                bool more; /* overlayfs merges the roots whatever they are marked with */
                int e = erofs_inode_get(&m->layers[i], m->layers[i].root, &root, err);

                if (e < 0)
                        return e;
                if (!S_ISDIR(root.mode))
                        return cc_fail(err, CC_CORRUPT, "%s: the root is not a directory",
                                       m->layers[i].name);
                e = join(m, i, &root, &more, err);
                if (e < 0)
                        return e;
        }
        return 0;
}

int erofs_flatten(const struct erofs_reader *layers, size_t n, struct erofs_writer *w,
                  const char *temp_dir, erofs_flat_fn progress, void *ctx, struct cc_err *err)
{
        struct merge m = {
                .layers = layers, .n_layers = n, .w = w, .progress = progress, .ctx = ctx
        };
        int e;

        if (n == 0)
                return cc_fail(err, CC_INVALID, "no layers to merge");
        e = merge_init(&m, temp_dir, err);
        if (e < 0)
                return e;
        e = put_root(&m, err);
        while (e >= 0 && m.depth) {
                e = step(&m, err);
                if (e == 0) {
                        m.n_parts = m.levels[m.depth - 1].first;
                        m.depth--;
                }
        }
        merge_free(&m);
        return e < 0 ? e : 0;
}
