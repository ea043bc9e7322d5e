/* The error type: classes, wrapping, joining, truncation. */
#include <errno.h>
#include <string.h>

#include "unit.h"

static void test_fail(void **state)
{
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(cc_fail(&err, CC_NOT_FOUND, "vm %s", "x"), -CC_NOT_FOUND);
        assert_int_equal(err.class, CC_NOT_FOUND);
        assert_int_equal(err.sys, 0);
        assert_string_equal(err.msg, "vm x");
        assert_null(err.code);
        assert_string_equal(err.hint, "");
}

static void test_fail_forgets_the_former(void **state)
{
        struct cc_err err = CC_ERR_INIT;

        cc_fail_errno(&err, ENOSPC, "write");
        cc_code(&err, "disk_full");
        cc_hint(&err, "free some");
        cc_fail(&err, CC_STATE, "again");
        assert_int_equal(err.sys, 0);
        assert_null(err.code);
        assert_string_equal(err.hint, "");
}

static void test_errno_classes(void **state)
{
        static const struct {
                int sys;
                enum cc_class class;
        } rows[] = {
                { ENOENT, CC_NOT_FOUND },   { EACCES, CC_DENIED },     { EPERM, CC_DENIED },
                { ENOSPC, CC_NO_SPACE },    { EDQUOT, CC_NO_SPACE },   { EINTR, CC_CANCELED },
                { ECANCELED, CC_CANCELED }, { ETIMEDOUT, CC_TIMEOUT }, { EIO, CC_IO },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                struct cc_err err = CC_ERR_INIT;
                char want[128];

                assert_int_equal(cc_fail_errno(&err, rows[i].sys, "open f"), -(int)rows[i].class);
                assert_int_equal(err.sys, rows[i].sys);
                (void)snprintf(want, sizeof(want), "open f: %s", strerror(rows[i].sys));
                assert_string_equal(err.msg, want);
        }
}

static void test_class_names_are_unique(void **state)
{
        for (int a = 0; a < CC_CLASS_MAX; a++) {
                assert_non_null(cc_class_name((enum cc_class)a));
                for (int b = 0; b < a; b++)
                        assert_string_not_equal(cc_class_name((enum cc_class)a),
                                                cc_class_name((enum cc_class)b));
        }
        assert_string_equal(cc_class_name((enum cc_class)999), "internal");
        assert_string_equal(cc_class_name((enum cc_class) - 1), "internal");
}

static void test_wrap(void **state)
{
        struct cc_err err = CC_ERR_INIT;

        cc_fail(&err, CC_BUSY, "held");
        assert_int_equal(cc_wrap(&err, "lock %s", "a"), -CC_BUSY);
        assert_int_equal(cc_wrap(&err, "start"), -CC_BUSY);
        assert_string_equal(err.msg, "start: lock a: held");
}

static void test_wrap_of_nothing_is_no_success(void **state)
{
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(cc_wrap(&err, "x"), -CC_INTERNAL);
}

static void test_wrap_truncates(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        char big[CC_ERR_MSG];

        memset(big, 'x', sizeof(big) - 1);
        big[sizeof(big) - 1] = '\0';
        cc_fail(&err, CC_IO, "%s%s", big, big);
        assert_int_equal(strlen(err.msg), CC_ERR_MSG - 1);
        assert_int_equal(cc_wrap(&err, "%s", "outer"), -CC_IO);
        assert_int_equal(strlen(err.msg), CC_ERR_MSG - 1);
        assert_memory_equal(err.msg, "outer: xxx", 10);
        /* An errno text that has no room left must not run over the end either. */
        assert_int_equal(cc_fail_errno(&err, EIO, "%s%s", big, big), -CC_IO);
        assert_int_equal(strlen(err.msg), CC_ERR_MSG - 1);
}

static void test_join(void **state)
{
        struct cc_err all = CC_ERR_INIT;
        struct cc_err one = CC_ERR_INIT;

        cc_fail(&one, CC_STATE, "a: running");
        assert_int_equal(cc_join(&all, &one), -CC_STATE);
        assert_int_equal(cc_join(&all, &one), -CC_STATE);
        cc_code(&all, "running");
        cc_fail(&one, CC_NOT_FOUND, "b: gone");
        assert_int_equal(cc_join(&all, &one), -CC_PARTIAL);
        assert_string_equal(all.msg, "a: running\na: running\nb: gone");
        assert_null(all.code);
}

static void test_hint_first_wins(void **state)
{
        struct cc_err err = CC_ERR_INIT;

        cc_fail(&err, CC_IO, "x");
        cc_hint(&err, "close %d", 1);
        cc_hint(&err, "far");
        assert_string_equal(err.hint, "close 1");
}

static void test_null_err(void **state)
{
        struct cc_err one = { .class = CC_BUSY };

        assert_int_equal(cc_fail(NULL, CC_IO, "x"), -CC_IO);
        assert_int_equal(cc_fail_errno(NULL, ENOENT, "x"), -CC_NOT_FOUND);
        assert_true(cc_wrap(NULL, "x") < 0);
        assert_int_equal(cc_join(NULL, &one), -CC_BUSY);
        assert_int_equal(cc_err_copy(NULL, &one), -CC_BUSY);
        cc_hint(NULL, "x");
        cc_code(NULL, "x");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_fail),
                cmocka_unit_test(test_fail_forgets_the_former),
                cmocka_unit_test(test_errno_classes),
                cmocka_unit_test(test_class_names_are_unique),
                cmocka_unit_test(test_wrap),
                cmocka_unit_test(test_wrap_of_nothing_is_no_success),
                cmocka_unit_test(test_wrap_truncates),
                cmocka_unit_test(test_join),
                cmocka_unit_test(test_hint_first_wins),
                cmocka_unit_test(test_null_err),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
