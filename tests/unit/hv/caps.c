/* The capability rows: each bit of any driver has one row, and no two names share a bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/str.h"
#include "hv/driver.h"

static void rows_are_distinct(void **state)
{
        const struct hv_cap_row *row;
        unsigned seen = 0;

        (void)state;
        for (size_t i = 0; (row = hv_cap_row_at(i)); i++) {
                if (__builtin_popcount(row->cap) != 1)
                        fail_msg("\"%s\" is not one bit", row->what);
                if (seen & row->cap)
                        fail_msg("\"%s\" shares its bit with an earlier row", row->what);
                seen |= row->cap;
                assert_false(cc_isempty(row->what));
                assert_false(cc_isempty(row->how));
                /* They stand in a table. */
                assert_null(strchr(row->what, '|'));
                assert_null(strchr(row->how, '|'));
        }
}

static void every_bit_has_a_row(void **state)
{
        const struct hv_cap_row *row;
        const struct hv_driver *drv;
        unsigned known = 0;

        (void)state;
        for (size_t i = 0; (row = hv_cap_row_at(i)); i++)
                known |= row->cap;
        for (size_t i = 0; (drv = hv_driver_at(i)); i++)
                if (drv->caps & ~known)
                        fail_msg("%s has capabilities 0x%x without a row", drv->name,
                                 drv->caps & ~known);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(rows_are_distinct),
                cmocka_unit_test(every_bit_has_a_row),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
