/* The --data-disk language. */
#include "cli/data_disk.h"

#include "unit.h"

static int parse(const char *const *specs, struct data_disks *ret, struct cc_err *err)
{
        CC_STRV struct cc_strv all = { 0 };

        for (; *specs; specs++)
                cc_strv_add(&all, *specs);
        return data_disks_parse(&all, ret, err);
}

#define SPECS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_good(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        DATA_DISKS struct data_disks d = { 0 };

        assert_ok(parse(SPECS("size=16M", " name = data1 , size = 1G , mount = /srv ",
                              "size=20M,fstype=none", "size=1.5G,mount=,directio=off",
                              "size=16M,directio=on"),
                        &d, &err));
        assert_int_equal(d.n, 5);
        /* data1 is in use by the second, so the unnamed ones start at data2. */
        assert_string_equal(d.v[0].name, "data2");
        assert_string_equal(d.v[0].mount, "/mnt/data2");
        assert_string_equal(d.v[0].fstype, "ext4");
        assert_int_equal(d.v[0].size, 16 << 20);
        assert_int_equal(d.v[0].direct_io, -1);
        assert_string_equal(d.v[1].name, "data1");
        assert_string_equal(d.v[1].mount, "/srv");
        assert_string_equal(d.v[2].name, "data3");
        assert_string_equal(d.v[2].mount, "");
        assert_string_equal(d.v[3].mount, "");
        assert_int_equal(d.v[3].direct_io, 0);
        assert_int_equal(d.v[4].direct_io, 1);
}

static void test_none(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        DATA_DISKS struct data_disks d = { 0 };

        assert_ok(parse((const char *const[]){ NULL }, &d, &err));
        assert_int_equal(d.n, 0);
}

static void test_errors(void **state)
{
        static const struct {
                const char *specs[3];
                const char *message;
        } table[] = {
                { { "" }, "--data-disk: \"\" is not key=value" },
                { { "x" }, "--data-disk: \"x\" is not key=value" },
                { { "size=1G," }, "--data-disk: \"\" is not key=value" },
                { { "size=1G, x " }, "--data-disk: \"x\" is not key=value" },
                { { "x=1" }, "--data-disk: unknown key \"x\"" },
                { { "name=a" }, "--data-disk: size= required" },
                { { "size=8M" }, "--data-disk: size 8M below 16MiB minimum" },
                { { "size=x" }, "--data-disk: invalid size: 'x'" },
                { { "size=" }, "--data-disk: invalid size: ''" },
                { { "size=1G,size=2G" }, "--data-disk: size= given twice" },
                { { "size=1G,fstype=xfs" }, "--data-disk: unsupported fstype \"xfs\"" },
                { { "size=1G,fstype=none,mount=/x" },
                  "--data-disk: fstype=none requires an empty mount, got \"/x\"" },
                { { "size=1G,mount=srv" }, "--data-disk: mount \"srv\" must be absolute" },
                { { "size=1G,mount=/a\nb" }, "--data-disk: mount contains a control character" },
                { { "size=1G,directio=maybe" },
                  "--data-disk: directio \"maybe\" is invalid: want \"on\", \"off\" or \"auto\"" },
                { { "size=1G,name=a", "size=1G,name=a" }, "--data-disk: name \"a\" duplicated" },
                { { "size=1G,name=cocoon-x" },
                  "--data-disk: invalid name \"cocoon-x\": want a lower-case letter, then at most "
                  "19 of a-z 0-9 _ -, without the prefix cocoon-" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(table); i++) {
                struct cc_err err = CC_ERR_INIT;
                DATA_DISKS struct data_disks d = { 0 };

                assert_int_equal(parse(table[i].specs, &d, &err), -CC_USAGE);
                assert_string_equal(err.msg, table[i].message);
                assert_int_equal(d.n, 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_good),
                cmocka_unit_test(test_none),
                cmocka_unit_test(test_errors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
