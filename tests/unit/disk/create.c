/* Making disks with the real tools, and leaving nothing when it fails. */
#include <errno.h>
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
#include "base/proc.h"
#include "base/sys.h"
#include "disk/disk.h"

#define MIB (INT64_C(1) << 20)

static char *dir;
static char *file;
static char *base;

static int setup(void **state)
{
        char template[] = "/tmp/cocoon-test-XXXXXX";

        (void)state;
        dir = xstrdup(mkdtemp(template));
        file = cc_path_join(dir, "disk");
        base = cc_path_join(dir, "base.qcow2");
        return 0;
}

static int teardown(void **state)
{
        int r = cc_rm_rf(dir, NULL);

        (void)state;
        free(dir);
        free(file);
        free(base);
        return r;
}

static int fresh(void **state)
{
        (void)state;
        cc_sys = cc_sys_real;
        (void)cc_unlink(file, NULL);
        (void)cc_unlink(base, NULL);
        return 0;
}

static void need(const char *tool)
{
        CC_FREE char *path = cc_find_program(tool);

        if (!path) {
                print_message("skipped: %s is not installed\n", tool);
                skip();
        }
}

static void test_ext4(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        const char *const fsck[] = { "e2fsck", "-fn", file, NULL };
        const char *const dump[] = { "dumpe2fs", "-h", file, NULL };
        CC_FREE char *text = NULL;
        struct stat st;

        (void)state;
        need("mkfs.ext4");
        assert_int_equal(disk_create_raw(file, 10240 * MIB, "ext4", &err), 0);
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_true(st.st_size == 10240 * MIB);
        assert_true(st.st_blocks * 512 < 64 * MIB);
        assert_int_equal(cc_run_ok(fsck, 60000, NULL, &err), 0);
        assert_int_equal(cc_run_ok(dump, 60000, &text, &err), 0);
        assert_null(strstr(text, "orphan_file"));
        assert_null(strstr(text, "metadata_csum_seed"));
        assert_non_null(strstr(text, "Reserved block count:     0"));
        /* An existing disk is never touched. */
        assert_int_equal(disk_create_raw(file, 16 * MIB, "ext4", &err), -CC_IO);
        assert_int_equal(stat(file, &st), 0);
        assert_true(st.st_size == 10240 * MIB);
}

static void test_no_file_system(void **state)
{
        struct stat st;

        (void)state;
        assert_int_equal(disk_create_raw(file, 16 * MIB, "none", NULL), 0);
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_blocks, 0);
}

static int no_space(int fd, off_t len)
{
        (void)fd;
        (void)len;
        errno = ENOSPC;
        return -1;
}

static void test_rollback(void **state)
{
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_int_equal(disk_create_raw(file, 16 * MIB, "xfs", &err), -CC_INVALID);
        assert_int_equal(disk_create_raw(file, 0, "ext4", &err), -CC_INVALID);
        assert_false(cc_exists(file));
        /* Too small for ext4: the tool fails after the file was made. */
        assert_int_equal(disk_create_raw(file, 4096, "ext4", &err), -CC_IO);
        assert_non_null(strstr(err.msg, "mkfs.ext4"));
        assert_false(cc_exists(file));
        cc_sys.ftruncate = no_space;
        assert_int_equal(disk_create_raw(file, 16 * MIB, "ext4", &err), -CC_NO_SPACE);
        assert_false(cc_exists(file));
}

static void test_overlay(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        const char *const create[] = {
                "qemu-img", "create", "-q", "-f", "qcow2", base, "32M", NULL
        };
        struct qcow2_info i;
        struct stat st;

        (void)state;
        need("qemu-img");
        assert_int_equal(cc_run_ok(create, 60000, NULL, &err), 0);
        assert_int_equal(disk_create_overlay(file, base, 64 * MIB, &err), 0);
        assert_int_equal(qcow2_read_info(file, &i, &err), 0);
        assert_true(i.virtual_size == (uint64_t)(64 * MIB));
        assert_true(i.backing_offset > 0);
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(disk_create_overlay(file, base, 64 * MIB, &err), -CC_IO);
        assert_true(cc_exists(file));
        /* A smaller size keeps the base's. */
        assert_int_equal(cc_unlink(file, NULL), 0);
        assert_int_equal(disk_create_overlay(file, base, MIB, &err), 0);
        assert_int_equal(qcow2_read_info(file, &i, &err), 0);
        assert_true(i.virtual_size == (uint64_t)(32 * MIB));
}

static void test_overlay_rollback(void **state)
{
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        need("qemu-img");
        assert_int_equal(disk_create_overlay(file, base, MIB, &err), -CC_NOT_FOUND);
        assert_false(cc_exists(file));
        assert_int_equal(cc_publish(base, "not qcow2", 9, 0600, NULL), 0);
        assert_int_equal(disk_create_overlay(file, base, MIB, &err), -CC_INVALID);
        assert_false(cc_exists(file));
        assert_int_equal(disk_create_overlay(file, "json:{}", MIB, &err), -CC_INVALID);
        assert_int_equal(disk_create_overlay("-f", base, MIB, &err), -CC_INVALID);
        assert_false(cc_exists("-f"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_ext4, fresh),
                cmocka_unit_test_setup(test_no_file_system, fresh),
                cmocka_unit_test_setup_teardown(test_rollback, fresh, fresh),
                cmocka_unit_test_setup(test_overlay, fresh),
                cmocka_unit_test_setup(test_overlay_rollback, fresh),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
