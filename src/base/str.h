/*
 * Strings: a growing byte buffer, a NULL-terminated vector, small predicates and closest-match
 * search. Formatting of sizes and times lives in size.h and time.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/err.h"

/* A growing byte buffer; always NUL-terminated behind `len` once non-empty. Zero-initialise. */
struct cc_buf {
        char *data;
        size_t len;
        size_t cap;
};

void cc_buf_add(struct cc_buf *b, const void *data, size_t len);
void cc_buf_str(struct cc_buf *b, const char *s);
void cc_buf_char(struct cc_buf *b, char c);
void cc_buf_printf(struct cc_buf *b, const char *fmt, ...) CC_PRINTF(2, 3);
void cc_buf_reserve(struct cc_buf *b, size_t more); /* room for `more` bytes behind len */
char *cc_buf_take(struct cc_buf *b);                /* the string (never NULL); *b is empty again */
void cc_buf_free(struct cc_buf *b);                 /* also the cleanup function */
#define CC_BUF CC_CLEANUP(cc_buf_free)

/* A NULL-terminated vector of owned strings. Zero-initialise; `v` may be NULL while empty. */
struct cc_strv {
        char **v;
        size_t len;
        size_t cap;
};

void cc_strv_add(struct cc_strv *s, const char *item); /* copies */
void cc_strv_addf(struct cc_strv *s, const char *fmt, ...) CC_PRINTF(2, 3);
void cc_strv_take(struct cc_strv *s, char *item); /* takes ownership */
bool cc_strv_has(const struct cc_strv *s, const char *item);
void cc_strv_sort(struct cc_strv *s); /* bytewise */
char *cc_strv_join(const struct cc_strv *s, const char *sep);
void cc_strv_copy(struct cc_strv *dst, const struct cc_strv *src); /* frees what dst held */
void cc_strv_free(struct cc_strv *s);                              /* also the cleanup function */
#define CC_STRV CC_CLEANUP(cc_strv_free)
#define cc_strv_foreach(s, i, item)                                                                \
        for (size_t i = 0; i < (s)->len && ((item) = (s)->v[i], true); i++)

bool cc_streq(const char *a, const char *b); /* NULL-safe; NULL equals only NULL */
bool cc_startswith(const char *s, const char *prefix);
bool cc_endswith(const char *s, const char *suffix);
static inline bool cc_isempty(const char *s)
{
        return !s || !*s;
}

/* Split at any byte of `seps`, blanks around items trimmed, empty items dropped. */
void cc_split(const char *s, const char *seps, struct cc_strv *ret);

/* Decimal, 0x, 0o or 0b integer filling the whole string. Returns 0 or -CC_INVALID (no text). */
int cc_parse_i64(const char *s, long long *ret);

/* Optimal-string-alignment edit distance, capped at `max` + 1. */
unsigned cc_edit_distance(const char *a, const char *b, unsigned max);

/* The candidate closest to `word` (distance <= 2 and <= half of its length, or `word` is its
 * prefix); NULL if none is close. */
const char *cc_closest(const char *word, const char *const *candidates, size_t n);

/* True if s is well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool cc_utf8_valid(const char *s, size_t len);

/* Code points in a NUL-terminated string; invalid bytes count one each. */
size_t cc_utf8_len(const char *s);

/* Lower-case hex of n bytes into out[2n+1]. */
void cc_hex(const void *data, size_t n, char *out);

/* True if s has exactly n lower-case hex digits. */
bool cc_is_hex(const char *s, size_t n);
