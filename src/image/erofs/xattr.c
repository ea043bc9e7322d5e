/* Extended attributes of a layer's tree: which are kept, and each distinct one stored once. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "image/erofs/tree.h"

/* What listxattr(2) can return; the format itself holds four times that. */
#define MAX_XATTRS_SIZE 65536u
#define MAX_XATTRS      253u /* the count of shared ones is a byte; two may be our own markers */

static const struct {
        const char *prefix;
        uint8_t index;
        bool whole; /* the prefix is the whole name */
} prefixes[] = {
        { "user.", XI_USER, false },
        { "trusted.", XI_TRUSTED, false },
        { "security.", XI_SECURITY, false },
        { "system.posix_acl_access", XI_ACL_ACCESS, true },
        { "system.posix_acl_default", XI_ACL_DEFAULT, true },
};

/* The index of a name and the rest of it; 0 for a namespace that layers do not set. */
static uint8_t classify(const char *name, const char **rest)
{
        /* The guest's overlayfs would obey these: only our own markers may exist. */
        if (cc_startswith(name, "trusted.overlay."))
                return 0;
        for (size_t i = 0; i < CC_ARRAY_LEN(prefixes); i++) {
                if (!cc_startswith(name, prefixes[i].prefix))
                        continue;
                *rest = name + strlen(prefixes[i].prefix);
                if (prefixes[i].whole ? **rest == '\0' : **rest != '\0')
                        return prefixes[i].index;
        }
        return 0;
}

static int intern(struct tree *t, uint8_t index, const char *name, const void *value, size_t size,
                  uint32_t *ret, struct cc_err *err)
{
        size_t name_len = strlen(name);
        CC_BUF struct cc_buf key = { 0 };
        uint32_t scope = (uint32_t)index << 8 | (uint32_t)name_len;
        struct txattr *x;
        uint32_t ref = REF_NONE;
        int r;

        if (name_len > 255 || size > 65535)
                return cc_fail(err, CC_INVALID, "extended attribute is too large");
        cc_buf_add(&key, name, name_len);
        cc_buf_add(&key, value, size);
        ref = refmap_find(&t->xattrs, scope, key.data, key.len);
        if (!ref) {
                r = arena_alloc(&t->arena, sizeof(*x) + key.len, &ref, err);
                if (r < 0)
                        return r;
                x = arena_at(&t->arena, ref);
                x->index = index;
                x->name_len = (uint8_t)name_len;
                x->value_len = (uint16_t)size;
                memcpy(x->bytes, key.data, key.len);
                r = refmap_add(&t->xattrs, scope, key.data, key.len, ref, err);
                if (r < 0)
                        return r;
        }
        *ret = ref;
        return 0;
}

static int compare_names(const struct txattr *a, const struct txattr *b)
{
        size_t n = a->name_len < b->name_len ? a->name_len : b->name_len;
        int c = a->index - b->index;

        if (c == 0)
                c = memcmp(a->bytes, b->bytes, n);
        return c ? c : a->name_len - b->name_len;
}

/* Insert by index and name; an attribute of the same name is replaced. */
static size_t insert(const struct tree *t, uint32_t *list, size_t n, uint32_t ref)
{
        size_t i = 0;
        int c = 1;

        while (i < n &&
               (c = compare_names(arena_at(&t->arena, list[i]), arena_at(&t->arena, ref))) < 0)
                i++;
        if (i < n && c == 0) {
                list[i] = ref;
                return n;
        }
        memmove(list + i + 1, list + i, (n - i) * sizeof(*list));
        list[i] = ref;
        return n + 1;
}

static int store(struct tree *t, uint32_t inode, const uint32_t *list, size_t n, struct cc_err *err)
{
        struct txattrs *set;
        uint32_t ref = REF_NONE;
        int r;

        if (n == 0) {
                tree_inode(t, inode)->xattrs = REF_NONE;
                return 0;
        }
        r = arena_alloc(&t->arena, sizeof(*set) + n * sizeof(*list), &ref, err);
        if (r < 0)
                return r;
        set = arena_at(&t->arena, ref);
        set->n = (uint32_t)n;
        memcpy(set->refs, list, n * sizeof(*list));
        tree_inode(t, inode)->xattrs = ref;
        if (tree_xattr_size(t, tree_inode(t, inode), true) > MAX_XATTRS_SIZE)
                return cc_fail(err, CC_INVALID, "extended attributes exceed %u bytes",
                               MAX_XATTRS_SIZE);
        return 0;
}

int tree_set_xattrs(struct tree *t, uint32_t inode, const struct erofs_xattr *x, size_t n,
                    struct cc_err *err)
{
        CC_FREE uint32_t *list = NULL;
        size_t len = 0;

        if (n > MAX_XATTRS)
                return cc_fail(err, CC_INVALID, "more than %u extended attributes", MAX_XATTRS);
        if (n)
                list = xcalloc(n, sizeof(*list));
        for (size_t i = 0; i < n; i++) {
                const char *rest = NULL;
                uint8_t index = classify(x[i].name, &rest);
                uint32_t ref = REF_NONE;
                int r;

                if (!index)
                        continue;
                r = intern(t, index, rest, x[i].value, x[i].size, &ref, err);
                if (r < 0)
                        return r;
                len = insert(t, list, len, ref);
        }
        return store(t, inode, list, len, err);
}

int tree_add_xattr(struct tree *t, uint32_t inode, const struct erofs_xattr *x, struct cc_err *err)
{
        uint32_t old = tree_inode(t, inode)->xattrs;
        size_t n = old ? ((struct txattrs *)arena_at(&t->arena, old))->n : 0;
        CC_FREE uint32_t *list = xcalloc(n + 1, sizeof(*list));
        uint32_t ref = REF_NONE;
        int r = intern(t, XI_TRUSTED, x->name + strlen("trusted."), x->value, x->size, &ref, err);

        if (r < 0)
                return r;
        if (n)
                memcpy(list, ((struct txattrs *)arena_at(&t->arena, old))->refs, n * sizeof(*list));
        n = insert(t, list, n, ref);
        return store(t, inode, list, n, err);
}

size_t tree_xattr_size(const struct tree *t, const struct tinode *inode, bool inline_all)
{
        const struct txattrs *set;
        size_t size = EROFS_XATTR_HEADER;

        if (!inode->xattrs)
                return 0;
        set = arena_at(&t->arena, inode->xattrs);
        for (uint32_t i = 0; i < set->n; i++) {
                const struct txattr *x = arena_at(&t->arena, set->refs[i]);

                arena_tick(&t->arena);
                if (x->shared && !inline_all)
                        size += 4;
                else
                        size += (EROFS_XATTR_ENTRY + (size_t)x->name_len + x->value_len + 3) &
                                ~(size_t)3;
        }
        return size;
}
