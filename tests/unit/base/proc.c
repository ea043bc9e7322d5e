/* Spawning: descriptors, pid files, failures before exec; identity against recycled pids. */
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/interrupt.h"
#include "base/timeutil.h"
#include "unit.h"

static char *slurp(int fd)
{
        struct cc_buf b = { 0 };
        char chunk[4096];
        ssize_t n;

        while ((n = read(fd, chunk, sizeof(chunk))) > 0)
                cc_buf_add(&b, chunk, (size_t)n);
        return cc_buf_take(&b);
}

/* Shell text that prints its open descriptors with nothing but builtins: a pipe or a directory read
 * would show up itself. */
#define LIST_FDS                                                                                   \
        "i=0; while [ $i -lt 300 ]; do [ -e /proc/$$/fd/$i ] && printf \"$i \"; i=$((i+1)); "      \
        "done; "

/* Run a shell script with its stdout in a pipe, other descriptors as `spec` says. */
static char *script(struct cc_spawn *spec, const char *text)
{
        const char *argv[] = { "sh", "-c", text, NULL };
        struct cc_err err = CC_ERR_INIT;
        int out[2];
        CC_CLOSE int pidfd = -1;
        char *got;
        pid_t pid;

        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        spec->argv = argv;
        spec->fd_in = spec->fd_err = -1;
        spec->fd_out = out[1];
        assert_ok(cc_spawn(spec, &pid, &pidfd, &err));
        close(out[1]);
        got = slurp(out[0]);
        close(out[0]);
        assert_int_equal(cc_pidfd_wait(pidfd, 10000), 1);
        cc_reap(pid);
        spec->argv = NULL; /* it was ours */
        return got;
}

static void test_descriptors(void **state)
{
        /* Without CLOEXEC on purpose: whatever a sloppy caller left open must not be inherited. */
        int leaked = open("/dev/zero", O_RDONLY); /* NOLINT(android-cloexec-open) */
        int high = fcntl(leaked, F_DUPFD, 200);
        CC_FREE char *a = cc_path_join(*state, "a");
        CC_FREE char *b = cc_path_join(*state, "b");
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int fa = -1;
        CC_CLOSE int fb = -1;
        CC_FREE char *got = NULL;
        CC_FREE char *data = NULL;
        struct cc_spawn spec = { 0 };
        struct cc_fd_map map[2];

        assert_ok(cc_publish(a, "A\n", 2, 0600, &err));
        assert_ok(cc_publish(b, "B\n", 2, 0600, &err));
        fa = open(a, O_RDONLY | O_CLOEXEC);
        fb = open(b, O_RDONLY | O_CLOEXEC);
        /* Swapped: each target is the other's source. */
        map[0] = (struct cc_fd_map){ .from = fa, .to = fb };
        map[1] = (struct cc_fd_map){ .from = fb, .to = fa };
        spec.fds = map;
        spec.n_fds = 2;
        got = script(&spec, LIST_FDS "readlink /proc/$$/fd/0 /proc/$$/fd/2");
        {
                CC_FREE char *want = xasprintf("0 1 2 %d %d /dev/null\n/dev/null\n",
                                               fa < fb ? fa : fb, fa < fb ? fb : fa);

                assert_string_equal(got, want);
        }
        data = xasprintf("cat <&%d; cat <&%d", fa, fb);
        assert_int_equal(lseek(fa, 0, SEEK_SET), 0);
        if (fa < 10 && fb < 10) { /* the shell's syntax reaches one digit */
                CC_FREE char *swapped = script(&spec, data);

                assert_string_equal(swapped, "B\nA\n");
        }
        close(leaked);
        close(high);
}

static void test_stdio_closed_in_parent(void **state)
{
        struct cc_spawn spec = { 0 };
        int saved = fcntl(0, F_DUPFD_CLOEXEC, 50);
        CC_FREE char *got = NULL;

        close(0);
        got = script(&spec, LIST_FDS "readlink /proc/$$/fd/0");
        (void)dup2(saved, 0);
        close(saved);
        assert_string_equal(got, "0 1 2 /dev/null\n");
}

static void test_signals_and_session(void **state)
{
        struct cc_spawn spec = { .new_session = true };
        CC_FREE char *got = NULL;
        unsigned long long blocked = 1;
        unsigned long long ignored = 1;
        char *rest;
        sigset_t set;
        sigset_t old;

        (void)signal(SIGUSR1, SIG_IGN);
        (void)signal(SIGRTMIN, SIG_IGN);
        sigfillset(&set);
        (void)sigprocmask(SIG_SETMASK, &set, &old);
        got = script(&spec, "grep -E '^Sig(Blk|Ign)' /proc/$$/status | cut -f2 | tr '\\n' ' ';"
                            "cut -d' ' -f6 /proc/$$/stat | grep -qx $$ && echo leader");
        (void)sigprocmask(SIG_SETMASK, &old, NULL);
        (void)signal(SIGUSR1, SIG_DFL);
        (void)signal(SIGRTMIN, SIG_DFL);
        blocked = strtoull(got, &rest, 16);
        ignored = strtoull(rest, &rest, 16);
        assert_true(blocked == 0);
        /* 32 and 33 belong to the C library; make leaves them ignored and nobody may change that.
         */
        assert_true((ignored & ~0x180000000ULL) == 0);
        assert_string_equal(rest, " leader\n");
}

static void test_file_mask(void **state)
{
        struct cc_spawn spec = { .file_mask = 0077 };
        CC_FREE char *got = script(&spec, "umask");

        assert_string_equal(got, "0077\n");
}

/* Its parent is not us, nobody has to reap it, and a failing exec is still ours to hear of. */
static void test_detached(void **state)
{
        const char *const argv[] = { "/bin/sh", "-c", "read ppid <&3; echo \"$PPID\" \"$ppid\"",
                                     NULL };
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *bad = cc_path_join(*state, "bad");
        const char *const none[] = { bad, NULL };
        CC_FREE char *got = NULL;
        char us[32];
        int in[2];
        int out[2];
        struct cc_fd_map map;
        struct cc_spawn spec = {
                .argv = argv, .fd_in = -1, .fd_err = -1, .new_session = true, .detach = true
        };

        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        map = (struct cc_fd_map){ .from = in[0], .to = 3 };
        spec.fd_out = out[1];
        spec.fds = &map;
        spec.n_fds = 1;
        assert_ok(cc_spawn(&spec, NULL, NULL, &err));
        close(out[1]);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
        (void)snprintf(us, sizeof(us), "%d\n", (int)getpid());
        assert_ok(cc_write_all(in[1], us, strlen(us), &err));
        got = slurp(out[0]);
        assert_non_null(strchr(got, ' '));
        assert_true(strtol(got, NULL, 10) != getpid());
        close(in[0]);
        close(in[1]);
        close(out[0]);

        assert_ok(cc_publish(bad, "#!/nonexistent\n", 15, 0755, &err));
        spec = (struct cc_spawn){
                .argv = none, .fd_in = -1, .fd_out = -1, .fd_err = -1, .detach = true
        };
        assert_int_equal(cc_spawn(&spec, NULL, NULL, &err), -CC_UNAVAILABLE);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_pid_file(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "vm.pid");
        struct cc_spawn spec = { .pid_file = path };
        CC_FREE char *got = NULL;
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct stat st;
        pid_t pid = 0;

        got = script(&spec, "echo $$");
        assert_ok(cc_read_file(path, 64, &text, NULL, &err));
        assert_string_equal(got, text);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(cc_pid_file_read(path, &pid), 0);
        assert_int_equal(pid, strtol(text, NULL, 10));
}

static void test_pid_file_read(void **state)
{
        static const char *const bad[] = {
                "",       "\n",    "0\n",   "-1\n",         "+5\n",
                "0x10\n", "12a\n", " 12\n", "4294967297\n", "123456789012345678901234567890123"
        };
        CC_FREE char *path = cc_path_join(*state, "p");
        struct cc_err err = CC_ERR_INIT;
        pid_t pid = 77;

        assert_int_equal(cc_pid_file_read(path, &pid), -CC_NOT_FOUND);
        for (size_t i = 0; i < CC_ARRAY_LEN(bad); i++) {
                assert_ok(cc_publish(path, bad[i], strlen(bad[i]), 0600, &err));
                if (cc_pid_file_read(path, &pid) != -CC_NOT_FOUND || pid != 77)
                        fail_msg("pid file \"%s\" was accepted", bad[i]);
        }
}

static void test_failures_leave_nothing(void **state)
{
        CC_FREE char *path = cc_path_join(*state, "vm.pid");
        CC_FREE char *script_file = cc_path_join(*state, "script");
        CC_FREE char *lost = cc_path_join(*state, "none/vm.pid");
        const char *argv[] = { "sh", "-c", "exit 0", NULL };
        const char *absent[] = { "no-such-program-here", NULL };
        const char *orphan[] = { script_file, NULL };
        struct cc_spawn spec = { .argv = argv, .fd_in = -1, .fd_out = -1, .fd_err = -1 };
        struct cc_err err = CC_ERR_INIT;
        struct cc_fd_map map = { .from = 9999, .to = 5 };
        int pidfd = -1;
        pid_t pid = 0;

        spec.argv = absent;
        assert_int_equal(cc_spawn(&spec, &pid, &pidfd, &err), -CC_UNAVAILABLE);
        spec.argv = argv;
        spec.pid_file = lost;
        assert_int_equal(cc_spawn(&spec, &pid, &pidfd, &err), -CC_NOT_FOUND);
        spec.pid_file = path;
        spec.cwd = "/no/such/directory";
        assert_int_equal(cc_spawn(&spec, &pid, &pidfd, &err), -CC_NOT_FOUND);
        assert_false(cc_exists(path));
        spec.cwd = NULL;
        spec.fds = &map;
        spec.n_fds = 1;
        assert_int_equal(cc_spawn(&spec, &pid, &pidfd, &err), -CC_IO);
        map.to = 2;
        assert_int_equal(cc_spawn(&spec, &pid, &pidfd, &err), -CC_INTERNAL);
        spec.n_fds = 0;
        spec.netns = "/no/such/netns";
        assert_int_equal(cc_spawn(&spec, &pid, &pidfd, &err), -CC_NOT_FOUND);
        spec.netns = "/dev/null"; /* there, but not a namespace */
        assert_true(cc_spawn(&spec, &pid, &pidfd, &err) < 0);
        spec.netns = NULL;
        assert_ok(cc_publish(script_file, "#!/no/interpreter\n", 18, 0700, &err));
        spec.argv = orphan;
        assert_int_equal(cc_spawn(&spec, &pid, &pidfd, &err), -CC_UNAVAILABLE);
        assert_false(cc_exists(path));
        assert_int_equal(pid, 0);
        assert_int_equal(pidfd, -1);
        /* Every failed child was reaped. */
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

static void test_relative_paths(void **state)
{
        CC_FREE char *old = getcwd(NULL, 0);
        CC_FREE char *tool = cc_path_join(*state, "tool");
        CC_FREE char *pid_path = cc_path_join(*state, "p");
        const char *argv[] = { "./tool", NULL };
        struct cc_spawn spec = {
                .argv = argv, .fd_in = -1, .fd_out = -1, .fd_err = -1, .pid_file = "p"
        };
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int pidfd = -1;
        siginfo_t info = { 0 };
        pid_t pid;

        assert_ok(cc_publish(tool, "#!/bin/sh\nexit 42\n", 18, 0700, &err));
        assert_int_equal(chdir(*state), 0);
        assert_ok(cc_spawn(&spec, &pid, &pidfd, &err));
        assert_int_equal(chdir(old), 0);
        assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
        assert_int_equal(info.si_status, 42);
        assert_true(cc_exists(pid_path));
}

/* A caller that reads our pipes to EOF must return while the child lives on. */
static void test_nothing_holds_the_callers_pipe(void **state)
{
        const char *argv[] = { "sleep", "60", NULL };
        struct cc_spawn spec = {
                .argv = argv, .fd_in = -1, .fd_out = -1, .fd_err = -1, .new_session = true
        };
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int pidfd = -1;
        struct pollfd p;
        int pipefd[2];
        pid_t pid;

        assert_int_equal(pipe(pipefd), 0); /* NOLINT(android-cloexec-pipe): on purpose */
        assert_ok(cc_spawn(&spec, &pid, &pidfd, &err));
        close(pipefd[1]);
        p = (struct pollfd){ .fd = pipefd[0], .events = POLLIN };
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_true(p.revents & POLLHUP);
        assert_int_equal(cc_pidfd_wait(pidfd, 0), 0); /* still running */
        close(pipefd[0]);
        assert_ok(cc_terminate(pidfd, 5000, &err));
        cc_reap(pid);
}

static void test_terminate_escalates(void **state)
{
        const char *argv[] = { "sh", "-c", "trap '' TERM; echo; while :; do sleep 60; done", NULL };
        struct cc_spawn spec = { .argv = argv, .fd_in = -1, .fd_err = -1, .new_session = true };
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int pidfd = -1;
        int out[2];
        int status;
        char c;
        pid_t pid;

        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        spec.fd_out = out[1];
        assert_ok(cc_spawn(&spec, &pid, &pidfd, &err));
        close(out[1]);
        assert_int_equal(read(out[0], &c, 1), 1); /* the trap is set */
        assert_ok(cc_terminate(pidfd, 100, &err));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        (void)kill(-pid, SIGKILL); /* the sleep of the shell */
        close(out[0]);
        assert_ok(cc_pidfd_signal(pidfd, SIGTERM, &err)); /* gone is success */
}

static void test_start_time(void **state)
{
        uint64_t mine = 0;
        uint64_t again = 0;
        uint64_t none = 77;
        pid_t child;

        assert_int_equal(cc_proc_starttime(getpid(), &mine), 0);
        assert_int_equal(cc_proc_starttime(getpid(), &again), 0);
        assert_true(mine && mine == again);
        assert_int_equal(cc_proc_starttime(INT32_MAX, &none), -CC_NOT_FOUND);
        child = fork();
        if (child == 0)
                _exit(0);
        {
                siginfo_t info;

                assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
        }
        assert_int_equal(cc_proc_starttime(child, &none), -CC_NOT_FOUND); /* a zombie */
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_true(none == 77);
}

/* comm is the process's own choice: it must not shift the fields behind it. */
static void test_start_time_of_a_liar(void **state)
{
        CC_FREE char *evil = cc_path_join(*state, "a) R 1 1 1");
        CC_FREE char *sleep_path = cc_find_program("sleep");
        const char *argv[] = { evil, "60", NULL };
        struct cc_spawn spec = { .argv = argv, .fd_in = -1, .fd_out = -1, .fd_err = -1 };
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int pidfd = -1;
        uint64_t mine = 0;
        uint64_t theirs = 0;
        pid_t pid;

        assert_int_equal(symlink(sleep_path, evil), 0);
        assert_ok(cc_spawn(&spec, &pid, &pidfd, &err));
        assert_int_equal(cc_proc_starttime(getpid(), &mine), 0);
        assert_int_equal(cc_proc_starttime(pid, &theirs), 0);
        assert_true(theirs >= mine && theirs - mine < UINT64_C(60000));
        assert_ok(cc_terminate(pidfd, 5000, &err));
        cc_reap(pid);
}

static void test_live_check(void **state)
{
        const char *argv[] = { "sleep", "60", NULL };
        struct cc_spawn spec = { .argv = argv, .fd_in = -1, .fd_out = -1, .fd_err = -1 };
        const char *const right[] = { "sleep", "60", NULL };
        const char *const wrong[] = { "sleep", "/run/vm/api.sock", NULL };
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int pidfd = -1;
        int found = -1;
        uint64_t start = 0;
        pid_t pid;

        assert_ok(cc_spawn(&spec, &pid, &pidfd, &err));
        assert_int_equal(cc_proc_starttime(pid, &start), 0);
        assert_int_equal(cc_proc_open(pid, start, right, &found), 0);
        assert_true(found >= 0);
        close(TAKE_FD(found));
        assert_int_equal(cc_proc_open(pid, 0, NULL, &found), 0);
        close(TAKE_FD(found));
        /* The same pid with another start time is another process. */
        assert_int_equal(cc_proc_open(pid, start + 1, right, &found), -CC_NOT_FOUND);
        assert_int_equal(cc_proc_open(pid, start, wrong, &found), -CC_NOT_FOUND);
        assert_int_equal(cc_proc_open(0, 0, NULL, &found), -CC_NOT_FOUND);
        assert_int_equal(cc_proc_open(-1, 0, NULL, &found), -CC_NOT_FOUND);
        assert_ok(cc_terminate(pidfd, 5000, &err));
        assert_int_equal(cc_proc_open(pid, start, right, &found), -CC_NOT_FOUND); /* zombie */
        cc_reap(pid);
        assert_int_equal(cc_proc_open(pid, start, right, &found), -CC_NOT_FOUND);
        assert_int_equal(found, -1);
}

static void test_boot_id(void **state)
{
        char a[37];
        char b[37];

        cc_boot_id(a);
        cc_boot_id(b);
        assert_int_equal(strlen(a), 36);
        assert_string_equal(a, b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                scratch_test(test_descriptors),
                cmocka_unit_test(test_stdio_closed_in_parent),
                cmocka_unit_test(test_signals_and_session),
                cmocka_unit_test(test_file_mask),
                scratch_test(test_detached),
                scratch_test(test_pid_file),
                scratch_test(test_pid_file_read),
                scratch_test(test_failures_leave_nothing),
                scratch_test(test_relative_paths),
                cmocka_unit_test(test_nothing_holds_the_callers_pipe),
                cmocka_unit_test(test_terminate_escalates),
                cmocka_unit_test(test_start_time),
                scratch_test(test_start_time_of_a_liar),
                cmocka_unit_test(test_live_check),
                cmocka_unit_test(test_boot_id),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
