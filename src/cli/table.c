/* Column layout. See table.h. */
#include "cli/table.h"

#include "base/alloc.h"

void table_sanitise(char *text)
{
        for (; *text; text++)
                if ((unsigned char)*text < 0x20 || *text == 0x7f)
                        *text = '?';
}

void table_cell(struct table *t, const char *text)
{
        char *copy = xstrdup(text);

        table_sanitise(copy);
        cc_strv_take(&t->cells, copy);
}

void table_render(const struct table *t, struct cc_buf *ret)
{
        CC_FREE size_t *width = xcalloc(t->columns + 1, sizeof(*width));

        for (size_t i = 0; i < t->cells.len; i++) {
                size_t n = cc_utf8_len(t->cells.v[i]);

                if (n > width[i % t->columns])
                        width[i % t->columns] = n;
        }
        for (size_t i = 0; i < t->cells.len; i++) {
                size_t column = i % t->columns;

                cc_buf_str(ret, t->cells.v[i]);
                if (column + 1 < t->columns) {
                        for (size_t n = cc_utf8_len(t->cells.v[i]); n < width[column] + 2; n++)
                                cc_buf_char(ret, ' ');
                        continue;
                }
                while (ret->len && ret->data[ret->len - 1] == ' ')
                        ret->data[--ret->len] = '\0';
                cc_buf_char(ret, '\n');
        }
}

void table_clear(struct table *t)
{
        cc_strv_free(&t->cells);
}
