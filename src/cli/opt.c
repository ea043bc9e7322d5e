/* Flags by table: see opt.h. */
#include "cli/opt.h"

#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "base/timeutil.h"

static size_t count_rows(const struct opt_group *groups)
{
        size_t n = 0;

        for (; groups && groups->rows; groups++)
                for (const struct opt *o = groups->rows; o->name; o++)
                        n++;
        return n;
}

/* Position of a row over all groups: the index into given[] and late[]. */
static size_t row_index(const struct opt_group *groups, const struct opt *row)
{
        size_t n = 0;

        for (; groups->rows; groups++)
                for (const struct opt *o = groups->rows; o->name; o++, n++)
                        if (o == row)
                                return n;
        return n;
}

static void *slot(const struct opt_set *set, const struct opt *o)
{
        for (const struct opt_group *g = set->groups; g->rows; g++)
                for (const struct opt *row = g->rows; row->name; row++)
                        if (row == o)
                                return (char *)set->target + g->base + o->offset;
        return NULL;
}

static int parse_bool(const char *s, bool *ret)
{
        static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
        static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };

        for (size_t i = 0; i < CC_ARRAY_LEN(yes); i++) {
                if (cc_streq(s, yes[i])) {
                        *ret = true;
                        return 0;
                }
                if (cc_streq(s, no[i])) {
                        *ret = false;
                        return 0;
                }
        }
        return -CC_INVALID;
}

/* Store a value; NULL, or why it is refused. Sizes and enums are stored by opt_finish(). */
static const char *store(const struct opt *o, void *to, const char *text)
{
        switch (o->type) {
        case OPT_BOOL:
                return parse_bool(text, to) < 0 ? "not a boolean" : NULL;
        case OPT_INT: {
                long long v;

                if (cc_parse_i64(text, &v) < 0)
                        return "not an integer";
                *(int64_t *)to = v;
                return NULL;
        }
        case OPT_DURATION:
                return cc_duration_parse(text, to) < 0
                               ? "not a duration (numbers with ns, us, ms, s, m or h: 1h30m)"
                               : NULL;
        case OPT_STRING:
        case OPT_ENUM:
                *(const char **)to = text;
                return NULL;
        case OPT_STRINGS:
                cc_strv_add(to, text);
                return NULL;
        case OPT_SIZE:
                return cc_size_parse(text, to) < 0 ? "not a size" : NULL;
        }
        return NULL;
}

void opt_set_init(struct opt_set *set, const struct opt_group *groups, void *target)
{
        size_t n = count_rows(groups);

        set->groups = groups;
        set->target = target;
        set->given = xcalloc(n + 1, sizeof(*set->given));
        set->late = xcalloc(n + 1, sizeof(*set->late));
        for (const struct opt_group *g = groups; g && g->rows; g++)
                for (const struct opt *o = g->rows; o->name; o++) {
                        bool text = o->type == OPT_STRING || o->type == OPT_ENUM;

                        if (o->fallback || text)
                                (void)store(o, (char *)target + g->base + o->offset,
                                            o->fallback ? o->fallback : "");
                }
}

void opt_set_clear(struct opt_set *set)
{
        for (const struct opt_group *g = set->groups; g && g->rows; g++)
                for (const struct opt *o = g->rows; o->name; o++)
                        if (o->type == OPT_STRINGS)
                                cc_strv_free(slot(set, o));
        free(set->given);
        free(set->late);
        memset(set, 0, sizeof(*set));
}

const struct opt *opt_find(const struct opt_group *groups, const char *name, size_t len,
                           size_t *ret_base)
{
        for (; groups && groups->rows; groups++)
                for (const struct opt *o = groups->rows; o->name; o++)
                        if (strlen(o->name) == len && memcmp(o->name, name, len) == 0) {
                                if (ret_base)
                                        *ret_base = groups->base;
                                return o;
                        }
        return NULL;
}

const struct opt *opt_find_letter(const struct opt_group *groups, char letter)
{
        for (; groups && groups->rows; groups++)
                for (const struct opt *o = groups->rows; o->name; o++)
                        if (o->letter && o->letter == letter)
                                return o;
        return NULL;
}

bool opt_given(const struct opt_set *set, const char *name)
{
        const struct opt *o = opt_find(set->groups, name, strlen(name), NULL);

        return o && set->given[row_index(set->groups, o)];
}

static int set_value(struct opt_set *set, const struct opt *o, const char *text, struct cc_err *err)
{
        size_t i = row_index(set->groups, o);
        const char *why = NULL;

        if (o->type == OPT_SIZE || o->type == OPT_ENUM)
                set->late[i] = text;
        else
                why = store(o, slot(set, o), text);
        if (why && o->letter)
                return cc_fail(err, CC_USAGE, "invalid argument \"%s\" for \"-%c, --%s\" flag: %s",
                               text, o->letter, o->name, why);
        if (why)
                return cc_fail(err, CC_USAGE, "invalid argument \"%s\" for \"--%s\" flag: %s", text,
                               o->name, why);
        set->given[i] = true;
        return 0;
}

static int unknown_flag(const struct opt_set *sets, size_t n, const char *name, struct cc_err *err)
{
        const char *names[256];
        const char *close;
        size_t count = 0;
        int r;

        for (size_t s = 0; s < n; s++)
                for (const struct opt_group *g = sets[s].groups; g && g->rows; g++)
                        for (const struct opt *o = g->rows; o->name; o++)
                                if (!(o->flags & OPT_HIDDEN) && count < CC_ARRAY_LEN(names))
                                        names[count++] = o->name;
        r = cc_fail(err, CC_USAGE, "unknown flag: --%s", name);
        cc_code(err, "unknown_flag");
        close = cc_closest(name, names, count);
        if (close)
                cc_hint(err, "did you mean --%s?", close);
        return r;
}

static int parse_long(struct opt_set *sets, size_t n, char *const *argv, size_t argc, size_t *i,
                      struct cc_err *err)
{
        const char *arg = argv[(*i)++];
        const char *name = arg + 2;
        const char *eq = strchr(name, '=');
        size_t len = eq ? (size_t)(eq - name) : strlen(name);

        if (len == 0 || *name == '-')
                return cc_fail(err, CC_USAGE, "bad flag syntax: %s", arg);
        for (size_t s = 0; s < n; s++) {
                const struct opt *o = opt_find(sets[s].groups, name, len, NULL);

                if (!o)
                        continue;
                if (eq)
                        return set_value(&sets[s], o, eq + 1, err);
                if (o->type == OPT_BOOL)
                        return set_value(&sets[s], o, "true", err);
                if (*i >= argc)
                        return cc_fail(err, CC_USAGE, "flag needs an argument: --%s", o->name);
                return set_value(&sets[s], o, argv[(*i)++], err);
        }
        CC_FREE char *bare = xstrndup(name, len);

        return unknown_flag(sets, n, bare, err);
}

static int parse_short(struct opt_set *sets, size_t n, char *const *argv, size_t argc, size_t *i,
                       struct cc_err *err)
{
        const char *cluster = argv[(*i)++] + 1;

        for (const char *p = cluster; *p; p++) {
                const struct opt *o = NULL;
                struct opt_set *set = NULL;
                int r;

                for (size_t s = 0; s < n && !o; s++) {
                        o = opt_find_letter(sets[s].groups, *p);
                        set = &sets[s];
                }
                if (!o) {
                        r = cc_fail(err, CC_USAGE, "unknown shorthand flag: '%c' in -%s", *p,
                                    cluster);
                        cc_code(err, "unknown_flag");
                        return r;
                }
                if (p[1] == '=' && p[2])
                        return set_value(set, o, p + 2, err);
                if (o->type == OPT_BOOL) {
                        r = set_value(set, o, "true", err);
                        if (r < 0)
                                return r;
                        continue;
                }
                if (p[1])
                        return set_value(set, o, p + 1, err);
                if (*i >= argc)
                        return cc_fail(err, CC_USAGE, "flag needs an argument: '%c' in -%s", *p,
                                       cluster);
                return set_value(set, o, argv[(*i)++], err);
        }
        return 0;
}

int opt_parse(struct opt_set *sets, size_t n, char *const *argv, size_t argc, size_t *i,
              struct cc_err *err)
{
        if (argv[*i][1] == '-')
                return parse_long(sets, n, argv, argc, i, err);
        return parse_short(sets, n, argv, argc, i, err);
}

int opt_check_required(const struct opt_set *set, struct cc_err *err)
{
        CC_BUF struct cc_buf missing = { 0 };
        size_t i = 0;

        for (const struct opt_group *g = set->groups; g && g->rows; g++)
                for (const struct opt *o = g->rows; o->name; o++, i++)
                        if ((o->flags & OPT_REQUIRED) && !set->given[i])
                                cc_buf_printf(&missing, "%s\"%s\"", missing.len ? ", " : "",
                                              o->name);
        if (missing.len)
                return cc_fail(err, CC_USAGE, "required flag(s) %s not set", missing.data);
        return 0;
}

/* Given and meaning something: `--fc=false` or `--bridge ""` does not exclude anything. */
static bool is_active(const struct opt_set *set, const char *name)
{
        const struct opt *o = opt_find(set->groups, name, strlen(name), NULL);

        if (!o || !set->given[row_index(set->groups, o)])
                return false;
        if (o->type == OPT_BOOL)
                return *(bool *)slot(set, o);
        if (o->type == OPT_STRING)
                return **(const char **)slot(set, o) != '\0';
        return true;
}

int opt_check_exclusive(const struct opt_set *set, const struct opt_exclusive *list,
                        struct cc_err *err)
{
        for (; list && list->a; list++)
                if (is_active(set, list->a) && is_active(set, list->b))
                        return cc_fail(err, CC_USAGE, "--%s and --%s are mutually exclusive%s%s",
                                       list->a, list->b, list->why ? ": " : "",
                                       list->why ? list->why : "");
        return 0;
}

char *opt_values_text(const char *const *values)
{
        struct cc_buf b = { 0 };

        for (size_t i = 0; values[i]; i++)
                cc_buf_printf(&b, "%s\"%s\"",
                              i == 0          ? ""
                              : values[i + 1] ? ", "
                                              : " or ",
                              values[i]);
        return cc_buf_take(&b);
}

static int finish_enum(const struct opt *o, void *to, const char *text, struct cc_err *err)
{
        CC_FREE char *want = opt_values_text(o->values);
        const char *close;
        size_t n = 0;
        int r;

        for (; o->values[n]; n++)
                if (cc_streq(o->values[n], text))
                        break;
        if (o->values[n] || !*text) {
                *(const char **)to = text;
                return 0;
        }
        r = cc_fail(err, CC_USAGE, "--%s \"%s\" is invalid: want %s", o->name, text, want);
        close = cc_closest(text, o->values, n);
        if (close)
                cc_hint(err, "did you mean %s?", close);
        return r;
}

int opt_finish(struct opt_set *set, struct cc_err *err)
{
        size_t i = 0;

        for (const struct opt_group *g = set->groups; g && g->rows; g++)
                for (const struct opt *o = g->rows; o->name; o++, i++) {
                        void *to = (char *)set->target + g->base + o->offset;
                        const char *text = set->late[i];

                        if (!set->given[i])
                                continue;
                        if (o->refuse)
                                return cc_fail(err, CC_UNSUPPORTED, "--%s %s", o->name, o->refuse);
                        if (!text)
                                continue;
                        if (o->type == OPT_ENUM) {
                                int r = finish_enum(o, to, text, err);

                                if (r < 0)
                                        return r;
                        } else if (cc_size_parse(text, to) < 0) {
                                return cc_fail(err, CC_USAGE,
                                               "invalid --%s \"%s\": invalid size: '%s'", o->name,
                                               text, text);
                        }
                }
        return 0;
}
