/* The subset of TOML that config_read_toml() promises, one line at a time. */
#include <ctype.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "config/file.h"

struct line {
        const char *p; /* NUL-terminated rest of the line */
        unsigned number;
};

static int bad(const struct line *l, const char *why, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "line %u: %s", l->number, why);
}

static void blanks(struct line *l)
{
        while (*l->p == ' ' || *l->p == '\t')
                l->p++;
}

static bool is_bare(char c)
{
        return isalnum((unsigned char)c) || c == '_' || c == '-';
}

static bool at_end(struct line *l)
{
        blanks(l);
        return !*l->p || *l->p == '#';
}

static int escape(struct line *l, struct cc_buf *out, struct cc_err *err)
{
        static const char from[] = "btnfr\"\\";
        static const char to[] = "\b\t\n\f\r\"\\";
        const char *hit = *l->p ? strchr(from, *l->p) : NULL;

        if (!hit)
                return bad(l, "unsupported escape in a string", err);
        cc_buf_char(out, to[hit - from]);
        l->p++;
        return 0;
}

static int quoted(struct line *l, struct cc_buf *out, struct cc_err *err)
{
        char quote = *l->p++;

        while (*l->p && *l->p != quote) {
                if (quote == '"' && *l->p == '\\') {
                        int r;

                        l->p++;
                        r = escape(l, out, err);
                        if (r < 0)
                                return r;
                        continue;
                }
                cc_buf_char(out, *l->p++);
        }
        if (!*l->p)
                return bad(l, "a string must end on its line", err);
        l->p++;
        if (*l->p == quote)
                return bad(l, "multi-line strings are not supported", err);
        return 0;
}

/* a.b."c d" */
static int key(struct line *l, struct cc_buf *out, struct cc_err *err)
{
        for (;;) {
                const char *start;

                blanks(l);
                start = l->p;
                if (*l->p == '"' || *l->p == '\'') {
                        int r = quoted(l, out, err);

                        if (r < 0)
                                return r;
                } else {
                        while (is_bare(*l->p))
                                cc_buf_char(out, *l->p++);
                        if (l->p == start)
                                return bad(l, "a key is expected", err);
                }
                blanks(l);
                if (*l->p != '.')
                        return 0;
                cc_buf_char(out, '.');
                l->p++;
        }
}

/* A number or boolean: what it means is checked by its key. */
static int bare_value(struct line *l, struct cc_buf *out, struct cc_err *err)
{
        const char *start = l->p;

        for (; is_bare(*l->p) || *l->p == '.' || *l->p == '+'; l->p++)
                if (*l->p != '_')
                        cc_buf_char(out, *l->p);
        if (l->p == start)
                return bad(l, "a string, number, boolean or list on one line is expected", err);
        if (out->len && isalpha((unsigned char)*start) && strcmp(out->data, "true") != 0 &&
            strcmp(out->data, "false") != 0)
                return bad(l, "text must be quoted", err);
        return 0;
}

static int simple_value(struct line *l, struct cc_buf *out, struct cc_err *err)
{
        blanks(l);
        return *l->p == '"' || *l->p == '\'' ? quoted(l, out, err) : bare_value(l, out, err);
}

static int list(struct line *l, struct cc_buf *out, struct cc_err *err)
{
        l->p++;
        for (;;) {
                CC_BUF struct cc_buf item = { 0 };
                int r;

                blanks(l);
                if (*l->p == ']')
                        break;
                r = simple_value(l, &item, err);
                if (r < 0)
                        return r;
                if (out->len)
                        cc_buf_char(out, ',');
                cc_buf_add(out, item.data, item.len);
                blanks(l);
                if (*l->p == ',')
                        l->p++;
                else if (*l->p != ']')
                        return bad(l, "a list must end on its line", err);
        }
        l->p++;
        return 0;
}

static int table(struct line *l, struct cc_buf *prefix, struct cc_err *err)
{
        int r;

        l->p++;
        if (*l->p == '[')
                return bad(l, "arrays of tables are not supported", err);
        cc_buf_free(prefix);
        r = key(l, prefix, err);
        if (r < 0)
                return r;
        if (*l->p != ']')
                return bad(l, "] is missing", err);
        l->p++;
        cc_buf_char(prefix, '.');
        return at_end(l) ? 0 : bad(l, "unexpected text behind ]", err);
}

static int entry(struct line *l, const struct cc_buf *prefix, config_file_fn fn, void *ctx,
                 struct cc_err *err)
{
        CC_BUF struct cc_buf name = { 0 };
        CC_BUF struct cc_buf value = { 0 };
        int r;

        if (prefix->len)
                cc_buf_add(&name, prefix->data, prefix->len);
        r = key(l, &name, err);
        if (r < 0)
                return r;
        if (*l->p != '=')
                return bad(l, "= is missing", err);
        l->p++;
        blanks(l);
        cc_buf_reserve(&value, 1);
        value.data[0] = '\0';
        r = *l->p == '[' ? list(l, &value, err) : simple_value(l, &value, err);
        if (r < 0)
                return r;
        if (!at_end(l))
                return bad(l, "unexpected text behind the value", err);
        return fn(ctx, name.data, value.data, err);
}

int config_read_toml(const char *text, size_t n, config_file_fn fn, void *ctx, struct cc_err *err)
{
        CC_BUF struct cc_buf prefix = { 0 };
        const char *end = text + n;
        unsigned number = 0;

        if (!cc_utf8_valid(text, n) || memchr(text, '\0', n))
                return cc_fail(err, CC_INVALID, "not UTF-8 text");
        while (text < end) {
                const char *eol = memchr(text, '\n', (size_t)(end - text));
                size_t len = (size_t)((eol ? eol : end) - text);
                CC_FREE char *copy = NULL;
                struct line l = { .number = ++number };
                int r;

                if (len && text[len - 1] == '\r')
                        copy = xstrndup(text, len - 1);
                else
                        copy = xstrndup(text, len);
                text = eol ? eol + 1 : end;
                l.p = copy;
                if (at_end(&l))
                        continue;
                r = *l.p == '[' ? table(&l, &prefix, err) : entry(&l, &prefix, fn, ctx, err);
                if (r < 0)
                        return r;
        }
        return 0;
}
