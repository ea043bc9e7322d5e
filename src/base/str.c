/* Buffers, vectors and string predicates. See str.h. */
#include "base/str.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"

void cc_buf_reserve(struct cc_buf *b, size_t more)
{
        size_t need = b->len + more + 1;
        size_t cap = b->cap ? b->cap : 64;

        if (need <= b->cap && need > more)
                return;
        if (need <= more || need > SIZE_MAX / 2)
                abort(); /* nothing bounded gets here */
        while (cap < need)
                cap *= 2;
        b->data = xreallocarray(b->data, cap, 1);
        b->cap = cap;
}

void cc_buf_add(struct cc_buf *b, const void *data, size_t len)
{
        cc_buf_reserve(b, len);
        if (len)
                memcpy(b->data + b->len, data, len);
        b->len += len;
        b->data[b->len] = '\0';
}

void cc_buf_str(struct cc_buf *b, const char *s)
{
        cc_buf_add(b, s, strlen(s));
}

void cc_buf_char(struct cc_buf *b, char c)
{
        cc_buf_add(b, &c, 1);
}

static void CC_PRINTF(2, 0) buf_vprintf(struct cc_buf *b, const char *fmt, va_list ap)
{
        va_list again;
        int n;

        va_copy(again, ap);
        n = vsnprintf(NULL, 0, fmt, again);
        va_end(again);
        if (n < 0)
                return;
        cc_buf_reserve(b, (size_t)n);
        (void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
        b->len += (size_t)n;
}

void cc_buf_printf(struct cc_buf *b, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        buf_vprintf(b, fmt, ap);
        va_end(ap);
}

char *cc_buf_take(struct cc_buf *b)
{
        char *s;

        cc_buf_reserve(b, 0);
        b->data[b->len] = '\0';
        s = b->data;
        *b = (struct cc_buf){ 0 };
        return s;
}

void cc_buf_free(struct cc_buf *b)
{
        free(b->data);
        *b = (struct cc_buf){ 0 };
}

void cc_strv_take(struct cc_strv *s, char *item)
{
        if (s->len + 2 > s->cap) {
                s->cap = s->cap ? s->cap * 2 : 8;
                s->v = xreallocarray(s->v, s->cap, sizeof(*s->v));
        }
        s->v[s->len++] = item;
        s->v[s->len] = NULL;
}

void cc_strv_add(struct cc_strv *s, const char *item)
{
        cc_strv_take(s, xstrdup(item));
}

void cc_strv_addf(struct cc_strv *s, const char *fmt, ...)
{
        struct cc_buf b = { 0 };
        va_list ap;

        va_start(ap, fmt);
        buf_vprintf(&b, fmt, ap);
        va_end(ap);
        cc_strv_take(s, cc_buf_take(&b));
}

bool cc_strv_has(const struct cc_strv *s, const char *item)
{
        for (size_t i = 0; i < s->len; i++)
                if (strcmp(s->v[i], item) == 0)
                        return true;
        return false;
}

static int cmp_str(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

void cc_strv_sort(struct cc_strv *s)
{
        if (s->len > 1)
                qsort(s->v, s->len, sizeof(*s->v), cmp_str);
}

char *cc_strv_join(const struct cc_strv *s, const char *sep)
{
        struct cc_buf b = { 0 };

        for (size_t i = 0; i < s->len; i++) {
                if (i)
                        cc_buf_str(&b, sep);
                cc_buf_str(&b, s->v[i]);
        }
        return cc_buf_take(&b);
}

void cc_strv_copy(struct cc_strv *dst, const struct cc_strv *src)
{
        struct cc_strv copy = { 0 };

        for (size_t i = 0; i < src->len; i++)
                cc_strv_add(&copy, src->v[i]);
        cc_strv_free(dst);
        *dst = copy;
}

void cc_strv_free(struct cc_strv *s)
{
        for (size_t i = 0; i < s->len; i++)
                free(s->v[i]);
        free(s->v);
        *s = (struct cc_strv){ 0 };
}

bool cc_streq(const char *a, const char *b)
{
        if (!a || !b)
                return a == b;
        return strcmp(a, b) == 0;
}

bool cc_startswith(const char *s, const char *prefix)
{
        return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool cc_endswith(const char *s, const char *suffix)
{
        size_t n = strlen(s);
        size_t m = strlen(suffix);

        return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

void cc_split(const char *s, const char *seps, struct cc_strv *ret)
{
        while (*s) {
                size_t n = strcspn(s, seps);
                const char *a = s;
                const char *z = s + n;

                while (a < z && isspace((unsigned char)*a))
                        a++;
                while (z > a && isspace((unsigned char)z[-1]))
                        z--;
                if (z > a)
                        cc_strv_take(ret, xstrndup(a, (size_t)(z - a)));
                s += n;
                if (*s)
                        s++;
        }
}

int cc_parse_i64(const char *s, long long *ret)
{
        bool neg = false;
        unsigned base = 10;
        unsigned long long v = 0;
        unsigned long long limit;

        if (*s == '+' || *s == '-')
                neg = *s++ == '-';
        if (s[0] == '0' && s[1]) {
                char c = (char)tolower((unsigned char)s[1]);

                base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
                if (base != 10)
                        s += 2;
        }
        if (!*s)
                return -CC_INVALID;
        limit = neg ? (unsigned long long)INT64_MAX + 1 : INT64_MAX;
        for (; *s; s++) {
                int c = tolower((unsigned char)*s);
                unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                             : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                    : 99;

                if (d >= base || v > (limit - d) / base)
                        return -CC_INVALID;
                v = v * base + d;
        }
        *ret = neg ? (long long)(0 - v) : (long long)v;
        return 0;
}

unsigned cc_edit_distance(const char *a, const char *b, unsigned max)
{
        size_t n = strlen(a);
        size_t m = strlen(b);
        unsigned d[3][65];

        if (n > 64 || m > 64 || n > m + max || m > n + max)
                return max + 1;
        for (size_t j = 0; j <= m; j++)
                d[0][j] = (unsigned)j;
        for (size_t i = 1; i <= n; i++) {
                unsigned *cur = d[i % 3];
                const unsigned *prev = d[(i + 2) % 3];
                const unsigned *prev2 = d[(i + 1) % 3];

                cur[0] = (unsigned)i;
                for (size_t j = 1; j <= m; j++) {
                        unsigned v = prev[j - 1] + (a[i - 1] != b[j - 1]);

                        if (prev[j] + 1 < v)
                                v = prev[j] + 1;
                        if (cur[j - 1] + 1 < v)
                                v = cur[j - 1] + 1;
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                            prev2[j - 2] + 1 < v)
                                v = prev2[j - 2] + 1;
                        cur[j] = v;
                }
        }
        return d[n % 3][m] > max ? max + 1 : d[n % 3][m];
}

const char *cc_closest(const char *word, const char *const *candidates, size_t n)
{
        const char *best = NULL;
        const char *longer = NULL; /* begins with the word */
        unsigned best_distance = 3;
        size_t len = strlen(word);

        if (len == 0)
                return NULL;
        /* At least half of the word must be right: "zz" is not a slip of "w1". */
        if (len / 2 + 1 < best_distance)
                best_distance = (unsigned)len / 2 + 1;
        for (size_t i = 0; i < n; i++) {
                unsigned d = cc_edit_distance(word, candidates[i], 2);

                if (d < best_distance) {
                        best = candidates[i];
                        best_distance = d;
                }
                if (!longer && cc_startswith(candidates[i], word))
                        longer = candidates[i];
        }
        return best ? best : longer;
}

/* Length of the well-formed sequence at s, 0 if there is none. */
static size_t utf8_seq(const unsigned char *s, size_t left)
{
        if (left && s[0] < 0x80)
                return 1;
        if (left >= 2 && s[0] >= 0xc2 && s[0] <= 0xdf && (s[1] & 0xc0) == 0x80)
                return 2;
        if (left >= 3 && (s[0] & 0xf0) == 0xe0 && (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80) {
                if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))
                        return 0;
                return 3;
        }
        if (left >= 4 && s[0] >= 0xf0 && s[0] <= 0xf4 && (s[1] & 0xc0) == 0x80 &&
            (s[2] & 0xc0) == 0x80 && (s[3] & 0xc0) == 0x80) {
                if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
                        return 0;
                return 4;
        }
        return 0;
}

bool cc_utf8_valid(const char *s, size_t len)
{
        for (size_t i = 0; i < len;) {
                size_t n = utf8_seq((const unsigned char *)s + i, len - i);

                if (!n)
                        return false;
                i += n;
        }
        return true;
}

size_t cc_utf8_len(const char *s)
{
        size_t len = strlen(s);
        size_t count = 0;

        for (size_t i = 0; i < len; count++) {
                size_t n = utf8_seq((const unsigned char *)s + i, len - i);

                i += n ? n : 1;
        }
        return count;
}

void cc_hex(const void *data, size_t n, char *out)
{
        static const char digits[] = "0123456789abcdef";
        const unsigned char *p = data;

        for (size_t i = 0; i < n; i++) {
                out[2 * i] = digits[p[i] >> 4];
                out[2 * i + 1] = digits[p[i] & 15];
        }
        out[2 * n] = '\0';
}

bool cc_is_hex(const char *s, size_t n)
{
        if (strnlen(s, n + 1) != n)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
                        return false;
        return true;
}
