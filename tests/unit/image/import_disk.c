/* image import of disks: files, parts, streams, and what is refused. */
#include "support.h"

#include <fcntl.h>

#include "base/proc.h"
#include "disk/disk.h"

#define MIB ((size_t)1 << 20)

static void need_tool(const char *name)
{
        CC_FREE char *path = cc_find_program(name);

        if (!path) {
                print_message("skipped: %s is not installed\n", name);
                skip();
        }
}

static char *path_in(const struct world *w, const char *name)
{
        return cc_path_join(w->dir, name);
}

static char *write_file(const struct world *w, const char *name, const void *data, size_t n)
{
        char *path = path_in(w, name);
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(path, data, n, 0600, &err), &err);
        return path;
}

/* disk.raw with a boot sector, and disk.qcow2 of the same content, in the world's directory. */
static void make_disk(const struct world *w, struct cc_buf *raw, struct cc_buf *qcow2)
{
        CC_FREE char *in = NULL;
        CC_FREE char *out = path_in(w, "disk.qcow2");
        CC_FREE char *text = NULL;
        CC_FREE char *data = noise(MIB, 7);
        struct cc_err err = CC_ERR_INIT;
        size_t len;

        need_tool("qemu-img");
        data[510] = 0x55;
        data[511] = (char)0xaa;
        cc_buf_add(raw, data, MIB);
        in = write_file(w, "disk.raw", data, MIB);
        assert_ok(cc_run_ok((const char *const[]){ "qemu-img", "convert", "-q", "-f", "raw", "-O",
                                                   "qcow2", in, out, NULL },
                            60000, NULL, &err),
                  &err);
        assert_ok(cc_read_file(out, 16 * MIB, &text, &len, &err), &err);
        cc_buf_add(qcow2, text, len);
}

static void assert_imported(struct world *w, const char *const *files, size_t n,
                            const struct cc_buf *source)
{
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        CC_FREE char *digest = digest_text_of(source);
        CC_FREE char *blob = NULL;
        CC_FREE char *raw = path_in(w, "disk.raw");
        struct cc_err err = CC_ERR_INIT;
        bool same = false;
        char kind[16];

        assert_ok(image_import(&w->env, "mine", files, n, kind, &image, &err), &err);
        assert_string_equal(kind, IMAGE_CLOUDIMG);
        assert_string_equal(image.ref, "mine");
        assert_string_equal(image.content_sum, digest);
        blob = layout_cloudimg_blob(&w->config, digest + 7);
        assert_ok(disk_same_content(raw, DISK_RAW, blob, &same, &err), &err);
        assert_true(same);
        assert_int_equal(count_entries(w, "cloudimg/temp"), 0);
        assert_int_equal(count_entries(w, "oci/temp"), 0);
}

static void assert_refused(struct world *w, const char *const *files, size_t n, const char *text)
{
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        char kind[16];

        assert_int_equal(image_import(&w->env, "mine", files, n, kind, &image, &err), -CC_INVALID);
        if (!strstr(err.msg, text))
                fail_msg("\"%s\" is not in: %s", text, err.msg);
        assert_int_equal(count_entries(w, "cloudimg/temp"), 0);
        assert_int_equal(count_entries(w, "cloudimg/blobs"), 0);
        assert_nothing_left(w);
}

static void test_files(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf raw = { 0 };
        CC_BUF struct cc_buf qcow2 = { 0 };
        CC_FREE char *a = path_in(w, "disk.qcow2");
        CC_FREE char *b = path_in(w, "disk.raw");

        make_disk(w, &raw, &qcow2);
        assert_imported(w, (const char *const[]){ a }, 1, &qcow2);
        assert_imported(w, (const char *const[]){ b }, 1, &raw);
        assert_int_equal(count_entries(w, "cloudimg/blobs"), 2);
        /* The user's files are only read. */
        assert_true(cc_exists(a) && cc_exists(b));
}

static void test_parts(void **state)
{
        static const size_t cuts[][2] = {
                { 3, 700000 }, { 1, 2 }, { 600, 70000 }, { 65536, 65537 }
        };
        struct world *w = *state;
        CC_BUF struct cc_buf raw = { 0 };
        CC_BUF struct cc_buf qcow2 = { 0 };

        make_disk(w, &raw, &qcow2);
        for (size_t i = 0; i < CC_ARRAY_LEN(cuts); i++) {
                size_t x = cuts[i][0];
                size_t y = cuts[i][1];
                CC_FREE char *a = write_file(w, "a", qcow2.data, x);
                CC_FREE char *b = write_file(w, "b", qcow2.data + x, y - x);
                CC_FREE char *c = write_file(w, "c", qcow2.data + y, qcow2.len - y);

                assert_imported(w, (const char *const[]){ a, b, c }, 3, &qcow2);
        }
        assert_int_equal(count_entries(w, "cloudimg/blobs"), 1);
}

static void test_compressed_files(void **state)
{
        static const int filters[] = { ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_XZ,
                                       ARCHIVE_FILTER_ZSTD };
        struct world *w = *state;
        CC_BUF struct cc_buf raw = { 0 };
        CC_BUF struct cc_buf qcow2 = { 0 };

        make_disk(w, &raw, &qcow2);
        for (size_t i = 0; i < CC_ARRAY_LEN(filters); i++) {
                CC_BUF struct cc_buf packed = { 0 };
                CC_FREE char *path = NULL;

                compress_buf(&packed, i ? raw.data : qcow2.data, i ? raw.len : qcow2.len,
                             filters[i]);
                path = write_file(w, "packed", packed.data, packed.len);
                assert_imported(w, (const char *const[]){ path }, 1, i ? &raw : &qcow2);
        }
        assert_int_equal(count_entries(w, "cloudimg/blobs"), 2);
}

static void test_standard_input(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf raw = { 0 };
        CC_BUF struct cc_buf qcow2 = { 0 };
        CC_FREE char *path = path_in(w, "disk.qcow2");
        int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
        int fd;

        make_disk(w, &raw, &qcow2);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0 && dup2(fd, STDIN_FILENO) == STDIN_FILENO);
        close(fd);
        assert_imported(w, NULL, 0, &qcow2);
        if (saved >= 0) {
                (void)dup2(saved, STDIN_FILENO);
                close(saved);
        }
}

static void test_refused(void **state)
{
        struct world *w = *state;
        CC_BUF struct cc_buf raw = { 0 };
        CC_BUF struct cc_buf qcow2 = { 0 };
        CC_FREE char *backed = NULL;
        CC_FREE char *cut = NULL;
        CC_FREE char *plain = NULL;
        CC_FREE char *whole = path_in(w, "disk.qcow2");
        CC_FREE char *fifo = path_in(w, "fifo");

        make_disk(w, &raw, &qcow2);
        cut = write_file(w, "cut", qcow2.data, qcow2.len / 2);
        assert_refused(w, (const char *const[]){ cut }, 1, "damaged or incomplete");
        /* Bytes without a boot sector may be anything. */
        plain = write_file(w, "plain", raw.data + 1024, raw.len - 1024);
        assert_refused(w, (const char *const[]){ plain }, 1, "cannot detect file type for");
        assert_refused(w, (const char *const[]){ plain, whole }, 2, "cannot detect file type for");
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_refused(w, (const char *const[]){ whole, fifo }, 2, "is not a regular file");
        qcow2.data[15] = 1;
        backed = write_file(w, "backed", qcow2.data, qcow2.len);
        assert_refused(w, (const char *const[]){ backed }, 1, "it has a backing file");
        w->config.cloudimg_max_size = 100000;
        assert_refused(w, (const char *const[]){ whole }, 1, "the disk image has more than");
        assert_refused(w, (const char *const[]){ whole, whole }, 2, "the disk image has more than");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                T(test_files),          T(test_parts),   T(test_compressed_files),
                T(test_standard_input), T(test_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
