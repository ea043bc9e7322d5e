/* The shared launch helper: sockets, memory, TAP queues, the process and its last words. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "hv/launch.h"

static char *dir;

static int setup(void **state)
{
        char template[] = "/tmp/cocoon-test-XXXXXX";

        (void)state;
        dir = xstrdup(mkdtemp(template));
        return 0;
}

static int teardown(void **state)
{
        int r = cc_rm_rf(dir, NULL);

        (void)state;
        free(dir);
        return r;
}

static void test_socket(void **state)
{
        CC_FREE char *path = cc_path_join(dir, "api.sock");
        struct cc_err err = CC_ERR_INIT;
        mode_t mask = umask(0);
        struct stat st;
        int fd = -1;

        (void)state;
        /* A leftover of a killed VMM is no obstacle, and its mode is not inherited. */
        for (int i = 0; i < 2; i++) {
                assert_int_equal(hv_listen_unix(dir, "api.sock", &fd, &err), 0);
                assert_int_equal(stat(path, &st), 0);
                assert_true(S_ISSOCK(st.st_mode));
                assert_int_equal(st.st_mode & 07777, 0600);
                assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
                close(fd);
        }
        (void)umask(mask);
        assert_int_equal(hv_listen_unix("/nonexistent", "api.sock", &fd, &err), -CC_NOT_FOUND);
}

static void test_socket_path(void **state)
{
        struct cc_err err = CC_ERR_INIT;
        char run[HV_SOCKET_PATH_MAX + 1];
        int fd = -1;

        (void)state;
        memset(run, 'r', sizeof(run));
        run[0] = '/';
        run[HV_SOCKET_PATH_MAX - 9] = '\0';
        assert_int_equal(hv_socket_path_check(run, "api.sock", &err), 0);
        assert_int_equal(hv_socket_path_check(run, "api2.sock", &err), -CC_INVALID);
        assert_non_null(strstr(err.msg, "108 bytes long, at most 107"));
        assert_int_equal(hv_listen_unix(run, "api2.sock", &fd, &err), -CC_INVALID);
        assert_int_equal(fd, -1);
}

static void test_memory(void **state)
{
        char link[64];
        char target[64] = "";
        struct stat st;
        int fd;

        (void)state;
        assert_int_equal(hv_guest_memory(512 << 20, false, &fd, NULL), 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(st.st_size == 512 << 20);
        assert_int_equal(st.st_blocks, 0);
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        assert_true(readlink(link, target, sizeof(target) - 1) > 0);
        assert_string_equal(target, "/memfd:cocoon-ram (deleted)");
        close(fd);
}

/* Runs `script` as a VMM. */
static struct hv_launch vmm(const char *const argv[4])
{
        return (struct hv_launch){ .title = "vmm",
                                   .run_dir = dir,
                                   .log_dir = dir,
                                   .log_name = "vmm.log",
                                   .pid_name = "vmm.pid",
                                   .argv = argv };
}

static void test_process(void **state)
{
        const char *const argv[4] = { "sh", "-c", "echo up; exec sleep 60", NULL };
        struct hv_launch l = vmm(argv);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_FREE char *pid_file = cc_path_join(dir, "vmm.pid");
        CC_FREE char *cmdline = cc_path_join(dir, "cmdline");
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct stat st;
        pid_t pid;

        (void)state;
        assert_int_equal(hv_launch(&l, &proc, &err), 0);
        assert_int_equal(cc_pid_file_read(pid_file, &pid), 0);
        assert_int_equal(pid, proc.pid);
        assert_int_equal(getsid(pid), pid);
        assert_int_equal(cc_read_file(cmdline, 4096, &text, NULL, &err), 0);
        assert_string_equal(text, "sh -c echo up; exec sleep 60\n");
        assert_int_equal(stat(cmdline, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        hv_abort(&proc);
        assert_int_equal(proc.pidfd, -1);
        assert_int_equal(kill(pid, 0), -1);
        hv_abort(&proc); /* empty: nothing to do */
}

static void test_last_words(void **state)
{
        static const struct {
                const char *script;
                const char *expect;
        } cases[] = {
                { "echo first; echo 'cannot do it' >&2; echo; echo '  '; exit 1",
                  "launch vmm: cannot do it" },
                { "exit 1", "launch vmm: the process ended without a message" },
                { "yes x | head -c 100000; echo; echo end; exit 1", "launch vmm: end" },
        };

        (void)state;
        for (size_t i = 0; i < CC_ARRAY_LEN(cases); i++) {
                const char *const argv[4] = { "sh", "-c", cases[i].script, NULL };
                struct hv_launch l = vmm(argv);
                VM_PROC struct vm_proc proc = VM_PROC_INIT;
                struct cc_err err = CC_ERR_INIT;

                assert_int_equal(hv_launch(&l, &proc, &err), 0);
                assert_int_equal(cc_pidfd_wait(proc.pidfd, 5000), 1);
                assert_int_equal(hv_launch_died(&l, &err), -CC_UNAVAILABLE);
                assert_string_equal(err.msg, cases[i].expect);
                hv_abort(&proc);
        }
}

static void test_cannot_start(void **state)
{
        static const char *const names[] = { "vmm.pid", "cmdline", NULL };
        const char *const argv[4] = { "/nonexistent/vmm", NULL };
        struct hv_launch l = vmm(argv);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;

        (void)state;
        assert_int_equal(hv_launch(&l, &proc, &err), -CC_UNAVAILABLE);
        assert_true(cc_startswith(err.msg, "launch vmm: "));
        l.argv = (const char *const[]){ "true", NULL };
        l.netns = "/nonexistent/netns";
        assert_true(hv_launch(&l, &proc, &err) < 0);
        assert_int_equal(proc.pidfd, -1);
        for (size_t i = 0; names[i]; i++) {
                CC_FREE char *path = cc_path_join(dir, names[i]);

                assert_false(cc_exists(path));
        }
        assert_int_equal(hv_remove_files(dir, names, &err), 0);
}

static int make_tap(const char *name, bool multi_queue)
{
        struct ifreq ifr = { 0 };
        int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

        if (fd < 0)
                return -1;
        memcpy(ifr.ifr_name, name, strlen(name) + 1);
        ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | (multi_queue ? IFF_MULTI_QUEUE : 0));
        if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0) {
                close(fd);
                return -1;
        }
        close(fd);
        return 0;
}

/* In a namespace of its own: the host's links stay as they are. Exit status 77 skips. */
static int tap_child(void)
{
        struct cc_err err = CC_ERR_INIT;
        int fds[2];

        if (unshare(CLONE_NEWNET) < 0 || make_tap("one", false) < 0 || make_tap("many", true) < 0)
                return 77;
        if (hv_tap_open("", "one", 1, fds, &err) < 0)
                return 1;
        close(fds[0]);
        if (hv_tap_open("/proc/self/ns/net", "many", 2, fds, &err) < 0)
                return 2;
        close(fds[0]);
        close(fds[1]);
        /* The device of one queue has no second one, and nothing stays open. */
        if (hv_tap_open("", "one", 2, fds, &err) == 0 || fds[0] != -1 || fds[1] != -1)
                return 3;
        /* A missing device is not made. */
        if (hv_tap_open("", "none", 1, fds, &err) != -CC_IO ||
            hv_tap_open("", "none", 1, fds, &err) != -CC_IO)
                return 4;
        if (hv_tap_open("", "a-name-of-16-char", 1, fds, &err) != -CC_INVALID)
                return 5;
        return 0;
}

static void test_tap(void **state)
{
        int status;
        pid_t pid = fork();

        (void)state;
        if (pid == 0)
                _exit(tap_child());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77) {
                print_message("skipped: cannot make TAP devices here\n");
                skip();
        }
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_socket, setup, teardown),
                cmocka_unit_test_setup_teardown(test_socket_path, setup, teardown),
                cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
                cmocka_unit_test_setup_teardown(test_process, setup, teardown),
                cmocka_unit_test_setup_teardown(test_last_words, setup, teardown),
                cmocka_unit_test_setup_teardown(test_cannot_start, setup, teardown),
                cmocka_unit_test_setup_teardown(test_tap, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
