/* Asking a QEMU binary about itself: parsers, a scripted binary, and the cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "hv/qemu/install.h"

static char *dir;
static char *binary;
static char *calls;

static int setup(void **state)
{
        char template[] = "/tmp/cocoon-test-XXXXXX";

        (void)state;
        dir = xstrdup(mkdtemp(template));
        binary = cc_path_join(dir, "qemu");
        calls = cc_path_join(dir, "calls");
        return 0;
}

static int teardown(void **state)
{
        int r = cc_rm_rf(dir, NULL);

        (void)state;
        free(dir);
        free(binary);
        free(calls);
        return r;
}

/* A binary that answers like QEMU and counts how often it is run. */
static void fake(const char *version, const char *machines)
{
        CC_FREE char *text = xasprintf("#!/bin/sh\n"
                                       "echo \"$1\" >>%s\n"
                                       "case $1 in\n"
                                       "--version) echo '%s';;\n"
                                       "-machine) echo '%s';;\n"
                                       "-L) echo /one; echo /two/;;\n"
                                       "*) exit 1;;\n"
                                       "esac\n",
                                       calls, version, machines);

        assert_int_equal(cc_publish(binary, text, strlen(text), 0755, NULL), 0);
}

static size_t count_calls(void)
{
        CC_FREE char *text = NULL;
        size_t n = 0;

        if (cc_read_file(calls, 65536, &text, NULL, NULL) < 0)
                return 0;
        for (const char *s = text; (s = strchr(s, '\n')); s++)
                n++;
        return n;
}

#define Q35 "q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)"

static void test_version(void **state)
{
        static const char *const bad[] = { "",
                                           "QEMU",
                                           "qemu emulator version 7.2.0",
                                           "QEMU emulator version ",
                                           "QEMU emulator version x.y",
                                           "QEMU emulator version 7",
                                           "QEMU emulator version 7.",
                                           "QEMU emulator version .7.2",
                                           "QEMU emulator version 99999999999.2" };
        char *version = NULL;
        int major = -1;
        int minor = -1;

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++)
                assert_int_equal(qemu_version_parse(bad[i], &version, &major, &minor), -CC_INVALID);
        assert_int_equal(major, -1);
        assert_int_equal(qemu_version_parse("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n",
                                            &version, &major, &minor),
                         0);
        assert_string_equal(version, "7.2.22");
        assert_int_equal(major, 7);
        assert_int_equal(minor, 2);
        free(version);
        assert_int_equal(
                qemu_version_parse("QEMU emulator version 10.0.13\n", &version, &major, &minor), 0);
        assert_int_equal(major, 10);
        assert_int_equal(minor, 0);
        free(version);
}

static void test_machine(void **state)
{
        static const char *const none[] = {
                "",
                "Supported machines are:\n",
                "q35 no alias\n",
                "q35  (alias of \n)",
                "q35  (alias of a,b=c)\n",
                "xq35  (alias of pc-q35-7.2)\n",
                "q35  nothing\npc (alias of pc-i440fx-7.2)\n",
        };
        CC_FREE char *machine = NULL;

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(none); i++)
                assert_null(qemu_machine_parse(none[i]));
        machine = qemu_machine_parse("Supported machines are:\n"
                                     "pc                   (alias of pc-i440fx-7.2)\n" Q35
                                     "\npc-q35-7.2  Standard PC\n");
        assert_string_equal(machine, "pc-q35-7.2");
}

static void test_find_and_cache(void **state)
{
        QEMU_INSTALL struct qemu_install i = { 0 };
        CC_FREE char *cache = cc_path_join(dir, "qemu-install.json");
        struct cc_err err = CC_ERR_INIT;
        size_t asked;

        (void)state;
        fake("QEMU emulator version 8.1.0", Q35);
        if (qemu_install_find(binary, dir, &i, &err) < 0)
                fail_msg("%s", err.msg);
        assert_string_equal(i.version, "8.1.0");
        assert_string_equal(i.machine, "pc-q35-7.2");
        assert_false(i.io_uring);
        assert_int_equal(i.data_dirs.len, 2);
        asked = count_calls();
        assert_true(asked >= 3);
        qemu_install_clear(&i);

        /* From the cache: nothing runs. */
        assert_int_equal(qemu_install_find(binary, dir, &i, &err), 0);
        assert_string_equal(i.data_dirs.v[1], "/two/");
        assert_int_equal(count_calls(), asked);
        qemu_install_clear(&i);

        /* Another binary in its place is asked anew. */
        fake("QEMU emulator version 9.2.10", Q35);
        assert_int_equal(qemu_install_find(binary, dir, &i, &err), 0);
        assert_string_equal(i.version, "9.2.10");
        assert_int_equal(count_calls(), 2 * asked);
        qemu_install_clear(&i);

        /* So it is when the cache is damaged. */
        assert_int_equal(cc_publish(cache, "{\"binary\":3}", 12, 0644, NULL), 0);
        assert_int_equal(qemu_install_find(binary, dir, &i, &err), 0);
        assert_string_equal(i.version, "9.2.10");
        assert_int_equal(count_calls(), 3 * asked);
}

static void test_refusals(void **state)
{
        QEMU_INSTALL struct qemu_install i = { 0 };
        CC_FREE char *old = NULL;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_int_equal(qemu_install_find(binary, NULL, &i, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.hint, "qemu-system-x86"));
        fake("QEMU emulator version 7.1.9", Q35);
        old = xasprintf("qemu: %s is version 7.1.9, need >= 7.2", binary);
        assert_int_equal(qemu_install_find(binary, NULL, &i, &err), -CC_UNAVAILABLE);
        assert_string_equal(err.msg, old);
        fake("QEMU emulator version 7.2.0", "microvm  microvm (i386)");
        assert_int_equal(qemu_install_find(binary, NULL, &i, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "no machine q35"));
        fake("GNU bash", Q35);
        assert_int_equal(qemu_install_find(binary, NULL, &i, &err), -CC_UNAVAILABLE);
        assert_null(i.version);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_version),
                cmocka_unit_test(test_machine),
                cmocka_unit_test_setup_teardown(test_find_and_cache, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
