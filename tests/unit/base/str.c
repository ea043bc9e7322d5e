/* Buffers, vectors, predicates, integers, closest match, UTF-8. */
#include "base/str.h"

#include <string.h>

#include "unit.h"

static void test_buf(void **state)
{
        CC_BUF struct cc_buf b = { 0 };

        cc_buf_add(&b, NULL, 0);
        assert_string_equal(b.data, "");
        for (int i = 0; i < 1000; i++) {
                cc_buf_printf(&b, "%d,", i);
                assert_int_equal(strlen(b.data), b.len);
                assert_true(b.cap > b.len);
        }
        assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
        cc_buf_add(&b, "\0z", 2);
        assert_int_equal(b.data[b.len - 1], 'z');
}

static void test_buf_take(void **state)
{
        struct cc_buf b = { 0 };
        CC_FREE char *empty = cc_buf_take(&b);
        CC_FREE char *s = NULL;

        assert_string_equal(empty, "");
        cc_buf_str(&b, "abc");
        cc_buf_char(&b, 'd');
        s = cc_buf_take(&b);
        assert_string_equal(s, "abcd");
        assert_null(b.data);
        assert_int_equal(b.len, 0);
}

static void test_strv(void **state)
{
        CC_STRV struct cc_strv v = { 0 };
        CC_STRV struct cc_strv copy = { 0 };
        CC_FREE char *joined = NULL;
        CC_FREE char *none = cc_strv_join(&copy, ",");

        assert_string_equal(none, "");
        for (int i = 20; i-- > 0;)
                cc_strv_addf(&v, "%c", 'a' + i);
        assert_null(v.v[v.len]);
        cc_strv_sort(&v);
        assert_true(cc_strv_has(&v, "a"));
        assert_false(cc_strv_has(&v, "z"));
        cc_strv_add(&copy, "old");
        cc_strv_copy(&copy, &v);
        assert_int_equal(copy.len, 20);
        assert_ptr_not_equal(copy.v[0], v.v[0]);
        joined = cc_strv_join(&copy, "");
        assert_string_equal(joined, "abcdefghijklmnopqrst");
}

static void test_split(void **state)
{
        CC_STRV struct cc_strv v = { 0 };
        CC_FREE char *joined = NULL;

        cc_split(" 8.8.8.8 ;, 1.1.1.1,,\t ", ",;", &v);
        joined = cc_strv_join(&v, "|");
        assert_string_equal(joined, "8.8.8.8|1.1.1.1");
}

static void test_predicates(void **state)
{
        assert_true(cc_streq(NULL, NULL));
        assert_false(cc_streq(NULL, ""));
        assert_true(cc_streq("a", "a"));
        assert_true(cc_startswith("abc", "ab"));
        assert_false(cc_startswith("a", "ab"));
        assert_true(cc_endswith("x.json", ".json"));
        assert_false(cc_endswith("json", ".json"));
        assert_true(cc_isempty(NULL) && cc_isempty("") && !cc_isempty("a"));
}

static void test_parse_i64(void **state)
{
        static const struct {
                const char *s;
                long long v;
        } good[] = {
                { "0", 0 },       { "-1", -1 },
                { "+7", 7 },      { "0x1F", 31 },
                { "0o17", 15 },   { "0b101", 5 },
                { "007", 7 },     { "9223372036854775807", INT64_MAX },
                { "-0x10", -16 }, { "-9223372036854775808", INT64_MIN },
        };
        static const char *const bad[] = { "",
                                           "-",
                                           "+-1",
                                           "0x",
                                           "0b2",
                                           "12a",
                                           " 1",
                                           "1 ",
                                           "0o8",
                                           "1e3",
                                           "--1",
                                           "0x-1",
                                           "a",
                                           "9223372036854775808",
                                           "-9223372036854775809",
                                           "99999999999999999999999999" };

        for (size_t i = 0; i < CC_ARRAY_LEN(good); i++) {
                long long v = 77;

                assert_int_equal(cc_parse_i64(good[i].s, &v), 0);
                assert_true(v == good[i].v);
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++) {
                long long v = 77;

                if (cc_parse_i64(bad[i], &v) != -CC_INVALID || v != 77)
                        fail_msg("\"%s\" was accepted or the output touched", bad[i]);
        }
}

static void test_edit_distance(void **state)
{
        char long_word[80];

        assert_int_equal(cc_edit_distance("vm", "vm", 2), 0);
        assert_int_equal(cc_edit_distance("strt", "start", 2), 1);
        assert_int_equal(cc_edit_distance("lsit", "list", 2), 1); /* transposition */
        assert_int_equal(cc_edit_distance("abc", "xyz", 2), 3);
        assert_int_equal(cc_edit_distance("", "ab", 2), 2);
        assert_int_equal(cc_edit_distance("kitten", "sitting", 5), 3);
        memset(long_word, 'a', sizeof(long_word) - 1);
        long_word[sizeof(long_word) - 1] = '\0';
        assert_int_equal(cc_edit_distance(long_word, long_word, 2), 3);
}

static void test_closest(void **state)
{
        static const char *const names[] = { "start", "stop", "status", "inspect" };

        assert_string_equal(cc_closest("strt", names, 4), "start");
        assert_string_equal(cc_closest("sotp", names, 4), "stop");
        assert_string_equal(cc_closest("insp", names, 4), "inspect");
        assert_null(cc_closest("frobnicate", names, 4));
        assert_null(cc_closest("", names, 4));
        /* Two changes of two letters leave nothing of the word. */
        static const char *const vms[] = { "w1" };

        assert_null(cc_closest("zz", vms, 1));
        assert_null(cc_closest("L51", vms, 1));
        assert_string_equal(cc_closest("w2", vms, 1), "w1");
        assert_string_equal(cc_closest("w", vms, 1), "w1");
}

static void test_utf8(void **state)
{
        static const char *const good[] = { "",
                                            "abc",
                                            "\xc3\xa9",
                                            "\xe2\x82\xac",
                                            "\xf0\x9f\x98\x80",
                                            "\xf4\x8f\xbf\xbf",
                                            "\xed\x9f\xbf" };
        static const char *const bad[] = {
                "\x80",             /* lone continuation */
                "\xc3",             /* cut short */
                "\xc0\xaf",         /* overlong '/' */
                "\xe0\x80\xaf",     /* overlong '/' */
                "\xed\xa0\x80",     /* surrogate */
                "\xf4\x90\x80\x80", /* above U+10FFFF */
                "\xf0\x80\x80\xaf",
                "\xff",
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(good); i++)
                assert_true(cc_utf8_valid(good[i], strlen(good[i])));
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++)
                assert_false(cc_utf8_valid(bad[i], strlen(bad[i])));
        assert_int_equal(cc_utf8_len("a\xe2\x82\xac\xff"), 3);
}

static void test_hex(void **state)
{
        char out[9];

        cc_hex("\x00\xff\x0a\xb0", 4, out);
        assert_string_equal(out, "00ff0ab0");
        assert_true(cc_is_hex(out, 8));
        assert_false(cc_is_hex(out, 7));
        assert_false(cc_is_hex(out, 9));
        assert_false(cc_is_hex("00FF0AB0", 8));
        assert_false(cc_is_hex("0000000g", 8));
}

static void test_strset(void **state)
{
        CC_FREE char *s = NULL;

        cc_strset(&s, "a");
        cc_strset(&s, s); /* from itself */
        assert_string_equal(s, "a");
        cc_strset(&s, NULL);
        assert_null(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_buf),           cmocka_unit_test(test_buf_take),
                cmocka_unit_test(test_strv),          cmocka_unit_test(test_split),
                cmocka_unit_test(test_predicates),    cmocka_unit_test(test_parse_i64),
                cmocka_unit_test(test_edit_distance), cmocka_unit_test(test_closest),
                cmocka_unit_test(test_utf8),          cmocka_unit_test(test_hex),
                cmocka_unit_test(test_strset),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
