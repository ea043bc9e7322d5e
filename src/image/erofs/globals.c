/* Raw pax records. See globals.h. */
#include "image/erofs/globals.h"

#include <string.h>

#include "base/cursor.h"
#include "base/str.h"

#define BLOCK       512u
#define SIZE_AT     124u
#define SIZE_LEN    12u
#define CHECKSUM_AT 148u
#define TYPE_AT     156u

/* Where libarchive stops, its entry's own header being the 32nd: whichever version it is, the same
 * archives are accepted. */
#define MAX_EXTENDED 31

/* Octal with blanks around it, or, with the high bit set, base 256. */
static uint64_t number(const uint8_t *p, size_t n)
{
        uint64_t v = 0;
        size_t i = 0;

        if (p[0] & 0x80) {
                v = p[0] & 0x7f;
                for (i = 1; i < n; i++)
                        v = v > UINT64_MAX >> 8 ? UINT64_MAX : v << 8 | p[i];
                return v;
        }
        while (i < n && (p[i] == ' ' || p[i] == '\t'))
                i++;
        for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
                v = v << 3 | (uint64_t)(p[i] - '0');
        return v;
}

/* That we stand on a header at all: libarchive counted the bytes between them on its own. */
static bool is_header(const uint8_t *h)
{
        uint64_t sum = 0;
        int64_t other = 0; /* as old writers with signed characters had it */

        for (size_t i = 0; i < BLOCK; i++) {
                uint8_t byte = i >= CHECKSUM_AT && i < CHECKSUM_AT + 8 ? ' ' : h[i];

                sum += byte;
                other += (int8_t)byte;
        }
        return number(h + CHECKSUM_AT, 8) == sum ||
               (other >= 0 && number(h + CHECKSUM_AT, 8) == (uint64_t)other);
}

struct record {
        const char *key, *value;
        size_t key_len, value_len;
};

static bool is(const struct record *r, const char *key)
{
        return r->key_len == strlen(key) && memcmp(r->key, key, r->key_len) == 0;
}

static bool starts(const struct record *r, const char *prefix)
{
        return r->key_len >= strlen(prefix) && memcmp(r->key, prefix, strlen(prefix)) == 0;
}

/* "<length> <key>=<value>\n", the length counting all of it. */
static int next_record(struct cc_cursor *c, struct record *ret, struct cc_err *err)
{
        const char *p = (const char *)c->data + c->pos;
        size_t left = cc_cursor_left(c);
        size_t len = 0;
        size_t i = 0;
        const char *equals;

        for (; i < left && i < 8 && p[i] >= '0' && p[i] <= '9'; i++)
                len = len * 10 + (size_t)(p[i] - '0');
        if (i == 0 || i == left || p[i] != ' ' || len > left || len < i + 3 || p[len - 1] != '\n')
                return cc_fail(err, CC_INVALID, "damaged pax header");
        i++;
        equals = memchr(p + i, '=', len - i - 1);
        if (!equals || equals == p + i)
                return cc_fail(err, CC_INVALID, "damaged pax header");
        *ret = (struct record){ .key = p + i,
                                .key_len = (size_t)(equals - p) - i,
                                .value = equals + 1,
                                .value_len = len - 1 - (size_t)(equals + 1 - p) };
        (void)cc_cursor_get(c, len);
        return 0;
}

static int bad_value(const struct record *r, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "pax header with a %.*s that is no such number",
                       (int)r->key_len, r->key);
}

/* Digits from *i on; false if there are none or too many. */
static bool digits(const struct record *r, size_t *i, int64_t *ret)
{
        size_t from = *i;
        int64_t v = 0;

        for (; *i < r->value_len && r->value[*i] >= '0' && r->value[*i] <= '9'; (*i)++) {
                if (v > (INT64_MAX - 9) / 10)
                        return false;
                v = v * 10 + (r->value[*i] - '0');
        }
        *ret = v;
        return *i > from;
}

/* Seconds, a point, a fraction; a time before 1970 rounds down to the second its fraction adds
 * to. */
static int read_time(const struct record *r, int64_t *ret, uint32_t *ret_nsec, struct cc_err *err)
{
        bool negative = r->value[0] == '-';
        size_t i = negative;
        int64_t seconds = 0;
        uint32_t nsec = 0;

        if (!digits(r, &i, &seconds))
                return bad_value(r, err);
        if (i < r->value_len && r->value[i++] == '.') {
                for (uint32_t unit = 100000000;
                     i < r->value_len && r->value[i] >= '0' && r->value[i] <= '9'; i++, unit /= 10)
                        nsec += (uint32_t)(r->value[i] - '0') * unit;
                if (i < r->value_len)
                        return bad_value(r, err);
        } else if (i < r->value_len) {
                return bad_value(r, err);
        }
        if (negative) {
                seconds = -seconds - (nsec != 0);
                nsec = nsec ? 1000000000 - nsec : 0;
        }
        *ret = seconds;
        *ret_nsec = nsec;
        return 0;
}

static int read_id(const struct record *r, uint32_t *ret, struct cc_err *err)
{
        size_t i = 0;
        int64_t v = 0;

        if (!digits(r, &i, &v) || i != r->value_len)
                return bad_value(r, err);
        if (v >= UINT32_MAX)
                return cc_fail(err, CC_INVALID, "owner out of range");
        *ret = (uint32_t)v;
        return 0;
}

/* An attribute that we know of, or nothing. */
static int keep(const struct record *r, struct pax_attrs *a, struct cc_err *err)
{
        bool *has;
        int e = 0;

        if (is(r, "SCHILY.filetype"))
                a->is_socket = r->value_len == 6 && memcmp(r->value, "socket", 6) == 0;
        has = is(r, "mtime") ? &a->has_mtime
              : is(r, "uid") ? &a->has_uid
              : is(r, "gid") ? &a->has_gid
                             : NULL;
        if (!has)
                return 0;
        if (r->value_len && has == &a->has_mtime)
                e = read_time(r, &a->mtime, &a->mtime_nsec, err);
        else if (r->value_len)
                e = read_id(r, has == &a->has_uid ? &a->uid : &a->gid, err);
        if (e == 0)
                *has = r->value_len != 0;
        return e;
}

static bool unfit_for_all(const struct record *r)
{
        static const char *const names[] = { "path",
                                             "linkpath",
                                             "size",
                                             "SCHILY.realsize",
                                             "SCHILY.filetype",
                                             "SCHILY.devmajor",
                                             "SCHILY.devminor" };
        static const char *const prefixes[] = { "GNU.sparse.", "SUN.", "SCHILY.acl.",
                                                "SCHILY.xattr.", "LIBARCHIVE." };

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++)
                if (is(r, names[i]))
                        return true;
        for (size_t i = 0; i < CC_ARRAY_LEN(prefixes); i++)
                if (starts(r, prefixes[i]))
                        return true;
        return false;
}

static int read_records(struct cc_cursor body, bool global, struct pax_attrs *a, struct cc_err *err)
{
        while (cc_cursor_left(&body)) {
                struct record r = { 0 };
                int e = next_record(&body, &r, err);

                if (e == 0 && global && unfit_for_all(&r))
                        e = cc_fail(err, CC_INVALID, "global pax header sets %.*s of every entry",
                                    r.key_len < 80 ? (int)r.key_len : 80, r.key);
                if (e == 0)
                        e = keep(&r, a, err);
                if (e < 0)
                        return e;
        }
        return 0;
}

int pax_read(const uint8_t *headers, size_t n, struct pax_attrs *globals, struct pax_attrs *ret,
             struct cc_err *err)
{
        struct cc_cursor c = cc_cursor_init(headers, n);
        struct pax_attrs own = { 0 };

        for (int extended = 0;; extended++) {
                const uint8_t *h = cc_cursor_get(&c, BLOCK);
                uint64_t size;
                uint8_t type;
                int r = 0;

                if (extended > MAX_EXTENDED)
                        return cc_fail(err, CC_INVALID,
                                       "more than %d extended headers before one entry",
                                       MAX_EXTENDED);
                /* libarchive has just found the first one good. */
                if (!h || (extended && !is_header(h)))
                        return cc_fail(err, CC_INVALID, "damaged tar header");
                type = h[TYPE_AT];
                if (type == 'V')
                        continue;
                if (!type || !strchr("gxXLKA", type))
                        break;
                size = number(h + SIZE_AT, SIZE_LEN);
                if (size > cc_cursor_left(&c))
                        return cc_fail(err, CC_INVALID, "damaged tar header");
                if (type == 'g' || type == 'x' || type == 'X')
                        r = read_records(cc_cursor_init(h + BLOCK, (size_t)size), type == 'g',
                                         type == 'g' ? globals : &own, err);
                if (r < 0)
                        return r;
                if (!cc_cursor_get(&c, (size_t)((size + BLOCK - 1) & ~(uint64_t)(BLOCK - 1))))
                        return cc_fail(err, CC_INVALID, "damaged tar header");
        }
        *ret = *globals;
        ret->is_socket = own.is_socket;
        if (own.has_mtime) {
                ret->has_mtime = true;
                ret->mtime = own.mtime;
                ret->mtime_nsec = own.mtime_nsec;
        }
        if (own.has_uid) {
                ret->has_uid = true;
                ret->uid = own.uid;
        }
        if (own.has_gid) {
                ret->has_gid = true;
                ret->gid = own.gid;
        }
        return 0;
}
