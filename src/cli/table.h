/* Tables: left-aligned columns, widths in code points, two blanks between, nothing behind the last
 * one. */
#pragma once

#include "base/str.h"

struct table {
        size_t columns;
        struct cc_strv cells; /* row by row */
};

/* Append a cell; control characters become '?', so that a foreign name cannot move the cursor. */
void table_cell(struct table *t, const char *text);

/* All rows, each ended by a newline. A partial last row is printed as far as it goes. */
void table_render(const struct table *t, struct cc_buf *ret);
void table_clear(struct table *t);

/* Replace control characters in place by '?'. */
void table_sanitise(char *text);
