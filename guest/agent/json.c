/* A bounded in-place JSON reader; json.h. */
#include "json.h"

#include <string.h>

static bool fail(struct json *j, const char *why)
{
        if (!j->why)
                j->why = why;
        return false;
}

char jr_peek(struct json *j)
{
        while (j->at < j->end &&
               (*j->at == ' ' || *j->at == '\t' || *j->at == '\r' || *j->at == '\n'))
                j->at++;
        return j->at < j->end ? *j->at : '\0';
}

bool jr_enter(struct json *j, char open)
{
        if (j->why)
                return false;
        if (jr_peek(j) != open)
                return fail(j, open == '{' ? "not an object" : "not an array");
        if (++j->depth > JSON_DEPTH)
                return fail(j, "nested too deeply");
        j->at++;
        return true;
}

/* Behind an opening or a value: whether another element follows. Takes the comma, or the closing.
 */
static bool another(struct json *j, bool *first, char close)
{
        char c;

        if (j->why)
                return false;
        c = jr_peek(j);
        if (c == close) {
                j->at++;
                j->depth--;
                return false;
        }
        if (!*first) {
                if (c != ',')
                        return fail(j, "comma expected");
                j->at++;
        }
        *first = false;
        return true;
}

bool jr_item(struct json *j, bool *first)
{
        return another(j, first, ']');
}

bool jr_key(struct json *j, bool *first, struct json_text *ret)
{
        if (!another(j, first, '}') || !jr_string(j, ret))
                return false;
        if (jr_peek(j) != ':')
                return fail(j, "colon expected");
        j->at++;
        return true;
}

static int hex4(const char *p, const char *end)
{
        int v = 0;

        if (end - p < 4)
                return -1;
        for (int i = 0; i < 4; i++) {
                char c = p[i];

                if (c >= '0' && c <= '9')
                        v = v * 16 + (c - '0');
                else if ((c | 32) >= 'a' && (c | 32) <= 'f')
                        v = v * 16 + ((c | 32) - 'a' + 10);
                else
                        return -1;
        }
        return v;
}

static char *put_utf8(char *to, unsigned c)
{
        if (c < 0x80) {
                *to++ = (char)c;
        } else if (c < 0x800) {
                *to++ = (char)(0xc0 | c >> 6);
                *to++ = (char)(0x80 | (c & 63));
        } else if (c < 0x10000) {
                *to++ = (char)(0xe0 | c >> 12);
                *to++ = (char)(0x80 | (c >> 6 & 63));
                *to++ = (char)(0x80 | (c & 63));
        } else {
                *to++ = (char)(0xf0 | c >> 18);
                *to++ = (char)(0x80 | (c >> 12 & 63));
                *to++ = (char)(0x80 | (c >> 6 & 63));
                *to++ = (char)(0x80 | (c & 63));
        }
        return to;
}

/* \uXXXX behind the u: moves j->at over it. Half a surrogate pair becomes U+FFFD. Never longer than
 * its escape. */
static char *unescape_unicode(struct json *j, char *to)
{
        int c = hex4(j->at, j->end);

        if (c < 0) {
                fail(j, "bad \\u escape");
                return to;
        }
        j->at += 4;
        if (c >= 0xd800 && c < 0xe000) {
                int low = -1;

                if (c < 0xdc00 && j->end - j->at >= 6 && j->at[0] == '\\' && j->at[1] == 'u')
                        low = hex4(j->at + 2, j->end);
                if (low >= 0xdc00 && low < 0xe000) {
                        j->at += 6;
                        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                } else {
                        c = 0xfffd;
                }
        }
        return put_utf8(to, (unsigned)c);
}

/* Length of the well-formed UTF-8 sequence at p that starts with a byte above 0x7f, or 0. */
static size_t utf8_sequence(const char *p, const char *end)
{
        const unsigned char *s = (const unsigned char *)p;
        size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
        unsigned min = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
        unsigned max = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;

        if (s[0] < 0xc2 || s[0] > 0xf4 || (size_t)(end - p) < n || s[1] < min || s[1] > max)
                return 0;
        for (size_t i = 2; i < n; i++)
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
        return n;
}

static char *unescape(struct json *j, char *to)
{
        static const char from[] = "\"\\/bfnrt";
        static const char into[] = "\"\\/\b\f\n\r\t";
        const char *found;

        if (++j->at == j->end) {
                fail(j, "unfinished string");
                return to;
        }
        if (*j->at == 'u') {
                j->at++;
                return unescape_unicode(j, to);
        }
        found = *j->at ? strchr(from, *j->at) : NULL;
        if (!found) {
                fail(j, "bad escape");
                return to;
        }
        *to++ = into[found - from];
        j->at++;
        return to;
}

/* Bytes that stand for themselves in a string. */
static bool plain(char c)
{
        return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

bool jr_string(struct json *j, struct json_text *ret)
{
        char *to;

        if (j->why)
                return false;
        if (jr_peek(j) != '"')
                return fail(j, "not a string");
        ret->data = to = ++j->at;
        while (j->at < j->end && *j->at != '"') {
                const char *run = j->at;
                size_t n;

                while (j->at < j->end && plain(*j->at))
                        j->at++;
                n = (size_t)(j->at - run);
                if (n == 0 && *j->at != '\\') {
                        n = (unsigned char)*j->at < 0x20 ? 0 : utf8_sequence(j->at, j->end);
                        if (n == 0)
                                return fail(j, (unsigned char)*j->at < 0x20
                                                       ? "control character in a string"
                                                       : "not UTF-8");
                        j->at += n;
                }
                if (n && to != run)
                        memmove(to, run, n);
                to += n;
                if (n == 0) {
                        to = unescape(j, to);
                        if (j->why)
                                return false;
                }
        }
        if (j->at == j->end)
                return fail(j, "unfinished string");
        j->at++;
        /* At the latest where the closing quote was. */
        *to = '\0';
        ret->len = (size_t)(to - ret->data);
        return true;
}

bool jr_int(struct json *j, int64_t *ret)
{
        bool negative;
        int64_t v = 0;
        const char *digits;

        if (j->why)
                return false;
        negative = jr_peek(j) == '-';
        if (negative)
                j->at++;
        digits = j->at;
        for (; j->at < j->end && *j->at >= '0' && *j->at <= '9'; j->at++) {
                int digit = *j->at - '0';

                if (v < (INT64_MIN + digit) / 10)
                        return fail(j, "number out of range");
                v = v * 10 - digit;
        }
        if (j->at == digits || (j->at - digits > 1 && *digits == '0'))
                return fail(j, "not a number");
        if (j->at < j->end && (*j->at == '.' || (*j->at | 32) == 'e'))
                return fail(j, "not a whole number");
        if (!negative && v == INT64_MIN)
                return fail(j, "number out of range");
        *ret = negative ? v : -v;
        return true;
}

static bool literal(struct json *j, const char *word)
{
        size_t n = strlen(word);

        if ((size_t)(j->end - j->at) < n || memcmp(j->at, word, n) != 0)
                return false;
        j->at += n;
        return true;
}

bool jr_bool(struct json *j, bool *ret)
{
        if (j->why)
                return false;
        jr_peek(j);
        if (literal(j, "true"))
                *ret = true;
        else if (literal(j, "false"))
                *ret = false;
        else
                return fail(j, "not a boolean");
        return true;
}

static bool skip_digits(struct json *j)
{
        const char *from = j->at;

        while (j->at < j->end && *j->at >= '0' && *j->at <= '9')
                j->at++;
        return j->at > from || fail(j, "not a value");
}

static bool skip_number(struct json *j)
{
        const char *digits;

        if (*j->at == '-')
                j->at++;
        digits = j->at;
        if (!skip_digits(j))
                return false;
        if (j->at - digits > 1 && *digits == '0')
                return fail(j, "not a number");
        if (j->at < j->end && *j->at == '.') {
                j->at++;
                if (!skip_digits(j))
                        return false;
        }
        if (j->at < j->end && (*j->at | 32) == 'e') {
                j->at++;
                if (j->at < j->end && (*j->at == '+' || *j->at == '-'))
                        j->at++;
                return skip_digits(j);
        }
        return true;
}

bool jr_skip(struct json *j)
{
        struct json_text text;
        bool first = true;

        if (j->why)
                return false;
        switch (jr_peek(j)) {
        case '"':
                return jr_string(j, &text);
        case '{':
                if (!jr_enter(j, '{'))
                        return false;
                while (jr_key(j, &first, &text))
                        jr_skip(j);
                return !j->why;
        case '[':
                if (!jr_enter(j, '['))
                        return false;
                while (jr_item(j, &first))
                        jr_skip(j);
                return !j->why;
        case '\0':
                return fail(j, "unfinished");
        default:
                if (literal(j, "true") || literal(j, "false") || literal(j, "null"))
                        return true;
                return skip_number(j);
        }
}

bool jr_finish(struct json *j)
{
        if (j->why)
                return false;
        jr_peek(j);
        return j->at == j->end || fail(j, "something behind the object");
}

bool jr_text_is(const struct json_text *text, const char *literal)
{
        return text->data && text->len == strlen(literal) &&
               memcmp(text->data, literal, text->len) == 0;
}
