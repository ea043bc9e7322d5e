/* The option engine: grammar, conversions, and the text of every error (cli.md §1). */
#include "cli/opt.h"

#include <string.h>

#include "unit.h"

struct values {
        bool force, quiet;
        int64_t cpu, memory, wait;
        const char *name, *mode;
        struct cc_strv labels;
        int64_t late;
};

static const char *const modes[] = { "copy", "ondemand", "mmap", NULL };

static const struct opt rows[] = {
        { "force", 'f', OPT_BOOL, offsetof(struct values, force) },
        { "quiet", 'q', OPT_BOOL, offsetof(struct values, quiet) },
        { "cpu", 0, OPT_INT, offsetof(struct values, cpu), "2" },
        { "wait", 'w', OPT_DURATION, offsetof(struct values, wait), "1s" },
        { "memory", 0, OPT_SIZE, offsetof(struct values, memory), "1G" },
        { "name", 'n', OPT_STRING, offsetof(struct values, name) },
        { "mode", 0, OPT_ENUM, offsetof(struct values, mode), .values = modes },
        { "label", 'l', OPT_STRINGS, offsetof(struct values, labels) },
        { "later", 0, OPT_INT, offsetof(struct values, late), .refuse = OPT_LATER },
        { 0 },
};
static const struct opt_group groups[] = { { rows, 0, NULL }, { 0 } };

static const struct opt need_rows[] = {
        { "tag", 0, OPT_STRING, offsetof(struct values, name), .flags = OPT_REQUIRED },
        { "nics", 0, OPT_INT, offsetof(struct values, cpu), .flags = OPT_REQUIRED },
        { 0 },
};
static const struct opt_group need_groups[] = { { need_rows, 0, NULL }, { 0 } };

struct fixture {
        struct values v;
        struct opt_set set;
};

static int parse(struct fixture *f, struct cc_err *err, const char *const *argv)
{
        size_t argc = 0;

        memset(f, 0, sizeof(*f));
        opt_set_init(&f->set, groups, &f->v);
        while (argv[argc])
                argc++;
        for (size_t i = 0; i < argc;) {
                int r = opt_parse(&f->set, 1, (char *const *)argv, argc, &i, err);

                if (r < 0)
                        return r;
        }
        return opt_finish(&f->set, err);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void test_defaults(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        struct fixture f;

        assert_ok(parse(&f, &err, (const char *const[]){ NULL }));
        assert_int_equal(f.v.cpu, 2);
        assert_int_equal(f.v.memory, INT64_C(1) << 30);
        assert_int_equal(f.v.wait, INT64_C(1000000000));
        assert_string_equal(f.v.name, "");
        assert_string_equal(f.v.mode, "");
        assert_false(opt_given(&f.set, "cpu"));
        opt_set_clear(&f.set);
}

static void test_forms(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        struct fixture f;

        assert_ok(parse(&f, &err,
                        WORDS("--cpu=0x10", "--name", "--odd", "--label", "a=1,b", "-lc", "-fq",
                              "--memory", "512M", "--wait=1h30m", "--mode", "mmap")));
        assert_int_equal(f.v.cpu, 16);
        assert_string_equal(f.v.name, "--odd");
        assert_int_equal(f.v.labels.len, 2);
        assert_string_equal(f.v.labels.v[0], "a=1,b");
        assert_string_equal(f.v.labels.v[1], "c");
        assert_true(f.v.force && f.v.quiet);
        assert_int_equal(f.v.memory, INT64_C(512) << 20);
        assert_int_equal(f.v.wait, INT64_C(5400) * 1000000000);
        assert_string_equal(f.v.mode, "mmap");
        assert_true(opt_given(&f.set, "cpu"));
        opt_set_clear(&f.set);

        assert_ok(parse(&f, &err, WORDS("-fnweb", "--cpu", "0o17", "--cpu", "0b101")));
        assert_string_equal(f.v.name, "web");
        assert_int_equal(f.v.cpu, 5); /* the last one wins */
        opt_set_clear(&f.set);

        assert_ok(parse(&f, &err, WORDS("-n=web", "-f=false", "--quiet=T", "--name=")));
        assert_string_equal(f.v.name, "");
        assert_false(f.v.force);
        assert_true(f.v.quiet);
        opt_set_clear(&f.set);
}

static void test_booleans(void **state)
{
        static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
        static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };
        struct cc_err err = CC_ERR_INIT;
        struct fixture f;

        for (size_t i = 0; i < 6; i++) {
                CC_FREE char *on = xasprintf("--force=%s", yes[i]);
                CC_FREE char *off = xasprintf("--force=%s", no[i]);

                assert_ok(parse(&f, &err, WORDS(on)));
                assert_true(f.v.force);
                opt_set_clear(&f.set);
                assert_ok(parse(&f, &err, WORDS("-f", off)));
                assert_false(f.v.force);
                opt_set_clear(&f.set);
        }
}

static void test_errors(void **state)
{
        static const struct {
                const char *words[4];
                const char *message;
                const char *hint;
        } table[] = {
                { { "--cpux" }, "unknown flag: --cpux", "did you mean --cpu?" },
                { { "--zzz=1" }, "unknown flag: --zzz", "" },
                { { "-x" }, "unknown shorthand flag: 'x' in -x", "" },
                { { "-fx" }, "unknown shorthand flag: 'x' in -fx", "" },
                { { "--name" }, "flag needs an argument: --name", "" },
                { { "-fn" }, "flag needs an argument: 'n' in -fn", "" },
                { { "--cpu", "abc" },
                  "invalid argument \"abc\" for \"--cpu\" flag: not an integer",
                  "" },
                { { "--cpu=99999999999999999999" },
                  "invalid argument \"99999999999999999999\" for \"--cpu\" flag: not an integer",
                  "" },
                { { "--cpu=" }, "invalid argument \"\" for \"--cpu\" flag: not an integer", "" },
                { { "--force=yes" },
                  "invalid argument \"yes\" for \"-f, --force\" flag: not a boolean",
                  "" },
                { { "-w", "3d" },
                  "invalid argument \"3d\" for \"-w, --wait\" flag: not a duration (numbers with "
                  "ns, us, ms, s, m or h: 1h30m)",
                  "" },
                { { "--memory", "x" }, "invalid --memory \"x\": invalid size: 'x'", "" },
                { { "--memory=" }, "invalid --memory \"\": invalid size: ''", "" },
                { { "--mode", "mmpa" },
                  "--mode \"mmpa\" is invalid: want \"copy\", \"ondemand\" or \"mmap\"",
                  "did you mean mmap?" },
                { { "--later", "0" }, "--later is not supported yet by this version", "" },
                { { "--=x" }, "bad flag syntax: --=x", "" },
                { { "---x" }, "bad flag syntax: ---x", "" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(table); i++) {
                struct cc_err err = CC_ERR_INIT;
                struct fixture f;

                assert_true(parse(&f, &err, table[i].words) < 0);
                assert_string_equal(err.msg, table[i].message);
                assert_string_equal(err.hint, table[i].hint);
                opt_set_clear(&f.set);
        }
}

static void test_required(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        struct values v = { 0 };
        struct opt_set set;
        char *argv[] = { (char *)"--tag=x" };
        size_t i = 0;

        opt_set_init(&set, need_groups, &v);
        assert_int_equal(opt_check_required(&set, &err), -CC_USAGE);
        assert_string_equal(err.msg, "required flag(s) \"tag\", \"nics\" not set");
        assert_ok(opt_parse(&set, 1, argv, 1, &i, &err));
        assert_int_equal(opt_check_required(&set, &err), -CC_USAGE);
        assert_string_equal(err.msg, "required flag(s) \"nics\" not set");
        opt_set_clear(&set);
}

static void test_exclusive(void **state)
{
        static const struct opt_exclusive list[] = {
                { "force", "quiet", NULL },
                { "name", "cpu", "a reason" },
                { 0 },
        };
        struct cc_err err = CC_ERR_INIT;
        struct fixture f;

        assert_ok(parse(&f, &err, WORDS("-f", "--quiet=false", "--name=", "--cpu=1")));
        assert_ok(opt_check_exclusive(&f.set, list, &err));
        opt_set_clear(&f.set);
        assert_ok(parse(&f, &err, WORDS("-fq")));
        assert_int_equal(opt_check_exclusive(&f.set, list, &err), -CC_USAGE);
        assert_string_equal(err.msg, "--force and --quiet are mutually exclusive");
        opt_set_clear(&f.set);
        assert_ok(parse(&f, &err, WORDS("--name=x", "--cpu=1")));
        assert_int_equal(opt_check_exclusive(&f.set, list, &err), -CC_USAGE);
        assert_string_equal(err.msg, "--name and --cpu are mutually exclusive: a reason");
        opt_set_clear(&f.set);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults), cmocka_unit_test(test_forms),
                cmocka_unit_test(test_booleans), cmocka_unit_test(test_errors),
                cmocka_unit_test(test_required), cmocka_unit_test(test_exclusive),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
