/* Typed reads, parse errors and the printers. */
#include "base/json.h"

#include <string.h>

#include "unit.h"

static json_t *parse(const char *s)
{
        struct cc_err err = CC_ERR_INIT;
        json_t *j = NULL;

        assert_ok(cc_json_parse(s, strlen(s), "test", &j, &err));
        return j;
}

static void test_parse_errors(void **state)
{
        static const char *const bad[] = { "",         "{",           "{}x", "{\"a\":}", "'a'",
                                           "\"\xff\"", "\"\\u0000\"", "01",  "nul" };

        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++) {
                struct cc_err err = CC_ERR_INIT;
                json_t *j = NULL;

                if (cc_json_parse(bad[i], strlen(bad[i]), "record x", &j, &err) != -CC_INVALID)
                        fail_msg("accepted: %s", bad[i]);
                assert_null(j);
                assert_memory_equal(err.msg, "record x is not valid JSON: ", 28);
        }
}

static void test_depth_is_bounded(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        json_t *j = NULL;
        static char deep[100000];

        memset(deep, '[', sizeof(deep));
        assert_int_equal(cc_json_parse(deep, sizeof(deep), "x", &j, &err), -CC_INVALID);
}

static void test_exact_length(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        CC_JSON json_t *j = NULL;

        assert_ok(cc_json_parse("12garbage", 2, "x", &j, &err));
        assert_int_equal(json_integer_value(j), 12);
}

static void test_fields(void **state)
{
        CC_JSON json_t *j =
                parse("{\"s\":\"x\",\"i\":-5,\"b\":true,\"n\":null,\"d\":1.0,\"s\":\"y\"}");
        struct cc_err err = CC_ERR_INIT;
        const char *s = "keep";
        int64_t i = 7;
        bool b = false;

        assert_ok(cc_json_str(j, "n", &s, &err));
        assert_ok(cc_json_str(j, "absent", &s, &err));
        assert_string_equal(s, "keep");
        assert_ok(cc_json_str(j, "s", &s, &err));
        assert_string_equal(s, "y"); /* the last of two equal keys */
        assert_ok(cc_json_int(j, "n", &i, &err));
        assert_true(i == 7);
        assert_ok(cc_json_int(j, "i", &i, &err));
        assert_true(i == -5);
        assert_ok(cc_json_bool(j, "b", &b, &err));
        assert_true(b);
        assert_int_equal(cc_json_int(j, "d", &i, &err), -CC_INVALID);
        assert_non_null(strstr(err.msg, "\"d\""));
        assert_int_equal(cc_json_int(j, "s", &i, &err), -CC_INVALID);
        assert_int_equal(cc_json_str(j, "i", &s, &err), -CC_INVALID);
        assert_int_equal(cc_json_bool(j, "i", &b, &err), -CC_INVALID);
        assert_true(i == -5 && b);
        assert_string_equal(s, "y");
}

static void test_integer_overflow(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        json_t *j = NULL;

        assert_int_equal(cc_json_parse("9223372036854775808", 19, "x", &j, &err), -CC_INVALID);
}

static void test_print(void **state)
{
        CC_JSON json_t *j = parse("{\"z\":[1,{}],\"a\":\"\xe2\x82\xac\\n\"}");
        CC_FREE char *pretty = cc_json_pretty(j);
        CC_FREE char *compact = cc_json_compact(j);

        assert_string_equal(
                pretty, "{\n  \"z\": [\n    1,\n    {}\n  ],\n  \"a\": \"\xe2\x82\xac\\n\"\n}\n");
        assert_string_equal(compact, "{\"z\":[1,{}],\"a\":\"\xe2\x82\xac\\n\"}");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse_errors),     cmocka_unit_test(test_depth_is_bounded),
                cmocka_unit_test(test_exact_length),     cmocka_unit_test(test_fields),
                cmocka_unit_test(test_integer_overflow), cmocka_unit_test(test_print),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
