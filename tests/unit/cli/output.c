/* Tables, and text that becomes JSON. */
#include "cli/output.h"

#include <string.h>

#include "base/json.h"
#include "cli/table.h"
#include "unit.h"

static char *render(size_t columns, const char *const *cells)
{
        struct table t = { .columns = columns };
        struct cc_buf b = { 0 };

        for (; *cells; cells++)
                table_cell(&t, *cells);
        table_render(&t, &b);
        table_clear(&t);
        return cc_buf_take(&b);
}

#define CELLS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_table(void **state)
{
        CC_FREE char *plain = render(3, CELLS("ID", "NAME", "X", "abc", "n", "yy"));
        CC_FREE char *wide = render(2, CELLS("größe", "b", "ok", "c"));
        CC_FREE char *blank = render(2, CELLS("a", "", "bb", ""));
        CC_FREE char *hostile = render(2, CELLS("a\033[2J\n", "b"));
        CC_FREE char *none = render(2, CELLS(NULL));

        assert_string_equal(plain, "ID   NAME  X\nabc  n     yy\n");
        assert_string_equal(wide, "größe  b\nok     c\n");
        assert_string_equal(blank, "a\nbb\n");
        assert_string_equal(hostile, "a?[2J?  b\n");
        assert_string_equal(none, "");
}

static void test_string(void **state)
{
        static const struct {
                const char *in, *out;
        } table[] = {
                { "plain", "plain" },
                { "größe \xf0\x9f\x90\x9b", "größe \xf0\x9f\x90\x9b" },
                { "a\xff z", "a\xef\xbf\xbd z" },
                { "\xc3", "\xef\xbf\xbd" },
                { "\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd" },
                { "\xff\xc3\xa4", "\xef\xbf\xbd\xc3\xa4" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(table); i++) {
                CC_JSON json_t *j = out_string(table[i].in);

                assert_non_null(j);
                assert_string_equal(json_string_value(j), table[i].out);
                assert_true(cc_utf8_valid(json_string_value(j), json_string_length(j)));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_table),
                cmocka_unit_test(test_string),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
