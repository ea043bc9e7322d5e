/* Which Firecracker is installed: its version, what is too old, the cache. */
#include "hv/fc/install.h"

#include <string.h>
#include <sys/stat.h>

#include "unit.h"

static char *dir;

static int setup(void **state)
{
        char template[] = "/tmp/cocoon-fc-XXXXXX";

        (void)state;
        dir = xstrdup(mkdtemp(template));
        return 0;
}

static int teardown(void **state)
{
        int r = cc_rm_rf(dir, NULL);

        (void)state;
        free(dir);
        return r;
}

static void versions(void **state)
{
        static const struct {
                const char *text, *version;
        } good[] = {
                { "Firecracker v1.16.1\n", "1.16.1" },
                { "Firecracker v1.14.0\n\n2026-01-01 [x] exiting\n", "1.14.0" },
                { "Firecracker v1.17.0-dev", "1.17.0" },
                { "Firecracker v2.0", "2.0" },
        };
        static const char *const bad[] = { "",
                                           "Firecracker",
                                           "Firecracker v",
                                           "Firecracker v1",
                                           "Firecracker vx.y",
                                           "Firecracker v999999999.1",
                                           "Cloud Hypervisor v1.2.3",
                                           "Firecracker v1.",
                                           "Firecracker v-1.2" };
        FC_INSTALL struct fc_install i = { 0 };

        for (size_t k = 0; k < CC_ARRAY_LEN(good); k++) {
                assert_int_equal(fc_version_parse(good[k].text, &i), 0);
                assert_string_equal(i.version, good[k].version);
        }
        for (size_t k = 0; k < CC_ARRAY_LEN(bad); k++)
                if (fc_version_parse(bad[k], &i) == 0)
                        fail_msg("accepted: %s", bad[k]);
        assert_int_equal(fc_version_parse("Firecracker v1.16.1", &i), 0);
        assert_true(fc_version_at_least(&i, 1, 16, 1));
        assert_true(fc_version_at_least(&i, 1, 14, 9));
        assert_true(fc_version_at_least(&i, 0, 99, 99));
        assert_false(fc_version_at_least(&i, 1, 16, 2));
        assert_false(fc_version_at_least(&i, 1, 17, 0));
        assert_false(fc_version_at_least(&i, 2, 0, 0));
}

static void kernels(void **state)
{
        static const struct {
                const char *release;
                bool good;
        } rows[] = {
                { "5.10.51", true },        { "5.10.50-1-amd64", false },
                { "5.11", true },           { "5.9.99", false },
                { "6.1.0-18-amd64", true }, { "4.19.0", false },
                { "garbage", false },       { "", false },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++)
                assert_int_equal(fc_kernel_has_io_uring(rows[i].release), rows[i].good);
}

/* A program that prints `text`, counts how often it was asked, and ends with `status`. */
static char *program(const char *text, int status)
{
        char *path = cc_path_join(dir, "firecracker");
        CC_FREE char *script = xasprintf("#!/bin/sh\necho asked >>%s/count\nprintf '%%s' '%s'\n"
                                         "exit %d\n",
                                         dir, text, status);
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(path, script, strlen(script), 0755, &err));
        return path;
}

static size_t asked(void)
{
        CC_FREE char *path = cc_path_join(dir, "count");
        CC_FREE char *text = NULL;
        size_t n = 0;

        (void)cc_read_file(path, 4096, &text, &n, NULL);
        return n / strlen("asked\n");
}

static void asked_once(void **state)
{
        CC_FREE char *binary = program("Firecracker v1.16.1\n", 0);
        FC_INSTALL struct fc_install i = { 0 };
        struct cc_err err = CC_ERR_INIT;

        for (int k = 0; k < 3; k++) {
                assert_ok(fc_install_find(binary, dir, &i, &err));
                assert_string_equal(i.version, "1.16.1");
                assert_string_equal(i.binary, binary);
                fc_install_clear(&i);
        }
        assert_int_equal(asked(), 1);
        /* Another file under the same name. */
        free(TAKE_PTR(binary));
        binary = program("Firecracker v1.15.0 of another size", 0);
        assert_ok(fc_install_find(binary, dir, &i, &err));
        assert_string_equal(i.version, "1.15.0");
        assert_int_equal(asked(), 2);
        fc_install_clear(&i);
        /* Without a place for it nothing is remembered. */
        assert_ok(fc_install_find(binary, "", &i, &err));
        assert_int_equal(asked(), 3);
}

static void a_damaged_cache_is_no_obstacle(void **state)
{
        static const char *const damage[] = { "", "{", "[]", "{\"binary\":1}",
                                              "{\"binary\":\"x\",\"version\":\"9.9\"}" };
        CC_FREE char *binary = program("Firecracker v1.16.1\n", 0);
        CC_FREE char *cache = cc_path_join(dir, "fc-install.json");
        struct cc_err err = CC_ERR_INIT;

        for (size_t k = 0; k < CC_ARRAY_LEN(damage); k++) {
                FC_INSTALL struct fc_install i = { 0 };

                assert_ok(cc_publish(cache, damage[k], strlen(damage[k]), 0644, &err));
                assert_ok(fc_install_find(binary, dir, &i, &err));
                assert_string_equal(i.version, "1.16.1");
        }
}

static void refused(const char *binary, const char *text, bool hint)
{
        FC_INSTALL struct fc_install i = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(fc_install_find(binary, dir, &i, &err), -CC_UNAVAILABLE);
        if (!strstr(err.msg, text))
                fail_msg("\"%s\" is not in: %s", text, err.msg);
        assert_int_equal(err.hint[0] != '\0', hint);
        assert_null(i.binary);
}

static void what_does_not_serve(void **state)
{
        CC_FREE char *nothing = cc_path_join(dir, "nothing");
        CC_FREE char *binary = program("Firecracker v1.13.9\n", 0);

        refused(nothing, "not found", true);
        refused(binary, "is version 1.13.9, need >= 1.14", true);
        refused(binary, "is version 1.13.9, need >= 1.14", true); /* from the cache */
        free(TAKE_PTR(binary));
        binary = program("hello\nworld\n", 0);
        refused(binary, "does not look like Firecracker: \"hello\"", false);
}

static void a_binary_that_fails(void **state)
{
        CC_FREE char *binary = program("no such library", 127);
        FC_INSTALL struct fc_install i = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_true(fc_install_find(binary, dir, &i, &err) < 0);
        assert_non_null(strstr(err.msg, "no such library"));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(versions),
                cmocka_unit_test(kernels),
                T(asked_once),
                T(a_damaged_cache_is_no_obstacle),
                T(what_does_not_serve),
                T(a_binary_that_fails),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
