/* The KVM probe on whatever host this is: an answer or a reason, soon, and a cache that is obeyed
 * only for this boot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/timeutil.h"
#include "hv/driver.h"
#include "hv/qemu/accel.h"

static char *dir;
static char *cache;

static int setup(void **state)
{
        char template[] = "/tmp/cocoon-test-XXXXXX";

        (void)state;
        dir = xstrdup(mkdtemp(template));
        cache = cc_path_join(dir, "kvm-probe");
        return 0;
}

static int teardown(void **state)
{
        int r = cc_rm_rf(dir, NULL);

        (void)state;
        free(dir);
        free(cache);
        return r;
}

static bool known_reason(const char *s)
{
        return cc_streq(s, "/dev/kvm missing") || cc_streq(s, "/dev/kvm: permission denied") ||
               cc_streq(s, "KVM emulates guest code") || cc_startswith(s, "KVM probe failed: ");
}

static void test_answer(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        int64_t start = cc_monotonic();
        int r = hv_kvm_probe(dir, &err);

        (void)state;
        print_message("probe: %s, %lld ms\n", r == 0 ? "ok" : err.msg,
                      (long long)((cc_monotonic() - start) / CC_NSEC_PER_MSEC));
        assert_true(cc_monotonic() - start < 5 * CC_NSEC_PER_SEC);
        if (r < 0) {
                assert_int_equal(r, -CC_UNAVAILABLE);
                assert_true(known_reason(err.msg));
        }
        /* Twice the same. */
        assert_int_equal(hv_kvm_probe(dir, NULL), r);
        assert_int_equal(hv_kvm_probe(NULL, NULL), r);
}

static void write_cache(const char *boot, const char *verdict)
{
        CC_FREE char *line = xasprintf("%s %s\n", boot, verdict);

        assert_int_equal(cc_publish(cache, line, strlen(line), 0644, NULL), 0);
}

static void test_cache(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        char boot[37];
        int r;

        (void)state;
        cc_boot_id(boot);
        if (access("/dev/kvm", R_OK | W_OK) < 0 || !*boot) {
                print_message("skipped: no access to /dev/kvm, the cache is never asked\n");
                skip();
        }
        r = hv_kvm_probe(NULL, &err);
        /* A verdict of this boot is believed, whatever it says... */
        write_cache(boot, "ok");
        assert_int_equal(hv_kvm_probe(dir, &err), 0);
        write_cache(boot, "KVM emulates guest code");
        assert_int_equal(hv_kvm_probe(dir, &err), -CC_UNAVAILABLE);
        assert_string_equal(err.msg, "KVM emulates guest code");
        /* ...one of another boot, or of no form we write, is not. */
        write_cache("00000000-0000-0000-0000-000000000000",
                    r == 0 ? "KVM emulates guest code" : "ok");
        assert_int_equal(hv_kvm_probe(dir, &err), r);
        write_cache(boot, "maybe");
        assert_int_equal(hv_kvm_probe(dir, &err), r);
        assert_int_equal(cc_publish(cache, "", 0, 0644, NULL), 0);
        assert_int_equal(hv_kvm_probe(dir, &err), r);
}

static void test_choice(void **state)
{
        struct hv_env env = { .cache_dir = dir, .accel = "tcg" };
        struct cc_err err = CC_ERR_INIT;
        CC_BUF struct cc_buf reason = { 0 };
        bool works = hv_kvm_probe(NULL, NULL) == 0;
        bool kvm = true;

        (void)state;
        assert_int_equal(qemu_accel_choose(&env, &kvm, &reason, &err), 0);
        assert_false(kvm);
        assert_true(reason.len > 0);
        cc_buf_free(&reason);
        env.accel = "auto";
        assert_int_equal(qemu_accel_choose(&env, &kvm, &reason, &err), 0);
        assert_int_equal(kvm, works);
        assert_int_equal(reason.len > 0, !works);
        env.accel = "kvm";
        assert_int_equal(qemu_accel_choose(&env, &kvm, NULL, &err), works ? 0 : -CC_UNAVAILABLE);
        if (!works)
                assert_true(cc_startswith(err.msg, "qemu: qemu_accel is kvm, but: "));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_answer, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cache, setup, teardown),
                cmocka_unit_test_setup_teardown(test_choice, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
