/* Cloud images from URLs: ranges, resume, caps, formats, and servers that misbehave. */
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>

#include "base/proc.h"
#include "base/sys.h"
#include "disk/disk.h"
#include "double/files.h"

#define MIB ((size_t)1 << 20)

/* A raw disk: noise, holes, and the signature of a boot sector. */
static char *raw_disk(size_t n, unsigned seed)
{
        char *p = noise(n, seed);

        memset(p + n / 4, 0, n / 4);
        p[510] = 0x55;
        p[511] = (char)0xaa;
        return p;
}

static void need_tool(const char *name)
{
        CC_FREE char *path = cc_find_program(name);

        if (!path) {
                print_message("skipped: %s is not installed\n", name);
                skip();
        }
}

/* The bytes of a qcow2 that qemu-img makes of `raw`, with its -o options. */
static void make_qcow2(const struct world *w, const char *raw, size_t n, const char *options,
                       bool compress, struct cc_buf *ret)
{
        CC_FREE char *in = cc_path_join(w->dir, "source.raw");
        CC_FREE char *out = cc_path_join(w->dir, "source.qcow2");
        const char *const argv[] = { "qemu-img", "convert", "-q",    "-f",
                                     "raw",      "-O",      "qcow2", "-o",
                                     options,    in,        out,     compress ? "-c" : NULL,
                                     NULL };
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;
        size_t len;

        need_tool("qemu-img");
        assert_ok(cc_publish(in, raw, n, 0600, &err), &err);
        assert_ok(cc_run_ok(argv, 60000, NULL, &err), &err);
        assert_ok(cc_read_file(out, 64 * MIB, &text, &len, &err), &err);
        cc_buf_add(ret, text, len);
        (void)cc_unlink(in, NULL);
        (void)cc_unlink(out, NULL);
}

static char *url_of(const struct double_files *s, const char *path)
{
        return xasprintf("http://127.0.0.1:%d%s", s->port, path);
}

static char *blob_of(const struct world *w, const struct image_record *image)
{
        return layout_cloudimg_blob(&w->config, image->content_sum + 7);
}

/* Also those whose name starts with a dot. */
static size_t count_all(const struct world *w, const char *sub)
{
        CC_FREE char *path = xasprintf("%s/%s", w->config.root_dir, sub);
        CC_DIR DIR *d = opendir(path);
        size_t n = 0;

        for (struct dirent *e; d && (e = readdir(d));)
                n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 ? 1 : 0;
        return n;
}

/* Only the blobs of `n` images are there. */
static void assert_blobs(const struct world *w, size_t n)
{
        assert_int_equal(count_all(w, "cloudimg/blobs"), n);
        assert_int_equal(count_all(w, "cloudimg/temp"), 0);
}

static void assert_content(const struct world *w, const struct image_record *image, const void *raw,
                           size_t n)
{
        CC_FREE char *blob = blob_of(w, image);
        CC_FREE char *path = cc_path_join(w->dir, "expected.raw");
        struct cc_err err = CC_ERR_INIT;
        struct qcow2_info info;
        struct stat st;
        bool same = false;

        assert_ok(cc_publish(path, raw, n, 0600, &err), &err);
        assert_ok(disk_same_content(path, DISK_RAW, blob, &same, &err), &err);
        assert_true(same);
        assert_ok(qcow2_read_info(blob, &info, &err), &err);
        assert_int_equal(info.version, 3);
        assert_int_equal(stat(blob, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0444);
        assert_int_equal(st.st_size, image->size);
        (void)cc_unlink(path, NULL);
}

static int pull(struct world *w, const char *url, bool force, struct image_record *ret,
                bool *unchanged, struct cc_err *err)
{
        image_record_clear(ret);
        return image_pull(&w->env, url, force, ret, unchanged, err);
}

static void assert_pull_fails(struct world *w, const struct double_files *s, enum cc_class class,
                              const char *text)
{
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        CC_FREE char *url = url_of(s, "/disk?token=secret");
        struct cc_err err = CC_ERR_INIT;
        int r = pull(w, url, false, &image, NULL, &err);

        if (r != -(int)class)
                fail_msg("%d instead of %d: %s", r, -(int)class, err.msg);
        if (!strstr(err.msg, text))
                fail_msg("\"%s\" is not in: %s", text, err.msg);
        assert_null(strstr(err.msg, "secret"));
        assert_null(strchr(err.msg, '\n'));
        assert_blobs(w, 0);
        assert_nothing_left(w);
}

#define SERVE(s, bytes, n)                                                                         \
        struct double_files s;                                                                     \
        memset(&s, 0, sizeof(s));                                                                  \
        s.data = (bytes);                                                                          \
        s.len = (n);                                                                               \
        double_files_start(&s)

static void test_raw_in_ranges(void **state)
{
        struct world *w = *state;
        size_t n = 9 * MIB + 512;
        CC_FREE char *raw = raw_disk(n, 1);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;
        char hex[DIGEST_HEX_LEN + 1];
        bool unchanged = true;
        int requests;

        need_tool("qemu-img");
        SERVE(s, raw, n);
        s.slow_connections = true;
        url = url_of(&s, "/disk.raw");
        assert_ok(pull(w, url, false, &image, &unchanged, &err), &err);
        assert_false(unchanged);
        digest_of(raw, n, hex);
        assert_string_equal(image.content_sum + 7, hex);
        assert_string_equal(image.ref, url);
        assert_content(w, &image, raw, n);
        assert_blobs(w, 1);
        assert_true(s.seen.live_max >= 2);
        assert_int_equal(s.seen.whole, 0);
        assert_int_equal(s.seen.bytes, n + 8);

        requests = s.seen.requests;
        assert_ok(pull(w, url, false, &image, &unchanged, &err), &err);
        assert_true(unchanged);
        assert_int_equal(s.seen.requests, requests);
        double_files_stop(&s);
}

static void test_qcow2_as_it_is(void **state)
{
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(2 * MIB, 1);
        CC_BUF struct cc_buf qcow2 = { 0 };
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *digest = NULL;
        CC_FREE char *blob = NULL;
        CC_FREE char *stored = NULL;
        CC_FREE char *url = NULL;
        size_t len;

        make_qcow2(w, raw, 2 * MIB, "compat=1.1", true, &qcow2);
        SERVE(s, qcow2.data, qcow2.len);
        url = url_of(&s, "/disk.qcow2");
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        digest = digest_text_of(&qcow2);
        assert_string_equal(image.content_sum, digest);
        blob = blob_of(w, &image);
        assert_ok(cc_read_file(blob, 64 * MIB, &stored, &len, &err), &err);
        assert_int_equal(len, qcow2.len);
        assert_memory_equal(stored, qcow2.data, len);
        assert_content(w, &image, raw, 2 * MIB);
        double_files_stop(&s);
}

/* Version 2, another compression, dirty: stored as a plain version 3. */
static void test_qcow2_converted(void **state)
{
        static const char *const options[] = { "compat=0.10", "compat=1.1,compression_type=zstd",
                                               "compat=1.1,extended_l2=on,cluster_size=64k" };
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(2 * MIB, 1);

        for (size_t i = 0; i < CC_ARRAY_LEN(options); i++) {
                IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
                CC_BUF struct cc_buf qcow2 = { 0 };
                struct cc_err err = CC_ERR_INIT;
                CC_FREE char *path = xasprintf("/disk-%zu", i);
                CC_FREE char *digest = NULL;
                CC_FREE char *blob = NULL;
                CC_FREE char *url = NULL;
                struct qcow2_info info;

                make_qcow2(w, raw, 2 * MIB, options[i], i == 1, &qcow2);
                SERVE(s, qcow2.data, qcow2.len);
                url = url_of(&s, path);
                assert_ok(pull(w, url, false, &image, NULL, &err), &err);
                digest = digest_text_of(&qcow2);
                assert_string_equal(image.content_sum, digest);
                assert_content(w, &image, raw, 2 * MIB);
                blob = blob_of(w, &image);
                assert_ok(qcow2_read_info(blob, &info, &err), &err);
                assert_int_equal(info.incompatible, 0);
                double_files_stop(&s);
        }
        assert_blobs(w, 3);
}

static void test_compressed(void **state)
{
        static const int filters[] = { ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_XZ,
                                       ARCHIVE_FILTER_ZSTD };
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(2 * MIB, 1);
        char hex[DIGEST_HEX_LEN + 1];

        need_tool("qemu-img");
        digest_of(raw, 2 * MIB, hex);
        for (size_t i = 0; i < CC_ARRAY_LEN(filters); i++) {
                IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
                CC_BUF struct cc_buf packed = { 0 };
                struct cc_err err = CC_ERR_INIT;
                CC_FREE char *path = xasprintf("/disk-%zu", i);
                CC_FREE char *url = NULL;

                compress_buf(&packed, raw, 2 * MIB, filters[i]);
                SERVE(s, packed.data, packed.len);
                url = url_of(&s, path);
                assert_ok(pull(w, url, false, &image, NULL, &err), &err);
                /* However it travelled, it is the same disk. */
                assert_string_equal(image.content_sum + 7, hex);
                double_files_stop(&s);
                if (i == 0)
                        assert_content(w, &image, raw, 2 * MIB);
        }
        assert_blobs(w, 1);
}

static void test_without_ranges(void **state)
{
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(MIB, 1);

        need_tool("qemu-img");
        for (int i = 0; i < 4; i++) {
                IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
                struct cc_err err = CC_ERR_INIT;
                CC_FREE char *url = NULL;

                SERVE(s, raw, MIB);
                s.no_ranges = i < 3;
                s.no_total = i == 3;
                s.no_length = i == 1;
                s.cut = i == 2 ? 2 : 0;
                s.cut_at = 300000;
                url = url_of(&s, "/disk");
                assert_ok(pull(w, url, true, &image, NULL, &err), &err);
                assert_content(w, &image, raw, MIB);
                assert_int_equal(s.seen.requests, i == 2 ? 3 : i == 3 ? 2 : 1);
                double_files_stop(&s);
        }
        assert_blobs(w, 1);
}

static void test_cuts_stalls_and_busy_servers(void **state)
{
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(4 * MIB, 1);

        need_tool("qemu-img");
        for (int i = 0; i < 3; i++) {
                IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
                struct cc_err err = CC_ERR_INIT;
                CC_FREE char *url = NULL;

                SERVE(s, raw, 4 * MIB);
                s.cut = i == 0 ? 2 : 0;
                s.cut_at = 100000;
                s.stall = i == 1;
                s.stall_at = 100000;
                s.busy = i == 2 ? 2 : 0;
                s.busy_status = 503;
                url = url_of(&s, "/disk");
                assert_ok(pull(w, url, true, &image, NULL, &err), &err);
                assert_content(w, &image, raw, 4 * MIB);
                /* Nothing was fetched twice. */
                assert_int_equal(s.seen.bytes, 4 * MIB + 8);
                double_files_stop(&s);
        }
}

static void test_refused_content(void **state)
{
        static const struct {
                const char *data;
                size_t len; /* 0: strlen */
                const char *text;
        } rows[] = {
                { "abc", 3, "the file is too small: 3 bytes" },
                { "<!doctype html><title>Login</title>", 0, "an HTML or XML page" },
                { "<html><body>404</body></html>", 0, "an HTML or XML page" },
                { "<?xml version='1.0'?><Error/>", 0, "an HTML or XML page" },
                { "BZh91AY&SY\1\2\3\4", 0, "a bzip2 file" },
                { "PK\3\4\x14\0\0\0\0\0\0\0", 12, "a zip archive" },
                { "7z\xbc\xaf\x27\x1c\0\4\0\0", 10, "a 7z archive" },
                { "KDMV\1\0\0\0\3\0\0\0", 12, "a VMDK disk" },
                { "vhdxfile\1\2\3\4", 0, "a VHDX disk" },
                { "# Disk DescriptorFile\nversion=1\nRW 1 FLAT \"/etc/shadow\" 0\n", 0,
                  "a VMDK disk" },
                { "d41d8cd98f00b204e9800998ecf8427e  disk.qcow2\n", 0, "a text file" },
                { "\1\2\3\4\5\6\7\10\11", 0, "too small for a disk image" },
                { "\x1f\x8b\x08\0\1\2\3\4\5", 9, "compressed data that cannot be unpacked" },
        };
        struct world *w = *state;

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                for (int ranges = 0; ranges < 2; ranges++) {
                        SERVE(s, rows[i].data, rows[i].len ? rows[i].len : strlen(rows[i].data));
                        s.no_ranges = !ranges;
                        assert_pull_fails(w, &s, CC_INVALID, rows[i].text);
                        double_files_stop(&s);
                }
        }
}

static void test_damaged_compression(void **state)
{
        static const int filters[] = { ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_XZ,
                                       ARCHIVE_FILTER_ZSTD };
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(MIB, 1);
        CC_BUF struct cc_buf once = { 0 };
        CC_BUF struct cc_buf twice = { 0 };

        for (size_t i = 0; i < CC_ARRAY_LEN(filters); i++) {
                CC_BUF struct cc_buf packed = { 0 };

                compress_buf(&packed, raw, MIB, filters[i]);
                SERVE(s, packed.data, packed.len / 2);
                assert_pull_fails(w, &s, CC_INVALID, "the download: ");
                double_files_stop(&s);
        }
        compress_buf(&once, raw, MIB, ARCHIVE_FILTER_XZ);
        cc_buf_str(&twice, "\x1f\x8b\xff"); /* no such method */
        cc_buf_add(&twice, once.data, once.len);
        {
                SERVE(s, twice.data, twice.len);
                assert_pull_fails(w, &s, CC_INVALID, "compressed data that cannot be unpacked");
                double_files_stop(&s);
        }
}

/* The first bytes decide before the rest is asked for. */
static void test_wrong_magic_costs_nothing(void **state)
{
        struct world *w = *state;
        CC_FREE char *zip = noise(4 * MIB, 1);

        memcpy(zip, "PK\3\4", 4);
        SERVE(s, zip, 4 * MIB);
        assert_pull_fails(w, &s, CC_INVALID, "a zip archive");
        assert_int_equal(s.seen.bytes, 8);
        double_files_stop(&s);
}

static void put_be(char *p, uint64_t v, unsigned n)
{
        while (n--) {
                p[n] = (char)v;
                v >>= 8;
        }
}

static void test_hostile_qcow2(void **state)
{
        static const struct {
                size_t at;
                unsigned len;
                uint64_t value;
                const char *text;
        } rows[] = {
                { 8, 8, 0x200, "it has a backing file" },
                { 4, 4, 4, "unknown version" },
                { 20, 4, 40, "bad cluster size" },
                { 24, 8, UINT64_MAX, "bad size" },
                { 24, 8, UINT64_C(1) << 60, "larger than 64 TiB" },
                { 24, 8, 0, "empty" },
                { 32, 4, 1, "it is encrypted" },
                { 72, 8, 2, "it is marked corrupt" },
                { 72, 8, 4, "its data is in an external file" },
                { 72, 8, 32, "needs features" },
                { 100, 4, 40, "bad header length" },
                { 40, 8, UINT64_C(1) << 40, "qcow2 image" }, /* where the first table is */
        };
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(2 * MIB, 1);
        CC_BUF struct cc_buf qcow2 = { 0 };

        make_qcow2(w, raw, 2 * MIB, "compat=1.1", false, &qcow2);
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CC_FREE char *bad = xmemdup(qcow2.data, qcow2.len);

                put_be(bad + rows[i].at, rows[i].value, rows[i].len);
                {
                        SERVE(s, bad, qcow2.len);
                        assert_pull_fails(w, &s, CC_INVALID, rows[i].text);
                        double_files_stop(&s);
                }
        }
        /* Half of it, with a length that agrees. */
        {
                SERVE(s, qcow2.data, qcow2.len / 2);
                assert_pull_fails(w, &s, CC_INVALID, "damaged or incomplete");
                double_files_stop(&s);
        }
        {
                SERVE(s, qcow2.data, 60);
                assert_pull_fails(w, &s, CC_INVALID, "header is cut short");
                double_files_stop(&s);
        }
}

static void test_caps(void **state)
{
        struct world *w = *state;
        CC_FREE char *zeros = xcalloc(1, 8 * MIB);
        CC_FREE char *raw = raw_disk(2 * MIB, 1);
        CC_BUF struct cc_buf bomb = { 0 };
        CC_BUF struct cc_buf qcow2 = { 0 };

        zeros[510] = 0x55;
        zeros[511] = (char)0xaa;
        w->config.cloudimg_max_size = MIB;
        for (int i = 0; i < 3; i++) {
                SERVE(s, raw, 2 * MIB);
                s.no_ranges = i > 0;
                s.no_length = i > 1;
                assert_pull_fails(w, &s, CC_INVALID, "the file is larger than 1MiB");
                /* An announced size is enough. */
                if (i == 0)
                        assert_int_equal(s.seen.bytes, 8);
                double_files_stop(&s);
        }
        compress_buf(&bomb, zeros, 8 * MIB, ARCHIVE_FILTER_GZIP);
        {
                SERVE(s, bomb.data, bomb.len);
                assert_pull_fails(w, &s, CC_INVALID, "the disk image has more than 1MiB");
                double_files_stop(&s);
        }
        /* Small as sent, large when it is converted. */
        memset(raw, 'x', 2 * MIB);
        make_qcow2(w, raw, 2 * MIB, "compat=0.10", true, &qcow2);
        assert_true(qcow2.len < MIB);
        {
                SERVE(s, qcow2.data, qcow2.len);
                assert_pull_fails(w, &s, CC_INVALID, "unpacks to more than 1MiB");
                double_files_stop(&s);
        }
}

static void test_bad_servers(void **state)
{
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(2 * MIB, 1);

        for (int i = 0; i < 10; i++) {
                SERVE(s, raw, 2 * MIB);
                switch (i) {
                case 0:
                        s.redirect_loop = true;
                        assert_pull_fails(w, &s, CC_INVALID, "redirected more than 10 times");
                        assert_true(s.seen.requests < 15);
                        break;
                case 1:
                        s.status = 404;
                        assert_pull_fails(w, &s, CC_NOT_FOUND, "HTTP status 404");
                        assert_int_equal(s.seen.requests, 1);
                        break;
                case 2:
                        s.status = 403;
                        assert_pull_fails(w, &s, CC_AUTH, "refuses access");
                        break;
                case 3:
                        s.status = 500;
                        assert_pull_fails(w, &s, CC_NETWORK, "HTTP status 500");
                        assert_int_equal(s.seen.requests, 3);
                        break;
                case 4:
                        s.stall = 100;
                        s.stall_at = 0;
                        assert_pull_fails(w, &s, CC_TIMEOUT, "no answer");
                        break;
                case 5:
                        s.wrong_range = true;
                        s.no_validator = true;
                        assert_pull_fails(w, &s, CC_NETWORK, "another range");
                        break;
                case 6: /* If-Range tells */
                        s.change_after = 2;
                        assert_pull_fails(w, &s, CC_CORRUPT, "changed on the server");
                        break;
                case 7:
                        s.cut = 1000;
                        s.cut_at = 0;
                        s.no_validator = true;
                        assert_pull_fails(w, &s, CC_NETWORK, "");
                        break;
                case 8:
                        s.len = 0;
                        assert_pull_fails(w, &s, CC_INVALID, "it is empty");
                        break;
                default:
                        s.len = 0;
                        s.no_ranges = true;
                        assert_pull_fails(w, &s, CC_INVALID, "too small");
                        break;
                }
                double_files_stop(&s);
        }
}

static void test_redirects(void **state)
{
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(2 * MIB, 1);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;

        need_tool("qemu-img");
        SERVE(s, raw, 2 * MIB);
        s.redirect = "/real";
        url = url_of(&s, "/moved");
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        assert_string_equal(image.ref, url);
        /* Only the probe was led there; the ranges went to where it ended. */
        assert_int_equal(s.seen.requests, s.seen.ranges + 1);
        double_files_stop(&s);
}

/* A server must not make us read a file of this host. */
static void test_redirect_to_a_file(void **state)
{
        static const char *const targets[] = { "file:///etc/passwd", "ftp://127.0.0.1/x",
                                               "gopher://127.0.0.1/x" };
        struct world *w = *state;

        for (size_t i = 0; i < CC_ARRAY_LEN(targets); i++) {
                IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
                struct cc_err err = CC_ERR_INIT;
                CC_FREE char *url = NULL;

                SERVE(s, "x", 1);
                s.redirect = targets[i];
                url = url_of(&s, "/moved");
                assert_int_equal(pull(w, url, false, &image, NULL, &err), -CC_INVALID);
                assert_int_equal(s.seen.requests, 1);
                assert_blobs(w, 0);
                double_files_stop(&s);
        }
}

/* Signed addresses expire: then the original is asked for a new one. */
static void test_expired_redirect(void **state)
{
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(2 * MIB, 1);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;

        need_tool("qemu-img");
        SERVE(s, raw, 2 * MIB);
        s.sign = true;
        url = url_of(&s, "/moved");
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        assert_content(w, &image, raw, 2 * MIB);
        double_files_stop(&s);
}

static void test_weak_validators(void **state)
{
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(2 * MIB, 1);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;

        need_tool("qemu-img");
        {
                SERVE(s, raw, 2 * MIB);
                s.weak = true;
                url = url_of(&s, "/disk");
                assert_ok(pull(w, url, false, &image, NULL, &err), &err);
                double_files_stop(&s);
        }
        {
                SERVE(s, raw, 2 * MIB);
                s.weak = true;
                s.change_after = 2;
                free(url);
                url = url_of(&s, "/disk");
                assert_int_equal(pull(w, url, true, &image, NULL, &err), -CC_CORRUPT);
                double_files_stop(&s);
        }
}

/* ---- a later process goes on ---- */

/* One connection, parts of a MiB: two come, then the server is gone. The record is not there, the
 * parts and the journal are. */
static void break_off(struct world *w, struct double_files *s, const char *url)
{
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        w->config.pull_conns = 1;
        s->die_after = 3;
        assert_int_equal(pull(w, url, false, &image, NULL, &err), -CC_NETWORK);
        assert_int_equal(count_entries(w, "cloudimg/temp"), 2);
        assert_int_equal(s->seen.bytes, 2 * MIB + 8);
        s->die_after = 0;
        s->seen.bytes = 0;
}

static void test_resume_in_another_process(void **state)
{
        struct world *w = *state;
        size_t n = 4 * MIB;
        CC_FREE char *raw = raw_disk(n, 1);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;
        long long before;
        pid_t pid;
        int status;

        need_tool("qemu-img");
        SERVE(s, raw, n);
        url = url_of(&s, "/disk");
        w->config.pull_conns = 1;
        (void)setenv("COCOON_FAILPOINT", "url.part", 1);
        pid = fork();
        if (pid == 0) {
                struct meta_open_args args = { .root_dir = w->config.root_dir,
                                               .run_dir = w->config.run_dir };

                if (meta_open(&args, &w->env.meta, NULL) < 0)
                        _exit(2);
                (void)image_pull(&w->env, url, false, &image, NULL, NULL);
                _exit(3);
        }
        (void)unsetenv("COCOON_FAILPOINT");
        assert_true(waitpid(pid, &status, 0) == pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(count_entries(w, "cloudimg/temp"), 2);
        before = s.seen.bytes;
        assert_true(before < (long long)n);
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        assert_content(w, &image, raw, n);
        assert_blobs(w, 1);
        /* The part that was complete did not come again. */
        assert_int_equal(s.seen.bytes - before, n - MIB + 8);
        double_files_stop(&s);
}

/* Killed when all was fetched: nothing comes again. */
static void test_killed_while_converting(void **state)
{
        struct world *w = *state;
        size_t n = 4 * MIB;
        CC_FREE char *raw = raw_disk(n, 1);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;
        pid_t pid;
        int status;

        need_tool("qemu-img");
        SERVE(s, raw, n);
        url = url_of(&s, "/disk");
        (void)setenv("COCOON_FAILPOINT", "cloudimg.blob", 1);
        pid = fork();
        if (pid == 0) {
                struct meta_open_args args = { .root_dir = w->config.root_dir,
                                               .run_dir = w->config.run_dir };

                if (meta_open(&args, &w->env.meta, NULL) < 0)
                        _exit(2);
                (void)image_pull(&w->env, url, false, &image, NULL, NULL);
                _exit(3);
        }
        (void)unsetenv("COCOON_FAILPOINT");
        assert_true(waitpid(pid, &status, 0) == pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(count_entries(w, "cloudimg/blobs"), 0);
        s.seen.bytes = 0;
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        assert_int_equal(s.seen.bytes, 8);
        assert_content(w, &image, raw, n);
        assert_blobs(w, 1);
        double_files_stop(&s);
}

static void test_resume_after_a_broken_network(void **state)
{
        struct world *w = *state;
        size_t n = 4 * MIB;
        CC_FREE char *raw = raw_disk(n, 1);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;

        need_tool("qemu-img");
        SERVE(s, raw, n);
        url = url_of(&s, "/disk");
        break_off(w, &s, url);
        /* Still broken: nothing of it is lost. */
        s.die_after = 1;
        assert_int_equal(pull(w, url, false, &image, NULL, &err), -CC_NETWORK);
        assert_int_equal(count_entries(w, "cloudimg/temp"), 2);
        s.die_after = 0;
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        assert_content(w, &image, raw, n);
        assert_blobs(w, 1);
        assert_int_equal(s.seen.bytes, 2 * MIB + 8);
        double_files_stop(&s);
}

static void test_resume_needs_the_same_file(void **state)
{
        struct world *w = *state;
        size_t n = 4 * MIB;
        CC_FREE char *old = raw_disk(n, 1);
        CC_FREE char *new = raw_disk(n, 2);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;

        need_tool("qemu-img");
        SERVE(s, old, n);
        url = url_of(&s, "/disk");
        break_off(w, &s, url);
        s.data = new;
        atomic_fetch_add(&s.version, 1);
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        assert_content(w, &image, new, n);
        assert_blobs(w, 1);
        assert_int_equal(s.seen.bytes, n + 8);
        double_files_stop(&s);
}

/* What a journal says is believed only as far as it makes sense. */
static void test_damaged_journal(void **state)
{
        static const char *const rows[] = { "", "junk\n", "{}\n0\n", NULL };
        struct world *w = *state;
        size_t n = 4 * MIB;
        CC_FREE char *raw = raw_disk(n, 1);
        CC_FREE char *url = NULL;

        need_tool("qemu-img");
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
                struct cc_err err = CC_ERR_INIT;
                CC_FREE char *path = NULL;
                char hex[DIGEST_HEX_LEN + 1];

                SERVE(s, raw, n);
                free(url);
                url = url_of(&s, "/disk");
                break_off(w, &s, url);
                digest_of(url, strlen(url), hex);
                path = xasprintf("%s/cloudimg/temp/pull-%.16s.journal", w->config.root_dir, hex);
                if (rows[i]) {
                        assert_ok(cc_publish(path, rows[i], strlen(rows[i]), 0600, &err), &err);
                } else {
                        int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

                        assert_true(fd >= 0 &&
                                    write(fd, "-1\n9\n99999999999999999999\nx", 27) == 27);
                        close(fd);
                }
                assert_ok(pull(w, url, false, &image, NULL, &err), &err);
                assert_content(w, &image, raw, n);
                assert_int_equal(s.seen.bytes, (rows[i] ? n : 2 * MIB) + 8);
                double_files_stop(&s);
        }
}

/* What was left long ago goes; what is young or in use stays. */
static void test_leftovers(void **state)
{
        static const char *const names[] = { "pull-0123456789abcdef.img",
                                             "import-X.img",
                                             ".tmp-x.qcow2",
                                             "pull-young.img",
                                             "pull-used.img",
                                             "other" };
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(MIB, 1);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;
        CC_CLOSE int used = -1;

        need_tool("qemu-img");
        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                CC_FREE char *path = xasprintf("%s/cloudimg/temp/%s", w->config.root_dir, names[i]);
                const struct timespec old[2] = { { .tv_sec = time(NULL) - 4000 },
                                                 { .tv_sec = time(NULL) - 4000 } };

                assert_ok(cc_publish(path, "x", 1, 0600, &err), &err);
                if (i == 4) {
                        used = open(path, O_RDONLY | O_CLOEXEC);
                        assert_int_equal(flock(used, LOCK_EX), 0);
                }
                if (i != 3)
                        assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
        }
        SERVE(s, raw, MIB);
        url = url_of(&s, "/disk");
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        double_files_stop(&s);
        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                CC_FREE char *path = xasprintf("%s/cloudimg/temp/%s", w->config.root_dir, names[i]);

                assert_int_equal(cc_exists(path), i >= 3);
        }
}

static void test_force(void **state)
{
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(2 * MIB, 1);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;
        CC_FREE char *blob = NULL;
        struct stat before;
        struct stat after;
        bool unchanged = true;
        int fd;

        need_tool("qemu-img");
        SERVE(s, raw, 2 * MIB);
        url = url_of(&s, "/disk");
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        blob = blob_of(w, &image);
        assert_int_equal(stat(blob, &before), 0);
        /* A good blob stays the file it is. */
        assert_ok(pull(w, url, true, &image, &unchanged, &err), &err);
        assert_false(unchanged);
        assert_int_equal(stat(blob, &after), 0);
        assert_true(before.st_ino == after.st_ino);
        /* A damaged one is replaced by the same disk. */
        fd = open(blob, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0 && pwrite(fd, "damage", 6, before.st_size / 2) == 6);
        close(fd);
        assert_ok(pull(w, url, true, &image, NULL, &err), &err);
        assert_content(w, &image, raw, 2 * MIB);
        assert_blobs(w, 1);
        /* A lost one comes again without being forced. */
        assert_int_equal(unlink(blob), 0);
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        assert_content(w, &image, raw, 2 * MIB);
        double_files_stop(&s);
}

static void test_concurrent_pulls(void **state)
{
        enum { PULLS = 4 };
        struct world *w = *state;
        size_t n = 3 * MIB;
        CC_FREE char *raw = raw_disk(n, 1);
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *url = NULL;
        pid_t pids[PULLS];

        need_tool("qemu-img");
        SERVE(s, raw, n);
        url = url_of(&s, "/disk");
        for (int i = 0; i < PULLS; i++) {
                pids[i] = fork();
                if (pids[i] == 0) {
                        struct meta_open_args args = { .root_dir = w->config.root_dir,
                                                       .run_dir = w->config.run_dir };

                        if (meta_open(&args, &w->env.meta, NULL) < 0)
                                _exit(2);
                        _exit(image_pull(&w->env, url, false, &image, NULL, NULL) < 0 ? 1 : 0);
                }
        }
        for (int i = 0; i < PULLS; i++) {
                int status;

                assert_true(waitpid(pids[i], &status, 0) == pids[i]);
                assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        assert_blobs(w, 1);
        /* One fetched it, the others waited and found it. */
        assert_int_equal(s.seen.bytes, n + 8);
        assert_ok(pull(w, url, false, &image, NULL, &err), &err);
        assert_content(w, &image, raw, n);
        double_files_stop(&s);
}

static int full_after;

static ssize_t full_pwrite(int fd, const void *buf, size_t n, off_t off)
{
        if (__atomic_sub_fetch(&full_after, 1, __ATOMIC_SEQ_CST) < 0) {
                errno = ENOSPC;
                return -1;
        }
        return cc_sys_real.pwrite(fd, buf, n, off);
}

static void test_full_disk(void **state)
{
        struct world *w = *state;
        CC_FREE char *raw = raw_disk(4 * MIB, 1);

        for (int i = 0; i < 2; i++) {
                SERVE(s, raw, 4 * MIB);
                s.no_ranges = i == 1;
                __atomic_store_n(&full_after, 5, __ATOMIC_SEQ_CST);
                cc_sys.pwrite = full_pwrite;
                assert_pull_fails(w, &s, CC_NO_SPACE, "No space left on device");
                cc_sys = cc_sys_real;
                double_files_stop(&s);
        }
}

static void test_urls(void **state)
{
        struct world *w = *state;
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        CC_FREE char *longer = xcalloc(1, 4000);
        struct cc_err err = CC_ERR_INIT;

        memset(longer, 'x', 3999);
        memcpy(longer, "http://h/", 9);
        assert_int_equal(pull(w, "http://h/a b", false, &image, NULL, &err), -CC_INVALID);
        assert_int_equal(pull(w, "http://h/a\nb", false, &image, NULL, &err), -CC_INVALID);
        assert_int_equal(pull(w, longer, false, &image, NULL, &err), -CC_INVALID);
        assert_int_equal(pull(w, "http://", false, &image, NULL, &err), -CC_INVALID);
        err = (struct cc_err)CC_ERR_INIT;
        assert_int_equal(pull(w, "http://me:secret@127.0.0.1:1/x", false, &image, NULL, &err),
                         -CC_NETWORK);
        assert_null(strstr(err.msg, "secret"));
        assert_blobs(w, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                T(test_raw_in_ranges),
                T(test_qcow2_as_it_is),
                T(test_qcow2_converted),
                T(test_compressed),
                T(test_without_ranges),
                T(test_cuts_stalls_and_busy_servers),
                T(test_refused_content),
                T(test_damaged_compression),
                T(test_wrong_magic_costs_nothing),
                T(test_hostile_qcow2),
                T(test_caps),
                T(test_bad_servers),
                T(test_redirects),
                T(test_redirect_to_a_file),
                T(test_expired_redirect),
                T(test_weak_validators),
                T(test_resume_in_another_process),
                T(test_killed_while_converting),
                T(test_resume_after_a_broken_network),
                T(test_resume_needs_the_same_file),
                T(test_damaged_journal),
                T(test_leftovers),
                T(test_force),
                T(test_concurrent_pulls),
                T(test_full_disk),
                T(test_urls),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
