/* Rendering of lists. See list.h. */
#include "cli/list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/size.h"
#include "base/timeutil.h"
#include "cli/output.h"
#include "cli/table.h"

const struct opt list_opts[] = {
        { .name = "format",
          .letter = 'o',
          .type = OPT_STRING,
          .offset = offsetof(struct list_flags, format),
          .fallback = "table",
          .metavar = "FORMAT",
          .help = "table, json, jsonl, or field names separated by commas",
          .complete = COMPLETE_FORMAT },
        { .name = "filter",
          .type = OPT_STRINGS,
          .offset = offsetof(struct list_flags, filter),
          .metavar = "KEY=VALUE",
          .help = "only what matches; repeat a key for alternatives, other keys narrow further" },
        { .name = "sort",
          .type = OPT_STRING,
          .offset = offsetof(struct list_flags, sort),
          .metavar = "FIELD",
          .help = "sort by a field, descending with a leading '-'" },
        { .name = "no-header",
          .type = OPT_BOOL,
          .offset = offsetof(struct list_flags, no_header),
          .help = "leave out the header line" },
        { .name = "quiet",
          .letter = 'q',
          .type = OPT_BOOL,
          .offset = offsetof(struct list_flags, quiet),
          .help = "print IDs only" },
        { 0 },
};

void list_text(struct cc_buf *out, const char *text, bool raw)
{
        cc_buf_str(out, !cc_isempty(text) ? text : raw ? "" : "-");
}

void list_time(struct cc_buf *out, int64_t ns, bool raw)
{
        char text[CC_RFC3339_MAX] = "";

        if (ns && raw)
                cc_time_rfc3339(ns, text);
        else if (ns)
                cc_time_table(ns, text);
        list_text(out, text, raw);
}

void list_size(struct cc_buf *out, int64_t bytes, bool raw)
{
        char text[24];

        if (raw) {
                cc_buf_printf(out, "%lld", (long long)bytes);
                return;
        }
        cc_size_format(bytes, text);
        cc_buf_str(out, text);
}

static const struct list_field *find_field(const struct list_type *type, const char *name)
{
        for (size_t i = 0; i < type->n_fields; i++)
                if (cc_streq(type->fields[i].name, name))
                        return &type->fields[i];
        return NULL;
}

static int unknown_field(const struct list_type *type, const char *flag, const char *name,
                         struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        CC_FREE char *all = NULL;

        for (size_t i = 0; i < type->n_fields; i++)
                cc_strv_add(&names, type->fields[i].name);
        all = cc_strv_join(&names, ", ");
        return cc_fail(err, CC_USAGE, "--%s: unknown field \"%s\": want one of %s", flag, name,
                       all);
}

static bool is_word_format(const char *format)
{
        return cc_streq(format, "table") || cc_streq(format, "json") || cc_streq(format, "jsonl");
}

static int check_format(const struct list_type *type, const char *format, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *name;

        if (is_word_format(format))
                return 0;
        cc_split(format, ",", &names);
        if (names.len == 0 || (names.len == 1 && !find_field(type, names.v[0]))) {
                int r = cc_fail(err, CC_USAGE,
                                "--format \"%s\" is invalid: want \"table\" or \"json\"", format);

                cc_hint(err, "jsonl and lists of fields such as id,name are also possible");
                return r;
        }
        cc_strv_foreach (&names, i, name) {
                if (!find_field(type, name))
                        return unknown_field(type, "format", name, err);
        }
        return 0;
}

static int check_filter(const struct list_type *type, const char *filter, struct cc_err *err)
{
        const char *eq = strchr(filter, '=');
        CC_FREE char *key = eq ? xstrndup(filter, (size_t)(eq - filter)) : NULL;
        bool known = false;

        if (!eq)
                return cc_fail(err, CC_USAGE, "--filter: \"%s\" is not key=value", filter);
        for (size_t i = 0; type->filter_keys[i]; i++)
                known |= cc_streq(type->filter_keys[i], key);
        if (!known) {
                CC_FREE char *want = opt_values_text(type->filter_keys);

                return cc_fail(err, CC_USAGE, "--filter: unknown key \"%s\": want %s", key, want);
        }
        if (type->state_values && cc_streq(key, "state")) {
                CC_FREE char *want = opt_values_text(type->state_values);
                size_t n = 0;

                for (; type->state_values[n]; n++)
                        if (cc_streq(type->state_values[n], eq + 1))
                                return 0;
                (void)cc_fail(err, CC_USAGE, "--filter: unknown state \"%s\": want %s", eq + 1,
                              want);
                if (cc_closest(eq + 1, type->state_values, n))
                        cc_hint(err, "did you mean state=%s?",
                                cc_closest(eq + 1, type->state_values, n));
                return -CC_USAGE;
        }
        return 0;
}

int list_check(const struct list_type *type, const struct list_flags *flags, struct cc_err *err)
{
        const char *sort = flags->sort + (*flags->sort == '-');
        const char *filter;
        int r = check_format(type, flags->format, err);

        if (r < 0)
                return r;
        if (*flags->sort && !find_field(type, sort))
                return unknown_field(type, "sort", sort, err);
        cc_strv_foreach (&flags->filter, i, filter) {
                r = check_filter(type, filter, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static size_t key_length(const char *filter)
{
        return strcspn(filter, "=");
}

bool list_pass(const struct list_type *type, const struct list_flags *flags, const void *item)
{
        const struct cc_strv *f = &flags->filter;

        for (size_t i = 0; i < f->len; i++) {
                size_t len = key_length(f->v[i]);
                CC_FREE char *key = xstrndup(f->v[i], len);
                bool any = false;

                for (size_t j = 0; j < f->len && !any; j++)
                        any = key_length(f->v[j]) == len && memcmp(f->v[j], key, len) == 0 &&
                              type->match(item, key, f->v[j] + len + 1);
                if (!any)
                        return false;
        }
        return true;
}

/* What qsort_r() compares by: the key of each item, computed once. */
struct sort_row {
        const void *item;
        char *key;
        size_t position; /* before sorting: equal keys keep their order */
};

struct sort_order {
        bool numeric, descending;
};

static int compare(const void *a, const void *b, void *ctx)
{
        const struct sort_row *x = a;
        const struct sort_row *y = b;
        const struct sort_order *order = ctx;
        int r = 0;

        if (order->numeric) {
                long long m = strtoll(x->key, NULL, 10);
                long long n = strtoll(y->key, NULL, 10);

                r = (m > n) - (m < n);
        } else {
                r = strcmp(x->key, y->key);
        }
        if (r)
                return order->descending ? -r : r;
        return (x->position > y->position) - (x->position < y->position);
}

static void sort_items(const struct list_type *type, const char *sort, const void **items, size_t n)
{
        struct sort_order order = { .descending = *sort == '-' };
        const struct list_field *field = find_field(type, sort + order.descending);
        struct sort_row *rows = xcalloc(n + 1, sizeof(*rows));

        order.numeric = field->numeric;
        for (size_t i = 0; i < n; i++) {
                struct cc_buf key = { 0 };

                field->text(items[i], true, &key);
                rows[i] = (struct sort_row){ items[i], cc_buf_take(&key), i };
        }
        qsort_r(rows, n, sizeof(*rows), compare, &order);
        for (size_t i = 0; i < n; i++) {
                items[i] = rows[i].item;
                free(rows[i].key);
        }
        free(rows);
}

static void field_line(const struct list_type *type, const struct cc_strv *names, const void *item,
                       struct cc_buf *out)
{
        for (size_t i = 0; i < names->len; i++) {
                CC_BUF struct cc_buf value = { 0 };

                find_field(type, names->v[i])->text(item, true, &value);
                if (value.data)
                        table_sanitise(value.data);
                cc_buf_printf(out, "%s%s", i ? "\t" : "", value.data ? value.data : "");
        }
        cc_buf_char(out, '\n');
}

static void render_table(const struct list_type *type, bool header, const void **items, size_t n,
                         struct cc_buf *out)
{
        struct table t = { 0 };

        for (size_t f = 0; f < type->n_fields; f++)
                t.columns += type->fields[f].title != NULL;
        for (size_t f = 0; f < type->n_fields && header; f++)
                if (type->fields[f].title)
                        table_cell(&t, type->fields[f].title);
        for (size_t i = 0; i < n; i++)
                for (size_t f = 0; f < type->n_fields; f++) {
                        CC_BUF struct cc_buf cell = { 0 };

                        if (!type->fields[f].title)
                                continue;
                        type->fields[f].text(items[i], false, &cell);
                        table_cell(&t, cell.data ? cell.data : "");
                }
        table_render(&t, out);
        table_clear(&t);
}

static void print_json(const struct list_type *type, bool lines, const void **items, size_t n)
{
        CC_JSON json_t *array = json_array();

        for (size_t i = 0; i < n; i++)
                if (lines)
                        out_json_line(type->json(items[i]));
                else
                        json_array_append_new(array, type->json(items[i]));
        if (!lines)
                out_json(json_incref(array));
}

void list_print(const struct list_type *type, const struct list_flags *flags, const void **items,
                size_t n)
{
        CC_BUF struct cc_buf out = { 0 };
        CC_STRV struct cc_strv names = { 0 };
        size_t kept = 0;

        for (size_t i = 0; i < n; i++)
                if (list_pass(type, flags, items[i]))
                        items[kept++] = items[i];
        n = kept;
        if (*flags->sort)
                sort_items(type, flags->sort, items, n);
        if (flags->quiet) {
                cc_strv_add(&names, type->id);
        } else if (cc_streq(flags->format, "table")) {
                if (n)
                        render_table(type, !flags->no_header, items, n, &out);
                else if (!flags->no_header)
                        cc_buf_printf(&out, "%s\n", type->empty);
        } else if (is_word_format(flags->format)) {
                print_json(type, cc_streq(flags->format, "jsonl"), items, n);
        } else {
                cc_split(flags->format, ",", &names);
        }
        for (size_t i = 0; i < n && names.len; i++)
                field_line(type, &names, items[i], &out);
        if (out.len)
                out_text(out.data);
}
