/* See decode.h. */
#include "decode.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "scan.h"

struct decoder {
        struct fcd_scan scan;
        unsigned minor;
};

static int decode_struct(struct decoder *d, const struct fcd_schema *schema, json_t **ret);

/* "invalid type: <what is there>, expected <what>". */
static int wrong_type(struct fcd_scan *s, const char *expected)
{
        CC_BUF struct cc_buf found = { 0 };

        if (fcd_describe(s, &found) < 0)
                return -1;
        (void)fcd_error_later(s, "invalid type: %s, expected %s", found.data, expected);
        return fcd_place(s);
}

/* The next byte of a value; -1 with the error set at the end of the body. */
static int value_start(struct fcd_scan *s)
{
        int c = fcd_peek_solid(s);

        return c < 0 ? fcd_error_peek(s, "EOF while parsing a value") : c;
}

static int decode_text(struct fcd_scan *s, const char *expected, struct cc_buf *ret)
{
        int c = value_start(s);

        if (c < 0)
                return -1;
        if (c != '"')
                return wrong_type(s, expected);
        s->pos++;
        return fcd_string(s, ret);
}

static int decode_string(struct fcd_scan *s, const char *expected, json_t **ret)
{
        CC_BUF struct cc_buf text = { 0 };

        if (decode_text(s, expected, &text) < 0)
                return -1;
        *ret = json_stringn(text.data ? text.data : "", text.len);
        return 0;
}

static int decode_bool(struct fcd_scan *s, json_t **ret)
{
        int c = value_start(s);

        if (c < 0)
                return -1;
        if (c != 't' && c != 'f')
                return wrong_type(s, "a boolean");
        s->pos++;
        *ret = json_boolean(c == 't');
        return fcd_literal(s, c == 't' ? "rue" : "alse");
}

static int decode_unsigned(struct fcd_scan *s, const char *expected, uint64_t max, json_t **ret)
{
        CC_BUF struct cc_buf found = { 0 };
        struct fcd_number n;
        int c = value_start(s);

        if (c < 0)
                return -1;
        if (c != '-' && !isdigit(c))
                return wrong_type(s, expected);
        if (c == '-')
                s->pos++;
        if (fcd_number(s, c != '-', &n) < 0)
                return -1;
        if (n.kind == FCD_UNSIGNED && n.u <= max) {
                *ret = json_integer(n.u > INT64_MAX ? INT64_MAX : (json_int_t)n.u);
                return 0;
        }
        fcd_describe_number(&n, &found);
        (void)fcd_error_later(s, "invalid %s: %s, expected %s",
                              n.kind == FCD_REAL ? "type" : "value", found.data, expected);
        return fcd_place(s);
}

static int decode_mac(struct fcd_scan *s, json_t **ret)
{
        CC_BUF struct cc_buf text = { 0 };

        if (decode_text(s, "a string", &text) < 0)
                return -1;
        for (size_t i = 0; i < 17; i++) {
                int c = i < text.len ? (unsigned char)text.data[i] : 0;

                if (text.len != 17 || (i % 3 == 2 ? c != ':' : !isxdigit(c)))
                        return fcd_error_later(s, "The provided MAC address is invalid.");
                text.data[i] = (char)tolower(c);
        }
        *ret = json_stringn(text.data, text.len);
        return 0;
}

static int decode_level(struct fcd_scan *s, json_t **ret)
{
        static const char *const levels[][2] = {
                { "off", "Off" },   { "trace", "Trace" },  { "debug", "Debug" }, { "info", "Info" },
                { "warn", "Warn" }, { "warning", "Warn" }, { "error", "Error" },
        };
        CC_BUF struct cc_buf text = { 0 };

        if (decode_text(s, "a string", &text) < 0)
                return -1;
        for (size_t i = 0; i < CC_ARRAY_LEN(levels); i++) {
                if (text.data && strcasecmp(text.data, levels[i][0]) == 0) {
                        *ret = json_string(levels[i][1]);
                        return 0;
                }
        }
        return fcd_error_later(s, "Invalid LevelFilter");
}

/* "`a`", "`a` or `b`", "one of `a`, `b`, `c`". */
static void add_alternatives(struct cc_buf *b, const char *const *names, size_t n)
{
        if (n > 2)
                cc_buf_str(b, "one of ");
        for (size_t i = 0; i < n; i++)
                cc_buf_printf(b, "%s`%s`", i == 0 ? "" : n == 2 ? " or " : ", ", names[i]);
}

/* A variant's name, on its own or as the only key of {"Name": null}. */
static int decode_enum(struct fcd_scan *s, const char *const *names, json_t **ret)
{
        CC_BUF struct cc_buf text = { 0 };
        CC_BUF struct cc_buf known = { 0 };
        int c = value_start(s);
        bool wrapped = c == '{';
        size_t n = 0;

        if (c < 0)
                return -1;
        if (wrapped) {
                s->pos++;
                c = fcd_peek_solid(s);
                if (c >= 0 && c != '"')
                        return fcd_error_peek(s,
                                              c == '}' ? "expected value" : "key must be a string");
        }
        if (c != '"')
                return fcd_error_peek(s, c < 0 ? "EOF while parsing an object" : "expected value");
        s->pos++;
        if (fcd_string(s, &text) < 0)
                return -1;
        while (names[n] && !cc_streq(names[n], text.data ? text.data : ""))
                n++;
        if (!names[n]) {
                add_alternatives(&known, names, n);
                (void)fcd_error_later(s, "unknown variant `%s`, expected %s",
                                      text.data ? text.data : "", known.data);
                return fcd_place(s);
        }
        *ret = json_string(names[n]);
        if (!wrapped)
                return 0;
        if (fcd_colon(s) < 0 || value_start(s) < 0)
                return -1;
        if (fcd_peek(s) != 'n')
                return wrong_type(s, "unit");
        s->pos++;
        if (fcd_literal(s, "ull") < 0)
                return -1;
        c = fcd_peek_solid(s);
        if (c != '}')
                return fcd_error(s, c < 0 ? "EOF while parsing an object" : "expected value");
        s->pos++;
        return 0;
}

static int decode_list(struct decoder *d, const struct fcd_schema *items, json_t **ret)
{
        struct fcd_scan *s = &d->scan;
        int c = value_start(s);

        if (c < 0)
                return -1;
        if (c != '[')
                return wrong_type(s, "a sequence");
        s->pos++;
        *ret = json_array();
        for (bool first = true;; first = false) {
                json_t *item = NULL;
                int r;

                c = fcd_peek_solid(s);
                if (c < 0)
                        return fcd_error_peek(s, "EOF while parsing a list");
                if (c == ']')
                        break;
                if (!first && c != ',')
                        return fcd_error_peek(s, "expected `,` or `]`");
                if (!first) {
                        s->pos++;
                        c = fcd_peek_solid(s);
                        if (c == ']')
                                return fcd_error_peek(s, "trailing comma");
                }
                r = decode_struct(d, items, &item);
                (void)json_array_append_new(*ret, item ? item : json_null());
                if (r < 0)
                        return -1;
        }
        s->pos++;
        return 0;
}

/* One value. *ret may be set on failure too: the caller drops it. */
static int decode_value(struct decoder *d, const struct fcd_field *f, json_t **ret)
{
        struct fcd_scan *s = &d->scan;

        if (cc_streq(f->fallback, "null") && fcd_peek_solid(s) == 'n') {
                s->pos++;
                *ret = json_null();
                return fcd_literal(s, "ull");
        }
        switch (f->type) {
        case FCD_STRING:
                return decode_string(s, "a string", ret);
        case FCD_PATH:
                return decode_string(s, "path string", ret);
        case FCD_BOOL:
                return decode_bool(s, ret);
        case FCD_U8:
                return decode_unsigned(s, "u8", UINT8_MAX, ret);
        case FCD_U16:
                return decode_unsigned(s, "u16", UINT16_MAX, ret);
        case FCD_U32:
                return decode_unsigned(s, "u32", UINT32_MAX, ret);
        case FCD_U64:
                return decode_unsigned(s, "u64", UINT64_MAX, ret);
        case FCD_USIZE:
                return decode_unsigned(s, "usize", UINT64_MAX, ret);
        case FCD_MAC:
                return decode_mac(s, ret);
        case FCD_LEVEL:
                return decode_level(s, ret);
        case FCD_ENUM:
                return decode_enum(s, f->of, ret);
        case FCD_OBJECT:
                return decode_struct(d, f->of, ret);
        case FCD_LIST:
                return decode_list(d, f->of, ret);
        case FCD_ANY:
                *ret = json_null();
                return fcd_ignore(s);
        }
        abort();
}

static bool known_to(const struct fcd_field *f, unsigned minor)
{
        return f->since <= minor;
}

static const struct fcd_field *find_field(const struct decoder *d, const struct fcd_schema *schema,
                                          const struct cc_buf *key)
{
        for (const struct fcd_field *f = schema->fields; f->name; f++) {
                if (known_to(f, d->minor) && strlen(f->name) == key->len &&
                    memcmp(f->name, key->data, key->len) == 0)
                        return f;
        }
        return NULL;
}

static int unknown_field(struct decoder *d, const struct fcd_schema *schema, const char *key)
{
        const char *names[24];
        CC_BUF struct cc_buf known = { 0 };
        size_t n = 0;

        for (const struct fcd_field *f = schema->fields; f->name; f++) {
                if (known_to(f, d->minor) && n < CC_ARRAY_LEN(names))
                        names[n++] = f->name;
        }
        add_alternatives(&known, names, n);
        return fcd_error_later(&d->scan, "unknown field `%s`, expected %s", key, known.data);
}

/* Whether another member follows in an object: 1, 0 at its (unconsumed) end, or -1. */
static int next_member(struct fcd_scan *s, bool first)
{
        int c = fcd_peek_solid(s);

        if (c < 0)
                return fcd_error_peek(s, "EOF while parsing an object");
        if (c == '}')
                return 0;
        if (!first && c != ',')
                return fcd_error_peek(s, "expected `,` or `}`");
        if (!first) {
                s->pos++;
                c = fcd_peek_solid(s);
                if (c < 0)
                        return fcd_error_peek(s, "EOF while parsing a value");
                if (c == '}')
                        return fcd_error_peek(s, "trailing comma");
        }
        return c == '"' ? 1 : fcd_error_peek(s, "key must be a string");
}

/* The members of an object up to its (unconsumed) end. */
static int decode_members(struct decoder *d, const struct fcd_schema *schema, json_t *obj)
{
        struct fcd_scan *s = &d->scan;

        for (bool first = true;; first = false) {
                CC_BUF struct cc_buf key = { 0 };
                const struct fcd_field *f;
                json_t *value = NULL;
                int r = next_member(s, first);

                if (r <= 0)
                        return r;
                s->pos++;
                if (fcd_string(s, &key) < 0)
                        return -1;
                f = find_field(d, schema, &key);
                if (!f && !schema->loose)
                        return unknown_field(d, schema, key.data ? key.data : "");
                if (f && json_object_get(obj, f->name))
                        return fcd_error_later(s, "duplicate field `%s`", f->name);
                if (fcd_colon(s) < 0)
                        return -1;
                if (!f) {
                        if (fcd_ignore(s) < 0)
                                return -1;
                        continue;
                }
                r = decode_value(d, f, &value);
                if (value)
                        (void)json_object_set_new(obj, f->name, value);
                if (r < 0)
                        return -1;
        }
}

/* `found` completed and brought into the schema's order. */
static int complete(struct decoder *d, const struct fcd_schema *schema, const json_t *found,
                    json_t *ret)
{
        for (const struct fcd_field *f = schema->fields; f->name; f++) {
                json_t *value = json_object_get(found, f->name);

                if (!known_to(f, d->minor))
                        continue;
                if (value)
                        (void)json_object_set(ret, f->name, value);
                else if (f->fallback)
                        (void)json_object_set_new(ret, f->name,
                                                  json_loads(f->fallback, JSON_DECODE_ANY, NULL));
                else
                        return fcd_error_later(&d->scan, "missing field `%s`", f->name);
        }
        return 0;
}

/* A structure written as a list of its fields' values, which the library takes as well. */
static int decode_positional(struct decoder *d, const struct fcd_schema *schema, json_t *obj)
{
        struct fcd_scan *s = &d->scan;
        size_t total = 0;
        size_t n = 0;

        for (const struct fcd_field *f = schema->fields; f->name; f++)
                total += known_to(f, d->minor);
        for (const struct fcd_field *f = schema->fields; f->name; f++) {
                json_t *value = NULL;
                int c = fcd_peek_solid(s);
                int r;

                if (!known_to(f, d->minor))
                        continue;
                if (c < 0)
                        return fcd_error_peek(s, "EOF while parsing a list");
                if (c == ']') {
                        if (f->defaulted || (f->fallback && !cc_streq(f->fallback, "null")))
                                continue;
                        return fcd_error_later(s,
                                               "invalid length %zu, expected struct %s with %zu "
                                               "element%s",
                                               n, schema->name, total, total == 1 ? "" : "s");
                }
                if (n > 0 && c != ',')
                        return fcd_error_peek(s, "expected `,` or `]`");
                if (n++ > 0) {
                        s->pos++;
                        if (fcd_peek_solid(s) == ']')
                                return fcd_error_peek(s, "trailing comma");
                }
                r = decode_value(d, f, &value);
                if (value)
                        (void)json_object_set_new(obj, f->name, value);
                if (r < 0)
                        return -1;
        }
        return 0;
}

static int decode_struct(struct decoder *d, const struct fcd_schema *schema, json_t **ret)
{
        struct fcd_scan *s = &d->scan;
        CC_JSON json_t *found = json_object();
        CC_JSON json_t *obj = json_object();
        int c = value_start(s);
        int r;

        if (c < 0)
                return -1;
        if (c != '{' && c != '[') {
                CC_BUF struct cc_buf what = { 0 };

                cc_buf_printf(&what, "struct %s", schema->name);
                return wrong_type(s, what.data);
        }
        s->pos++;
        r = c == '{' ? decode_members(d, schema, found) : decode_positional(d, schema, found);
        if (r == 0)
                r = complete(d, schema, found, obj);
        /* The library steps over the closing bracket also on failure: it shows in the column. */
        if (r < 0 && s->placed)
                return -1;
        if (fcd_peek_solid(s) == (c == '{' ? '}' : ']'))
                s->pos++;
        else if (r == 0)
                return fcd_error_peek(s, fcd_peek(s) < 0 ? "EOF while parsing a list"
                                                         : "trailing characters");
        if (r < 0)
                return fcd_place(s);
        *ret = TAKE_PTR(obj);
        return 0;
}

int fcd_decode(const struct fcd_schema *schema, unsigned minor, const char *text, size_t len,
               json_t **ret, struct cc_buf *error)
{
        struct decoder d = { .scan = { .text = text, .len = len }, .minor = minor };
        CC_JSON json_t *obj = NULL;
        int r = decode_struct(&d, schema, &obj);

        if (r == 0)
                r = fcd_end(&d.scan);
        if (r == 0)
                *ret = TAKE_PTR(obj);
        else
                cc_buf_add(error, d.scan.error.data, d.scan.error.len);
        fcd_scan_free(&d.scan);
        return r;
}
