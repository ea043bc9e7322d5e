/* A reader and checker of EROFS images for tests. See erofs_check.h. */
#include "erofs_check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BLOCK 4096u

static char why[256];

__attribute__((format(printf, 1, 2))) static bool bad(const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(why, sizeof(why), fmt, ap);
        va_end(ap);
        return false;
}

static uint64_t le(const struct erofs_image *m, uint64_t at, unsigned n)
{
        uint64_t v = 0;

        if (at > m->len || n > m->len - at)
                return 0;
        for (unsigned i = 0; i < n; i++)
                v |= (uint64_t)m->bytes[at + i] << (8 * i);
        return v;
}

static uint64_t meta(const struct erofs_image *m)
{
        return le(m, 1024 + 40, 4) * BLOCK;
}

static uint64_t tail_size(const struct erofs_node *n)
{
        return n->is_inline ? n->size % BLOCK : 0;
}

static bool load(const struct erofs_image *m, uint64_t nid, struct erofs_node *ret)
{
        uint64_t at;
        uint64_t format;
        uint64_t count;

        if (nid >= m->len / 32)
                return bad("nid %llu outside the image", (unsigned long long)nid);
        at = meta(m) + nid * 32;
        format = le(m, at, 2);
        count = le(m, at + 2, 2);
        *ret = (struct erofs_node){
                .nid = nid,
                .at = at,
                .mode = (uint32_t)le(m, at + 4, 2),
                .size = le(m, at + 8, 8),
                .block = (uint32_t)le(m, at + 16, 4),
                .rdev = (uint32_t)le(m, at + 16, 4),
                .uid = (uint32_t)le(m, at + 24, 4),
                .gid = (uint32_t)le(m, at + 28, 4),
                .mtime = (int64_t)le(m, at + 32, 8),
                .nsec = (uint32_t)le(m, at + 40, 4),
                .nlink = (uint32_t)le(m, at + 44, 4),
                .is_inline = format == 5,
                .xattr_size = count ? 12 + (count - 1) * 4 : 0,
        };
        if (format != 1 && format != 5)
                return bad("nid %llu: format %llu", (unsigned long long)nid,
                           (unsigned long long)format);
        if (at + 64 + ret->xattr_size + tail_size(ret) > m->len)
                return bad("nid %llu ends outside the image", (unsigned long long)nid);
        /* Kernels before 6.13 want this of symbolic links; we give it to all. */
        if (tail_size(ret) && at % BLOCK + 64 + ret->xattr_size + tail_size(ret) > BLOCK)
                return bad("nid %llu crosses a block", (unsigned long long)nid);
        return true;
}

/* One stretch of content that lies together: *ret_n bytes of it from `pos` on. */
static bool map(const struct erofs_image *m, const struct erofs_node *n, uint64_t pos,
                const uint8_t **ret, uint64_t *ret_n)
{
        uint64_t start = n->size - tail_size(n);
        uint64_t at;

        if (pos >= start && n->is_inline) {
                at = n->at + 64 + n->xattr_size + (pos - start);
                *ret_n = n->size - pos;
        } else {
                at = (uint64_t)n->block * BLOCK + pos;
                *ret_n = start - pos;
        }
        if (at > m->len || *ret_n > m->len - at)
                return bad("content outside the image");
        *ret = m->bytes + at;
        return true;
}

bool erofs_content(const struct erofs_image *m, const struct erofs_node *n, uint8_t **ret)
{
        uint8_t *out = malloc(n->size + 1);
        uint64_t pos = 0;

        if (!out)
                abort();
        while (pos < n->size) {
                const uint8_t *p = NULL;
                uint64_t len = 0;

                if (!map(m, n, pos, &p, &len) || len == 0) {
                        free(out);
                        return false;
                }
                memcpy(out + pos, p, len);
                pos += len;
        }
        out[n->size] = 0;
        *ret = out;
        return true;
}

struct name {
        const char *text;
        size_t len;
        uint64_t nid;
        unsigned type;
};

typedef bool (*name_fn)(void *ctx, const struct name *name);

static bool each_in_block(const uint8_t *p, size_t n, name_fn fn, void *ctx)
{
        struct erofs_image b = { p, n };
        size_t first = (size_t)le(&b, 8, 2);
        size_t count = first / 12;

        if (count == 0 || first % 12 || first > n)
                return bad("directory block with %zu entries", count);
        for (size_t i = 0; i < count; i++) {
                size_t from = (size_t)le(&b, i * 12 + 8, 2);
                size_t to = i + 1 < count ? (size_t)le(&b, i * 12 + 20, 2) : n;
                struct name name;

                if (from >= to || to > n)
                        return bad("name %zu outside its block", i);
                name = (struct name){ (const char *)p + from,
                                      strnlen((const char *)p + from, to - from), le(&b, i * 12, 8),
                                      p[i * 12 + 10] };
                if (name.len == 0 || name.len > 255 || (i + 1 < count && name.len != to - from))
                        return bad("name of %zu bytes", name.len);
                if (!fn(ctx, &name))
                        return false;
        }
        return true;
}

static bool each_name(const struct erofs_image *m, const struct erofs_node *dir, name_fn fn,
                      void *ctx)
{
        uint64_t pos = 0;

        while (pos < dir->size) {
                const uint8_t *p = NULL;
                uint64_t n = 0;

                if (!map(m, dir, pos, &p, &n))
                        return false;
                n = n < BLOCK ? n : BLOCK;
                if (!each_in_block(p, n, fn, ctx))
                        return false;
                pos += n;
        }
        return true;
}

struct wanted {
        const char *name;
        size_t len;
        uint64_t nid;
        bool found;
};

static bool compare_name(void *ctx, const struct name *name)
{
        struct wanted *w = ctx;

        if (name->len == w->len && memcmp(name->text, w->name, w->len) == 0) {
                w->nid = name->nid;
                w->found = true;
        }
        return true;
}

bool erofs_find(const struct erofs_image *m, const char *path, struct erofs_node *ret)
{
        if (!load(m, le(m, 1024 + 14, 2), ret))
                return false;
        for (;;) {
                struct wanted w = { .len = 0 };

                path += strspn(path, "/");
                if (!*path)
                        return true;
                w.name = path;
                w.len = strcspn(path, "/");
                if (!S_ISDIR(ret->mode) || !each_name(m, ret, compare_name, &w) || !w.found ||
                    !load(m, w.nid, ret))
                        return false;
                path += w.len;
        }
}

static bool count_name(void *ctx, const struct name *name)
{
        (void)name;
        ++*(long *)ctx;
        return true;
}

long erofs_count(const struct erofs_image *m, const char *path)
{
        struct erofs_node dir;
        long n = -2;

        if (!erofs_find(m, path, &dir) || !S_ISDIR(dir.mode) || !each_name(m, &dir, count_name, &n))
                return -1;
        return n;
}

typedef bool (*xattr_fn)(void *ctx, unsigned index, const uint8_t *name, size_t name_len,
                         const uint8_t *value, size_t value_len);

static bool one_xattr(const struct erofs_image *m, uint64_t at, uint64_t end, uint64_t *ret_next,
                      xattr_fn fn, void *ctx)
{
        uint64_t name_len = le(m, at, 1);
        uint64_t value_len = le(m, at + 2, 2);

        if (at + 4 + name_len + value_len > end)
                return bad("attribute outside its area");
        *ret_next = (at + 4 + name_len + value_len + 3) & ~(uint64_t)3;
        return fn(ctx, (unsigned)le(m, at + 1, 1), m->bytes + at + 4, name_len,
                  m->bytes + at + 4 + name_len, value_len);
}

static bool each_xattr(const struct erofs_image *m, const struct erofs_node *n, xattr_fn fn,
                       void *ctx)
{
        uint64_t at = n->at + 64;
        uint64_t end = at + n->xattr_size;
        uint64_t shared;
        uint64_t next;

        if (!n->xattr_size)
                return true;
        shared = le(m, at + 4, 1);
        for (uint64_t i = 0; i < shared; i++) {
                uint64_t id = le(m, at + 12 + i * 4, 4);

                if (!one_xattr(m, le(m, 1024 + 44, 4) * BLOCK + id * 4, meta(m), &next, fn, ctx))
                        return false;
        }
        for (at += 12 + shared * 4; at < end; at = next)
                if (!one_xattr(m, at, end, &next, fn, ctx))
                        return false;
        return at == end ? true : bad("attributes end outside their area");
}

static const char *const prefixes[] = { [1] = "user.",
                                        [2] = "system.posix_acl_access",
                                        [3] = "system.posix_acl_default",
                                        [4] = "trusted.",
                                        [6] = "security." };

struct wanted_xattr {
        const char *name;
        const uint8_t *value;
        long len;
};

static bool compare_xattr(void *ctx, unsigned index, const uint8_t *name, size_t name_len,
                          const uint8_t *value, size_t value_len)
{
        struct wanted_xattr *w = ctx;
        size_t n;

        if (index >= sizeof(prefixes) / sizeof(*prefixes) || !prefixes[index])
                return bad("attribute prefix %u", index);
        n = strlen(prefixes[index]);
        if (w && strncmp(w->name, prefixes[index], n) == 0 && strlen(w->name + n) == name_len &&
            memcmp(w->name + n, name, name_len) == 0) {
                w->value = value;
                w->len = (long)value_len;
        }
        return true;
}

long erofs_xattr_get(const struct erofs_image *m, const struct erofs_node *n, const char *name,
                     const uint8_t **ret)
{
        struct wanted_xattr w = { name, NULL, -1 };

        if (!each_xattr(m, n, compare_xattr, &w))
                return -1;
        if (ret)
                *ret = w.value;
        return w.len;
}

/* Directories still to visit: paths may be deeper than a stack. */
struct queue {
        struct {
                uint64_t nid, parent;
        } * item;
        size_t n, capacity;
};

struct walk {
        const struct erofs_image *m;
        uint32_t *links; /* per nid: names seen; directories: 1 once visited */
        uint64_t slots, inodes;
        struct queue queue;

        /* The directory being read. */
        struct erofs_node dir;
        uint64_t parent;
        char last[256];
        size_t last_len;
        bool any, dot, dotdot;
        uint32_t subdirs;
};

static bool push(struct queue *q, uint64_t nid, uint64_t parent)
{
        if (q->n == q->capacity) {
                q->capacity = q->capacity ? q->capacity * 2 : 64;
                q->item = realloc(q->item, q->capacity * sizeof(*q->item));
                if (!q->item)
                        abort();
        }
        q->item[q->n].nid = nid;
        q->item[q->n++].parent = parent;
        return true;
}

static bool in_order(struct walk *w, const struct name *name)
{
        size_t n = w->last_len < name->len ? w->last_len : name->len;
        int c = w->any ? memcmp(w->last, name->text, n) : -1;

        if (c > 0 || (c == 0 && w->last_len >= name->len))
                return bad("names out of order");
        memcpy(w->last, name->text, name->len);
        w->last_len = name->len;
        w->any = true;
        return true;
}

static unsigned type_of(uint32_t mode)
{
        switch (mode & S_IFMT) {
        case S_IFREG:
                return 1;
        case S_IFDIR:
                return 2;
        case S_IFCHR:
                return 3;
        case S_IFBLK:
                return 4;
        case S_IFIFO:
                return 5;
        case S_IFLNK:
                return 7;
        default:
                return 0;
        }
}

static bool visit_name(void *ctx, const struct name *name)
{
        struct walk *w = ctx;
        struct erofs_node n;
        const uint8_t *p = NULL;
        uint64_t len = 0;

        if (!in_order(w, name))
                return false;
        if (name->len == 1 && name->text[0] == '.') {
                w->dot = true;
                return name->nid == w->dir.nid || bad("\".\" is another directory");
        }
        if (name->len == 2 && memcmp(name->text, "..", 2) == 0) {
                w->dotdot = true;
                return name->nid == w->parent || bad("\"..\" is not the parent");
        }
        if (memchr(name->text, '/', name->len))
                return bad("name with a slash");
        if (!load(w->m, name->nid, &n) || n.nid >= w->slots)
                return bad("nid out of range");
        if (type_of(n.mode) == 0 || type_of(n.mode) != name->type)
                return bad("type %u for mode %o", name->type, n.mode);
        if (S_ISDIR(n.mode)) {
                w->subdirs++;
                return push(&w->queue, n.nid, w->dir.nid);
        }
        if (w->links[n.nid]++)
                return true;
        w->inodes++;
        for (uint64_t pos = 0; (S_ISREG(n.mode) || S_ISLNK(n.mode)) && pos < n.size; pos += len)
                if (!map(w->m, &n, pos, &p, &len) || len == 0)
                        return false;
        return each_xattr(w->m, &n, compare_xattr, NULL);
}

static bool visit_dir(struct walk *w, uint64_t nid, uint64_t parent)
{
        w->parent = parent;
        w->any = w->dot = w->dotdot = false;
        w->last_len = w->subdirs = 0;
        if (!load(w->m, nid, &w->dir) || !S_ISDIR(w->dir.mode) || nid >= w->slots)
                return bad("no directory");
        if (w->links[nid]++)
                return bad("a directory with two names");
        if (!each_name(w->m, &w->dir, visit_name, w) ||
            !each_xattr(w->m, &w->dir, compare_xattr, NULL))
                return false;
        if (!w->dot || !w->dotdot)
                return bad("directory without \".\" and \"..\"");
        if (w->dir.nlink != 2 + w->subdirs)
                return bad("%u links of a directory with %u below it", w->dir.nlink, w->subdirs);
        w->inodes++;
        return true;
}

static uint32_t crc32c(const uint8_t *p, size_t n)
{
        uint32_t crc = ~0u;

        for (size_t i = 0; i < n; i++)
                for (int k = 0; k < 8; k++)
                        crc = crc >> 1 ^ (((crc ^ (unsigned)p[i] >> k) & 1) ? 0x82f63b78u : 0);
        return crc;
}

static bool check_superblock(const struct erofs_image *m)
{
        uint8_t sb[BLOCK - 1024];

        if (m->len < 2 * (size_t)BLOCK || m->len % BLOCK)
                return bad("%zu bytes", m->len);
        memcpy(sb, m->bytes + 1024, sizeof(sb));
        memset(sb + 4, 0, 4);
        if (le(m, 1024, 4) != 0xE0F5E1E2 || le(m, 1024 + 12, 1) != 12)
                return bad("superblock");
        if (le(m, 1024 + 4, 4) != crc32c(sb, sizeof(sb)))
                return bad("superblock checksum");
        if (le(m, 1024 + 80, 4) != 0)
                return bad("features that old kernels refuse");
        return le(m, 1024 + 36, 4) == m->len / BLOCK || bad("count of blocks");
}

static bool check(const struct erofs_image *m, struct walk *top)
{
        uint64_t root = le(m, 1024 + 14, 2);

        (void)push(&top->queue, root, root);
        while (top->queue.n) {
                top->queue.n--;
                if (!visit_dir(top, top->queue.item[top->queue.n].nid,
                               top->queue.item[top->queue.n].parent))
                        return false;
        }
        for (uint64_t nid = 0; nid < top->slots; nid++) {
                struct erofs_node n;

                if (top->links[nid] == 0)
                        continue;
                if (!load(m, nid, &n))
                        return false;
                if (!S_ISDIR(n.mode) && n.nlink != top->links[nid])
                        return bad("nid %llu has %u names, nlink %u", (unsigned long long)nid,
                                   top->links[nid], n.nlink);
        }
        return top->inodes == le(m, 1024 + 16, 8) ||
               bad("%llu inodes instead of %llu", (unsigned long long)top->inodes,
                   (unsigned long long)le(m, 1024 + 16, 8));
}

const char *erofs_check(const struct erofs_image *m)
{
        struct walk top = { .m = m };
        bool ok;

        if (!check_superblock(m))
                return why;
        top.slots = meta(m) < m->len ? (m->len - meta(m)) / 32 : 0;
        top.links = calloc(top.slots + 1, sizeof(*top.links));
        if (!top.links)
                abort();
        ok = check(m, &top);
        free(top.links);
        free(top.queue.item);
        return ok ? NULL : why;
}
