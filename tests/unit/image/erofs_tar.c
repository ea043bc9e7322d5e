/* The forms of tar that libarchive and we read: what each means for the image. docs/layers.md has
 * the table; hostile forms are in erofs_hostile.c. */
#include "tarball.h"

/* Some chunks as they come, and the bytes in ones: headers then lie in many pieces. */
static void convert_both(struct cc_buf *tar, struct erofs_image *ret)
{
        struct convert_options bytewise = { .step = 1 };
        IMAGE struct erofs_image other = { 0 };
        struct cc_err err = CC_ERR_INIT;

        convert_good(tar, ret);
        assert_ok(convert_tar(tar, &bytewise, &other, &err));
        assert_int_equal(ret->len, other.len);
        assert_memory_equal(ret->bytes, other.bytes, other.len);
}

static void test_global_headers(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf pax = { 0 };
        IMAGE struct erofs_image m = { 0 };

        (void)state;
        TAR(&tar, .name = "before", .mtime = 7, .uid = 1);
        pax_add(&pax, "comment", "4f53ca", 6);
        pax_add(&pax, "SCHILY.release", "star", 4);
        pax_add(&pax, "mtime", "1000.25", 7);
        pax_add(&pax, "uid", "70000", 5);
        tar_pax_type(&tar, 'g', &pax);
        TAR(&tar, .name = "global", .mtime = 7, .uid = 1, .gid = 2);
        tar_pax1(&tar, "mtime", "2000");
        TAR(&tar, .name = "own", .mtime = 7, .uid = 1);
        tar_global(&tar, "gid", "3");
        tar_long(&tar, 'L', "long");
        TAR(&tar, .name = "x", .type = '5', .mtime = 7, .gid = 2);
        /* An empty record takes the global one back. */
        tar_global(&tar, "mtime", "");
        TAR(&tar, .name = "after", .mtime = 7);
        tar_global(&tar, "uid", "9");
        convert_both(&tar, &m);

        assert_int_equal(node_at(&m, "before").mtime, 7);
        assert_int_equal(node_at(&m, "before").uid, 1);
        assert_int_equal(node_at(&m, "global").mtime, 1000);
        assert_int_equal(node_at(&m, "global").nsec, 250000000);
        assert_int_equal(node_at(&m, "global").uid, 70000);
        assert_int_equal(node_at(&m, "global").gid, 2);
        assert_int_equal(node_at(&m, "own").mtime, 2000);
        assert_int_equal(node_at(&m, "own").nsec, 0);
        assert_int_equal(node_at(&m, "own").uid, 70000);
        assert_true(S_ISDIR(node_at(&m, "long").mode));
        assert_int_equal(node_at(&m, "long").gid, 3);
        assert_int_equal(node_at(&m, "after").mtime, 7);
        assert_int_equal(node_at(&m, "after").uid, 70000);
}

/* What would give every entry one name or other data is refused, wherever the header stands. */
static void test_global_headers_refused(void **state)
{
        static const char *const keys[] = { "path",
                                            "linkpath",
                                            "size",
                                            "GNU.sparse.name",
                                            "SCHILY.xattr.user.a",
                                            "SCHILY.acl.access",
                                            "SCHILY.filetype" };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(keys); i++) {
                CC_BUF struct cc_buf tar = { 0 };

                tar_file(&tar, "fine", "1");
                tar_global(&tar, keys[i], "1");
                tar_file(&tar, "x", "1");
                convert_refused(&tar, NULL, "global pax header sets");
        }
}

static void test_damaged_records(void **state)
{
        /* Lengths that end elsewhere, no key, no "=", no length, a length of nothing. */
        static const char *const bodies[] = { "5 a=b\n",   "99 a=b\n", "6 a=bc",  "7 =bcd\n",
                                              "mtime=3\n", "0 a=b\n",  "7 abcd\n" };
        static const struct {
                const char *key, *value;
        } records[] = {
                { "mtime", "1e3" },      { "mtime", "-" }, { "mtime", "99999999999999999999" },
                { "mtime", "1.2.3" },    { "uid", "-1" },  { "uid", "1x" },
                { "gid", "4294967295" },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(bodies); i++) {
                CC_BUF struct cc_buf tar = { 0 };

                TAR(&tar, .name = "g", .type = 'g', .data = bodies[i], .size = strlen(bodies[i]));
                tar_file(&tar, "x", "1");
                convert_refused(&tar, NULL, "damaged pax header");
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(records); i++) {
                CC_BUF struct cc_buf tar = { 0 };

                tar_global(&tar, records[i].key, records[i].value);
                tar_file(&tar, "x", "1");
                convert_refused(&tar, NULL, i < 6 ? "no such number" : "owner out of range");
        }
}

static void test_times_before_1970(void **state)
{
        static const struct {
                const char *text;
                int64_t mtime;
                uint32_t nsec;
        } times[] = {
                { "-1", -1, 0 },
                { "-1.5", -2, 500000000 },
                { "-0.000000001", -1, 999999999 },
                { "-2208988800.1234567899", -2208988801, 876543211 },
                { "0.1234567899", 0, 123456789 },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(times); i++) {
                CC_BUF struct cc_buf tar = { 0 };
                IMAGE struct erofs_image m = { 0 };

                tar_pax1(&tar, "mtime", times[i].text);
                tar_file(&tar, "f", "");
                convert_both(&tar, &m);
                assert_int_equal(node_at(&m, "f").mtime, times[i].mtime);
                assert_int_equal(node_at(&m, "f").nsec, times[i].nsec);
        }
}

/* More special headers before one entry than libarchive or we follow. */
static void test_header_limits(void **state)
{
        CC_BUF struct cc_buf many = { 0 };
        CC_BUF struct cc_buf large = { 0 };
        CC_BUF struct cc_buf pax = { 0 };
        CC_FREE char *value = xcalloc(1, 1000000);

        (void)state;
        for (int i = 0; i < 40; i++)
                tar_pax1(&many, "path", "hidden");
        tar_file(&many, "x", "");
        convert_refused(&many, NULL, "more than 31 extended headers");
        memset(value, 'v', 1000000);
        for (int i = 0; i < 5; i++) {
                pax_add(&pax, "comment", value, 1000000);
                tar_pax_type(&large, i % 2 ? 'x' : 'g', &pax);
        }
        tar_file(&large, "x", "");
        convert_refused(&large, &(struct convert_options){ .step = 65536 },
                        "extended headers of one entry exceed 4 MiB");
}

/* Only pax archives have them; the first name's data counts, the next member is found. */
static void test_hardlink_with_data(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        CC_FREE char *large = xcalloc(1, 300000);

        (void)state;
        tar_pax1(&tar, "mtime", "1.5");
        tar_file(&tar, "first", "body");
        tar_pax1(&tar, "mtime", "1.5");
        TAR(&tar, .name = "second", .link = "first", .type = '1', .data = "BODY", .size = 4);
        tar_pax1(&tar, "mtime", "1.5");
        TAR(&tar, .name = "third", .link = "first", .type = '1', .data = large, .size = 300000);
        tar_file(&tar, "last", "end");
        convert_both(&tar, &m);
        assert_content(&m, "second", "body");
        assert_content(&m, "third", "body");
        assert_content(&m, "last", "end");
        assert_int_equal(node_at(&m, "first").nlink, 3);
        assert_int_equal(node_at(&m, "first").nsec, 500000000);
}

/* Numbers count, with a name before them or without; a name alone means nothing to the guest. */
static void test_acl_without_number(void **state)
{
        static const uint8_t value[] = {
                2,  0, 0, 0, 1,    0,    6,    0,    0xff, 0xff, 0xff, 0xff, /* user:: */
                2,  0, 4, 0, 0xd2, 4,    0,    0,                            /* user:1234 */
                4,  0, 4, 0, 0xff, 0xff, 0xff, 0xff,                         /* group:: */
                8,  0, 1, 0, 7,    0,    0,    0,                            /* group:lp:7 */
                16, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 32,   0,    4,    0,    0xff, 0xff, 0xff, 0xff
        };
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        struct erofs_node n;
        const uint8_t *v;

        (void)state;
        tar_pax1(&tar, "SCHILY.acl.access",
                 "user::rw-,user:root:rwx,user:1234:r--,group::r--,group:adm:r--,group:lp:--x:7,"
                 "mask::rwx,other::r--");
        tar_file(&tar, "f", "");
        tar_pax1(&tar, "SCHILY.acl.default", "user:root:rwx");
        tar_dir(&tar, "d");
        convert_both(&tar, &m);
        n = node_at(&m, "f");
        assert_int_equal(erofs_xattr_get(&m, &n, "system.posix_acl_access", &v), sizeof(value));
        assert_memory_equal(v, value, sizeof(value));
        n = node_at(&m, "d");
        assert_int_equal(erofs_xattr_get(&m, &n, "system.posix_acl_default", &v), -1);
}

/* GNU tar before 1.15, and with --format=gnu still: type S, the map in the header and in blocks
 * behind it. */
static void test_old_gnu_sparse(void **state)
{
        enum { MAP = 386, ENTRY = 24, EXTENDED = 482, REAL_SIZE = 483, MORE_EXTENDED = 504 };
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        CC_FREE uint8_t *bytes = NULL;
        char map[512] = { 0 };
        char data[6 * 512];
        struct erofs_node n;
        unsigned sum = 0;
        char *h;

        (void)state;
        /* Six pieces of 512 bytes, one every 10,000, and a hole at the end. */
        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (char)('a' + i / 512);
        TAR(&tar, .name = "sparse", .type = 'S', .size = sizeof(data));
        h = tar.data;
        memcpy(h + 257, "ustar  ", 8);
        memset(h + 345, 0, 512 - 345);
        for (int i = 0; i < 6; i++) {
                char *to = i < 4 ? h + MAP + i * ENTRY : map + (i - 4) * ENTRY;

                (void)snprintf(to, 12, "%011o", 10000 * (unsigned)i);
                (void)snprintf(to + 12, 12, "%011o", 512u);
        }
        h[EXTENDED] = 1;
        (void)snprintf(h + REAL_SIZE, 12, "%011o", 100000u);
        memset(h + 148, ' ', 8);
        for (size_t i = 0; i < 512; i++)
                sum += (unsigned char)h[i];
        (void)snprintf(h + 148, 8, "%06o", sum);
        assert_int_equal(map[MORE_EXTENDED], 0);
        cc_buf_add(&tar, map, sizeof(map));
        cc_buf_add(&tar, data, sizeof(data));
        tar_file(&tar, "next", "n");
        convert_both(&tar, &m);
        n = node_at(&m, "sparse");
        assert_int_equal(n.size, 100000);
        assert_true(erofs_content(&m, &n, &bytes));
        for (size_t i = 0; i < 100000; i++)
                assert_int_equal(bytes[i],
                                 i < 60000 && i % 10000 < 512 ? 'a' + (int)(i / 10000) : 0);
        assert_content(&m, "next", "n");
}

static void test_behind_the_end_marker(void **state)
{
        static const uint8_t uuid[16];
        CC_BUF struct cc_buf tar = { 0 };
        EROFS_WRITER struct erofs_writer *w = NULL;
        CC_CLOSE int fd = memfd_create("image", MFD_CLOEXEC);
        READER struct reader reader = { .tar = &tar, .step = 10000 };
        struct erofs_stats stats;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        tar_file(&tar, "f", "");
        tar_end(&tar);
        tar_file(&tar, "no", "");
        for (int i = 0; i < 100000; i++)
                cc_buf_str(&tar, "junk");
        assert_ok(erofs_writer_open(&(struct erofs_writer_args){ .fd = fd, .temp_dir = "/tmp" }, &w,
                                    &err));
        assert_ok(erofs_add_tar(w, tar_read, &reader, &err));
        /* Read to the last byte: they are part of the layer's digest. */
        assert_int_equal(reader.pos, tar.len);
        assert_ok(erofs_writer_finish(w, uuid, &stats, &err));
        assert_int_equal(stats.inodes, 2);
}

struct copy {
        int fd;
        struct cc_buf bytes;
};

/* Copies what has become final since the last time. */
static void on_settled(void *ctx, uint64_t bytes)
{
        struct copy *c = ctx;
        size_t n = bytes - c->bytes.len;
        CC_FREE char *buf = xmalloc(n + 1);

        assert_true(bytes >= c->bytes.len);
        assert_int_equal(pread(c->fd, buf, n, (off_t)c->bytes.len), n);
        cc_buf_add(&c->bytes, buf, n);
}

static void test_settled(void **state)
{
        static const uint8_t uuid[16] = "settled";
        CC_BUF struct cc_buf tar = { 0 };
        EROFS_WRITER struct erofs_writer *w = NULL;
        CC_CLOSE int fd = memfd_create("image", MFD_CLOEXEC);
        READER struct reader reader = { .tar = &tar, .step = 10000 };
        struct copy copy = { .fd = fd };
        struct erofs_writer_args args = {
                .fd = fd, .temp_dir = "/tmp", .settled = on_settled, .settled_ctx = &copy
        };
        struct erofs_stats stats;
        struct cc_err err = CC_ERR_INIT;
        char name[32];
        void *p;

        (void)state;
        for (int i = 0; i < 20000; i++) {
                (void)snprintf(name, sizeof(name), "dir%d/file%d", i / 1000, i);
                tar_file(&tar, name, name);
        }
        tar_end(&tar);
        assert_ok(erofs_writer_open(&args, &w, &err));
        assert_ok(erofs_add_tar(w, tar_read, &reader, &err));
        assert_int_equal(copy.bytes.len, 0);
        assert_ok(erofs_writer_finish(w, uuid, &stats, &err));
        assert_int_equal(copy.bytes.len, stats.bytes);
        p = mmap(NULL, stats.bytes, PROT_READ, MAP_SHARED, fd, 0);
        assert_true(p != MAP_FAILED);
        assert_memory_equal(copy.bytes.data, p, stats.bytes);
        (void)munmap(p, stats.bytes);
        cc_buf_free(&copy.bytes);
}

/* 64 KiB on one inode, headers and padding included; what a name and a value may have is tested
 * beside it. */
static void test_xattr_total(void **state)
{
        static char value[4080];
        char key[64];

        (void)state;
        memset(value, 'v', sizeof(value));
        for (int over = 0; over < 2; over++) {
                CC_BUF struct cc_buf tar = { 0 };
                CC_BUF struct cc_buf pax = { 0 };

                /* 12 + 16 * (4 + 2 + 4080, padded) */
                for (int i = 0; i < 16; i++) {
                        (void)snprintf(key, sizeof(key), "SCHILY.xattr.user.%02d", i);
                        pax_add(&pax, key, value, sizeof(value));
                }
                if (over)
                        pax_add(&pax, "SCHILY.xattr.user.more", value, 120);
                tar_pax(&tar, &pax);
                tar_file(&tar, "f", "body");
                if (over) {
                        convert_refused(&tar, NULL, "exceed 65536 bytes");
                } else {
                        IMAGE struct erofs_image m = { 0 };
                        struct erofs_node n;

                        convert_both(&tar, &m);
                        n = node_at(&m, "f");
                        assert_int_equal(n.xattr_size, 12 + 16 * (4 + 4084));
                        assert_int_equal(erofs_xattr_get(&m, &n, "user.15", NULL), sizeof(value));
                        assert_content(&m, "f", "body");
                }
        }
}

static void test_types(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };

        (void)state;
        tar_pax1(&tar, "SCHILY.filetype", "socket");
        tar_file(&tar, "run/socket", "");
        TAR(&tar, .name = "run/unknown", .type = 'Z', .data = "12345", .size = 5);
        tar_file(&tar, "run/f", "");
        convert_both(&tar, &m);
        assert_true(absent(&m, "run/socket"));
        assert_content(&m, "run/unknown", "12345");
        assert_int_equal(erofs_count(&m, "run"), 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_global_headers),
                cmocka_unit_test(test_global_headers_refused),
                cmocka_unit_test(test_damaged_records),
                cmocka_unit_test(test_times_before_1970),
                cmocka_unit_test(test_header_limits),
                cmocka_unit_test(test_hardlink_with_data),
                cmocka_unit_test(test_acl_without_number),
                cmocka_unit_test(test_old_gnu_sparse),
                cmocka_unit_test(test_behind_the_end_marker),
                cmocka_unit_test(test_settled),
                cmocka_unit_test(test_xattr_total),
                cmocka_unit_test(test_types),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
