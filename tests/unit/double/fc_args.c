/* Firecracker's command line: what it prints, and with which status it ends. Holds for the real one
 * too (COCOON_FC). */
#include "unit.h"

#include <ctype.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "fc_process.h"

enum { ABORTED = 128 + 6 };

#define LONG_ID  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DEEP_DIR LONG_ID "/" LONG_ID "/sock"

static const struct {
        const char *args[8];
        int status;
        const char *says; /* in its output */
} cases[] = {
        { { "--version" }, 0, "Firecracker v1.16.1\n" },
        { { "--bogus", "--version" }, 0, "Firecracker v1.16.1\n" },
        { { "--snapshot-version" }, 0, "v10.0.0\n" },
        { { "--help" }, 0, "Firecracker v1.16.1\n" },
        { { "--bogus" },
          153,
          "Arguments parsing error: Found argument 'bogus' which wasn't expected, or isn't valid "
          "in "
          "this context. \\n\\nFor more information try --help.\n" },
        { { "name" }, 153, "Found argument 'name' which wasn't expected" },
        { { "-x" }, 153, "Found argument '-x' which wasn't expected" },
        { { "--id=a" }, 153, "Found argument 'id=a' which wasn't expected" },
        { { "--id", "a", "--id", "b" }, 153, "The argument 'id' was provided more than once." },
        { { "--id" }, 153, "The argument 'id' requires a value, but none was supplied." },
        { { "--id", "--level" }, 153, "The argument 'id' requires a value, but none was" },
        { { "--id", "a.b" }, ABORTED, "Invalid instance ID: InvalidChar('.', 1)" },
        { { "--id", "a_b" }, ABORTED, "Invalid instance ID: InvalidChar('_', 1)" },
        { { "--id", "" }, ABORTED, "Invalid instance ID: InvalidLen(0, 1, 64)" },
        { { "--id", LONG_ID }, ABORTED, "Invalid instance ID: InvalidLen(65, 1, 64)" },
        { { "--id", "a", "--level", "loud" },
          152,
          "Invalid value for logger level: Failed to parse string to level filter: loud.Possible "
          "values: [Error, Warning, Info, Debug]" },
        { { "--id", "a", "--log-path", "nowhere/log" },
          1,
          "Could not initialize logger: Failed to open target file: No such file or directory (os "
          "error 2)" },
        { { "--api-sock", "taken", "--id", "a" },
          1,
          "RunWithApiError error: Failed to open the API socket at: taken. Check that it is not "
          "already used." },
        { { "--api-sock", "nowhere/sock" },
          1,
          "Failed to bind and run the HTTP server: IO error: No such file or directory" },
        { { "--api-sock", DEEP_DIR },
          1,
          "Failed to bind and run the HTTP server: IO error: path must be shorter than SUN_LEN" },
        { { "--describe-snapshot", "nowhere" },
          1,
          "When printing Snapshot Data format: Unable to open snapshot state file: No such file or "
          "directory (os error 2)" },
        { { "--describe-snapshot", "garbage" },
          1,
          "When printing Snapshot Data format: Invalid data format version of snapshot file: An "
          "error occurred during bitcode serialization: bitcode error" },
        { { "--describe-snapshot", "taken" },
          1,
          "Invalid data format version of snapshot file: IO Error: File too short to contain CRC" },
};

static void make(const char *name, const char *text)
{
        FILE *f = fopen(name, "we");

        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static void test_args(void **state)
{
        assert_int_equal(chdir(*state), 0);
        make("taken", "");
        make("garbage", "this is a text and no snapshot at all");
        for (size_t i = 0; i < CC_ARRAY_LEN(cases); i++) {
                CC_BUF struct cc_buf out = { 0 };
                int status = fc_run(cases[i].args, &out);

                if (status != cases[i].status || !out.data || !strstr(out.data, cases[i].says))
                        fail_msg("%s %s: status %d, output %s", cases[i].args[0],
                                 cases[i].args[1] ? cases[i].args[1] : "", status,
                                 out.data ? out.data : "");
        }
}

/* The log is created, and written from its start: what was there is overwritten, not kept. */
static void test_log(void **state)
{
        static const char *const args[] = { "--id",       "a",     "--log-path", "log",
                                            "--api-sock", "taken", NULL };
        CC_BUF struct cc_buf out = { 0 };
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;
        size_t len;

        assert_int_equal(chdir(*state), 0);
        make("taken", "");
        make("log", "xx");
        assert_int_equal(fc_run(args, &out), 1);
        assert_ok(cc_read_file("log", 1 << 16, &text, &len, &err));
        assert_non_null(strstr(text, "[a:main] Running Firecracker v1.16.1\n"));
        assert_non_null(strstr(text, "Firecracker exiting with error. exit_code=1\n"));
        assert_true(isdigit((unsigned char)text[0]));
        assert_int_equal(out.len, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(test_args),
                scratch_test(test_log),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
