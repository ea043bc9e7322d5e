/* The EROFS writer: what well-formed layers become. Hostile ones are in erofs_hostile.c. */
#include "tarball.h"

#include <openssl/evp.h>

static void sha256(const struct erofs_image *m, char hex[65])
{
        unsigned char raw[EVP_MAX_MD_SIZE];
        unsigned n;

        assert_true(EVP_Digest(m->bytes, m->len, raw, &n, EVP_sha256(), NULL));
        cc_hex(raw, n, hex);
}

/* A bit of everything. */
static void golden_tar(struct cc_buf *tar)
{
        CC_BUF struct cc_buf pax = { 0 };
        char big[10000];

        for (size_t i = 0; i < sizeof(big); i++)
                big[i] = (char)(i * 31 + i / 255);
        tar_dir(tar, "./");
        TAR(tar, .name = "etc/", .type = '5', .mode = 0750, .uid = 3, .gid = 4,
            .mtime = 1700000000);
        tar_file(tar, "etc/hostname", "guest\n");
        TAR(tar, .name = "etc/big", .data = big, .size = sizeof(big), .mode = 04755);
        TAR(tar, .name = "etc/block", .data = big, .size = 4096);
        tar_link(tar, '1', "usr/big", "etc/big");
        tar_link(tar, '2', "etc/link", "../usr/big");
        TAR(tar, .name = "dev/tty", .type = '3', .major = 5, .minor = 300);
        TAR(tar, .name = "run/pipe", .type = '6');
        tar_file(tar, "etc/.wh.gone", "");
        tar_file(tar, "var/.wh..wh..opq", "");
        for (int i = 0; i < 2; i++) {
                pax_add(&pax, "SCHILY.xattr.security.capability", "\1\0\0\2\0\4\0\0\0\0\0\0", 12);
                pax_add(&pax, "mtime", "1700000001.25", 13);
                tar_pax(tar, &pax);
                tar_file(tar, i ? "bin/ping" : "bin/ping6", "x");
        }
}

/* The bytes are a contract: a copy-on-write disk is bound to them (images.md §2.4). If this fails,
 * the change makes a new kind of blob, not a new version of this one. */
static void test_golden(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        char hex[65];

        (void)state;
        golden_tar(&tar);
        convert_good(&tar, &m);
        sha256(&m, hex);
        assert_string_equal(hex,
                            "cf3465f5ad960eb00a17d83c24d8c2e94f2d96d7595e7e5022ba3d6ed304d002");
}

static void test_same_bytes_whatever_the_reads(void **state)
{
        static const size_t steps[] = { 1, 511, 4097, 0 };
        CC_BUF struct cc_buf tar = { 0 };
        struct cc_err err = CC_ERR_INIT;
        char first[65];

        (void)state;
        golden_tar(&tar);
        tar_end(&tar);
        for (size_t i = 0; i < CC_ARRAY_LEN(steps); i++) {
                IMAGE struct erofs_image m = { 0 };
                struct convert_options o = { .step = steps[i] };
                char hex[65];

                assert_ok(convert_tar(&tar, &o, &m, &err));
                sha256(&m, hex);
                if (i)
                        assert_string_equal(hex, first);
                memcpy(first, hex, sizeof(first));
        }
}

static void test_attributes(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        struct erofs_node n;
        const uint8_t *v;

        (void)state;
        golden_tar(&tar);
        convert_good(&tar, &m);
        n = node_at(&m, "etc");
        assert_int_equal(n.mode, S_IFDIR | 0750);
        assert_int_equal(n.uid, 3);
        assert_int_equal(n.gid, 4);
        assert_int_equal(n.mtime, 1700000000);
        n = node_at(&m, "etc/big");
        assert_int_equal(n.mode, S_IFREG | 04755);
        assert_int_equal(n.nlink, 2);
        assert_int_equal(n.nid, node_at(&m, "usr/big").nid);
        assert_content(&m, "etc/link", "../usr/big");
        n = node_at(&m, "dev/tty");
        assert_int_equal(n.rdev, 300 % 256 | 5 << 8 | (300 & ~255) << 12);
        assert_int_equal(node_at(&m, "run/pipe").mode & S_IFMT, S_IFIFO);
        n = node_at(&m, "bin/ping");
        assert_int_equal(n.nsec, 250000000);
        assert_int_equal(erofs_xattr_get(&m, &n, "security.capability", &v), 12);
        assert_memory_equal(v, "\1\0\0\2\0\4\0\0\0\0\0\0", 12);
}

static void test_whiteouts(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };

        (void)state;
        tar_file(&tar, "a/.wh.gone", "");
        tar_file(&tar, "b/.wh..wh..opq", "");
        tar_file(&tar, "c/.wh..wh.plnk", "");
        tar_file(&tar, "c/x", "");
        tar_file(&tar, ".wh.top", "");
        TAR(&tar, .name = "d/zero", .type = '3');
        convert_good(&tar, &m);
        assert_whiteout(&m, "a/gone");
        assert_true(has_origin(&m, "a") && !is_opaque(&m, "a"));
        assert_true(is_opaque(&m, "b") && !has_origin(&m, "b"));
        assert_int_equal(erofs_count(&m, "b"), 0);
        assert_int_equal(erofs_count(&m, "c"), 1);
        assert_whiteout(&m, "top");
        assert_true(has_origin(&m, ""));
        assert_true(has_origin(&m, "d"));
}

static void test_real_entry_wins_over_whiteout(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };

        (void)state;
        tar_file(&tar, ".wh.dir", "");
        tar_file(&tar, "dir/new", "1");
        tar_dir(&tar, "dir2");
        tar_file(&tar, ".wh.dir2", "");
        tar_file(&tar, ".wh.file", "");
        tar_file(&tar, "file", "2");
        tar_file(&tar, "file2", "3");
        tar_file(&tar, ".wh.file2", "");
        tar_file(&tar, ".wh.late", "");
        tar_file(&tar, "late", "");
        tar_dir(&tar, "late");
        convert_good(&tar, &m);
        assert_content(&m, "dir/new", "1");
        assert_true(is_opaque(&m, "dir"));
        assert_true(is_opaque(&m, "dir2"));
        assert_content(&m, "file", "2");
        assert_content(&m, "file2", "3");
        assert_true(is_opaque(&m, "late"));
        assert_false(has_origin(&m, ""));
}

static void test_duplicates(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };

        (void)state;
        tar_file(&tar, "a", "old");
        tar_file(&tar, "./a", "new");
        tar_file(&tar, "b", "file");
        tar_dir(&tar, "b/");
        tar_file(&tar, "c/x/y", "deep");
        tar_file(&tar, "c", "flat");
        tar_file(&tar, "d/kept", "kept");
        TAR(&tar, .name = "d", .type = '5', .mode = 0700, .uid = 9);
        tar_link(&tar, '2', "e", "d");
        tar_dir(&tar, "e");
        convert_good(&tar, &m);
        assert_content(&m, "a", "new");
        assert_int_equal(erofs_count(&m, "b"), 0);
        assert_content(&m, "c", "flat");
        assert_content(&m, "d/kept", "kept");
        assert_int_equal(node_at(&m, "d").mode, S_IFDIR | 0700);
        assert_int_equal(node_at(&m, "d").uid, 9);
        assert_int_equal(erofs_count(&m, "e"), 0);
}

static void test_parents(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };

        (void)state;
        tar_file(&tar, "made/up/file", "1");
        tar_link(&tar, '2', "in", "made");
        tar_file(&tar, "in/two", "2");
        tar_link(&tar, '2', "abs", "/made/up");
        tar_file(&tar, "abs/three", "3");
        tar_link(&tar, '2', "made/out", "../../../../esc");
        tar_file(&tar, "made/out/four", "4");
        tar_file(&tar, "/absolute/./name//x", "5");
        convert_good(&tar, &m);
        assert_int_equal(node_at(&m, "made/up").mode, S_IFDIR | 0755);
        assert_int_equal(node_at(&m, "made/up").mtime, 0);
        assert_content(&m, "made/two", "2");
        assert_content(&m, "made/up/three", "3");
        assert_content(&m, "esc/four", "4");
        assert_content(&m, "absolute/name/x", "5");
        assert_content(&m, "made/out", "../../../../esc");
}

static void test_hardlinks(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };

        (void)state;
        tar_file(&tar, "a/f", "body");
        tar_dir(&tar, "b");
        tar_link(&tar, '1', "b/g", "a/f");
        tar_file(&tar, "a", "now a file");
        tar_link(&tar, '2', "sym", "nowhere");
        tar_link(&tar, '1', "sym2", "sym");
        tar_file(&tar, "self", "s");
        tar_link(&tar, '1', "self", "self");
        convert_good(&tar, &m);
        assert_content(&m, "b/g", "body");
        assert_int_equal(node_at(&m, "b/g").nlink, 1);
        assert_content(&m, "sym2", "nowhere");
        assert_int_equal(node_at(&m, "sym").nlink, 2);
        assert_content(&m, "self", "s");
}

static void test_names(void **state)
{
        static const char bytes[] = "\x01 \xff\xfe'\"\\\n\x7f";
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        char name[256];
        char path[512];

        (void)state;
        memset(name, 'n', 255);
        name[255] = '\0';
        name[9] = '\xe9';
        tar_file(&tar, bytes, "ustar");
        (void)snprintf(path, sizeof(path), "gnu/%s", name);
        tar_long(&tar, 'L', path);
        tar_file(&tar, "short", "gnu");
        tar_pax1(&tar, "path", "pax/caf\xc3\xa9-\xff-\xe9");
        tar_file(&tar, "short", "pax");
        tar_file(&tar, "order/-", "");
        tar_file(&tar, "order/!", "");
        tar_file(&tar, "order/..a", "");
        tar_file(&tar, "order/.a", "");
        tar_file(&tar, "order/a", "");
        tar_file(&tar, "order/\xff", "");
        convert_good(&tar, &m);
        assert_content(&m, bytes, "ustar");
        assert_content(&m, path, "gnu");
        assert_content(&m, "pax/caf\xc3\xa9-\xff-\xe9", "pax");
        assert_int_equal(erofs_count(&m, "order"), 6);
        assert_true(absent(&m, "short"));
}

static void test_links_of_any_length(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        char text[4096];
        char name[32];

        (void)state;
        for (size_t n = 1; n < sizeof(text); n += n < 4000 ? 37 : 1) {
                memset(text, 'a' + (int)(n % 26), n);
                text[n] = '\0';
                (void)snprintf(name, sizeof(name), "l%zu", n);
                tar_long(&tar, 'K', text);
                tar_link(&tar, '2', name, "x");
        }
        convert_good(&tar, &m);
        for (size_t n = 1; n < sizeof(text); n += n < 4000 ? 37 : 1) {
                memset(text, 'a' + (int)(n % 26), n);
                text[n] = '\0';
                (void)snprintf(name, sizeof(name), "l%zu", n);
                assert_content(&m, name, text);
        }
}

static void test_file_sizes(void **state)
{
        static const size_t sizes[] = { 0,    1,    63,   4031, 4032, 4033,
                                        4095, 4096, 4097, 8191, 8192, 12288 };
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        char data[12289];
        char name[32];

        (void)state;
        memset(data, 'z', sizeof(data));
        for (size_t i = 0; i < CC_ARRAY_LEN(sizes); i++) {
                (void)snprintf(name, sizeof(name), "f%zu", sizes[i]);
                TAR(&tar, .name = name, .data = data, .size = sizes[i]);
        }
        convert_good(&tar, &m);
        for (size_t i = 0; i < CC_ARRAY_LEN(sizes); i++) {
                struct erofs_node n;
                CC_FREE uint8_t *bytes = NULL;

                (void)snprintf(name, sizeof(name), "f%zu", sizes[i]);
                n = node_at(&m, name);
                assert_int_equal(n.size, sizes[i]);
                assert_true(erofs_content(&m, &n, &bytes));
                assert_memory_equal(bytes, data, sizes[i]);
        }
}

static void test_devices_and_times(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        struct erofs_node n;

        (void)state;
        TAR(&tar, .name = "big", .type = '4', .major = 4095, .minor = 1048575);
        tar_pax1(&tar, "mtime", "-86400");
        tar_file(&tar, "past", "");
        tar_pax1(&tar, "mtime", "1.999999999");
        tar_file(&tar, "fine", "");
        TAR(&tar, .name = "future", .raw_mtime = "\x80\0\0\0\0\0\0\x10\0\0\0\0");
        convert_good(&tar, &m);
        n = node_at(&m, "big");
        assert_int_equal(n.rdev, (1048575 & 0xff) | 4095 << 8 | (uint32_t)(1048575 & ~0xff) << 12);
        assert_int_equal(node_at(&m, "past").mtime, -86400);
        assert_int_equal(node_at(&m, "fine").mtime, 1);
        assert_int_equal(node_at(&m, "fine").nsec, 999999999);
        assert_int_equal(node_at(&m, "future").mtime, 0x1000000000);
}

static void test_xattrs(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf pax = { 0 };
        IMAGE struct erofs_image m = { 0 };
        struct erofs_node n;
        const uint8_t *v;

        (void)state;
        pax_add(&pax, "SCHILY.xattr.user.one", "1", 1);
        pax_add(&pax, "SCHILY.xattr.user.two", "", 0);
        pax_add(&pax, "SCHILY.xattr.trusted.overlay.opaque", "y", 1);
        pax_add(&pax, "SCHILY.xattr.trusted.overlay.redirect", "/etc", 4);
        pax_add(&pax, "SCHILY.xattr.trusted.mine", "t", 1);
        pax_add(&pax, "SCHILY.xattr.system.nfs4_acl", "x", 1);
        pax_add(&pax, "LIBARCHIVE.xattr.user.enc", "aGVsbG8=", 8);
        tar_pax(&tar, &pax);
        tar_dir(&tar, "d");
        convert_good(&tar, &m);
        n = node_at(&m, "d");
        assert_int_equal(erofs_xattr_get(&m, &n, "user.one", &v), 1);
        assert_int_equal(erofs_xattr_get(&m, &n, "user.enc", &v), 5);
        assert_memory_equal(v, "hello", 5);
        assert_int_equal(erofs_xattr_get(&m, &n, "trusted.mine", &v), 1);
        assert_int_equal(erofs_xattr_get(&m, &n, "trusted.overlay.opaque", &v), -1);
        assert_int_equal(erofs_xattr_get(&m, &n, "trusted.overlay.redirect", &v), -1);
        assert_int_equal(erofs_xattr_get(&m, &n, "system.nfs4_acl", &v), -1);
}

static void test_acl(void **state)
{
        static const uint8_t value[] = {
                2,  0, 0, 0, 1,    0,    6,    0,    0xff, 0xff, 0xff, 0xff, /* user:: */
                2,  0, 7, 0, 0xe8, 3,    0,    0,                            /* user:1000 */
                4,  0, 4, 0, 0xff, 0xff, 0xff, 0xff,                         /* group:: */
                16, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, 32,   0,    4,    0,    0xff, 0xff, 0xff, 0xff
        };
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        struct erofs_node n;
        const uint8_t *v;

        (void)state;
        tar_pax1(&tar, "SCHILY.acl.access",
                 "user::rw-,user:joe:rwx:1000,group::r--,mask::r-x,other::r--");
        TAR(&tar, .name = "f", .mode = 0654);
        convert_good(&tar, &m);
        n = node_at(&m, "f");
        assert_int_equal(erofs_xattr_get(&m, &n, "system.posix_acl_access", &v), sizeof(value));
        assert_memory_equal(v, value, sizeof(value));
        assert_int_equal(n.mode, S_IFREG | 0654);
}

static void test_sparse(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        CC_BUF struct cc_buf pax = { 0 };
        IMAGE struct erofs_image m = { 0 };
        struct erofs_node n;
        CC_FREE uint8_t *bytes = NULL;
        char body[1024] = "1\n8192\n4\n";

        (void)state;
        memcpy(body + 512, "data", 4);
        pax_add(&pax, "GNU.sparse.major", "1", 1);
        pax_add(&pax, "GNU.sparse.minor", "0", 1);
        pax_add(&pax, "GNU.sparse.name", "pax", 3);
        pax_add(&pax, "GNU.sparse.realsize", "20000", 5);
        tar_pax(&tar, &pax);
        TAR(&tar, .name = "GNUSparseFile.0/pax", .data = body, .size = 516);
        /* Five GiB of nothing. */
        pax_add(&pax, "GNU.sparse.major", "1", 1);
        pax_add(&pax, "GNU.sparse.minor", "0", 1);
        pax_add(&pax, "GNU.sparse.name", "huge", 4);
        pax_add(&pax, "GNU.sparse.realsize", "5368709121", 10);
        tar_pax(&tar, &pax);
        memcpy(body, "1\n5368709120\n1\n", 16);
        TAR(&tar, .name = "GNUSparseFile.0/huge", .data = body, .size = 513);
        convert_good(&tar, &m);
        n = node_at(&m, "pax");
        assert_int_equal(n.size, 20000);
        assert_true(erofs_content(&m, &n, &bytes));
        assert_memory_equal(bytes + 8192, "data", 5);
        for (size_t i = 0; i < 20000; i++)
                if (i < 8192 || i >= 8196)
                        assert_int_equal(bytes[i], 0);
        n = node_at(&m, "huge");
        assert_int_equal(n.size, 5368709121);
        assert_int_equal(m.bytes[n.at + 64], 'd');
}

static void test_large_directory(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };
        struct erofs_node n;
        char name[64];

        (void)state;
        for (unsigned i = 0; i < 100000; i++) {
                (void)snprintf(name, sizeof(name), "d/%08x", i * 2654435761u);
                tar_file(&tar, name, "");
        }
        convert_good(&tar, &m);
        assert_int_equal(erofs_count(&m, "d"), 100000);
        assert_true(erofs_find(&m, "d/9e3779b1", &n));
}

static void test_empty_layers(void **state)
{
        CC_BUF struct cc_buf tar = { 0 };
        IMAGE struct erofs_image m = { 0 };

        (void)state;
        convert_good(&tar, &m);
        assert_int_equal(erofs_count(&m, ""), 0);
        assert_int_equal(node_at(&m, "").mode, S_IFDIR | 0755);
}

/* fsck.erofs reads 12 bytes behind every inode, attributes or not. */
static void test_room_behind_the_last_inode(void **state)
{
        char name[16];

        (void)state;
        for (int files = 50; files < 80; files++) {
                CC_BUF struct cc_buf tar = { 0 };
                IMAGE struct erofs_image m = { 0 };

                for (int i = 0; i < files; i++) {
                        (void)snprintf(name, sizeof(name), "f%d", i);
                        tar_file(&tar, name, "");
                }
                convert_good(&tar, &m);
                (void)snprintf(name, sizeof(name), "f%d", files - 1);
                assert_true(node_at(&m, name).at + 64 + 12 <= m.len);
        }
}

static void test_uuid(void **state)
{
        static const uint8_t expected[16] = { 0x0a, 0x30, 0x0e, 0xe9, 0xf9, 0xe4, 0x56, 0x97,
                                              0xa5, 0x1a, 0xef, 0xc7, 0xfa, 0xfa, 0xba, 0x67 };
        uint8_t uuid[16];

        (void)state;
        /* Another implementation's answer for the URL namespace. */
        erofs_uuid("http://example.com/", uuid);
        assert_memory_equal(uuid, expected, sizeof(uuid));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_golden),
                cmocka_unit_test(test_same_bytes_whatever_the_reads),
                cmocka_unit_test(test_attributes),
                cmocka_unit_test(test_whiteouts),
                cmocka_unit_test(test_real_entry_wins_over_whiteout),
                cmocka_unit_test(test_duplicates),
                cmocka_unit_test(test_parents),
                cmocka_unit_test(test_hardlinks),
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_links_of_any_length),
                cmocka_unit_test(test_file_sizes),
                cmocka_unit_test(test_devices_and_times),
                cmocka_unit_test(test_xattrs),
                cmocka_unit_test(test_acl),
                cmocka_unit_test(test_sparse),
                cmocka_unit_test(test_large_directory),
                cmocka_unit_test(test_empty_layers),
                cmocka_unit_test(test_room_behind_the_last_inode),
                cmocka_unit_test(test_uuid),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
