/* Reading tar headers. Hostile input. See tar.h; writing is in tarput.c. */
#include "snap/archive/tar.h"

#include <ctype.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"

#define MAX_PAX    ((size_t)4 << 20)
#define MAX_NAME   4096
#define MAX_RANGES 1000000
#define MAX_SIZE   (INT64_C(1) << 52)

/* Offsets in a header block (POSIX). */
enum { NAME = 0, SIZE = 124, CHECKSUM = 148, TYPE = 156, MAGIC = 257, PREFIX = 345 };
enum { NAME_LEN = 100, SIZE_LEN = 12, CHECKSUM_LEN = 8, PREFIX_LEN = 155 };

/* What records in front of a header change about it. */
struct pending {
        char *path;
        int64_t size; /* -1: not given */
        char *map;    /* JSON */
        int64_t logical;
        bool sparse;
};

static void pending_clear(struct pending *p)
{
        free(p->path);
        free(p->map);
        *p = (struct pending){ .size = -1, .logical = -1 };
}

void tar_member_clear(struct tar_member *m)
{
        free(m->name);
        free(m->ranges);
        *m = (struct tar_member){ .kind = TAR_END };
}

static int truncated(struct cc_err *err)
{
        return cc_fail(err, CC_CORRUPT, "archive truncated");
}

static int damaged(const char *why, struct cc_err *err)
{
        return cc_fail(err, CC_CORRUPT, "archive damaged: %s", why);
}

int tar_read(struct source *s, void *buf, size_t n, struct cc_err *err)
{
        unsigned char *p = buf;

        while (n) {
                size_t got = 0;
                int r = source_read(s, p, n, &got, err);

                if (r < 0)
                        return r;
                if (got == 0)
                        return truncated(err);
                p += got;
                n -= got;
        }
        return 0;
}

int tar_skip_padding(struct source *s, int64_t size, struct cc_err *err)
{
        unsigned char pad[TAR_BLOCK];
        size_t over = (size_t)(size % TAR_BLOCK);

        return over ? tar_read(s, pad, TAR_BLOCK - over, err) : 0;
}

static bool is_zero(const unsigned char *b)
{
        return b[0] == 0 && memcmp(b, b + 1, TAR_BLOCK - 1) == 0;
}

/* Octal with blanks around, or base 256 with the top bit set. -1: neither, or negative. */
static int64_t number(const unsigned char *p, size_t n)
{
        int64_t v = 0;
        size_t i = 0;

        if (p[0] & 0x80) {
                if (p[0] & 0x40)
                        return -1;
                v = p[0] & 0x3f;
                for (i = 1; i < n; i++) {
                        if (v > (INT64_MAX >> 8))
                                return -1;
                        v = v << 8 | p[i];
                }
                return v;
        }
        while (i < n && p[i] == ' ')
                i++;
        for (; i < n && p[i] >= '0' && p[i] <= '7'; i++) {
                if (v > (INT64_MAX >> 3))
                        return -1;
                v = v << 3 | (p[i] - '0');
        }
        for (; i < n; i++)
                if (p[i] != ' ' && p[i] != '\0')
                        return -1;
        return v;
}

/* Old archivers summed signed bytes. */
static bool checksum_fits(const unsigned char *b)
{
        int64_t want = number(b + CHECKSUM, CHECKSUM_LEN);
        int64_t plain = 0;
        int64_t sign = 0;

        for (size_t i = 0; i < TAR_BLOCK; i++) {
                bool blank = i >= CHECKSUM && i < CHECKSUM + CHECKSUM_LEN;
                unsigned char c = blank ? ' ' : b[i];

                plain += c;
                sign += (signed char)c;
        }
        return want == plain || want == sign;
}

/* ---- records ---- */

static int decimal(const char *s, int64_t *ret)
{
        int64_t v = 0;

        if (!*s)
                return -1;
        for (; *s; s++) {
                if (!isdigit((unsigned char)*s) || v > MAX_SIZE)
                        return -1;
                v = v * 10 + (*s - '0');
        }
        *ret = v;
        return 0;
}

static int take_record(struct pending *p, const char *key, const char *value, struct cc_err *err)
{
        if (strcmp(key, "path") == 0) {
                cc_strset(&p->path, value);
        } else if (strcmp(key, "size") == 0) {
                if (decimal(value, &p->size) < 0)
                        return damaged("bad size record", err);
        } else if (strcmp(key, "COCOON.sparse.map") == 0) {
                cc_strset(&p->map, value);
                p->sparse = true;
        } else if (strcmp(key, "COCOON.sparse.size") == 0) {
                if (decimal(value, &p->logical) < 0)
                        return damaged("bad sparse size", err);
                p->sparse = true;
        }
        return 0;
}

/* "<length> <key>=<value>\n", the length counting itself. */
static int parse_pax(struct pending *p, char *text, size_t n, struct cc_err *err)
{
        for (size_t pos = 0; pos < n;) {
                size_t len = 0;
                size_t i = pos;
                char *eq;
                int r;

                for (; i < n && isdigit((unsigned char)text[i]) && len <= n; i++)
                        len = len * 10 + (size_t)(text[i] - '0');
                if (i == pos || i >= n || text[i] != ' ' || len > n - pos || len < i - pos + 4 ||
                    text[pos + len - 1] != '\n')
                        return damaged("malformed pax record", err);
                text[pos + len - 1] = '\0';
                eq = strchr(text + i + 1, '=');
                if (!eq || strlen(text + i + 1) != pos + len - 1 - (i + 1))
                        return damaged("malformed pax record", err);
                *eq = '\0';
                r = take_record(p, text + i + 1, eq + 1, err);
                if (r < 0)
                        return r;
                pos += len;
        }
        return 0;
}

/* Content of a record member: `size` bytes and a NUL. */
static int read_text(struct source *s, int64_t size, size_t max, char **ret, struct cc_err *err)
{
        CC_FREE char *text = NULL;
        int r;

        if (size < 0 || (uint64_t)size > max)
                return damaged("record is too large", err);
        text = xcalloc((size_t)size + 1, 1);
        r = tar_read(s, text, (size_t)size, err);
        if (r == 0)
                r = tar_skip_padding(s, size, err);
        if (r == 0)
                *ret = TAKE_PTR(text);
        return r;
}

/* ---- sparse ---- */

static int parse_map(const struct pending *p, struct tar_member *m, struct cc_err *err)
{
        CC_JSON json_t *map = NULL;
        int64_t sum = 0;
        int64_t end = 0;
        int r = 0;

        if (!p->map || p->logical < 0)
                return damaged("sparse member without map or size", err);
        r = cc_json_parse(p->map, strlen(p->map), "sparse map", &map, err);
        if (r < 0)
                return r;
        if (!json_is_array(map) && !json_is_null(map))
                return damaged("sparse map is not a list", err);
        if (json_array_size(map) > MAX_RANGES)
                return damaged("sparse map is too long", err);
        m->ranges = xcalloc(json_array_size(map) + 1, sizeof(*m->ranges));
        for (size_t i = 0; i < json_array_size(map); i++) {
                const json_t *o = json_object_get(json_array_get(map, i), "o");
                const json_t *l = json_object_get(json_array_get(map, i), "l");
                struct tar_range range = { json_integer_value(o), json_integer_value(l) };

                if (!json_is_integer(o) || !json_is_integer(l) || range.offset < end ||
                    range.length < 0 || range.offset > p->logical ||
                    range.length > p->logical - range.offset)
                        return damaged("sparse map is not in order or leaves the file", err);
                end = range.offset + range.length;
                sum += range.length;
                m->ranges[m->n_ranges++] = range;
        }
        if (sum != m->size)
                return damaged("sparse map and member differ in size", err);
        m->sparse = true;
        m->logical = p->logical;
        return 0;
}

/* ---- headers ---- */

static char *header_name(const unsigned char *b)
{
        CC_FREE char *name = xstrndup((const char *)b + NAME, NAME_LEN);

        if (memcmp(b + MAGIC, "ustar\0", 6) == 0 && b[PREFIX]) {
                CC_FREE char *prefix = xstrndup((const char *)b + PREFIX, PREFIX_LEN);

                return xasprintf("%s/%s", prefix, name);
        }
        return TAKE_PTR(name);
}

static int finish_member(const unsigned char *b, struct pending *p, struct tar_member *m,
                         struct cc_err *err)
{
        char type = (char)b[TYPE];
        const char *name;
        size_t n;

        if (!p->path)
                p->path = header_name(b);
        name = cc_startswith(p->path, "./") ? p->path + 2 : p->path;
        n = strlen(name);
        /* Archivers older than POSIX mark a directory by its name. */
        if (type == '5' || ((type == '0' || type == '\0') && n && name[n - 1] == '/'))
                m->kind = TAR_DIR;
        else if (type == '0' || type == '\0' || type == '7')
                m->kind = TAR_FILE;
        else
                return cc_fail(err, CC_INVALID,
                               "archive member \"%.100s\" is neither file nor directory", name);
        m->name = xstrdup(name);
        m->size = p->size >= 0 ? p->size : number(b + SIZE, SIZE_LEN);
        if (m->size < 0 || m->size > MAX_SIZE)
                return damaged("bad member size", err);
        if (m->kind == TAR_DIR && m->size != 0)
                return damaged("directory with content", err);
        if (p->sparse && m->kind == TAR_FILE)
                return parse_map(p, m, err);
        return 0;
}

static int read_end(struct source *s, struct cc_err *err)
{
        unsigned char b[TAR_BLOCK];
        int r = tar_read(s, b, sizeof(b), err);

        if (r < 0)
                return r;
        return is_zero(b) ? 0 : damaged("content behind its end", err);
}

int tar_next(struct source *s, struct tar_member *ret, struct cc_err *err)
{
        CC_CLEANUP(pending_clear) struct pending p = { .size = -1, .logical = -1 };
        CC_CLEANUP(tar_member_clear) struct tar_member m = { .kind = TAR_END };
        unsigned char b[TAR_BLOCK];
        int r;

        for (int records = 0;; records++) {
                CC_FREE char *text = NULL;
                int64_t size;

                r = tar_read(s, b, sizeof(b), err);
                if (r < 0)
                        return r;
                if (is_zero(b)) {
                        if (records)
                                return damaged("records without a member", err);
                        r = read_end(s, err);
                        break;
                }
                if (!checksum_fits(b))
                        return damaged("bad header checksum", err);
                if (records > 16)
                        return damaged("too many records", err);
                size = number(b + SIZE, SIZE_LEN);
                if (b[TYPE] == 'x' || b[TYPE] == 'g') {
                        r = read_text(s, size, MAX_PAX, &text, err);
                        /* What a global record could say (path, size, map) is never meant so. */
                        if (r == 0 && b[TYPE] == 'x')
                                r = parse_pax(&p, text, (size_t)size, err);
                } else if (b[TYPE] == 'L') {
                        r = read_text(s, size, MAX_NAME, &text, err);
                        if (r == 0 && !p.path)
                                p.path = TAKE_PTR(text);
                } else if (b[TYPE] == 'K') {
                        r = read_text(s, size, MAX_NAME, &text, err);
                } else {
                        r = finish_member(b, &p, &m, err);
                        break;
                }
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        *ret = m;
        m = (struct tar_member){ .kind = TAR_END };
        return 0;
}
