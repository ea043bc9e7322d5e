/*
 * The Firecracker driver against its double (COCOON_FC is not used here: faults need the double):
 * which requests are repeated and which never, a VMM that refuses, dies or says nothing at every
 * step, the console, and the ways a machine ends.
 */
#include "fc_fixture.h"

#include <signal.h>

/* The requests of a start, as the journal names them. */
static const char *const steps[] = {
        "PUT /machine-config", "PUT /boot-source", "PUT /drives",
        "PUT /balloon",        "PUT /entropy",     "PUT /vsock",
};

static void a_clean_start(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        enum hv_state hv;
        struct cc_err err = CC_ERR_INIT;

        launch(f, &proc);
        for (size_t i = 0; i < CC_ARRAY_LEN(steps); i++)
                assert_int_equal(requests(f, steps[i]), cc_streq(steps[i], "PUT /drives") ? 2 : 1);
        assert_int_equal(requests(f, "PUT /actions/InstanceStart"), 1);
        assert_ok(drv->state(&f->env, f->run, &hv, &err));
        assert_int_equal(hv, HV_RUNNING);
        assert_int_equal(getsid(proc.pid), proc.pid);
        stop_now(f, &proc);
        no_violations(f);
        nothing_left(f);
}

static void refusals_are_final(void **state)
{
        struct fixture *f = *state;

        for (size_t i = 0; i < CC_ARRAY_LEN(steps); i++) {
                double_forget(&f->vmm);
                fault(f, steps[i],
                      "\"do\":\"reply\",\"status\":400,\"body\":{\"fault_message\":\"unknown field "
                      "`x`\\u0001\"}");
                launch_fails(f, CC_STATE, "unknown field `x` ");
                assert_int_equal(requests(f, steps[i]), 1);
                assert_int_equal(requests(f, "PUT /actions/InstanceStart"), 0);
        }
        double_forget(&f->vmm);
        fault(f, "PUT /actions/InstanceStart",
              "\"do\":\"reply\",\"status\":400,\"body\":{\"fault_message\":\"no\"}");
        launch_fails(f, CC_STATE, "PUT /actions: no");
        assert_int_equal(requests(f, "PUT /actions/InstanceStart"), 1);
        /* A refusal without the usual body. */
        fault(f, "PUT /entropy", "\"do\":\"reply\",\"status\":404,\"body\":\"<html>\"");
        launch_fails(f, CC_STATE, "PUT /entropy: HTTP status 404");
}

/* Configuring twice is the same as once: what was lost is sent again. */
static void lost_replies_are_repeated(void **state)
{
        static const char *const losses[] = { "\"nth\":1,\"do\":\"drop-after\"",
                                              "\"nth\":1,\"do\":\"drop-before\"",
                                              "\"nth\":1,\"do\":\"reply\",\"status\":503",
                                              "\"nth\":1,\"do\":\"reply\",\"status\":429" };
        struct fixture *f = *state;

        for (size_t i = 0; i < CC_ARRAY_LEN(steps); i++) {
                VM_PROC struct vm_proc proc = VM_PROC_INIT;

                double_forget(&f->vmm);
                fault(f, steps[i], losses[i % CC_ARRAY_LEN(losses)]);
                launch(f, &proc);
                assert_int_equal(requests(f, steps[i]), cc_streq(steps[i], "PUT /drives") ? 3 : 2);
                double_fault(&f->vmm, "");
                stop_now(f, &proc);
        }
}

static void repeating_ends(void **state)
{
        struct fixture *f = *state;
        int64_t start = cc_monotonic();

        fault(f, "PUT /entropy", "\"do\":\"reply\",\"status\":503,\"body\":{\"error\":\"busy\"}");
        launch_fails(f, CC_BUSY, "PUT /entropy: busy");
        assert_int_equal(requests(f, "PUT /entropy"), 4);
        assert_true(cc_monotonic() - start >= 700 * CC_NSEC_PER_MSEC);
}

/* Starting is not repeated: the state tells whether the lost request arrived. */
static void instance_start_is_sent_once(void **state)
{
        static const char *const arrived[] = { "\"do\":\"drop-after\"",
                                               "\"do\":\"cut\",\"bytes\":7" };
        struct fixture *f = *state;

        for (size_t i = 0; i < CC_ARRAY_LEN(arrived); i++) {
                VM_PROC struct vm_proc proc = VM_PROC_INIT;

                double_forget(&f->vmm);
                fault(f, "PUT /actions/InstanceStart", arrived[i]);
                launch(f, &proc);
                assert_int_equal(requests(f, "PUT /actions/InstanceStart"), 1);
                assert_int_equal(requests(f, "GET /"), 1);
                stop_now(f, &proc);
        }
        double_forget(&f->vmm);
        fault(f, "PUT /actions/InstanceStart", "\"do\":\"drop-before\"");
        launch_fails(f, CC_IO, "PUT /actions");
        assert_int_equal(requests(f, "PUT /actions/InstanceStart"), 1);
}

/* Between any two requests, and behind the last. */
static void a_vmm_that_dies(void **state)
{
        struct fixture *f = *state;
        int64_t start = cc_monotonic();

        for (size_t i = 0; i < CC_ARRAY_LEN(steps); i++) {
                CC_FREE char *text = xasprintf("exited during %s", steps[i]);

                fault(f, steps[i], i % 2 ? "\"do\":\"crash\"" : "\"do\":\"crash-after\"");
                launch_fails(f, CC_UNAVAILABLE, text);
        }
        fault(f, "PUT /actions/InstanceStart", "\"do\":\"crash-after\"");
        launch_fails(f, CC_UNAVAILABLE, "exited during PUT /actions (InstanceStart)");
        /* Noticed by the death itself. */
        assert_true(cc_monotonic() - start < 20 * CC_NSEC_PER_SEC);
}

/* What Firecracker itself finds wrong is passed on in its words. */
static void real_refusals(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(f->kernel, "#!/bin/sh\n", 10, 0600, &err));
        launch_fails(f, CC_STATE, "Start microvm error");
        assert_int_equal(write_kernel_file(f->kernel), 0);
        f->disks[1].path = "/dev/null/nothing";
        launch_fails(f, CC_IO, "disk /dev/null/nothing");
        f->disks[1].path = f->disk_path;
        f->spec.initrd = "/nonexistent/initrd";
        launch_fails(f, CC_NOT_FOUND, "initrd /nonexistent/initrd");
        f->spec.initrd = NULL;
        double_set(&f->vmm, "IO_URING", "deny");
        launch_fails(f, CC_STATE, "PUT /drives/drive_1");
}

/* A program in place of the VMM, that knows its version. */
static void pretend(struct fixture *f, const char *body)
{
        CC_FREE char *path = cc_path_join(f->dir, "pretender");
        CC_FREE char *script = xasprintf("#!/bin/sh\n[ \"$1\" != --version ] || { echo "
                                         "Firecracker v1.16.1; exit 0; }\n%s\n",
                                         body);
        struct cc_err err = CC_ERR_INIT;

        assert_ok(cc_publish(path, script, strlen(script), 0755, &err));
        free(f->vmm.binary);
        f->vmm.binary = TAKE_PTR(path);
        f->env.binary = f->vmm.binary;
}

static void never_ready(void **state)
{
        struct fixture *f = *state;

        pretend(f, "echo 'Error: ParseArguments' >&2; exit 153");
        launch_fails(f, CC_UNAVAILABLE,
                     "exited before its socket was ready: Error: ParseArguments");
        pretend(f, "echo said in the log >>\"$4\"; exit 1");
        launch_fails(f, CC_UNAVAILABLE, "said in the log");
        pretend(f, "exit 1");
        launch_fails(f, CC_UNAVAILABLE, "the process ended without a message");
        pretend(f, "exec sleep 100");
        f->env.socket_wait_ms = 200;
        launch_fails(f, CC_TIMEOUT, "its socket was not ready within 200 ms");
}

static void logs_are_rotated(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_FREE char *log = cc_path_join(f->log, drv->log_name);
        CC_FREE char *old = xasprintf("%s.1", log);
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct stat st;

        assert_ok(cc_publish(log, "first life\n", 11, 0640, &err));
        launch(f, &proc);
        assert_ok(cc_read_file(old, 4096, &text, NULL, &err));
        assert_string_equal(text, "first life\n");
        assert_int_equal(stat(log, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0640);
        stop_now(f, &proc);
        no_violations(f);
}

/* ---- the console ---- */

static void a_console_that_survives_its_readers(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct cc_err err = CC_ERR_INIT;

        launch(f, &proc);
        hear(proc.console, "cocoon-tiny ready: hostname=web disks=2 net=none");
        close(TAKE_FD(proc.console));
        for (int i = 0; i < 3; i++) {
                CC_CLOSE int fd = -1;

                assert_ok(drv->console_open(f->run, proc.pidfd, &fd, &err));
                assert_int_equal(write(fd, "echo a-$((6*7))\r", 16), 16);
                hear(fd, "a-");
        }
        assert_int_equal(cc_pidfd_wait(proc.pidfd, 0), 0);
        stop_now(f, &proc);
        no_violations(f);
}

/* A process that holds something else there, or is gone, has no console. */
static void no_console(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        int fd = -1;
        const char *const argv[] = { "/bin/sleep", "100", NULL };
        CC_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        struct cc_fd_map map = { .from = null, .to = 3 };
        struct cc_spawn spawn = {
                .argv = argv, .fd_in = -1, .fd_out = -1, .fd_err = -1, .fds = &map, .n_fds = 1
        };

        assert_ok(cc_spawn(&spawn, &proc.pid, &proc.pidfd, &err));
        assert_int_equal(drv->console_open(f->run, proc.pidfd, &fd, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "does not hold its console"));
        hv_abort(&proc);
        assert_int_equal(fd, -1);
}

static void a_reboot_ends_the_vmm(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;

        launch(f, &proc);
        hear(proc.console, "cocoon-tiny ready");
        assert_int_equal(write(proc.console, "reboot\r", 7), 7);
        assert_int_equal(cc_pidfd_wait(proc.pidfd, 5000), 1);
        assert_int_equal(drv->find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
        stop_now(f, &proc); /* stopping what has ended is success */
}

/* ---- ends ---- */

static void stop(struct fixture *f, struct vm_proc *proc, int grace_ms)
{
        struct cc_err err = CC_ERR_INIT;

        assert_ok(drv->stop(&f->env, f->run, proc, grace_ms, &err));
        assert_int_equal(cc_pidfd_wait(proc->pidfd, 0), 1);
        vm_proc_clear(proc);
        assert_ok(hv_remove_files(f->run, drv->runtime_files, &err));
}

static void a_guest_that_obeys(void **state)
{
        static const char *const faults[] = { "", "\"do\":\"drop-after\"",
                                              "\"do\":\"cut\",\"bytes\":5" };
        struct fixture *f = *state;

        for (size_t i = 0; i < CC_ARRAY_LEN(faults); i++) {
                VM_PROC struct vm_proc proc = VM_PROC_INIT;

                double_forget(&f->vmm);
                double_fault(&f->vmm, "");
                launch(f, &proc);
                if (*faults[i])
                        fault(f, "PUT /actions/SendCtrlAltDel", faults[i]);
                stop(f, &proc, 10000);
                assert_int_equal(requests(f, "PUT /actions/SendCtrlAltDel"), 1);
                assert_int_equal(count(f, "signal", NULL), 0);
        }
}

static void a_guest_that_does_not(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        int64_t start;

        double_set(&f->vmm, "POWER_BUTTON", "ignore");
        launch(f, &proc);
        start = cc_monotonic();
        stop(f, &proc, 500);
        assert_true(cc_monotonic() - start >= 500 * CC_NSEC_PER_MSEC);
        assert_true(cc_monotonic() - start < 5 * CC_NSEC_PER_SEC);
        assert_int_equal(requests(f, "PUT /actions/SendCtrlAltDel"), 1);
        assert_int_equal(count(f, "signal", NULL), 1);

        double_set(&f->vmm, "SIGTERM", "ignore");
        launch(f, &proc);
        stop(f, &proc, 0);
        assert_int_equal(requests(f, "PUT /actions/SendCtrlAltDel"), 1); /* none asked this time */
}

/* Nothing to wait for when the key press is refused, or the VMM does not answer in its time. */
static void a_vmm_that_does_not_ask_the_guest(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        int64_t start;

        launch(f, &proc);
        fault(f, "PUT /actions/SendCtrlAltDel",
              "\"do\":\"reply\",\"status\":400,\"body\":{\"fault_message\":\"not here\"}");
        start = cc_monotonic();
        stop(f, &proc, 30000);
        assert_true(cc_monotonic() - start < 10 * CC_NSEC_PER_SEC);
        double_fault(&f->vmm, "");
        launch(f, &proc);
        fault(f, "PUT /actions/SendCtrlAltDel", "\"do\":\"hang\"");
        stop(f, &proc, 300);
        double_fault(&f->vmm, "");
        launch(f, &proc);
        fault(f, "PUT /actions/SendCtrlAltDel", "\"do\":\"crash\"");
        stop(f, &proc, 30000);
}

static void a_paused_guest(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_HTTP_REPLY struct cc_http_reply reply = { 0 };
        CC_FREE char *socket = cc_path_join(f->run, "api.sock");
        struct cc_err err = CC_ERR_INIT;
        enum hv_state hv;

        launch(f, &proc);
        assert_ok(
                cc_http_unix(socket, "PATCH", "/vm", "{\"state\":\"Paused\"}", 5000, &reply, &err));
        assert_int_equal(reply.status, 204);
        assert_ok(drv->state(&f->env, f->run, &hv, &err));
        assert_int_equal(hv, HV_PAUSED);
        double_forget(&f->vmm);
        fault(f, "PATCH /vm/Resumed", "\"do\":\"drop-after\"");
        assert_ok(drv->resume(&f->env, f->run, &err));
        assert_int_equal(requests(f, "PATCH /vm/Resumed"), 1);
        assert_ok(drv->state(&f->env, f->run, &hv, &err));
        assert_int_equal(hv, HV_RUNNING);
        /* Lost before it arrived: an error, and still one request. */
        double_fault(&f->vmm, "");
        assert_ok(
                cc_http_unix(socket, "PATCH", "/vm", "{\"state\":\"Paused\"}", 5000, &reply, &err));
        double_forget(&f->vmm);
        fault(f, "PATCH /vm/Resumed", "\"do\":\"drop-before\"");
        assert_int_equal(drv->resume(&f->env, f->run, &err), -CC_IO);
        assert_int_equal(requests(f, "PATCH /vm/Resumed"), 1);
        stop(f, &proc, 0);
}

/* ---- the live check ---- */

static void only_its_own_process(void **state)
{
        struct fixture *f = *state;
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        CC_FREE char *pid_file = cc_path_join(f->run, "fc.pid");
        CC_FREE char *longer = xasprintf("%s2", f->run);
        CC_FREE char *other = cc_path_join(longer, "fc.pid");
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;

        launch(f, &proc);
        assert_int_equal(drv->find(f->run, f->log, proc.starttime, &found), 0);
        vm_proc_clear(&found);
        assert_int_equal(drv->find(f->run, f->log, proc.starttime + 1, &found), -CC_NOT_FOUND);
        /* The same pid in the pid file of another VM, whose path even begins alike. */
        assert_int_equal(mkdir(longer, 0750), 0);
        assert_ok(cc_read_file(pid_file, 64, &text, NULL, &err));
        assert_ok(cc_publish(other, text, strlen(text), 0600, &err));
        assert_int_equal(drv->find(longer, f->log, 0, &found), -CC_NOT_FOUND);
        assert_int_equal(drv->find(f->run, longer, 0, &found), -CC_NOT_FOUND);
        assert_int_equal(drv->vacant(&f->env, longer, &err), 0);
        /* Without its pid file it cannot be named, but it is there. */
        assert_int_equal(unlink(pid_file), 0);
        assert_int_equal(drv->find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
        assert_int_equal(drv->vacant(&f->env, f->run, &err), -CC_STATE);
        assert_non_null(strstr(err.msg, "still listens"));
        stop_now(f, &proc);
        assert_int_equal(drv->vacant(&f->env, f->run, &err), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                T(a_clean_start),
                T(refusals_are_final),
                T(lost_replies_are_repeated),
                T(repeating_ends),
                T(instance_start_is_sent_once),
                T(a_vmm_that_dies),
                T(real_refusals),
                T(never_ready),
                T(logs_are_rotated),
                T(a_console_that_survives_its_readers),
                T(no_console),
                T(a_reboot_ends_the_vmm),
                T(a_guest_that_obeys),
                T(a_guest_that_does_not),
                T(a_vmm_that_does_not_ask_the_guest),
                T(a_paused_guest),
                T(only_its_own_process),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
