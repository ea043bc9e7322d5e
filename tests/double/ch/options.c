#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/json.h"

/* Items between commas outside of quotes and brackets; quotes stay. False: not balanced. */
static bool split_commas(const char *text, struct cc_strv *ret)
{
        CC_FREE char *copy = xstrdup(text);
        CC_BUF struct cc_buf item = { 0 };
        unsigned brackets = 0;
        bool quoted = false;
        char *s = copy, *end;

        while (isspace((unsigned char)*s))
                s++;
        for (end = s + strlen(s); end > s && isspace((unsigned char)end[-1]);)
                *--end = '\0';
        for (; *s; s++) {
                if (*s == '"')
                        quoted = !quoted;
                else if (!quoted && *s == '[')
                        brackets++;
                else if (!quoted && *s == ']' && brackets-- == 0)
                        return false;
                if (*s == ',' && !quoted && !brackets) {
                        cc_strv_take(ret, cc_buf_take(&item));
                        continue;
                }
                cc_buf_char(&item, *s);
        }
        cc_strv_take(ret, cc_buf_take(&item));
        return !quoted && !brackets;
}

/* Quotes off; two in a row outside of quotes are one. */
static char *dequote(const char *s)
{
        CC_BUF struct cc_buf out = { 0 };
        bool quoted = false;
        char last = 0;

        for (; *s; s++) {
                if (*s == '"') {
                        if (last == '"' && !quoted)
                                cc_buf_char(&out, '"');
                        quoted = !quoted;
                } else {
                        cc_buf_char(&out, *s);
                }
                last = *s;
        }
        return cc_buf_take(&out);
}

static bool parse_number(const char *s, enum ch_type type, json_t **ret)
{
        static const int bits[] = { [CH_U8] = 8, [CH_U16] = 16, [CH_U32] = 32 };
        unsigned long long n;
        char *end;

        s += *s == '+';
        if (!isdigit((unsigned char)*s))
                return false;
        errno = 0;
        n = strtoull(s, &end, 10);
        if (errno || *end || n > INT64_MAX)
                return false;
        if (type < CH_U64 && type != CH_BOOL && n >> bits[type])
                return false;
        *ret = json_integer((json_int_t)n);
        return true;
}

static bool parse_size(const char *s, json_t **ret)
{
        static const char suffixes[] = "KMG";
        size_t n = strlen(s);
        const char *suffix = n ? strchr(suffixes, s[n - 1]) : NULL;
        CC_FREE char *digits = NULL;
        json_int_t value;

        if (n && suffix)
                n--;
        digits = xstrndup(s, n);
        if (!parse_number(digits, CH_U64, ret))
                return false;
        value = json_integer_value(*ret);
        if (n < strlen(s))
                json_integer_set(*ret, value << (10 * (suffix - suffixes + 1)));
        return true;
}

/* "[0,2-4]": the numbers of a list with ranges. */
static bool parse_list(const char *s, json_t *list)
{
        CC_STRV struct cc_strv items = { 0 };
        CC_FREE char *body = xstrdup(s);
        size_t n = strlen(body);
        const char *item;

        while (n && strchr("[]", body[n - 1]))
                body[--n] = '\0';
        cc_split(body + strspn(body, "["), ",", &items);
        cc_strv_foreach (&items, i, item) {
                CC_STRV struct cc_strv ends = { 0 };
                CC_JSON json_t *from = NULL, *to = NULL;

                cc_split(item, "-", &ends);
                if (ends.len < 1 || ends.len > 2 || !parse_number(ends.v[0], CH_U64, &from) ||
                    !parse_number(ends.v[ends.len - 1], CH_U64, &to))
                        return false;
                for (json_int_t v = json_integer_value(from);
                     v <= json_integer_value(to) && json_array_size(list) < 4096; v++)
                        json_array_append_new(list, json_integer(v));
        }
        return items.len > 0;
}

static bool parse_affinity(const char *s, json_t **ret)
{
        CC_STRV struct cc_strv tuples = { 0 };
        CC_JSON json_t *list = json_array();
        CC_FREE char *body = NULL;
        const char *tuple;
        size_t n = strlen(s);

        if (n < 2 || s[0] != '[' || s[n - 1] != ']')
                return false;
        body = xstrndup(s + 1, n - 2);
        if (!split_commas(body, &tuples))
                return false;
        cc_strv_foreach (&tuples, i, tuple) {
                const char *at = strchr(tuple, '@');
                CC_FREE char *queue = at ? xstrndup(tuple, (size_t)(at - tuple)) : NULL;
                json_t *index = NULL, *cpus;

                if (!at || !parse_number(queue, CH_U16, &index))
                        return false;
                cpus = json_array();
                json_array_append_new(
                        list, json_pack("{s:o, s:o}", "queue_index", index, "host_cpus", cpus));
                if (!parse_list(at + 1, cpus))
                        return false;
        }
        *ret = TAKE_PTR(list);
        return true;
}

static bool parse_toggle(const char *s, json_t **ret)
{
        bool on = strcasecmp(s, "on") == 0 || strcasecmp(s, "true") == 0;

        if (!on && strcasecmp(s, "off") != 0 && strcasecmp(s, "false") != 0)
                return false;
        *ret = json_boolean(on);
        return true;
}

static bool parse_word(const char *s, const char *const *words, json_t **ret)
{
        for (; *words; words += 2) {
                if (strcasecmp(words[0], s) == 0) {
                        *ret = json_string(words[1]);
                        return true;
                }
        }
        return false;
}

static bool convert(const struct ch_option *o, enum ch_type type, const char *value, json_t **ret)
{
        CC_FREE char *plain = dequote(value);
        char mac[18];

        switch (o->convert) {
        case CH_OPT_TOGGLE:
                return parse_toggle(value, ret);
        case CH_OPT_SIZE:
                return parse_size(plain, ret);
        case CH_OPT_NUMBER:
                return parse_number(plain, type, ret);
        case CH_OPT_AFFINITY:
                return parse_affinity(value, ret);
        case CH_OPT_WORD:
                return parse_word(plain, o->words, ret);
        case CH_OPT_MAC:
                if (!ch_mac(plain, mac))
                        return false;
                *ret = json_string(mac);
                return true;
        default:
                *ret = json_string(plain);
                return *ret != NULL;
        }
}

static const struct ch_option *find(const struct ch_option *options, const char *key, size_t n)
{
        for (; options->key; options++)
                if (strlen(options->key) == n && strncmp(options->key, key, n) == 0)
                        return options;
        return NULL;
}

static int one(const char *item, const struct ch_option *options, const struct ch_object *object,
               json_t *out, struct ch_error *e)
{
        size_t n = strcspn(item, "=");
        const struct ch_option *o = find(options, item, n);
        const struct ch_field *field;
        const char *member;
        CC_FREE char *value = NULL;
        json_t *json = NULL;

        if (!o)
                return ch_fail(e, CH_OTHER, "unknown option: %.*s", (int)n, item);
        member = o->member ? o->member : o->key;
        if (o->convert == CH_OPT_FOREIGN) {
                fprintf(stderr, "double: option %s is not modelled\n", o->key);
                exit(70);
        }
        if (o->convert == CH_OPT_FLAG) {
                json_object_set_new(out, member, json_string(o->json));
                return 0;
        }
        if (!item[n])
                return ch_fail(e, CH_OTHER, "invalid syntax: %s", item);
        value = xstrdup(item + n + 1 + strspn(item + n + 1, " \t"));
        if (!*value) {
                json_object_del(out, member);
                return 0;
        }
        field = ch_field(object, member);
        if (!convert(o, field ? field->type : CH_STRING, value, &json)) {
                json_decref(json);
                return ch_fail(e, CH_OTHER, "unable to convert %s for %s", value, o->key);
        }
        json_object_set_new(out, member, json);
        return 0;
}

int ch_options(const char *text, const struct ch_option *options, const struct ch_object *object,
               json_t **ret, struct ch_error *e)
{
        CC_STRV struct cc_strv items = { 0 };
        CC_JSON json_t *out = json_object();
        const char *item;

        if (text[strspn(text, " \t\n")]) {
                if (!split_commas(text, &items))
                        return ch_fail(e, CH_OTHER, "invalid syntax: %s", text);
                cc_strv_foreach (&items, i, item) {
                        if (one(item, options, object, out, e) < 0)
                                return -1;
                }
        }
        *ret = TAKE_PTR(out);
        return 0;
}
