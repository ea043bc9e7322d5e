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

struct list_out {
        const struct list_type *type;
        const struct list_flags *flags;
        struct cc_strv names; /* fields of a line, when lines of fields are wanted */
        struct table t;       /* the rows; one cell each unless a table is wanted */
        struct cc_strv keys;  /* what the rows are sorted by */
        size_t header;        /* cells before the first row */
        size_t n;             /* rows */
        bool json, lines;
};

struct list_out *list_begin(const struct list_type *type, const struct list_flags *flags)
{
        struct list_out *l = xcalloc(1, sizeof(*l));

        l->type = type;
        l->flags = flags;
        l->t.columns = 1;
        l->lines = cc_streq(flags->format, "jsonl");
        if (flags->quiet) {
                cc_strv_add(&l->names, type->id);
        } else if (cc_streq(flags->format, "table")) {
                l->t.columns = 0;
                for (size_t f = 0; f < type->n_fields; f++)
                        l->t.columns += type->fields[f].title != NULL;
                for (size_t f = 0; f < type->n_fields && !flags->no_header; f++)
                        if (type->fields[f].title)
                                table_cell(&l->t, type->fields[f].title);
                l->header = l->t.cells.len;
        } else if (is_word_format(flags->format)) {
                l->json = true;
        } else {
                cc_split(flags->format, ",", &l->names);
        }
        return l;
}

static void free_out(struct list_out *l)
{
        cc_strv_free(&l->names);
        cc_strv_free(&l->keys);
        table_clear(&l->t);
        free(l);
}

void list_dropp(struct list_out **l)
{
        if (*l)
                free_out(*l);
}

/* One line of an array, as it stands indented between the brackets. */
static char *element(json_t *value)
{
        CC_JSON json_t *array = json_array();
        CC_FREE char *text = NULL;

        json_array_append_new(array, value);
        text = cc_json_pretty(array);
        /* "[\n" ... "\n]\n" */
        return xstrndup(text + 2, strlen(text) - 5);
}

static char *json_row(const struct list_out *l, const void *item)
{
        CC_JSON json_t *value = NULL;

        if (!l->lines)
                return element(l->type->json(item));
        value = l->type->json(item);
        return cc_json_compact(value);
}

static char *field_row(const struct list_out *l, const void *item)
{
        struct cc_buf out = { 0 };
        const char *name;

        cc_strv_foreach (&l->names, i, name) {
                CC_BUF struct cc_buf value = { 0 };

                find_field(l->type, name)->text(item, true, &value);
                if (value.data)
                        table_sanitise(value.data);
                cc_buf_printf(&out, "%s%s", i ? "\t" : "", value.data ? value.data : "");
        }
        return cc_buf_take(&out);
}

static void table_row(struct list_out *l, const void *item)
{
        for (size_t f = 0; f < l->type->n_fields; f++) {
                CC_BUF struct cc_buf cell = { 0 };

                if (!l->type->fields[f].title)
                        continue;
                l->type->fields[f].text(item, false, &cell);
                table_cell(&l->t, cell.data ? cell.data : "");
        }
}

static const char *sort_field(const struct list_out *l)
{
        return l->flags->sort + (*l->flags->sort == '-');
}

void list_add(struct list_out *l, const void *item)
{
        struct cc_buf key = { 0 };

        if (!list_pass(l->type, l->flags, item))
                return;
        l->n++;
        if (*l->flags->sort) {
                find_field(l->type, sort_field(l))->text(item, true, &key);
                cc_strv_take(&l->keys, cc_buf_take(&key));
        }
        if (l->json)
                cc_strv_take(&l->t.cells, json_row(l, item));
        else if (l->names.len)
                cc_strv_take(&l->t.cells, field_row(l, item));
        else
                table_row(l, item);
}

struct sort_order {
        char *const *keys;
        bool numeric, descending;
};

static int compare(const void *a, const void *b, void *ctx)
{
        size_t x = *(const size_t *)a;
        size_t y = *(const size_t *)b;
        const struct sort_order *order = ctx;
        int r;

        if (order->numeric) {
                long long m = strtoll(order->keys[x], NULL, 10);
                long long n = strtoll(order->keys[y], NULL, 10);

                r = (m > n) - (m < n);
        } else {
                r = strcmp(order->keys[x], order->keys[y]);
        }
        if (r)
                return order->descending ? -r : r;
        return (x > y) - (x < y); /* equal keys keep their order */
}

static void sort_rows(struct list_out *l)
{
        struct sort_order order = {
                .keys = l->keys.v,
                .numeric = find_field(l->type, sort_field(l))->numeric,
                .descending = *l->flags->sort == '-',
        };
        CC_FREE size_t *index = xcalloc(l->n + 1, sizeof(*index));
        CC_FREE char **cells = xcalloc(l->t.cells.len + 1, sizeof(*cells));
        char **rows = l->t.cells.v + l->header;

        for (size_t i = 0; i < l->n; i++)
                index[i] = i;
        qsort_r(index, l->n, sizeof(*index), compare, &order);
        for (size_t i = 0; i < l->n; i++)
                memcpy(cells + i * l->t.columns, rows + index[i] * l->t.columns,
                       l->t.columns * sizeof(*cells));
        if (l->n)
                memcpy(rows, cells, l->n * l->t.columns * sizeof(*cells));
}

static void print_array(const struct list_out *l)
{
        const char *row;

        out_text("[");
        cc_strv_foreach (&l->t.cells, i, row) {
                out_text(i ? ",\n" : "\n");
                out_text(row);
        }
        out_text(l->n ? "\n]\n" : "]\n");
}

static void print_table(const struct list_out *l)
{
        CC_BUF struct cc_buf out = { 0 };

        if (l->n)
                table_render(&l->t, &out);
        else if (!l->flags->no_header)
                cc_buf_printf(&out, "%s\n", l->type->empty);
        if (out.len)
                out_text(out.data);
}

void list_end(struct list_out *l)
{
        const char *row;

        if (*l->flags->sort && l->n)
                sort_rows(l);
        if (l->json && !l->lines) {
                print_array(l);
        } else if (l->json || l->names.len) {
                cc_strv_foreach (&l->t.cells, i, row)
                        out_line(row);
        } else {
                print_table(l);
        }
        free_out(l);
}

void list_print(const struct list_type *type, const struct list_flags *flags,
                const void *const *items, size_t n)
{
        struct list_out *l = list_begin(type, flags);

        for (size_t i = 0; i < n; i++)
                list_add(l, items[i]);
        list_end(l);
}
