/* See scan.h. */
#include "scan.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void fcd_scan_free(struct fcd_scan *s)
{
        cc_buf_free(&s->error);
}

int fcd_peek(const struct fcd_scan *s)
{
        return s->pos < s->len ? (unsigned char)s->text[s->pos] : -1;
}

int fcd_peek_solid(struct fcd_scan *s)
{
        for (;;) {
                int c = fcd_peek(s);

                if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
                        return c;
                s->pos++;
        }
}

/* Line and column of offset `at`, both as the library counts: columns are bytes consumed. */
static void place_at(struct fcd_scan *s, size_t at)
{
        size_t line = 1;
        size_t start = 0;

        for (size_t i = 0; i < at; i++) {
                if (s->text[i] == '\n') {
                        line++;
                        start = i + 1;
                }
        }
        cc_buf_printf(&s->error, " at line %zu column %zu", line, at - start);
        s->placed = true;
}

int fcd_error(struct fcd_scan *s, const char *text)
{
        cc_buf_str(&s->error, text);
        place_at(s, s->pos);
        return -1;
}

int fcd_error_peek(struct fcd_scan *s, const char *text)
{
        cc_buf_str(&s->error, text);
        place_at(s, s->pos < s->len ? s->pos + 1 : s->len);
        return -1;
}

int fcd_error_later(struct fcd_scan *s, const char *fmt, ...)
{
        char *text = NULL;
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vasprintf(&text, fmt, ap);
        va_end(ap);
        if (n < 0)
                abort();
        cc_buf_str(&s->error, text);
        free(text);
        return -1;
}

int fcd_place(struct fcd_scan *s)
{
        if (!s->placed)
                place_at(s, s->pos);
        return -1;
}

int fcd_literal(struct fcd_scan *s, const char *rest)
{
        for (; *rest; rest++) {
                int c = fcd_peek(s);

                if (c < 0)
                        return fcd_error(s, "EOF while parsing a value");
                s->pos++;
                if (c != *rest)
                        return fcd_error(s, "expected ident");
        }
        return 0;
}

/* Four hexadecimal digits; -1 with the error set. */
static int hex4(struct fcd_scan *s)
{
        int value = 0;

        if (s->len - s->pos < 4) {
                s->pos = s->len;
                return fcd_error(s, "EOF while parsing a string");
        }
        for (int i = 0; i < 4; i++) {
                int c = fcd_peek(s);

                if (!isxdigit(c)) {
                        s->pos += (size_t)(4 - i);
                        return fcd_error(s, "invalid escape");
                }
                s->pos++;
                value = value * 16 + (isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
        }
        return value;
}

static void add_code_point(struct cc_buf *b, unsigned cp)
{
        if (cp < 0x80) {
                cc_buf_char(b, (char)cp);
        } else if (cp < 0x800) {
                cc_buf_char(b, (char)(0xc0 | cp >> 6));
                cc_buf_char(b, (char)(0x80 | (cp & 0x3f)));
        } else if (cp < 0x10000) {
                cc_buf_char(b, (char)(0xe0 | cp >> 12));
                cc_buf_char(b, (char)(0x80 | (cp >> 6 & 0x3f)));
                cc_buf_char(b, (char)(0x80 | (cp & 0x3f)));
        } else {
                cc_buf_char(b, (char)(0xf0 | cp >> 18));
                cc_buf_char(b, (char)(0x80 | (cp >> 12 & 0x3f)));
                cc_buf_char(b, (char)(0x80 | (cp >> 6 & 0x3f)));
                cc_buf_char(b, (char)(0x80 | (cp & 0x3f)));
        }
}

/* \uXXXX, surrogates in pairs. */
static int unicode_escape(struct fcd_scan *s, struct cc_buf *ret)
{
        int high = hex4(s);
        int low;

        if (high < 0)
                return -1;
        if (high >= 0xdc00 && high <= 0xdfff)
                return fcd_error(s, "lone leading surrogate in hex escape");
        if (high < 0xd800 || high > 0xdbff) {
                add_code_point(ret, (unsigned)high);
                return 0;
        }
        for (const char *want = "\\u"; *want; want++) {
                int c = fcd_peek(s);

                if (c < 0)
                        return fcd_error(s, "EOF while parsing a string");
                s->pos++;
                if (c != *want)
                        return fcd_error(s, "unexpected end of hex escape");
        }
        low = hex4(s);
        if (low < 0)
                return -1;
        if (low < 0xdc00 || low > 0xdfff)
                return fcd_error(s, "lone leading surrogate in hex escape");
        add_code_point(ret, 0x10000 + ((unsigned)(high - 0xd800) << 10) + (unsigned)(low - 0xdc00));
        return 0;
}

static int escape(struct fcd_scan *s, struct cc_buf *ret)
{
        static const char from[] = "\"\\/bfnrt";
        static const char to[] = "\"\\/\b\f\n\r\t";
        const char *p;
        int c = fcd_peek(s);

        if (c < 0)
                return fcd_error(s, "EOF while parsing a string");
        s->pos++;
        if (c == 'u')
                return unicode_escape(s, ret);
        p = c ? strchr(from, c) : NULL;
        if (!p)
                return fcd_error(s, "invalid escape");
        cc_buf_char(ret, to[p - from]);
        return 0;
}

int fcd_string(struct fcd_scan *s, struct cc_buf *ret)
{
        size_t start = ret->len;

        for (;;) {
                int c = fcd_peek(s);

                if (c < 0)
                        return fcd_error(s, "EOF while parsing a string");
                s->pos++;
                if (c == '"')
                        break;
                if (c < 0x20)
                        return fcd_error(s, "control character (\\u0000-\\u001F) found while "
                                            "parsing a string");
                if (c != '\\')
                        cc_buf_char(ret, (char)c);
                else if (escape(s, ret) < 0)
                        return -1;
        }
        if (ret->len > start && !cc_utf8_valid(ret->data + start, ret->len - start))
                return fcd_error(s, "invalid unicode code point");
        return 0;
}

static void digits(struct fcd_scan *s)
{
        while (fcd_peek(s) >= '0' && fcd_peek(s) <= '9')
                s->pos++;
}

/* Everything behind the sign, checked only; *ret_real: it has a fraction or an exponent. */
static int number_token(struct fcd_scan *s, bool *ret_real)
{
        size_t start;
        int c = fcd_peek(s);

        *ret_real = false;
        if (c < 0)
                return fcd_error(s, "EOF while parsing a value");
        s->pos++;
        if (c < '0' || c > '9')
                return fcd_error(s, "invalid number");
        if (c == '0' && fcd_peek(s) >= '0' && fcd_peek(s) <= '9')
                return fcd_error_peek(s, "invalid number"); /* one leading zero at most */
        digits(s);
        if (fcd_peek(s) == '.') {
                *ret_real = true;
                start = ++s->pos;
                digits(s);
                if (s->pos == start)
                        return fcd_error_peek(s, fcd_peek(s) < 0 ? "EOF while parsing a value"
                                                                 : "invalid number");
        }
        if (fcd_peek(s) == 'e' || fcd_peek(s) == 'E') {
                *ret_real = true;
                s->pos++;
                if (fcd_peek(s) == '+' || fcd_peek(s) == '-')
                        s->pos++;
                c = fcd_peek(s);
                if (c < 0)
                        return fcd_error(s, "EOF while parsing a value");
                s->pos++;
                if (c < '0' || c > '9')
                        return fcd_error(s, "invalid number");
                digits(s);
        }
        return 0;
}

int fcd_number(struct fcd_scan *s, bool positive, struct fcd_number *ret)
{
        size_t start = s->pos;
        CC_FREE char *text = NULL;
        bool real;

        if (number_token(s, &real) < 0)
                return -1;
        text = xstrndup(s->text + start, s->pos - start);
        errno = 0;
        ret->u = real ? 0 : strtoull(text, NULL, 10);
        if (!real && errno != ERANGE && positive) {
                ret->kind = FCD_UNSIGNED;
                return 0;
        }
        if (!real && errno != ERANGE && ret->u > 0 && ret->u <= (uint64_t)INT64_MAX + 1) {
                ret->kind = FCD_SIGNED;
                ret->i = (int64_t)(0 - ret->u);
                return 0;
        }
        ret->kind = FCD_REAL;
        ret->real = strtod(text, NULL);
        if (isinf(ret->real))
                return fcd_error(s, "number out of range");
        if (!positive)
                ret->real = -ret->real;
        return 0;
}

int fcd_colon(struct fcd_scan *s)
{
        int c = fcd_peek_solid(s);

        if (c < 0)
                return fcd_error_peek(s, "EOF while parsing an object");
        if (c != ':')
                return fcd_error_peek(s, "expected `:`");
        s->pos++;
        return 0;
}

/* A value that is no list and no object; 1 if it is one of these (nothing consumed). */
static int ignore_scalar(struct fcd_scan *s)
{
        CC_BUF struct cc_buf drop = { 0 };
        bool real;
        int c = fcd_peek_solid(s);

        if (c < 0)
                return fcd_error_peek(s, "EOF while parsing a value");
        if (c == '[' || c == '{')
                return 1;
        if (c >= '0' && c <= '9')
                return number_token(s, &real);
        if (!strchr("ntf\"-", c) || !c)
                return fcd_error_peek(s, "expected value");
        s->pos++;
        switch (c) {
        case 'n':
                return fcd_literal(s, "ull");
        case 't':
                return fcd_literal(s, "rue");
        case 'f':
                return fcd_literal(s, "alse");
        case '"':
                return fcd_string(s, &drop);
        default:
                return number_token(s, &real);
        }
}

/* The key of an object's next member and its colon. */
static int ignore_key(struct fcd_scan *s)
{
        CC_BUF struct cc_buf drop = { 0 };
        int c = fcd_peek_solid(s);

        if (c < 0)
                return fcd_error_peek(s, "EOF while parsing an object");
        if (c != '"')
                return fcd_error_peek(s, "key must be a string");
        s->pos++;
        if (fcd_string(s, &drop) < 0)
                return -1;
        return fcd_colon(s);
}

/* Behind a value: 1 if another one follows in the innermost bracket, 0 if all of them are closed.
 * `fresh`: the innermost one has only just been opened. */
static int ignore_next(struct fcd_scan *s, struct cc_buf *open, bool fresh)
{
        while (open->len > 0) {
                char frame = open->data[open->len - 1];
                int c = fcd_peek_solid(s);

                if (c < 0)
                        return fcd_error_peek(s, frame == '[' ? "EOF while parsing a list"
                                                              : "EOF while parsing an object");
                if (c == (frame == '[' ? ']' : '}')) {
                        s->pos++;
                        open->len--;
                        fresh = false;
                        continue;
                }
                if (!fresh && c != ',')
                        return fcd_error_peek(s, frame == '[' ? "expected `,` or `]`"
                                                              : "expected `,` or `}`");
                if (!fresh)
                        s->pos++;
                if (frame == '{' && ignore_key(s) < 0)
                        return -1;
                return 1;
        }
        return 0;
}

int fcd_ignore(struct fcd_scan *s)
{
        CC_BUF struct cc_buf open = { 0 }; /* brackets, outermost first: no recursion */
        int r;

        do {
                r = ignore_scalar(s);
                if (r < 0)
                        return -1;
                if (r == 1)
                        cc_buf_char(&open, s->text[s->pos++]);
                r = ignore_next(s, &open, r == 1);
        } while (r == 1);
        return r;
}

int fcd_end(struct fcd_scan *s)
{
        return fcd_peek_solid(s) < 0 ? 0 : fcd_error_peek(s, "trailing characters");
}

/* A string as Rust's debug form shows it: quotes, backslashes and controls escaped. */
static void debug_string(struct cc_buf *ret, const struct cc_buf *text)
{
        static const char from[] = "\"\\\n\r\t";
        static const char to[] = "\"\\nrt";

        cc_buf_char(ret, '"');
        for (size_t i = 0; i < text->len; i++) {
                unsigned char c = (unsigned char)text->data[i];
                const char *p = c ? strchr(from, c) : NULL;

                if (p)
                        cc_buf_printf(ret, "\\%c", to[p - from]);
                else if (c == 0)
                        cc_buf_str(ret, "\\0");
                else if (c < 0x20 || c == 0x7f)
                        cc_buf_printf(ret, "\\u{%x}", c);
                else
                        cc_buf_char(ret, (char)c);
        }
        cc_buf_char(ret, '"');
}

void fcd_describe_number(const struct fcd_number *n, struct cc_buf *ret)
{
        int digits_shown = 0;
        char text[40];
        long exponent;
        int decimals;

        switch (n->kind) {
        case FCD_UNSIGNED:
                cc_buf_printf(ret, "integer `%" PRIu64 "`", n->u);
                return;
        case FCD_SIGNED:
                cc_buf_printf(ret, "integer `%" PRId64 "`", n->i);
                return;
        case FCD_REAL:
                break;
        }
        /* The shortest decimal form that reads back as the same value. */
        while (++digits_shown < 17) {
                (void)snprintf(text, sizeof(text), "%.*e", digits_shown - 1, n->real);
                if (strtod(text, NULL) == n->real)
                        break;
        }
        (void)snprintf(text, sizeof(text), "%.*e", digits_shown - 1, n->real);
        exponent = strtol(strchr(text, 'e') + 1, NULL, 10);
        if (exponent >= -5 && exponent < 16) {
                decimals = digits_shown - 1 - (int)exponent;
                cc_buf_printf(ret, "floating point `%.*f`", decimals > 1 ? decimals : 1, n->real);
        } else {
                *strchr(text, 'e') = '\0';
                cc_buf_printf(ret, "floating point `%se%+ld`", text, exponent);
        }
}

int fcd_describe(struct fcd_scan *s, struct cc_buf *ret)
{
        CC_BUF struct cc_buf text = { 0 };
        struct fcd_number n;
        int c = fcd_peek(s);

        if (c == '[' || c == '{') {
                cc_buf_str(ret, c == '[' ? "sequence" : "map");
                return 0;
        }
        if (c <= 0 || !strchr("ntf\"-0123456789", c))
                return fcd_error_peek(s, "expected value");
        if (!isdigit(c))
                s->pos++;
        if (c == 'n') {
                cc_buf_str(ret, "null");
                return fcd_literal(s, "ull");
        }
        if (c == 't' || c == 'f') {
                cc_buf_str(ret, c == 't' ? "boolean `true`" : "boolean `false`");
                return fcd_literal(s, c == 't' ? "rue" : "alse");
        }
        if (c == '"') {
                if (fcd_string(s, &text) < 0)
                        return -1;
                cc_buf_str(ret, "string ");
                debug_string(ret, &text);
                return 0;
        }
        if (fcd_number(s, c != '-', &n) < 0)
                return -1;
        fcd_describe_number(&n, ret);
        return 0;
}
