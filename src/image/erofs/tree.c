/* Names and path rules of a layer's tree. See tree.h; attributes are in xattr.c. */
#include "image/erofs/tree.h"

#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"

#define MAX_LINKS 40 /* as the kernel's path walk */

static bool name_equal(const struct arena *a, uint32_t ref, uint32_t scope, const void *key,
                       size_t n)
{
        const struct tdirent *d = arena_at(a, ref);

        return d->parent == scope && d->name_len == n && memcmp(d->name, key, n) == 0;
}

static bool xattr_equal(const struct arena *a, uint32_t ref, uint32_t scope, const void *key,
                        size_t n)
{
        const struct txattr *x = arena_at(a, ref);

        return scope == ((uint32_t)x->index << 8 | x->name_len) &&
               (size_t)x->name_len + x->value_len == n && memcmp(x->bytes, key, n) == 0;
}

int tree_open(struct tree *t, const char *temp_dir, uint64_t max_entries, struct cc_err *err)
{
        int r;

        *t = (struct tree){ .max_entries = max_entries ? max_entries : EROFS_MAX_ENTRIES_DEFAULT };
        r = arena_open(&t->arena, temp_dir, err);
        if (r < 0)
                return r;
        r = refmap_init(&t->names, &t->arena, err);
        if (r == 0)
                r = refmap_init(&t->xattrs, &t->arena, err);
        t->names.equal = name_equal;
        t->xattrs.equal = xattr_equal;
        if (r == 0)
                r = tree_new_inode(t, S_IFDIR | 0755, &t->root, err);
        if (r < 0) {
                tree_close(t);
                return r;
        }
        tree_inode(t, t->root)->parent = t->root;
        return 0;
}

void tree_close(struct tree *t)
{
        arena_close(&t->arena);
}

int tree_count(struct tree *t, struct cc_err *err)
{
        if (t->entries >= t->max_entries)
                return cc_fail(err, CC_INVALID, "layer has more than %llu entries",
                               (unsigned long long)t->max_entries);
        t->entries++;
        return 0;
}

int tree_new_inode(struct tree *t, uint32_t mode, uint32_t *ret, struct cc_err *err)
{
        uint32_t ref = REF_NONE;
        int r = tree_count(t, err);

        if (r < 0)
                return r;
        r = arena_alloc(&t->arena, sizeof(struct tinode), &ref, err);
        if (r < 0)
                return r;
        tree_inode(t, ref)->mode = mode;
        if (t->last)
                tree_inode(t, t->last)->next = ref;
        else
                t->first = ref;
        t->last = ref;
        *ret = ref;
        return 0;
}

int tree_name(struct tree *t, uint32_t dir, const char *name, size_t len, uint32_t *ret,
              struct cc_err *err)
{
        uint32_t ref = refmap_find(&t->names, dir, name, len);
        struct tdirent *d;
        int r;

        if (ref) {
                *ret = ref;
                return 0;
        }
        r = arena_alloc(&t->arena, sizeof(*d) + len, &ref, err);
        if (r < 0)
                return r;
        d = tree_dirent(t, ref);
        d->parent = dir;
        d->name_len = (uint16_t)len;
        memcpy(d->name, name, len);
        d->next = tree_inode(t, dir)->dirents;
        tree_inode(t, dir)->dirents = ref;
        tree_inode(t, dir)->n_dirents++;
        r = refmap_add(&t->names, dir, name, len, ref, err);
        if (r == 0)
                *ret = ref;
        return r;
}

void tree_put(struct tree *t, uint32_t name, uint32_t inode)
{
        struct tdirent *d = tree_dirent(t, name);

        d->inode = inode;
        d->flags &= (uint16_t)~DF_WHITEOUT;
}

static int shown(size_t len)
{
        return len > 200 ? 200 : (int)len;
}

/* A walk in progress: what is left of the path, grown when a symbolic link is met. */
struct walk {
        struct cc_buf rest;
        size_t pos;
        unsigned links;
};

/* Next component of the rest, skipping "/" and "."; false at the end. */
static bool next_component(struct walk *w, const char **name, size_t *len)
{
        for (;;) {
                const char *p = w->rest.data + w->pos;
                size_t n = 0;

                p += strspn(p, "/");
                n = strcspn(p, "/");
                w->pos = (size_t)(p - w->rest.data) + n;
                if (n == 0)
                        return false;
                if (n == 1 && p[0] == '.')
                        continue;
                *name = p;
                *len = n;
                return true;
        }
}

static int follow(struct tree *t, struct walk *w, const struct tinode *link, uint32_t *dir,
                  struct cc_err *err)
{
        const char *target = arena_at(&t->arena, link->target);
        struct cc_buf rest = { 0 };

        if (++w->links > MAX_LINKS || strlen(target) + w->rest.len - w->pos > PATH_MAX)
                return cc_fail(err, CC_INVALID, "too many symbolic links in a path");
        cc_buf_printf(&rest, "%s/%s", target, w->rest.data + w->pos);
        cc_buf_free(&w->rest);
        w->rest = rest;
        w->pos = 0;
        if (target[0] == '/')
                *dir = t->root;
        return 0;
}

static int make_dir(struct tree *t, uint32_t parent, uint32_t name, uint32_t *ret,
                    struct cc_err *err)
{
        int r = tree_new_inode(t, S_IFDIR | 0755, ret, err);

        if (r < 0)
                return r;
        tree_inode(t, *ret)->parent = parent;
        /* A directory over a whiteout hides what is below it (images.md §2.2). */
        if (tree_dirent(t, name)->flags & DF_HIDES)
                tree_inode(t, *ret)->flags |= IF_OPAQUE;
        tree_put(t, name, *ret);
        return 0;
}

/* Resolve a directory inside the tree. With make == false a missing one gives REF_NONE. */
static int walk_dir(struct tree *t, const char *path, size_t len, bool make, uint32_t *ret,
                    struct cc_err *err)
{
        struct walk w = { 0 };
        uint32_t dir = t->root;
        const char *name = NULL;
        size_t n = 0;
        int r = 0;

        cc_buf_add(&w.rest, path, len);
        while (r == 0 && dir && next_component(&w, &name, &n)) {
                uint32_t ref = REF_NONE;
                struct tinode *inode;

                if (n == 2 && memcmp(name, "..", 2) == 0) {
                        /* Only from the text of a link: entries with ".." were refused. */
                        dir = tree_inode(t, dir)->parent;
                        continue;
                }
                if (n > EROFS_NAME_MAX) {
                        r = cc_fail(err, CC_INVALID, "name longer than %u bytes", EROFS_NAME_MAX);
                        break;
                }
                ref = refmap_find(&t->names, dir, name, n);
                if (!ref && make)
                        r = tree_name(t, dir, name, n, &ref, err);
                if (r < 0)
                        break;
                if (!ref || (!tree_dirent(t, ref)->inode && !make)) {
                        dir = REF_NONE;
                        break;
                }
                if (!tree_dirent(t, ref)->inode || tree_dirent(t, ref)->flags & DF_WHITEOUT) {
                        if (!make) {
                                dir = REF_NONE;
                                break;
                        }
                        r = make_dir(t, dir, ref, &dir, err);
                        continue;
                }
                inode = tree_inode(t, tree_dirent(t, ref)->inode);
                if (S_ISDIR(inode->mode))
                        dir = tree_dirent(t, ref)->inode;
                else if (S_ISLNK(inode->mode))
                        r = follow(t, &w, inode, &dir, err);
                else
                        r = cc_fail(err, CC_INVALID, "%.*s is not a directory", shown(n), name);
        }
        cc_buf_free(&w.rest);
        if (r == 0)
                *ret = dir;
        return r;
}

int tree_dir(struct tree *t, const char *path, size_t len, uint32_t *ret, struct cc_err *err)
{
        return walk_dir(t, path, len, true, ret, err);
}

/* Where the last component begins; length 0 if the path names the root. CC_INVALID for "..". */
static int split(const char *path, const char **ret_name, size_t *ret_len, struct cc_err *err)
{
        size_t len = strnlen(path, PATH_MAX);
        const char *end;
        const char *name = NULL;

        if (len >= PATH_MAX)
                return cc_fail(err, CC_INVALID, "path longer than %d bytes", PATH_MAX - 1);
        for (const char *p = path; *p;) {
                size_t n = 0;

                p += strspn(p, "/");
                n = strcspn(p, "/");
                if (n == 2 && p[0] == '.' && p[1] == '.')
                        return cc_fail(err, CC_INVALID, "path leaves the layer: \"..\"");
                p += n;
        }
        end = path + len;
        for (;;) {
                while (end > path && end[-1] == '/')
                        end--;
                name = end;
                while (name > path && name[-1] != '/')
                        name--;
                if (end - name != 1 || name[0] != '.')
                        break;
                end = name;
        }
        if (end - name > (ptrdiff_t)EROFS_NAME_MAX)
                return cc_fail(err, CC_INVALID, "name longer than %u bytes", EROFS_NAME_MAX);
        *ret_name = name;
        *ret_len = (size_t)(end - name);
        return 0;
}

int tree_parent(struct tree *t, const char *path, uint32_t *ret_dir, const char **ret_name,
                size_t *ret_len, struct cc_err *err)
{
        int r = split(path, ret_name, ret_len, err);

        if (r < 0)
                return r;
        return walk_dir(t, path, (size_t)(*ret_name - path), true, ret_dir, err);
}

int tree_lookup(struct tree *t, const char *path, uint32_t *ret, struct cc_err *err)
{
        const char *name = NULL;
        size_t len = 0;
        uint32_t dir = REF_NONE;
        uint32_t ref = REF_NONE;
        int r = split(path, &name, &len, err);

        if (r == 0)
                r = walk_dir(t, path, (size_t)(name - path), false, &dir, err);
        if (r != 0)
                return r;
        *ret = REF_NONE;
        if (!dir || len == 0)
                return 0;
        ref = refmap_find(&t->names, dir, name, len);
        if (ref && tree_dirent(t, ref)->inode && !(tree_dirent(t, ref)->flags & DF_WHITEOUT) &&
            !S_ISDIR(tree_inode(t, tree_dirent(t, ref)->inode)->mode))
                *ret = tree_dirent(t, ref)->inode;
        return 0;
}
