/* What a removal would remove. See dry_run.h. */
#include "cli/dry_run.h"

#include "base/size.h"

void dry_run_clear(struct dry_run *d)
{
        cc_buf_free(&d->lines);
        json_decref(d->items);
        *d = (struct dry_run){ 0 };
}

void dry_run_add(struct dry_run *d, const char *what, const char *id, const char *name,
                 int64_t bytes)
{
        json_t *item = json_object();
        char size[24];

        if (!d->items)
                d->items = json_array();
        json_object_set_new(item, "id", out_string(id));
        if (!cc_isempty(name))
                json_object_set_new(item, "name", out_string(name));
        json_object_set_new(item, "bytes", json_integer(bytes));
        json_array_append_new(d->items, item);
        cc_size_format(bytes, size);
        if (cc_isempty(name))
                cc_buf_printf(&d->lines, "would delete %s %s: %s\n", what, id, size);
        else
                cc_buf_printf(&d->lines, "would delete %s %s (name: %s): %s\n", what, id, name,
                              size);
}

void dry_run_print(const struct dry_run *d, const struct output_flags *out)
{
        if (output_is_json(out)) {
                json_t *root = json_object();

                json_object_set_new(root, "dry_run", json_true());
                json_object_set_new(root, "would_delete",
                                    d->items ? json_incref(d->items) : json_array());
                out_json(root);
        } else if (out->quiet) {
                size_t i;
                json_t *item;

                json_array_foreach (d->items, i, item)
                        out_line(json_string_value(json_object_get(item, "id")));
        } else if (d->lines.len) {
                out_text(d->lines.data);
        }
}
