/* Image headers, good and hostile. */
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
#include "disk/disk.h"

static char *dir;
static char *file;

static int setup(void **state)
{
        char template[] = "/tmp/cocoon-test-XXXXXX";

        (void)state;
        dir = xstrdup(mkdtemp(template));
        file = cc_path_join(dir, "disk");
        return 0;
}

static int teardown(void **state)
{
        int r = cc_rm_rf(dir, NULL);

        (void)state;
        free(dir);
        free(file);
        return r;
}

static void put(uint8_t *p, uint64_t v, unsigned n)
{
        while (n--) {
                p[n] = (uint8_t)v;
                v >>= 8;
        }
}

/* A valid header of 104 bytes, to be damaged. */
static void header(uint8_t h[104], unsigned version)
{
        memset(h, 0, 104);
        memcpy(h, "QFI\xfb", 4);
        put(h + 4, version, 4);
        put(h + 8, 0x68, 8);
        put(h + 20, 16, 4);
        put(h + 24, UINT64_C(10) << 30, 8);
        put(h + 32, 1, 4);
        put(h + 72, 0x8, 8);
        put(h + 100, 104, 4);
}

static int read_info(const void *data, size_t n, struct qcow2_info *info, struct cc_err *err)
{
        assert_int_equal(cc_publish(file, data, n, 0600, NULL), 0);
        return qcow2_read_info(file, info, err);
}

static void test_good(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        struct qcow2_info i;
        enum disk_format format;
        uint8_t h[104];

        (void)state;
        header(h, 3);
        assert_int_equal(read_info(h, sizeof(h), &i, &err), 0);
        assert_int_equal(i.version, 3);
        assert_true(i.virtual_size == UINT64_C(10) << 30);
        assert_int_equal(i.backing_offset, 0x68);
        assert_int_equal(i.crypt_method, 1);
        assert_int_equal(i.cluster_bits, 16);
        assert_int_equal(i.incompatible, 8);
        assert_int_equal(i.header_length, 104);
        assert_int_equal(disk_probe(file, &format, &err), 0);
        assert_int_equal(format, DISK_QCOW2);

        header(h, 2);
        assert_int_equal(read_info(h, 72, &i, &err), 0);
        assert_int_equal(i.incompatible, 0);
        assert_int_equal(i.header_length, 72);
}

static void test_cut_short(void **state)
{
        uint8_t h[104];

        (void)state;
        header(h, 3);
        for (size_t n = 0; n < sizeof(h); n++) {
                struct cc_err err = CC_ERR_INIT;
                struct qcow2_info i = { .version = 77 };

                assert_int_equal(read_info(h, n, &i, &err), -CC_INVALID);
                assert_int_equal(i.version, 77);
        }
}

static void refused(uint8_t h[104], size_t at, uint64_t v, unsigned n)
{
        struct cc_err err = CC_ERR_INIT;
        struct qcow2_info i;
        uint8_t saved[8];

        memcpy(saved, h + at, n);
        put(h + at, v, n);
        assert_int_equal(read_info(h, 104, &i, &err), -CC_INVALID);
        assert_non_null(strstr(err.msg, "not a usable qcow2 image"));
        memcpy(h + at, saved, n);
}

static void test_hostile(void **state)
{
        uint8_t h[104];

        (void)state;
        header(h, 3);
        refused(h, 0, 0, 4);
        refused(h, 4, 0, 4);
        refused(h, 4, 4, 4);
        refused(h, 4, UINT32_MAX, 4);
        refused(h, 20, 8, 4);
        refused(h, 20, 22, 4);
        refused(h, 20, UINT32_MAX, 4);
        refused(h, 24, UINT64_MAX, 8);
        refused(h, 24, UINT64_C(1) << 63, 8);
        refused(h, 100, 72, 4);
        refused(h, 100, 105, 4);
        refused(h, 100, UINT32_MAX, 4);
}

static void test_foreign(void **state)
{
        static const struct {
                struct qcow2_info info;
                int r; /* -1 refused, 0 as it is, 1 to be converted */
        } rows[] = {
                { { .version = 3, .virtual_size = 1 << 20 }, 0 },
                { { .version = 3, .virtual_size = UINT64_C(1) << 46 }, 0 },
                { { .version = 2, .virtual_size = 1 << 20 }, 1 },
                { { .version = 3, .virtual_size = 1 << 20, .incompatible = 1 }, 1 },
                { { .version = 3, .virtual_size = 1 << 20, .incompatible = 8 }, 1 },
                { { .version = 3, .virtual_size = 1 << 20, .incompatible = 16 }, 1 },
                { { .version = 3, .virtual_size = 1 << 20, .incompatible = 2 }, -1 },
                { { .version = 3, .virtual_size = 1 << 20, .incompatible = 4 }, -1 },
                { { .version = 3, .virtual_size = 1 << 20, .incompatible = 32 }, -1 },
                { { .version = 3, .virtual_size = 1 << 20, .incompatible = UINT64_MAX }, -1 },
                { { .version = 3, .virtual_size = 1 << 20, .backing_offset = 1 }, -1 },
                { { .version = 2, .virtual_size = 1 << 20, .backing_offset = 1 }, -1 },
                { { .version = 2, .virtual_size = 1 << 20, .crypt_method = 1 }, -1 },
                { { .version = 3, .virtual_size = 511 }, -1 },
                { { .version = 3, .virtual_size = (UINT64_C(1) << 46) + 1 }, -1 },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                struct cc_err err = CC_ERR_INIT;
                bool convert = false;
                int r = qcow2_check_foreign(&rows[i].info, "x", &convert, &err);

                assert_int_equal(r, rows[i].r < 0 ? -CC_INVALID : 0);
                assert_int_equal(convert, rows[i].r > 0);
        }
}

static void test_raw_and_odd_files(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        enum disk_format format = DISK_QCOW2;

        (void)state;
        assert_int_equal(cc_publish(file, "QFI", 3, 0600, NULL), 0);
        assert_int_equal(disk_probe(file, &format, &err), 0);
        assert_int_equal(format, DISK_RAW);
        assert_int_equal(disk_probe(dir, &format, &err), -CC_INVALID);
        assert_int_equal(cc_unlink(file, NULL), 0);
        assert_int_equal(disk_probe(file, &format, &err), -CC_NOT_FOUND);
        /* Opening a pipe nobody writes to must not hang. */
        assert_int_equal(mkfifo(file, 0600), 0);
        assert_int_equal(disk_probe(file, &format, &err), -CC_INVALID);
        assert_int_equal(cc_unlink(file, NULL), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_good),
                cmocka_unit_test(test_cut_short),
                cmocka_unit_test(test_hostile),
                cmocka_unit_test(test_foreign),
                cmocka_unit_test(test_raw_and_odd_files),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
