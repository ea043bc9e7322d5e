/* Tools run to completion: output limits, time limits, input, leftovers, interruption. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/interrupt.h"
#include "base/proc.h"
#include "base/timeutil.h"
#include "unit.h"

static int sh(const char *text, const void *input, size_t n, size_t max, int timeout_ms,
              struct cc_run_result *ret, struct cc_err *err)
{
        const char *argv[] = { "sh", "-c", text, NULL };

        return cc_run(argv, input, n, max, timeout_ms, ret, err);
}

static void assert_no_children(void)
{
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

static void test_output_and_status(void **state)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result r = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_ok(sh("echo out; echo err >&2; exit 7", NULL, 0, 100, 10000, &r, &err));
        assert_int_equal(r.status, 7);
        assert_string_equal(r.out.data, "out\n");
        assert_string_equal(r.err.data, "err\n");
        cc_run_result_free(&r);
        assert_ok(sh("kill -9 $$", NULL, 0, 100, 10000, &r, &err));
        assert_int_equal(r.status, 137);
        assert_no_children();
}

static void test_input(void **state)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result r = { 0 };
        CC_FREE char *big = xmalloc(1 << 20);
        struct cc_err err = CC_ERR_INIT;

        /* More than a pipe holds in both directions at once. */
        memset(big, 'x', 1 << 20);
        assert_ok(sh("cat", big, 1 << 20, 1 << 20, 30000, &r, &err));
        assert_int_equal(r.out.len, 1 << 20);
        assert_memory_equal(r.out.data, big, 1 << 20);
        cc_run_result_free(&r);
        assert_ok(sh("cat", "", 0, 10, 10000, &r, &err));
        assert_int_equal(r.out.len, 0);
        cc_run_result_free(&r);
        /* A tool that does not read must not kill us with SIGPIPE. */
        assert_ok(sh("exec <&-; exit 3", big, 1 << 20, 10, 10000, &r, &err));
        assert_int_equal(r.status, 3);
}

static void test_output_limit(void **state)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result r = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_ok(sh("printf 0123456789", NULL, 0, 10, 10000, &r, &err));
        assert_int_equal(r.out.len, 10);
        cc_run_result_free(&r);
        assert_int_equal(sh("printf 0123456789x", NULL, 0, 10, 10000, &r, &err), -CC_INVALID);
        assert_int_equal(sh("yes >&2", NULL, 0, 1 << 16, 10000, &r, &err), -CC_INVALID);
        assert_null(r.out.data);
        assert_no_children();
}

static void test_timeout_kills_the_group(void **state)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result r = { 0 };
        CC_FREE char *path = cc_path_join(*state, "pid");
        CC_FREE char *text = xasprintf("sleep 60 & echo $! >%s; wait", path);
        struct cc_err err = CC_ERR_INIT;
        int64_t start = cc_monotonic();
        uint64_t ticks;
        pid_t grandchild;

        assert_int_equal(sh(text, NULL, 0, 10, 500, &r, &err), -CC_TIMEOUT);
        assert_true(cc_monotonic() - start < 10 * CC_NSEC_PER_SEC);
        assert_int_equal(cc_pid_file_read(path, &grandchild), 0);
        for (int i = 0; i < 500 && cc_proc_starttime(grandchild, &ticks) == 0; i++)
                (void)usleep(10000);
        assert_int_equal(cc_proc_starttime(grandchild, &ticks), -CC_NOT_FOUND);
        assert_no_children();
}

/* Closing the pipes is not ending: the limit still holds, and so does the exit status. */
static void test_closed_pipes(void **state)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result r = { 0 };
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(sh("exec >&- 2>&-; sleep 60", NULL, 0, 10, 300, &r, &err), -CC_TIMEOUT);
        assert_ok(sh("exec >&- 2>&-; sleep 0.2; exit 4", NULL, 0, 10, 10000, &r, &err));
        assert_int_equal(r.status, 4);
        assert_no_children();
}

/* A tool that leaves a daemon behind on its stdout is done when it ends itself. */
static void test_leftover_child(void **state)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result r = { 0 };
        struct cc_err err = CC_ERR_INIT;
        int64_t start = cc_monotonic();

        assert_ok(sh("setsid sleep 20 & echo $!", NULL, 0, 100, 15000, &r, &err));
        assert_true(cc_monotonic() - start < 10 * CC_NSEC_PER_SEC);
        assert_int_equal(r.status, 0);
        assert_true(r.out.len > 1);
        (void)kill((pid_t)strtol(r.out.data, NULL, 10), SIGKILL);
}

static void test_run_ok(void **state)
{
        const char *good[] = { "sh", "-c", "printf x", NULL };
        const char *bad[] = { "sh", "-c",
                              "echo first >&2; echo 'the cause  ' >&2; echo >&2; exit 5", NULL };
        const char *talk[] = { "sh", "-c", "echo why; exit 6", NULL };
        const char *mute[] = { "sh", "-c", "exit 8", NULL };
        const char *none[] = { "no-such-program-here", NULL };
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *out = NULL;

        assert_ok(cc_run_ok(good, 10000, &out, &err));
        assert_string_equal(out, "x");
        assert_ok(cc_run_ok(good, 10000, NULL, &err));
        assert_int_equal(cc_run_ok(bad, 10000, NULL, &err), -CC_IO);
        assert_string_equal(err.msg, "sh failed with status 5: the cause");
        assert_int_equal(cc_run_ok(talk, 10000, NULL, &err), -CC_IO);
        assert_string_equal(err.msg, "sh failed with status 6: why");
        assert_int_equal(cc_run_ok(mute, 10000, NULL, &err), -CC_IO);
        assert_string_equal(err.msg, "sh failed with status 8");
        assert_int_equal(cc_run_ok(none, 10000, NULL, &err), -CC_UNAVAILABLE);
}

/* With SIGCHLD ignored by whoever started us, the kernel would swallow the statuses. */
static void test_inherited_sigchld(void **state)
{
        CC_CLEANUP(cc_run_result_free) struct cc_run_result r = { 0 };
        struct cc_err err = CC_ERR_INIT;

        (void)signal(SIGCHLD, SIG_IGN);
        assert_ok(sh("exit 9", NULL, 0, 10, 10000, &r, &err));
        assert_int_equal(r.status, 9);
}

/* In a child, because the interruption flag is for life. */
static void test_interruption(void **state)
{
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                struct cc_run_result r = { 0 };

                cc_interrupt_setup();
                (void)alarm(60);
                (void)signal(SIGALRM, SIG_DFL);
                cc_uninterruptible_begin();
                (void)raise(SIGINT);
                if (sh("sleep 0.3; exit 4", NULL, 0, 10, 10000, &r, NULL) != 0 || r.status != 4)
                        _exit(1);
                cc_uninterruptible_end();
                _exit(sh("sleep 30", NULL, 0, 10, 0, &r, NULL) == -CC_CANCELED ? 0 : 2);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_output_and_status),
                cmocka_unit_test(test_input),
                cmocka_unit_test(test_output_limit),
                scratch_test(test_timeout_kills_the_group),
                cmocka_unit_test(test_closed_pipes),
                cmocka_unit_test(test_leftover_child),
                cmocka_unit_test(test_run_ok),
                cmocka_unit_test(test_inherited_sigchld),
                cmocka_unit_test(test_interruption),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
