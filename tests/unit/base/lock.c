/* Lock files: exclusion, the holder's text, a replaced file, deadlines and interruption. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/interrupt.h"
#include "base/sys.h"
#include "base/timeutil.h"
#include "unit.h"

static void test_exclusive(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "l");
        CC_FREE char *text = NULL;
        CC_CLOSE int held = -1;
        CC_CLOSE int again = -1;
        int none = -1;
        struct cc_err err = CC_ERR_INIT;
        char pid[16];
        struct stat st;

        assert_ok(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "vm.start", &held, &err));
        assert_int_equal(fcntl(held, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "vm.rm", &none, &err), -CC_BUSY);
        assert_int_equal(none, -1);
        (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
        assert_non_null(strstr(err.msg, pid));
        assert_non_null(strstr(err.msg, "vm.start"));
        assert_int_equal(cc_lock_try(path, CC_LOCK_SHARED, "x", &none, &err), -CC_BUSY);
        close(TAKE_FD(held));
        err = (struct cc_err)CC_ERR_INIT;
        assert_ok(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "vm.rm", &again, &err));
        assert_ok(cc_read_file(path, 200, &text, NULL, &err));
        assert_non_null(strstr(text, "vm.rm"));
        assert_null(strstr(text, "vm.start"));
}

static void test_shared(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "l");
        CC_CLOSE int a = -1;
        CC_CLOSE int b = -1;
        int none = -1;
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_lock_try(path, CC_LOCK_SHARED, "clone", &a, &err));
        assert_ok(cc_lock_try(path, CC_LOCK_SHARED, "clone", &b, &err));
        assert_int_equal(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "x", &none, &err), -CC_BUSY);
        assert_non_null(strstr(err.msg, "another process"));
}

static void test_holder_text_is_harmless(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "l");
        CC_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        int none = -1;
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(pwrite(fd, "1 \033[2J\x80 evil\nmore", 18, 0), 18);
        assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
        assert_int_equal(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "x", &none, &err), -CC_BUSY);
        assert_non_null(strstr(err.msg, "1 ?[2J? evil"));
        assert_null(strstr(err.msg, "more"));
}

/* gc unlinks the file between our open and our flock: the lock must be on the file of that name. */
static char *swap_path;

static int swapping_openat(int dir, const char *path, int flags, mode_t mode)
{
        int fd = cc_sys_real.openat(dir, path, flags, mode);

        if (swap_path && fd >= 0) {
                assert_int_equal(unlink(swap_path), 0);
                close(open(swap_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
                swap_path = NULL;
        }
        return fd;
}

static void test_replaced_file(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "l");
        CC_CLOSE int held = -1;
        int none = -1;
        struct stat a;
        struct stat b;
        struct cc_err err = CC_ERR_INIT;

        swap_path = path;
        cc_sys.openat = swapping_openat;
        assert_ok(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "x", &held, &err));
        cc_sys = cc_sys_real;
        assert_null(swap_path);
        assert_int_equal(fstat(held, &a), 0);
        assert_int_equal(stat(path, &b), 0);
        assert_true(a.st_ino == b.st_ino);
        assert_int_equal(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "y", &none, &err), -CC_BUSY);
}

static void test_no_directory(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "none/l");
        int none = -1;
        struct cc_err err = CC_ERR_INIT;

        assert_int_equal(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "x", &none, &err), -CC_NOT_FOUND);
        assert_int_equal(none, -1);
}

static void test_deadline(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "l");
        CC_CLOSE int held = -1;
        int none = -1;
        struct cc_err err = CC_ERR_INIT;
        int64_t start;
        int64_t took;

        assert_ok(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "x", &held, &err));
        start = cc_monotonic();
        assert_int_equal(
                cc_lock(path, CC_LOCK_EXCLUSIVE, "y", start + 200 * CC_NSEC_PER_MSEC, &none, &err),
                -CC_BUSY);
        took = cc_monotonic() - start;
        assert_true(took >= 200 * CC_NSEC_PER_MSEC && took < 3 * CC_NSEC_PER_SEC);
}

static void *release_later(void *arg)
{
        struct timespec ts = { .tv_nsec = 50 * CC_NSEC_PER_MSEC };

        nanosleep(&ts, NULL);
        close(*(int *)arg);
        return NULL;
}

static void test_wait_succeeds(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "l");
        CC_CLOSE int mine = -1;
        int held = -1;
        struct cc_err err = CC_ERR_INIT;
        pthread_t t;

        assert_ok(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "x", &held, &err));
        assert_int_equal(pthread_create(&t, NULL, release_later, &held), 0);
        assert_ok(cc_lock(path, CC_LOCK_EXCLUSIVE, "y", 0, &mine, &err));
        assert_int_equal(pthread_join(t, NULL), 0);
}

/* In a child, because the interruption flag is for life: first hidden, then seen. */
static void test_interruption(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "l");
        CC_CLOSE int held = -1;
        struct cc_err err = CC_ERR_INIT;
        int status;
        pid_t pid;

        assert_ok(cc_lock_try(path, CC_LOCK_EXCLUSIVE, "x", &held, &err));
        pid = fork();
        if (pid == 0) {
                struct rusage use;
                int none = -1;

                cc_interrupt_setup();
                cc_uninterruptible_begin();
                (void)raise(SIGTERM);
                if (cc_interrupted() || cc_interrupt_signal() != SIGTERM)
                        _exit(1);
                if (cc_lock(path, CC_LOCK_EXCLUSIVE, "y", cc_monotonic() + CC_NSEC_PER_SEC / 2,
                            &none, NULL) != -CC_BUSY)
                        _exit(2);
                (void)getrusage(RUSAGE_SELF, &use);
                if (use.ru_nvcsw > 200) /* it must have slept, not spun on the readable fd */
                        _exit(3);
                if (use.ru_utime.tv_sec || use.ru_utime.tv_usec + use.ru_stime.tv_usec > 250000)
                        _exit(4);
                cc_uninterruptible_end();
                _exit(cc_lock(path, CC_LOCK_EXCLUSIVE, "y", 0, &none, NULL) == -CC_CANCELED ? 0
                                                                                            : 5);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(test_exclusive),
                scratch_test(test_shared),
                scratch_test(test_holder_text_is_harmless),
                scratch_test(test_replaced_file),
                scratch_test(test_no_directory),
                scratch_test(test_deadline),
                scratch_test(test_wait_succeeds),
                scratch_test(test_interruption),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
