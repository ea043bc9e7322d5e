/* Completion from the rows; candidates from the store are tested end to end. */
#include "cli/complete.h"

#include <string.h>

#include "unit.h"

static char *complete(const char *const *words)
{
        struct cc_buf out = { 0 };
        size_t n = 0;

        while (words[n])
                n++;
        complete_words((char *const *)words, n, &out);
        return cc_buf_take(&out);
}

static void test_words(void **state)
{
        static const struct {
                const char *words[6];
                const char *want; /* the whole answer, descriptions cut off */
        } table[] = {
                { { "vm", "sta" }, "start\nstatus\n:4\n" },
                { { "v" }, "vm\nversion\n:4\n" },
                { { "vm", "run", "--me" }, "--memory\n--mergeable\n:4\n" },
                { { "vm", "run", "--pull", "" }, "missing\nalways\nnever\n:4\n" },
                { { "vm", "run", "--pull=m" }, "--pull=missing\n:4\n" },
                { { "vm", "list", "-o", "json" }, "json\njsonl\n:4\n" },
                { { "completion", "" }, "bash\nzsh\nfish\n:4\n" },
                { { "completion", "bash", "" }, ":4\n" },
                { { "--config", "" }, ":0\n" },
                { { "vm", "list", "--root-dir", "" }, ":16\n" },
                { { "image", "import", "x", "" }, ":0\n" },
                { { "nonsense", "--what", "vm", "sto" }, "stop\n:4\n" },
                { { "vm", "run", "--", "--me" }, ":4\n" },
                { { "__comp" }, ":4\n" },
                { { "vm", "run", "--cpu-w" }, ":4\n" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(table); i++) {
                CC_FREE char *got = complete(table[i].words);
                CC_BUF struct cc_buf bare = { 0 };

                for (const char *p = got; *p; p += strcspn(p, "\n") + 1) {
                        cc_buf_add(&bare, p, strcspn(p, "\t\n"));
                        cc_buf_char(&bare, '\n');
                }
                assert_string_equal(bare.data, table[i].want);
        }
}

/* No store is made by asking for what is in it. */
static void test_makes_nothing(void **state)
{
        CC_FREE char *root = xasprintf("%s/root", (const char *)*state);
        CC_FREE char *got =
                complete((const char *const[]){ "vm", "start", "--root-dir", root, "", NULL });

        assert_string_equal(got, ":4\n");
        assert_false(cc_exists(root));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_words),
                scratch_test(test_makes_nothing),
        };

        /* The host may have a store of its own. */
        setenv("COCOON_ROOT_DIR", "/nonexistent/cocoon", 1);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
