/* Extended attributes of an image: inline ones and those in the shared area. See reader.h. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cursor.h"
#include "base/str.h"
#include "image/erofs/readint.h"

/* All names and values of one inode together: the kernel lists no more than 64 KiB of names. */
#define MAX_TOTAL ((size_t)1 << 20)

static const struct {
        uint8_t index;
        bool whole; /* the prefix is the whole name */
        const char *prefix;
} prefixes[] = {
        { XI_USER, false, "user." },
        { XI_ACL_ACCESS, true, "system.posix_acl_access" },
        { XI_ACL_DEFAULT, true, "system.posix_acl_default" },
        { XI_TRUSTED, false, "trusted." },
        { XI_SECURITY, false, "security." },
};

void erofs_xattrs_clear(struct erofs_xattrs *x)
{
        for (size_t i = 0; i < x->n; i++) {
                free((char *)x->v[i].name);
                free((void *)x->v[i].value);
        }
        free(x->v);
        *x = (struct erofs_xattrs){ 0 };
}

/* Full name of an attribute; NULL for one that cannot be. */
static char *full_name(uint8_t index, const uint8_t *rest, size_t n)
{
        for (size_t i = 0; i < CC_ARRAY_LEN(prefixes); i++) {
                CC_BUF struct cc_buf name = { 0 };

                if (prefixes[i].index != index)
                        continue;
                if ((n == 0) != prefixes[i].whole || (n && memchr(rest, '\0', n)))
                        return NULL;
                cc_buf_add(&name, prefixes[i].prefix, strlen(prefixes[i].prefix));
                cc_buf_add(&name, (const char *)rest, n);
                return xstrndup(name.data, name.len);
        }
        return NULL;
}

struct list {
        const struct erofs_reader *r;
        struct erofs_xattrs *x;
        size_t capacity, total;
};

static int add(struct list *l, uint8_t index, const uint8_t *name, size_t name_len,
               const uint8_t *value, size_t value_len, struct cc_err *err)
{
        char *full = full_name(index, name, name_len);
        void *copy;

        if (!full)
                return reader_bad(l->r, "unknown kind of extended attribute", err);
        l->total += name_len + value_len;
        if (l->total > MAX_TOTAL) {
                free(full);
                return reader_bad(l->r, "too many extended attributes", err);
        }
        if (l->x->n == l->capacity) {
                l->capacity = l->capacity ? l->capacity * 2 : 8;
                l->x->v = xreallocarray(l->x->v, l->capacity, sizeof(*l->x->v));
        }
        copy = xmalloc(value_len + 1);
        if (value_len)
                memcpy(copy, value, value_len);
        l->x->v[l->x->n++] = (struct erofs_xattr){ .name = full, .value = copy, .size = value_len };
        return 0;
}

/* The entry at the cursor, which moves behind it and its padding. */
static int add_inline(struct list *l, struct cc_cursor *c, struct cc_err *err)
{
        size_t name_len = (size_t)cc_cursor_le(c, 1);
        uint8_t index = (uint8_t)cc_cursor_le(c, 1);
        size_t value_len = (size_t)cc_cursor_le(c, 2);
        const uint8_t *name = cc_cursor_get(c, name_len);
        const uint8_t *value = cc_cursor_get(c, value_len);

        (void)cc_cursor_get(c, -(name_len + value_len) % 4);
        if (c->bad)
                return reader_bad(l->r, "damaged extended attributes", err);
        return add(l, index, name, name_len, value, value_len, err);
}

static int add_shared(struct list *l, uint64_t id, struct cc_err *err)
{
        CC_FREE uint8_t *bytes = NULL;
        uint64_t off = l->r->xattrs + id * 4;
        uint8_t head[EROFS_XATTR_ENTRY];
        size_t value_len;
        int e = reader_pread(l->r, off, head, sizeof(head), err);

        if (e < 0)
                return e;
        value_len = (size_t)head[2] | (size_t)head[3] << 8;
        bytes = xmalloc(head[0] + value_len + 1);
        e = reader_pread(l->r, off + sizeof(head), bytes, head[0] + value_len, err);
        if (e < 0)
                return e;
        return add(l, head[1], bytes, head[0], bytes + head[0], value_len, err);
}

int erofs_xattrs_get(const struct erofs_reader *r, const struct erofs_inode *inode,
                     struct erofs_xattrs *ret, struct cc_err *err)
{
        EROFS_XATTRS struct erofs_xattrs x = { 0 };
        struct list l = { .r = r, .x = &x };
        CC_FREE uint8_t *raw = NULL;
        struct cc_cursor c;
        unsigned shared;
        int e;

        *ret = (struct erofs_xattrs){ 0 };
        if (inode->xattrs_size == 0)
                return 0;
        raw = xmalloc(inode->xattrs_size);
        e = reader_pread(r, inode->xattrs, raw, inode->xattrs_size, err);
        if (e < 0)
                return e;
        c = cc_cursor_init(raw, inode->xattrs_size);
        (void)cc_cursor_seek(&c, 4);
        shared = (unsigned)cc_cursor_le(&c, 1);
        (void)cc_cursor_seek(&c, EROFS_XATTR_HEADER);
        for (unsigned i = 0; i < shared && e == 0; i++) {
                uint64_t id = cc_cursor_le(&c, 4);

                e = c.bad ? reader_bad(r, "damaged extended attributes", err)
                          : add_shared(&l, id, err);
        }
        while (e == 0 && cc_cursor_left(&c) > 0)
                e = add_inline(&l, &c, err);
        if (e < 0)
                return e;
        *ret = x;
        x = (struct erofs_xattrs){ 0 };
        return 0;
}

bool erofs_is_opaque(const struct erofs_xattrs *x)
{
        for (size_t i = 0; i < x->n; i++)
                if (cc_streq(x->v[i].name, "trusted.overlay.opaque"))
                        return x->v[i].size == 1 && *(const char *)x->v[i].value == 'y';
        return false;
}
