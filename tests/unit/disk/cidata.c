/* The cloud-init seed: golden texts, hostile values, and the volume as another reader sees it. */
#include "unit.h"

#include <string.h>
#include <sys/stat.h>

#include "base/proc.h"
#include "base/str.h"
#include "disk/cidata.h"
#include "disk/fat12.h"

static const struct cidata_nic nics[] = {
        { .mac = "02:00:00:00:00:01", .ip = "10.88.0.2", .gateway = "10.88.0.1", .prefix = 24 },
        { .mac = "02:00:00:00:00:02", .ip = "192.0.2.7", .gateway = "169.254.1.1", .prefix = 32 },
        { .mac = "02:00:00:00:00:03" },
};
static const struct cidata_mount mounts[] = { { "data1", "/mnt/data1" }, { "db", "/srv/db" } };
static char *dns_v[] = { (char *)"192.0.2.53", (char *)"2001:db8::53" };
static const struct cc_strv dns = { .v = dns_v, .len = 2 };

static const struct cidata full = {
        .instance_id = "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        .hostname = "web-1.example",
        .user = "alice",
        .password = "it's: #\xc3\xa4 %s - [x]",
        .dns = &dns,
        .nics = nics,
        .n_nics = 3,
        .mounts = mounts,
        .n_mounts = 2,
};
static const struct cidata bare = { .instance_id = "ID", .hostname = "h", .user = "root" };

/* Golden files: COCOON_GOLDEN_WRITE=1 writes them anew, for review. */
static void assert_golden(const char *name, const char *text)
{
        CC_FREE char *path =
                xasprintf("%s/tests/unit/disk/golden/%s", getenv("COCOON_SOURCE_ROOT"), name);
        CC_FREE char *want = NULL;
        struct cc_err err = CC_ERR_INIT;
        size_t n;

        if (getenv("COCOON_GOLDEN_WRITE"))
                assert_ok(cc_publish(path, text, strlen(text), 0644, &err));
        assert_ok(cc_read_file(path, 1 << 20, &want, &n, &err));
        assert_string_equal(text, want);
}

static void test_golden(void **state)
{
        CC_FREE char *meta = cidata_meta_data(&full);
        CC_FREE char *user = cidata_user_data(&full);
        CC_FREE char *network = cidata_network_config(&full);
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        if (!getenv("COCOON_SOURCE_ROOT"))
                skip_because("run by meson test, which tells where the golden files are");
        assert_ok(cidata_check(&full, &err));
        assert_golden("meta-data", meta);
        assert_golden("user-data", user);
        assert_golden("network-config", network);
}

static void test_little(void **state)
{
        CC_FREE char *meta = cidata_meta_data(&bare);
        CC_FREE char *user = cidata_user_data(&bare);

        (void)state;
        assert_string_equal(meta, "instance-id: 'ID'\nlocal-hostname: 'h'\n");
        assert_string_equal(user, "#cloud-config\n");
        assert_null(cidata_network_config(&bare));
}

static void test_root(void **state)
{
        struct cidata c = bare;
        CC_FREE char *user = NULL;
        CC_FREE char *same = NULL;

        (void)state;
        c.password = "cocoon";
        user = cidata_user_data(&c);
        assert_string_equal(user, "#cloud-config\ndisable_root: false\nssh_pwauth: true\n"
                                  "chpasswd:\n  expire: false\n  list: ['root:cocoon']\n");
        c.user = "";
        same = cidata_user_data(&c);
        assert_string_equal(user, same);
}

static void assert_refused(const struct cidata *c, const char *text)
{
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(cidata_check(c, &err), -CC_INVALID);
        if (!strstr(err.msg, text))
                fail_msg("\"%s\" is not in: %s", text, err.msg);
        /* Whose value it is, never the value. */
        if (c->password && strlen(c->password) > 3)
                assert_null(strstr(err.msg, c->password));
}

static void test_hostile_values(void **state)
{
        static const char *const texts[] = {
                "a\nb",     "a\rb",          "a\tb", "a\x7f",         "a\x1b[0m",
                "\xc2\x85", "\xe2\x80\xa8x", "\xff", "x\xef\xbb\xbf", "\xed\xa0\x80",
        };
        static const char *const users[] = { "Root", "a b", "a:b", "-x", "a\n", "../x" };
        static const char *const macs[] = { "", "02:00:00:00:00:0g", "02-00-00-00-00-01",
                                            "02:00:00:00:00:01\n", "02:00:00:00:00:011" };
        static const char *const paths[] = { "relative", "/a b", "/a\tb", "/a\\040b",
                                             "/a#b",     "/a\n", "/a'b" };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(texts); i++) {
                struct cidata c = bare;

                c.hostname = texts[i];
                assert_refused(&c, "host name");
                c.hostname = "h";
                c.instance_id = texts[i];
                assert_refused(&c, "instance ID");
                c.instance_id = "i";
                c.password = texts[i];
                assert_refused(&c, "password");
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(users); i++) {
                struct cidata c = bare;

                c.user = users[i];
                assert_refused(&c, "user");
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(macs); i++) {
                const struct cidata_nic nic = { .mac = macs[i] };
                struct cidata c = bare;

                c.nics = &nic;
                c.n_nics = 1;
                assert_refused(&c, "MAC");
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(paths); i++) {
                const struct cidata_mount m = { "data1", paths[i] };
                struct cidata c = bare;

                c.mounts = &m;
                c.n_mounts = 1;
                assert_refused(&c, "mount point");
        }
}

static void test_hostile_network(void **state)
{
        static const struct cidata_nic rows[] = {
                { .mac = "02:00:00:00:00:01", .ip = "10.0.0.1\n", .prefix = 24 },
                { .mac = "02:00:00:00:00:01", .ip = "10.0.0.256", .prefix = 24 },
                { .mac = "02:00:00:00:00:01", .ip = "10.0.0.1", .prefix = 33 },
                { .mac = "02:00:00:00:00:01", .ip = "10.0.0.1", .prefix = -1 },
                { .mac = "02:00:00:00:00:01", .ip = "10.0.0.1", .gateway = "x", .prefix = 8 },
        };
        char *bad_v[] = { (char *)"1.1.1.1'", NULL };
        const struct cc_strv bad = { .v = bad_v, .len = 1 };
        const struct cidata_mount disk = { "../x", "/mnt" };
        struct cidata c = bare;

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                c.nics = &rows[i];
                c.n_nics = 1;
                assert_refused(&c, "NIC");
        }
        c = bare;
        c.dns = &bad;
        assert_refused(&c, "DNS");
        c = bare;
        c.mounts = &disk;
        c.n_mounts = 1;
        assert_refused(&c, "data disk");
        c = bare;
        c.password = "RANDOM";
        assert_refused(&c, "random");
}

static void test_gateways(void **state)
{
        /* /0 must not shift by the width of the type. */
        static const struct cidata_nic wide = {
                .mac = "02:00:00:00:00:01", .ip = "10.0.0.1", .gateway = "192.0.2.1", .prefix = 0
        };
        struct cidata c = bare;
        CC_FREE char *text = NULL;

        (void)state;
        c.nics = &wide;
        c.n_nics = 1;
        text = cidata_network_config(&c);
        assert_null(strstr(text, "on-link"));
        assert_null(strstr(text, "metric"));
}

/* ---- the volume ---- */

static void test_volume_file(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "cidata.img");
        CC_FREE char *one = NULL;
        CC_FREE char *two = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct cidata bad = full;
        struct stat st;
        size_t n;

        assert_ok(cidata_write(&full, path, &err));
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 1048576);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_ok(cc_read_file(path, 1 << 21, &one, &n, &err));
        assert_ok(cidata_write(&full, path, &err));
        assert_ok(cc_read_file(path, 1 << 21, &two, &n, &err));
        assert_memory_equal(one, two, 1048576);
        bad.hostname = "a\nb";
        assert_int_equal(cidata_write(&bad, path, &err), -CC_INVALID);
}

static void test_geometry(void **state)
{
        static const uint8_t fat[] = { 0xf8, 0xff, 0xff, 0x03, 0xf0, 0xff };
        CC_FREE uint8_t *image = xmalloc(FAT12_IMAGE_SIZE);
        CC_FREE char *data = xcalloc(1, 600);
        struct fat12_file file = { "meta-data", data, 600 };
        const uint8_t *root = image + 13 * 512;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        memset(data, 'x', 600);
        assert_ok(fat12_write(&file, 1, "CIDATA", 0x12345678, image, &err));
        assert_memory_equal(image + 11, "\x00\x02\x01\x01\x00\x02\x80\x00\x00\x08\xf8\x06\x00", 13);
        assert_memory_equal(image + 38,
                            "\x29\x78\x56\x34\x12"
                            "CIDATA     FAT12   ",
                            24);
        assert_memory_equal(image + 510, "\x55\xaa", 2);
        assert_memory_equal(image + 512, fat, sizeof(fat));
        assert_memory_equal(image + 7 * 512, fat, sizeof(fat));
        assert_memory_equal(root, "CIDATA     \x08", 12);
        assert_memory_equal(root + 32, "\x41m\0e\0t\0a\0-\0\x0f\0", 13);
        assert_memory_equal(root + 64, "META-D~1   \x20", 12);
        assert_memory_equal(root + 64 + 26, "\x02\x00\x58\x02\x00\x00", 6);
        assert_memory_equal(image + 21 * 512, data, 600);
        assert_int_equal(image[21 * 512 + 600], 0);
}

static void test_volume_limits(void **state)
{
        static const char *const names[] = { "", "a/b", "a b", "..\\x", "\xc3\xa4", "a\n" };
        CC_FREE uint8_t *image = xmalloc(FAT12_IMAGE_SIZE);
        CC_FREE char *data = xcalloc(1, 2028 * 512);
        struct fat12_file file = { "f", data, 2027 * 512 };
        struct fat12_file many[3] = { { "longname-a", "1", 1 },
                                      { "longname-b", "2", 1 },
                                      { "longname-c", "3", 1 } };
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_ok(fat12_write(&file, 1, "X", 0, image, &err));
        file.len++;
        assert_int_equal(fat12_write(&file, 1, "X", 0, image, &err), -CC_INVALID);
        file.len = 1;
        assert_int_equal(fat12_write(&file, 1, "TWELVE-CHARS", 0, image, &err), -CC_INVALID);
        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                file.name = names[i];
                assert_int_equal(fat12_write(&file, 1, "X", 0, image, &err), -CC_INVALID);
        }
        assert_ok(fat12_write(many, 3, "X", 0, image, &err));
        assert_memory_equal(image + 13 * 512 + 64, "LONGNA~1", 8);
        assert_memory_equal(image + 13 * 512 + 128, "LONGNA~2", 8);
        assert_memory_equal(image + 13 * 512 + 192, "LONGNA~3", 8);
}

/* mtools is somebody else's reading of FAT. */
static void test_mtools(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "cidata.img");
        char *(*const texts[])(const struct cidata *) = { cidata_meta_data, cidata_user_data,
                                                          cidata_network_config };
        const char *const files[] = { "::/meta-data", "::/user-data", "::/network-config" };
        struct cc_err err = CC_ERR_INIT;
        char *mtype = cc_find_program("mtype");
        bool missing = !mtype;

        free(mtype);
        if (missing)
                skip_because("needs mtools");
        assert_ok(cidata_write(&full, path, &err));
        for (size_t i = 0; i < 3; i++) {
                const char *const argv[] = { "mtype", "-i", path, files[i], NULL };
                CC_FREE char *want = texts[i](&full);
                CC_FREE char *out = NULL;

                assert_ok(cc_run_ok(argv, 10000, &out, &err));
                assert_string_equal(out, want);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_golden),
                cmocka_unit_test(test_little),
                cmocka_unit_test(test_root),
                cmocka_unit_test(test_hostile_values),
                cmocka_unit_test(test_hostile_network),
                cmocka_unit_test(test_gateways),
                scratch_test(test_volume_file),
                cmocka_unit_test(test_geometry),
                cmocka_unit_test(test_volume_limits),
                scratch_test(test_mtools),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
