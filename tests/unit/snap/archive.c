/*
 * The archive: written and read back byte for byte with its holes, and everything that somebody
 * else may have put into one. Archives are made by hand here, block by block.
 */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/json.h"
#include "snap/archive/module.h"
#include "snap/archive/tar.h"

#define ENVELOPE "{\"config\":{\"name\":\"n\"},\"version\":1}\n"

static enum hv_file classify(const char *name)
{
        return strcmp(name, "memory.bin") == 0  ? HV_FILE_MEMORY
               : strcmp(name, "state.bin") == 0 ? HV_FILE_STATE
                                                : HV_FILE_FOREIGN;
}

static const struct hv_driver driver = { .name = "fake", .classify = classify };

/* ---- archives by hand ---- */

static void add_block(struct cc_buf *b, const char *name, char type, const char *size)
{
        unsigned char h[512] = { 0 };
        unsigned sum = 0;

        memcpy(h, name, strnlen(name, 100));
        memcpy(h + 100, "0000644", 7);
        memcpy(h + 124, size, strnlen(size, 12));
        h[156] = (unsigned char)type;
        memcpy(h + 257,
               "ustar\0"
               "00",
               8);
        memset(h + 148, ' ', 8);
        for (size_t i = 0; i < sizeof(h); i++)
                sum += h[i];
        (void)snprintf((char *)h + 148, 8, "%06o", sum);
        cc_buf_add(b, h, sizeof(h));
}

static void add_data(struct cc_buf *b, const char *data, size_t n)
{
        static const char zeroes[512];

        cc_buf_add(b, data, n);
        if (n % 512)
                cc_buf_add(b, zeroes, 512 - n % 512);
}

static void add_member(struct cc_buf *b, const char *name, char type, const char *data)
{
        char size[24];

        (void)snprintf(size, sizeof(size), "%011zo", strlen(data));
        add_block(b, name, type, size);
        add_data(b, data, strlen(data));
}

static void add_pax(struct cc_buf *b, const char *key, const char *value)
{
        size_t n = strlen(key) + strlen(value) + 3;
        CC_FREE char *text = NULL;
        size_t total = n + 1;

        while (n + (size_t)snprintf(NULL, 0, "%zu", total) != total)
                total++;
        text = xasprintf("%zu %s=%s\n", total, key, value);
        add_member(b, "PaxHeaders/x", 'x', text);
}

static void add_end(struct cc_buf *b)
{
        static const char zeroes[1024];

        cc_buf_add(b, zeroes, sizeof(zeroes));
}

static int to_file(const void *data, size_t n)
{
        FILE *f = tmpfile();
        int fd;

        assert_non_null(f);
        fd = fcntl(fileno(f), F_DUPFD_CLOEXEC, 3);
        fclose(f);
        assert_int_equal(write(fd, data, n), (ssize_t)n);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        return fd;
}

/* Read `data` into `dir`; the error's text in `err`. */
static int extract(const void *data, size_t n, const char *dir, struct cc_err *err)
{
        CC_CLOSE int fd = to_file(data, n);
        struct snap_reader *r = NULL;
        int e = archive_open(fd, NULL, NULL, &r, err);

        if (e == 0)
                e = archive_extract(r, &driver, dir, err);
        archive_close(r);
        return e;
}

/* ---- round trip ---- */

static void make(const char *dir, const char *name, size_t size, const size_t *data, size_t n)
{
        CC_FREE char *path = cc_path_join(dir, name);
        CC_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        for (size_t i = 0; i < n; i++) {
                char block[4096];

                memset(block, 'a' + (int)(i % 26), sizeof(block));
                assert_int_equal(pwrite(fd, block, sizeof(block), (off_t)data[i]), 4096);
        }
}

static void same(const char *a_dir, const char *b_dir, const char *name)
{
        CC_FREE char *a = cc_path_join(a_dir, name);
        CC_FREE char *b = cc_path_join(b_dir, name);
        CC_FREE char *x = NULL;
        CC_FREE char *y = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct stat st;
        size_t n = 0;
        size_t m = 0;

        assert_ok(cc_read_file(a, (size_t)64 << 20, &x, &n, &err));
        assert_ok(cc_read_file(b, (size_t)64 << 20, &y, &m, &err));
        assert_int_equal(n, m);
        assert_memory_equal(x, y, n);
        assert_int_equal(stat(b, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0640);
}

static void round_trip(void **state)
{
        static const char *const names[] = { "cocoon.json", "cow.raw",    "data-a.raw",
                                             "data-b.raw",  "memory.bin", "state.bin" };
        const size_t few[] = { 0, 1 << 20, (8 << 20) - 4096 };
        CC_FREE char *from = cc_path_join(*state, "from");

        assert_int_equal(mkdir(from, 0755), 0);
        make(from, "cocoon.json", 4096, few, 1);
        make(from, "cow.raw", 8 << 20, few, 3);
        make(from, "data-a.raw", 5 << 20, NULL, 0); /* a hole */
        make(from, "data-b.raw", 0, NULL, 0);
        make(from, "memory.bin", 12345678, few, 2);
        make(from, "state.bin", 4096, few, 1);
        make(from, "foreign.txt", 4096, few, 1);
        for (int gzip = 0; gzip < 2; gzip++) {
                SNAPSHOT_RECORD struct snapshot_record rec = SNAPSHOT_RECORD_INIT;
                CC_FREE char *to = xasprintf("%s/to%d", (char *)*state, gzip);
                struct snap_export x = { .rec = &rec, .drv = &driver, .gzip = gzip };
                struct cc_err err = CC_ERR_INIT;
                CC_CLOSE int fd = to_file("", 0);
                struct snap_reader *r = NULL;
                CC_FREE char *text = NULL;
                struct stat st;
                size_t n;

                rec.data_dir = xstrdup(from);
                rec.name = xstrdup("n");
                x.fd = fd;
                assert_ok(archive_write(&x, &err));
                assert_int_equal(fstat(fd, &st), 0);
                assert_true(st.st_size < 1 << 20); /* holes take no room */
                assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
                assert_int_equal(mkdir(to, 0755), 0);
                assert_ok(archive_open(fd, NULL, NULL, &r, &err));
                assert_non_null(archive_envelope(r));
                assert_int_equal(archive_envelope(r)->files.len, CC_ARRAY_LEN(names));
                assert_ok(archive_extract(r, &driver, to, &err));
                assert_ok(snap_files_check(to, archive_envelope(r), &err));
                archive_close(r);
                for (size_t i = 0; i < CC_ARRAY_LEN(names); i++)
                        same(from, to, names[i]);
                text = cc_path_join(to, "cow.raw");
                assert_int_equal(stat(text, &st), 0);
                assert_true(st.st_blocks * 512 < 1 << 20);
                free(TAKE_PTR(text));
                text = cc_path_join(to, "foreign.txt");
                assert_false(cc_exists(text));
                /* Cut anywhere it is refused. */
                free(TAKE_PTR(text));
                {
                        CC_FREE char *path = xasprintf("/proc/self/fd/%d", fd);

                        assert_ok(cc_read_file(path, (size_t)64 << 20, &text, &n, &err));
                }
                for (size_t cut = 0; cut < n; cut += gzip ? 37 : 256) {
                        CC_FREE char *dir = xasprintf("%s/cut", (char *)*state);
                        struct cc_err why = CC_ERR_INIT;

                        assert_int_equal(mkdir(dir, 0755), 0);
                        assert_true(extract(text, cut, dir, &why) < 0);
                        if (!strstr(why.msg, "truncated"))
                                fail_msg("cut at %zu of %zu: %s", cut, n, why.msg);
                        assert_ok(cc_rm_rf(dir, &err));
                }
        }
}

/* A flipped bit in what has a digest, and anywhere in a gzip stream. */
static void flipped(void **state)
{
        CC_FREE char *from = cc_path_join(*state, "from");
        SNAPSHOT_RECORD struct snapshot_record rec = SNAPSHOT_RECORD_INIT;
        struct snap_export x = { .rec = &rec, .drv = &driver };
        const size_t zero[] = { 0 };

        assert_int_equal(mkdir(from, 0755), 0);
        make(from, "state.bin", 4096, zero, 1);
        rec.data_dir = xstrdup(from);
        for (int gzip = 0; gzip < 2; gzip++) {
                struct cc_err err = CC_ERR_INIT;
                CC_CLOSE int fd = to_file("", 0);
                CC_FREE char *path = xasprintf("/proc/self/fd/%d", fd);
                CC_FREE char *text = NULL;
                CC_FREE char *dir = cc_path_join(*state, "to");
                struct cc_err why = CC_ERR_INIT;
                char *at;
                size_t n;

                x.fd = fd;
                x.gzip = gzip;
                assert_ok(archive_write(&x, &err));
                assert_ok(cc_read_file(path, (size_t)64 << 20, &text, &n, &err));
                at = gzip ? text + n - 6 : memmem(text, n, "aaaaaaaa", 8);
                assert_non_null(at);
                *at ^= 1;
                assert_int_equal(mkdir(dir, 0755), 0);
                assert_int_equal(extract(text, n, dir, &why), -CC_CORRUPT);
                assert_non_null(strstr(why.msg, "archive damaged"));
                assert_ok(cc_rm_rf(dir, &err));
        }
}

/* ---- what others write ---- */

static void dialects(void **state)
{
        CC_BUF struct cc_buf b = { 0 };
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *text = NULL;
        CC_FREE char *path = cc_path_join(*state, "memory.bin");
        CC_FREE char *state_path = cc_path_join(*state, "state.bin");
        char size[12] = "\x80\0\0\0\0\0\0\0\0\0\0\3";
        size_t n;

        add_member(&b, "./", '5', "");
        add_member(&b, "pax_global_header", 'g', "24 comment=something or\n");
        add_member(&b, "./snapshot.json", '0', ENVELOPE);
        /* A pax path over a cut one, base-256 size. */
        add_pax(&b, "path", "./state.bin");
        {
                size_t at = b.len;
                unsigned sum = 0;
                unsigned char *h;

                add_block(&b, "cut", '0', "");
                h = (unsigned char *)b.data + at;
                memcpy(h + 124, size, 12);
                memset(h + 148, ' ', 8);
                for (size_t i = 0; i < 512; i++)
                        sum += h[i];
                (void)snprintf((char *)h + 148, 8, "%06o", sum);
        }
        add_data(&b, "abc", 3);
        add_member(&b, "unknown.txt", '0', "skipped");
        /* A GNU long name, and a sparse member without any data. */
        add_member(&b, "././@LongLink", 'L', "cow.raw");
        add_member(&b, "cut", '0', "cow");
        add_pax(&b, "COCOON.sparse.map", "null");
        add_pax(&b, "COCOON.sparse.size", "8192");
        add_member(&b, "data-a.raw", '0', "");
        add_pax(&b, "COCOON.sparse.map", "[{\"o\":4096,\"l\":3},{\"o\":8000,\"l\":2}]");
        add_pax(&b, "COCOON.sparse.size", "8192");
        add_member(&b, "memory.bin", '0', "xyzuv");
        add_end(&b);
        assert_ok(extract(b.data, b.len, *state, &err));
        assert_ok(cc_read_file(state_path, 100, &text, &n, &err));
        assert_string_equal(text, "abc");
        free(TAKE_PTR(text));
        assert_ok(cc_read_file(path, 10000, &text, &n, &err));
        assert_int_equal(n, 8192);
        assert_memory_equal(text + 4095, "\0xyz\0", 5);
        assert_memory_equal(text + 7999, "\0uv\0", 4);
}

/* snapshot.json behind the files: every plain file is taken, the envelope is known at the end. */
static void envelope_last(void **state)
{
        CC_BUF struct cc_buf b = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct snap_reader *r = NULL;
        CC_CLOSE int fd = -1;

        add_member(&b, "state.bin", '0', "abc");
        add_member(&b, "snapshot.json", '0', ENVELOPE);
        add_end(&b);
        fd = to_file(b.data, b.len);
        assert_ok(archive_open(fd, NULL, NULL, &r, &err));
        assert_null(archive_envelope(r));
        assert_ok(archive_extract(r, NULL, *state, &err));
        assert_string_equal(archive_envelope(r)->config.name, "n");
        archive_close(r);
}

static void gzip_members(void **state)
{
        CC_BUF struct cc_buf b = { 0 };
        CC_BUF struct cc_buf z = { 0 };
        struct cc_err err = CC_ERR_INIT;

        add_member(&b, "snapshot.json", '0', ENVELOPE);
        add_member(&b, "state.bin", '0', "abc");
        add_end(&b);
        for (size_t at = 0; at < b.len; at += 700) {
                unsigned char out[2048];
                z_stream s = { 0 };
                size_t n = b.len - at < 700 ? b.len - at : 700;

                assert_int_equal(deflateInit2(&s, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
                s.next_in = (unsigned char *)b.data + at;
                s.avail_in = (unsigned)n;
                s.next_out = out;
                s.avail_out = sizeof(out);
                assert_int_equal(deflate(&s, Z_FINISH), Z_STREAM_END);
                cc_buf_add(&z, out, sizeof(out) - s.avail_out);
                (void)deflateEnd(&s);
        }
        assert_ok(extract(z.data, z.len, *state, &err));
}

static void hostile_members(void **state)
{
        static const struct {
                const char *name;
                char type;
                const char *map, *size, *data, *wanted;
        } rows[] = {
                { "", '0', NULL, NULL, "", "refused" },
                { ".", '0', NULL, NULL, "", "refused" },
                { "..", '0', NULL, NULL, "", "refused" },
                { "../x", '0', NULL, NULL, "", "refused" },
                { "/x", '0', NULL, NULL, "", "refused" },
                { "a/b", '0', NULL, NULL, "", "refused" },
                { "././x", '0', NULL, NULL, "", "refused" },
                { "a\nb", '0', NULL, NULL, "", "refused" },
                { "a\033b", '0', NULL, NULL, "", "refused" },
                { "state.bin", '1', NULL, NULL, "", "neither file nor directory" },
                { "state.bin", '2', NULL, NULL, "", "neither file nor directory" },
                { "state.bin", '3', NULL, NULL, "", "neither file nor directory" },
                { "state.bin", '4', NULL, NULL, "", "neither file nor directory" },
                { "state.bin", '6', NULL, NULL, "", "neither file nor directory" },
                { "state.bin", 'S', NULL, NULL, "", "neither file nor directory" },
                { "snapshot.json", '0', NULL, NULL, ENVELOPE, "occurs twice" },
                { "dir", '5', NULL, NULL, "content", "directory with content" },
                { "cow.raw", '0', "[{\"o\":9,\"l\":1},{\"o\":0,\"l\":1}]", "10", "ab", "in order" },
                { "cow.raw", '0', "[{\"o\":0,\"l\":2},{\"o\":1,\"l\":1}]", "10", "abc",
                  "in order" },
                { "cow.raw", '0', "[{\"o\":-1,\"l\":1}]", "10", "a", "in order" },
                { "cow.raw", '0', "[{\"o\":0,\"l\":-1}]", "10", "", "in order" },
                { "cow.raw", '0', "[{\"o\":9,\"l\":2}]", "10", "ab", "in order" },
                { "cow.raw", '0', "[{\"o\":9223372036854775807,\"l\":9223372036854775807}]", "10",
                  "ab", "in order" },
                { "cow.raw", '0', "[{\"o\":0,\"l\":1}]", "10", "ab", "differ in size" },
                { "cow.raw", '0', "[{\"o\":0}]", "10", "", "in order" },
                { "cow.raw", '0', "{}", "10", "", "not a list" },
                { "cow.raw", '0', "[", "10", "", "sparse map" },
                { "cow.raw", '0', "[]", "-5", "", "bad sparse size" },
                { "cow.raw", '0', "[]", NULL, "", "without map or size" },
                { "cow.raw", '0', "[]", "99999999999999999999999", "", "bad sparse size" },
                { "cow.raw", '0', "[]", "4503599627370496", "", "absurdly large" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CC_FREE char *dir = xasprintf("%s/%zu", (char *)*state, i);
                CC_BUF struct cc_buf b = { 0 };
                struct cc_err err = CC_ERR_INIT;

                assert_int_equal(mkdir(dir, 0755), 0);
                add_member(&b, "snapshot.json", '0', ENVELOPE);
                if (rows[i].map)
                        add_pax(&b, "COCOON.sparse.map", rows[i].map);
                if (rows[i].size)
                        add_pax(&b, "COCOON.sparse.size", rows[i].size);
                add_member(&b, rows[i].name, rows[i].type, rows[i].data);
                add_end(&b);
                if (extract(b.data, b.len, dir, &err) == 0)
                        fail_msg("row %zu accepted", i);
                if (!strstr(err.msg, rows[i].wanted))
                        fail_msg("row %zu: %s (wanted %s)", i, err.msg, rows[i].wanted);
        }
}

static void malformed_records(void **state)
{
        static const char *const rows[] = {
                "x",          "9 path=x", "5 a=b\n", "99999999999999999999 path=x\n",
                "0 path=x\n", "8 path\n",
        };
        struct cc_err err = CC_ERR_INIT;

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CC_BUF struct cc_buf b = { 0 };

                add_member(&b, "snapshot.json", '0', ENVELOPE);
                add_member(&b, "x", 'x', rows[i]);
                add_member(&b, "state.bin", '0', "");
                add_end(&b);
                if (extract(b.data, b.len, *state, &err) == 0)
                        fail_msg("record %zu accepted", i);
                assert_non_null(strstr(err.msg, "archive damaged"));
        }
        {
                CC_BUF struct cc_buf b = { 0 };

                add_member(&b, "snapshot.json", '0', ENVELOPE);
                add_block(&b, "state.bin", '0', "77777777777");
                add_end(&b);
                assert_int_equal(extract(b.data, b.len, *state, &err), -CC_CORRUPT);
                assert_non_null(strstr(err.msg, "truncated"));
        }
}

/* More ranges than a record may hold are merged, and what is read is the same. */
static void many_ranges(void **state)
{
        struct tar_range *ranges = xcalloc(100000, sizeof(*ranges));
        size_t n = 100000;

        (void)state;
        for (size_t i = 0; i < n; i++)
                ranges[i] = (struct tar_range){ (int64_t)i * 8192, 4096 };
        tar_fit_ranges(ranges, &n);
        assert_true(n >= 1 && n < 20000);
        for (size_t i = 1; i < n; i++)
                assert_true(ranges[i].offset > ranges[i - 1].offset + ranges[i - 1].length);
        assert_int_equal(ranges[n - 1].offset + ranges[n - 1].length, INT64_C(99999) * 8192 + 4096);
        free(ranges);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(round_trip),        scratch_test(flipped),
                scratch_test(dialects),          scratch_test(envelope_last),
                scratch_test(gzip_members),      scratch_test(hostile_members),
                scratch_test(malformed_records), cmocka_unit_test(many_ranges),
        };

        return cmocka_run_group_tests_name("snap/archive", tests, NULL, NULL);
}
