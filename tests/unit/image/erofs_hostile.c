/* The EROFS writer against layers made to harm, and hosts that fail. The table of docs/layers.md is
 * tested here row by row. */
#include "tarball.h"

#include <errno.h>

#include "base/sys.h"

static void test_paths_that_leave(void **state)
{
        static const char *const names[] = { "../x", "a/../b", "/../x", "a/..", ".." };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                CC_BUF struct cc_buf tar = { 0 };
                CC_BUF struct cc_buf link = { 0 };
                CC_BUF struct cc_buf marker = { 0 };
                CC_FREE char *wh = xasprintf("%s/.wh.x", names[i]);

                tar_file(&tar, names[i], "x");
                convert_refused(&tar, NULL, "leaves the layer");
                tar_file(&link, "f", "x");
                tar_link(&link, '1', "g", names[i]);
                convert_refused(&link, NULL, "leaves the layer");
                tar_file(&marker, wh, "");
                convert_refused(&marker, NULL, "leaves the layer");
        }
}

static void test_long_names(void **state)
{
        char name[4200];

        (void)state;
        for (int directory = 0; directory < 2; directory++) {
                CC_BUF struct cc_buf tar = { 0 };

                memset(name, 'n', 256);
                (void)snprintf(name + 256, 8, "%s", directory ? "/x" : "");
                tar_long(&tar, 'L', name);
                tar_file(&tar, "x", "");
                convert_refused(&tar, NULL, "longer than 255");
        }
        for (size_t i = 0; i < sizeof(name) - 1; i++)
                name[i] = i % 2 ? '/' : 'd';
        name[4096] = '\0';
        name[4095] = 'd';
        for (int cut = 0; cut < 2; cut++) {
                CC_BUF struct cc_buf tar = { 0 };

                tar_long(&tar, 'L', name);
                tar_file(&tar, "x", "");
                convert_refused(&tar, NULL, "longer than 4095");
                /* What a buffer of this size would cut down to a good name. */
                memset(name + 1, '/', 4150);
                memcpy(name + 4150, "tail", 5);
        }
}

static void test_longest_path(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        char name[4096];

        (void)state;
        for (size_t i = 0; i < sizeof(name) - 1; i++)
                name[i] = i % 2 ? '/' : 'd';
        name[4095] = '\0';
        tar_long(&tar, 'L', name);
        tar_file(&tar, "x", "end");
        convert_good(&tar, &m);
        name[4094] = '\0';
        assert_true(S_ISDIR(node_at(&m, name).mode) || S_ISREG(node_at(&m, name).mode));
}

static void test_symlink_loops(void **state)
{
        CC_BUF struct cc_buf loop = { 0 };
        CC_BUF struct cc_buf pair = { 0 };
        CC_BUF struct cc_buf growing = { 0 };

        (void)state;
        tar_link(&loop, '2', "a", "a");
        tar_file(&loop, "a/x", "");
        convert_refused(&loop, NULL, "too many symbolic links");
        tar_link(&pair, '2', "a", "/b");
        tar_link(&pair, '2', "b", "a");
        tar_file(&pair, "b/x", "");
        convert_refused(&pair, NULL, "too many symbolic links");
        tar_link(&growing, '2', "a", "a/a/a/a/a/a/a/a/a/a");
        tar_file(&growing, "a/x", "");
        convert_refused(&growing, NULL, "too many symbolic links");
}

static void test_file_as_directory(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf root = { 0 };

        (void)state;
        tar_file(&tar, "f", "x");
        tar_file(&tar, "f/child", "x");
        convert_refused(&tar, NULL, "f is not a directory");
        tar_file(&root, ".", "x");
        convert_refused(&root, NULL, "root is not a directory");
}

static void test_hardlinks_to_nothing(void **state)
{
        static const char *const targets[] = {
                "nothing", "dir", "", "gone", "later", "dir/none/x"
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(targets); i++) {
                CC_BUF struct cc_buf tar = { 0 };

                tar_dir(&tar, "dir");
                tar_file(&tar, ".wh.gone", "");
                tar_link(&tar, '1', "link", targets[i]);
                tar_file(&tar, "later", "");
                /* An empty target leaves libarchive without a hard link: then it is a file. */
                if (*targets[i])
                        convert_refused(&tar, NULL, "no file of this layer");
        }
}

static void test_bad_whiteouts(void **state)
{
        static const char *const names[] = { ".wh.", "d/.wh.", ".wh..", "d/.wh..." };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                CC_BUF struct cc_buf tar = { 0 };

                tar_file(&tar, names[i], "");
                convert_refused(&tar, NULL, "whiteout of no valid name");
        }
}

static void test_numbers_out_of_range(void **state)
{
        CC_BUF struct cc_buf uid = { 0 };
        CC_BUF struct cc_buf negative = { 0 };
        CC_BUF struct cc_buf huge = { 0 };
        CC_BUF struct cc_buf minus = { 0 };
        CC_BUF struct cc_buf device = { 0 };

        (void)state;
        TAR(&uid, .name = "x", .raw_uid = "\x80\0\0\x01\0\0\0\0");
        convert_refused(&uid, NULL, "owner out of range");
        TAR(&minus, .name = "x", .raw_uid = "\xff\xff\xff\xff\xff\xff\xff\xfe");
        convert_refused(&minus, NULL, "owner out of range");
        TAR(&negative, .name = "x", .raw_size = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00");
        convert_refused(&negative, NULL, "");
        TAR(&huge, .name = "x", .raw_size = "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
        convert_refused(&huge, NULL, "");
        TAR(&device, .name = "x", .type = '3', .raw_major = "\x80\0\0\x01\0\0\0\x01");
        convert_refused(&device, NULL, "device number out of range");
}

static void test_limits(void **state)
{
        CC_BUF struct cc_buf many = { 0 };
        CC_BUF struct cc_buf links = { 0 };
        CC_BUF struct cc_buf deep = { 0 };
        CC_BUF struct cc_buf large = { 0 };
        char name[16];

        (void)state;
        for (int i = 0; i < 10; i++) {
                (void)snprintf(name, sizeof(name), "f%d", i);
                tar_file(&many, name, "12345");
        }
        /* The root counts. */
        convert_refused(&many, &(struct convert_options){ .max_entries = 10 },
                        "more than 10 entries");
        convert_refused(&many, &(struct convert_options){ .max_bytes = 49 }, "more than 49 bytes");
        tar_end(&many);
        {
                IMAGE struct erofs_image m = { 0 };
                struct cc_err err = CC_ERR_INIT;

                assert_ok(convert_tar(
                        &many, &(struct convert_options){ .max_entries = 11, .max_bytes = 50 }, &m,
                        &err));
        }
        tar_file(&links, "f", "");
        for (int i = 0; i < 10; i++) {
                (void)snprintf(name, sizeof(name), "l%d", i);
                tar_link(&links, '1', name, "f");
        }
        convert_refused(&links, &(struct convert_options){ .max_entries = 5 },
                        "more than 5 entries");
        tar_file(&deep, "a/b/c/d/e/f", "");
        convert_refused(&deep, &(struct convert_options){ .max_entries = 5 },
                        "more than 5 entries");
        /* 16 TiB of hole. */
        tar_pax1(&large, "GNU.sparse.realsize", "17592186044416");
        large.len = 0;
        {
                CC_BUF struct cc_buf pax = { 0 };

                pax_add(&pax, "GNU.sparse.major", "1", 1);
                pax_add(&pax, "GNU.sparse.minor", "0", 1);
                pax_add(&pax, "GNU.sparse.name", "x", 1);
                pax_add(&pax, "GNU.sparse.realsize", "17592186044416", 14);
                tar_pax(&large, &pax);
                TAR(&large, .name = "x", .data = "1\n17592186044415\n1\n", .size = 19);
        }
        convert_refused(&large, NULL, "");
}

static void test_truncated(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        struct cc_err err = CC_ERR_INIT;
        char data[3000] = { 1 };
        size_t whole;

        (void)state;
        tar_file(&tar, "first", "1");
        TAR(&tar, .name = "x", .data = data, .size = sizeof(data));
        whole = tar.len;
        for (size_t cut = 1024 + 1; cut < whole - 72; cut += cut < whole - 200 ? 97 : 1) {
                struct cc_err refused = CC_ERR_INIT;
                IMAGE struct erofs_image none = { 0 };

                tar.len = cut;
                if (convert_tar(&tar, &(struct convert_options){ 0 }, &none, &refused) == 0)
                        fail_msg("accepted when cut at %zu of %zu", cut, whole);
                assert_int_equal(refused.class, CC_INVALID);
        }
        /* In the padding all data is there. Between members only the end marker is missing: as
         * others do, we take it for the end. */
        for (size_t cut = whole - 72; cut <= whole; cut++) {
                IMAGE struct erofs_image m = { 0 };

                tar.len = cut;
                assert_ok(convert_tar(&tar, &(struct convert_options){ .step = cut % 2 * 7 }, &m,
                                      &err));
                assert_null(erofs_check(&m));
                assert_int_equal(node_at(&m, "x").size, sizeof(data));
        }
}

static void test_damaged_header(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf garbage = { 0 };

        (void)state;
        tar_file(&tar, "first", "1");
        tar_file(&tar, "second", "2");
        tar_file(&tar, "third", "3");
        tar.data[1024] ^= 1;
        tar_end(&tar);
        convert_refused(&tar, NULL, "");
        for (int i = 0; i < 2000; i++)
                cc_buf_str(&garbage, "no tar");
        convert_refused(&garbage, NULL, "");
}

static void test_xattr_limits(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf many = { 0 };
        CC_BUF struct cc_buf fits = { 0 };
        CC_BUF struct cc_buf pax = { 0 };
        IMAGE struct erofs_image m = { 0 };
        CC_FREE char *value = xcalloc(1, 65536);
        char key[64];
        struct erofs_node n;

        (void)state;
        memset(value, 'v', 65536);
        pax_add(&pax, "SCHILY.xattr.user.big", value, 65536);
        tar_pax(&tar, &pax);
        tar_file(&tar, "x", "");
        convert_refused(&tar, NULL, "too large");
        for (int i = 0; i < 254; i++) {
                (void)snprintf(key, sizeof(key), "SCHILY.xattr.user.%d", i);
                pax_add(&pax, key, "v", 1);
        }
        tar_pax(&many, &pax);
        tar_file(&many, "x", "");
        convert_refused(&many, NULL, "more than 253");
        /* The most there can be, all shared, and two markers of our own. */
        for (int twice = 0; twice < 2; twice++) {
                for (int i = 0; i < 253; i++) {
                        (void)snprintf(key, sizeof(key), "SCHILY.xattr.user.%d", i);
                        pax_add(&pax, key, "v", 1);
                }
                tar_pax(&fits, &pax);
                tar_dir(&fits, twice ? "a" : "b");
                tar_file(&fits, twice ? "a/.wh.x" : "b/.wh.x", "");
                tar_file(&fits, twice ? "a/.wh..wh..opq" : "b/.wh..wh..opq", "");
        }
        convert_good(&fits, &m);
        n = node_at(&m, "a");
        assert_int_equal(erofs_xattr_get(&m, &n, "user.252", NULL), 1);
        assert_true(is_opaque(&m, "a") && has_origin(&m, "a"));
}

static void test_skipped_types(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        char body[10] = "contiguous";

        (void)state;
        TAR(&tar, .name = "volume", .type = 'V');
        TAR(&tar, .name = "c", .type = '7', .data = body, .size = sizeof(body));
        tar_pax1(&tar, "SCHILY.filetype", "socket");
        TAR(&tar, .name = "socket", .mode = 0140644);
        tar_file(&tar, "f", "");
        convert_good(&tar, &m);
        assert_true(absent(&m, "volume"));
        assert_content(&m, "f", "");
        assert_true(S_ISREG(node_at(&m, "c").mode));
}

/* Failing hosts. */
static long fail_after;

static ssize_t full_pwrite(int fd, const void *buf, size_t n, off_t off)
{
        if (fail_after-- <= 0) {
                errno = ENOSPC;
                return -1;
        }
        /* A short write first: those must go on where they stopped. */
        return cc_sys_real.pwrite(fd, buf, n > 1000 ? n / 2 : n, off);
}

static int full_ftruncate(int fd, off_t len)
{
        (void)fd;
        (void)len;
        errno = ENOSPC;
        return -1;
}

static int restore_sys(void **state)
{
        (void)state;
        cc_sys = cc_sys_real;
        return 0;
}

static void test_full_disk(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        static char data[3 << 20];
        bool done = false;

        (void)state;
        TAR(&tar, .name = "a", .data = data, .size = sizeof(data));
        TAR(&tar, .name = "b", .data = data, .size = 100);
        tar_end(&tar);
        cc_sys.pwrite = full_pwrite;
        for (long n = 0; !done; n++) {
                IMAGE struct erofs_image m = { 0 };
                struct cc_err err = CC_ERR_INIT;
                int r;

                assert_true(n < 1000);
                fail_after = n;
                r = convert_tar(&tar, &(struct convert_options){ 0 }, &m, &err);
                done = r == 0;
                if (!done)
                        assert_int_equal(err.class, CC_NO_SPACE);
                else
                        assert_null(erofs_check(&m));
        }
        cc_sys = cc_sys_real;
        cc_sys.ftruncate = full_ftruncate;
        {
                IMAGE struct erofs_image m = { 0 };
                struct cc_err err = CC_ERR_INIT;

                assert_int_equal(convert_tar(&tar, &(struct convert_options){ 0 }, &m, &err),
                                 -CC_NO_SPACE);
        }
}

static void test_no_temp_dir(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        tar_end(&tar);
        assert_true(convert_tar(&tar, &(struct convert_options){ .temp_dir = "/proc/none" }, &m,
                                &err) < 0);
        assert_non_null(strstr(err.msg, "temporary file"));
}

static int failing_source(void *ctx, const void **ret, size_t *ret_n, struct cc_err *err)
{
        struct reader *r = ctx;

        if (r->pos > 600)
                return cc_fail(err, CC_UNAVAILABLE, "the line went dead");
        return tar_read(ctx, ret, ret_n, err);
}

static void test_source_error_is_passed_on(void **state)
{
        EROFS_WRITER struct erofs_writer *w = NULL;
        CC_BUF struct cc_buf tar = { 0 };
        CC_CLOSE int fd = memfd_create("image", MFD_CLOEXEC);
        READER struct reader reader = { .tar = &tar, .step = 600 };
        struct cc_err err = CC_ERR_INIT;
        char data[4000] = { 0 };

        (void)state;
        TAR(&tar, .name = "x", .data = data, .size = sizeof(data));
        assert_ok(erofs_writer_open(&(struct erofs_writer_args){ .fd = fd, .temp_dir = "/tmp" }, &w,
                                    &err));
        assert_int_equal(erofs_add_tar(w, failing_source, &reader, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "the line went dead"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_paths_that_leave),
                cmocka_unit_test(test_long_names),
                cmocka_unit_test(test_longest_path),
                cmocka_unit_test(test_symlink_loops),
                cmocka_unit_test(test_file_as_directory),
                cmocka_unit_test(test_hardlinks_to_nothing),
                cmocka_unit_test(test_bad_whiteouts),
                cmocka_unit_test(test_numbers_out_of_range),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_truncated),
                cmocka_unit_test(test_damaged_header),
                cmocka_unit_test(test_xattr_limits),
                cmocka_unit_test(test_skipped_types),
                cmocka_unit_test_teardown(test_full_disk, restore_sys),
                cmocka_unit_test(test_no_temp_dir),
                cmocka_unit_test(test_source_error_is_passed_on),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
