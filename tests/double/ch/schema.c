#include "schema.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/json.h"

static const char *const expected[] = {
        [CH_BOOL] = "a boolean",
        [CH_U8] = "u8",
        [CH_U16] = "u16",
        [CH_U32] = "u32",
        [CH_U64] = "u64",
        [CH_USIZE] = "usize",
        [CH_I32] = "i32",
        [CH_STRING] = "a string",
        [CH_PATH] = "path string",
        [CH_MAC] = "a string",
        [CH_ENUM] = "string or map",
        [CH_LIST] = "a sequence",
        [CH_INT_LIST] = "a sequence",
        [CH_STRING_LIST] = "a sequence",
};

static int read_object(const struct ch_dialect *d, const struct ch_object *object,
                       const json_t *value, json_t **ret, char **ret_why);

static bool known(const struct ch_dialect *d, const struct ch_field *f)
{
        return (!f->since || d->release >= f->since) && (!f->until || d->release <= f->until);
}

/* How the deserializer names a value it did not want. */
static char *describe(const json_t *v)
{
        CC_FREE char *text = NULL;

        switch (json_typeof(v)) {
        case JSON_STRING:
                text = json_dumps(v, JSON_ENCODE_ANY);
                return xasprintf("string %s", text);
        case JSON_INTEGER:
                return xasprintf("integer `%lld`", (long long)json_integer_value(v));
        case JSON_REAL:
                return xasprintf("floating point `%g`", json_real_value(v));
        case JSON_TRUE:
        case JSON_FALSE:
                return xasprintf("boolean `%s`", json_is_true(v) ? "true" : "false");
        case JSON_ARRAY:
                return xstrdup("sequence");
        case JSON_OBJECT:
                return xstrdup("map");
        default:
                return xstrdup("null");
        }
}

static int wrong_type(const json_t *v, const char *want, char **ret_why)
{
        CC_FREE char *what = describe(v);

        *ret_why = xasprintf("invalid type: %s, expected %s", what, want);
        return -1;
}

static int read_integer(enum ch_type type, const json_t *v, json_t **ret, char **ret_why)
{
        static const unsigned bits[] = { [CH_U8] = 8, [CH_U16] = 16, [CH_U32] = 32 };
        json_int_t n = json_integer_value(v);
        bool ok;

        if (!json_is_integer(v))
                return wrong_type(v, expected[type], ret_why);
        if (type == CH_I32)
                ok = n >= INT32_MIN && n <= INT32_MAX;
        else
                ok = n >= 0 && (type >= CH_U64 || n >> bits[type] == 0);
        if (!ok) {
                *ret_why = xasprintf("invalid value: integer `%lld`, expected %s", (long long)n,
                                     expected[type]);
                return -1;
        }
        *ret = json_integer(n);
        return 0;
}

static int read_enum(const struct ch_field *f, const json_t *v, json_t **ret, char **ret_why)
{
        CC_BUF struct cc_buf names = { 0 };
        const char *text = json_string_value(v);
        size_t n = 0;

        if (!text)
                return wrong_type(v, expected[CH_ENUM], ret_why);
        for (; f->variants[n]; n++) {
                if (cc_streq(f->variants[n], text)) {
                        *ret = json_string(text);
                        return 0;
                }
        }
        for (size_t i = 0; i < n; i++)
                cc_buf_printf(&names, "%s`%s`",
                              i == 0   ? ""
                              : n == 2 ? " or "
                                       : ", ",
                              f->variants[i]);
        *ret_why = xasprintf("unknown variant `%s`, expected %s%s", text, n > 2 ? "one of " : "",
                             names.data);
        return -1;
}

bool ch_mac(const char *text, char out[18])
{
        if (strlen(text) != 17)
                return false;
        for (size_t i = 0; i < 17; i++) {
                if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i]))
                        return false;
                out[i] = (char)tolower((unsigned char)text[i]);
        }
        out[17] = '\0';
        return true;
}

static int read_mac(const json_t *v, json_t **ret, char **ret_why)
{
        const char *text = json_string_value(v);
        char mac[18];

        if (!text)
                return wrong_type(v, expected[CH_MAC], ret_why);
        if (!ch_mac(text, mac)) {
                *ret_why = xasprintf("The provided MAC address is invalid: parsing of %s into a "
                                     "MAC address failed",
                                     text);
                return -1;
        }
        *ret = json_string(mac);
        return 0;
}

static int read_field(const struct ch_dialect *d, const struct ch_field *f, const json_t *v,
                      json_t **ret, char **ret_why);

static int read_list(const struct ch_dialect *d, const struct ch_field *f, const json_t *v,
                     json_t **ret, char **ret_why)
{
        static const enum ch_type of[] = { [CH_LIST] = CH_OBJECT, [CH_STRING_LIST] = CH_STRING };
        struct ch_field item = { .type = f->type == CH_INT_LIST ? f->element : of[f->type],
                                 .object = f->object };
        CC_JSON json_t *list = NULL;
        json_t *one;
        size_t i;

        if (!json_is_array(v))
                return wrong_type(v, expected[f->type], ret_why);
        list = json_array();
        json_array_foreach (v, i, one) {
                json_t *done;

                if (read_field(d, &item, one, &done, ret_why) < 0)
                        return -1;
                json_array_append_new(list, done);
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static int read_field(const struct ch_dialect *d, const struct ch_field *f, const json_t *v,
                      json_t **ret, char **ret_why)
{
        switch (f->type) {
        case CH_BOOL:
                if (!json_is_boolean(v))
                        return wrong_type(v, expected[CH_BOOL], ret_why);
                *ret = json_boolean(json_is_true(v));
                return 0;
        case CH_STRING:
        case CH_PATH:
                if (!json_is_string(v))
                        return wrong_type(v, expected[f->type], ret_why);
                *ret = json_string(json_string_value(v));
                return 0;
        case CH_MAC:
                return read_mac(v, ret, ret_why);
        case CH_ENUM:
                return read_enum(f, v, ret, ret_why);
        case CH_OBJECT:
                return read_object(d, f->object, v, ret, ret_why);
        case CH_LIST:
        case CH_INT_LIST:
        case CH_STRING_LIST:
                return read_list(d, f, v, ret, ret_why);
        default:
                return read_integer(f->type, v, ret, ret_why);
        }
}

const struct ch_field *ch_field(const struct ch_object *object, const char *name)
{
        for (const struct ch_field *f = object->fields; f->name; f++)
                if (cc_streq(f->name, name))
                        return f;
        return NULL;
}

static int check_unknown(const struct ch_dialect *d, const struct ch_object *object,
                         const json_t *value, char **ret_why)
{
        const char *key;
        json_t *v;

        if (!d->strict && !object->closed)
                return 0;
        json_object_foreach ((json_t *)value, key, v) {
                const struct ch_field *f = ch_field(object, key);

                if (!f || !known(d, f)) {
                        *ret_why = xasprintf("unknown field `%s` in %s", key, object->name);
                        return -1;
                }
        }
        return 0;
}

/* The value of an absent member: NULL in *ret if it stays absent. */
static int read_absent(const struct ch_dialect *d, const struct ch_field *f, json_t **ret,
                       char **ret_why)
{
        *ret = NULL;
        if (f->flags & CH_REQUIRED) {
                *ret_why = xasprintf("missing field `%s`", f->name);
                return -1;
        }
        if (f->flags & CH_DEFAULTS) {
                CC_JSON json_t *none =
                        f->fallback ? json_loads(f->fallback, 0, NULL) : json_object();

                return read_object(d, f->object, none, ret, ret_why);
        }
        if (f->flags & CH_RANDOM_MAC) {
                unsigned char b[6] = { 0 };
                CC_FREE char *mac = NULL;

                (void)!getrandom(b, sizeof(b), 0);
                mac = xasprintf("2e:%02x:%02x:%02x:%02x:%02x", b[1], b[2], b[3], b[4], b[5]);
                *ret = json_string(mac);
        } else if (f->fallback) {
                *ret = json_loads(f->fallback, JSON_DECODE_ANY, NULL);
        }
        return 0;
}

static int read_object(const struct ch_dialect *d, const struct ch_object *object,
                       const json_t *value, json_t **ret, char **ret_why)
{
        CC_JSON json_t *out = NULL;

        if (!json_is_object(value)) {
                CC_FREE char *want = xasprintf("struct %s", object->name);

                return wrong_type(value, want, ret_why);
        }
        if (check_unknown(d, object, value, ret_why) < 0)
                return -1;
        out = json_object();
        for (const struct ch_field *f = object->fields; f->name; f++) {
                const json_t *v = known(d, f) ? json_object_get(value, f->name) : NULL;
                json_t *done = NULL;

                if (!known(d, f) || (f->real && !v))
                        continue;
                /* null is what older releases print for an unset option. */
                if (json_is_null(v) && !(f->flags & CH_REQUIRED) && !f->fallback)
                        v = NULL;
                if (v ? read_field(d, f, v, &done, ret_why) < 0
                      : read_absent(d, f, &done, ret_why) < 0)
                        return -1;
                if (done)
                        json_object_set_new(out, f->real ? f->real : f->name, done);
        }
        *ret = TAKE_PTR(out);
        return 0;
}

int ch_read(const struct ch_dialect *d, const struct ch_object *object, const json_t *value,
            json_t **ret, char **ret_why)
{
        return read_object(d, object, value, ret, ret_why);
}

static json_t *write_field(const struct ch_dialect *d, const struct ch_field *f, const json_t *v)
{
        json_t *list, *one;
        size_t i;

        if (f->type == CH_OBJECT)
                return ch_write(d, f->object, v);
        if (f->type != CH_LIST)
                return json_deep_copy(v);
        list = json_array();
        json_array_foreach (v, i, one) {
                json_array_append_new(list, ch_write(d, f->object, one));
        }
        return list;
}

json_t *ch_write(const struct ch_dialect *d, const struct ch_object *object, const json_t *value)
{
        json_t *out = json_object();

        for (const struct ch_field *f = object->fields; f->name; f++) {
                const json_t *v = json_object_get(value, f->name);

                if (!known(d, f) || f->flags & CH_READ_ONLY)
                        continue;
                if (f->flags & CH_SKIP_FALSE && !json_is_true(v) && d->release >= 53)
                        continue;
                if (v)
                        json_object_set_new(out, f->name, write_field(d, f, v));
                else if (d->release < 53)
                        json_object_set_new(out, f->name,
                                            f->flags & CH_SKIP_FALSE ? json_false() : json_null());
        }
        return out;
}
