/*
 * The Cloud Hypervisor driver when things go wrong, against the double: an API that loses replies,
 * hangs, answers slowly or with garbage; a VMM that dies; recycled pids; missing files. What was
 * asked of the VMM is read from the double's journal.
 */
#include "ch_fixture.h"

static void no_runtime_files(struct fixture *f)
{
        for (size_t i = 0; drv->runtime_files[i]; i++) {
                CC_FREE char *path = cc_path_join(f->run, drv->runtime_files[i]);

                if (cc_exists(path))
                        fail_msg("%s is left behind", path);
        }
}

/* A launch that must fail, saying so, with nothing left. Returns its class. */
static int launch_fails(struct fixture *f, const char *says)
{
        struct cc_err err = CC_ERR_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        int r = drv->launch(&f->env, &f->spec, &f->proc, &err);

        if (r >= 0 || !strstr(err.msg, says))
                fail_msg("expected \"%s\", got %d \"%s\"", says, r, err.msg);
        assert_int_equal(f->proc.pidfd, -1);
        no_runtime_files(f);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
        assert_int_equal(ch_find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
        return r;
}

/* ---- calls are sent once (acceptance 11) ---- */

static void test_lost_replies(void **state)
{
        static const struct {
                const char *fault;
                bool executed;
        } rows[] = { { "drop-before", false }, { "drop-after", true }, { "cut", true } };
        struct fixture *f = fixture(state);

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                CC_FREE char *fault = xasprintf("{\"do\":\"%s\",\"bytes\":9}", rows[i].fault);
                struct cc_err err = CC_ERR_INIT;
                enum hv_state hv = HV_BROKEN;

                launch(f);
                double_forget(&f->vmm);
                double_fault(&f->vmm, fault);
                assert_int_equal(ch_pause(f->run, &err), -CC_IO);
                events_are(f, "vm.pause\n");
                double_fault(&f->vmm, "");
                assert_ok(drv->state(&f->env, f->run, &hv, &err));
                assert_int_equal(hv, rows[i].executed ? HV_PAUSED : HV_RUNNING);
                assert_ok(drv->stop(&f->env, f->run, &f->proc, 0, &err));
                vm_proc_clear(&f->proc);

                launch(f);
                assert_ok(ch_pause(f->run, &err));
                double_forget(&f->vmm);
                double_fault(&f->vmm, fault);
                assert_int_equal(drv->resume(&f->env, f->run, &err), -CC_IO);
                events_are(f, "vm.resume\n");
                double_fault(&f->vmm, "");
                assert_ok(drv->state(&f->env, f->run, &hv, &err));
                assert_int_equal(hv, rows[i].executed ? HV_RUNNING : HV_PAUSED);
                assert_ok(drv->stop(&f->env, f->run, &f->proc, 0, &err));
                vm_proc_clear(&f->proc);
        }
}

/* The button was pressed, only its reply is lost: the guest goes down and nobody kills it. */
static void test_lost_button_reply(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;

        launch(f);
        double_forget(&f->vmm);
        double_fault(&f->vmm, "{\"endpoint\":\"vm.power-button\",\"do\":\"drop-after\"}");
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 10000, &err));
        assert_true(ended(f));
        events_are(f, "vm.power-button\n");
}

static void test_lost_shutdown_reply(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;

        launch(f);
        double_forget(&f->vmm);
        double_fault(&f->vmm, "{\"endpoint\":\"vm.shutdown\",\"do\":\"drop-after\"}");
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 0, &err));
        assert_true(ended(f));
        events_are(f, "vm.shutdown\nsignal\n");
}

/* ---- stop ---- */

static void test_graceful_stop(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;

        launch(f);
        double_forget(&f->vmm);
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 10000, &err));
        assert_true(ended(f));
        events_are(f, "vm.power-button\n");
}

static void test_guest_ignores_the_button(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        int64_t start;

        double_set(&f->vmm, "POWER_BUTTON", "ignore");
        launch(f);
        double_forget(&f->vmm);
        start = cc_monotonic();
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 700, &err));
        assert_true(ended(f));
        assert_true(cc_monotonic() - start >= 700 * CC_NSEC_PER_MSEC);
        events_are(f, "vm.power-button\nvm.shutdown\nsignal\n");
}

/* A refusal is final: no reason to wait out the grace. */
static void test_button_refused(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        int64_t start;

        launch(f);
        double_forget(&f->vmm);
        double_fault(&f->vmm, "{\"endpoint\":\"vm.power-button\",\"do\":\"reply\",\"status\":500,"
                              "\"body\":[\"no\"]}");
        start = cc_monotonic();
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 10000, &err));
        assert_true(ended(f));
        assert_true(cc_monotonic() - start < 5 * CC_NSEC_PER_SEC);
        events_are(f, "vm.power-button\nvm.shutdown\nsignal\n");
}

/* An API that hangs does not keep a VM alive. */
static void test_stop_with_a_hanging_api(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;

        launch(f);
        double_forget(&f->vmm);
        double_fault(&f->vmm, "{\"do\":\"hang\"}");
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 500, &err));
        assert_true(ended(f));
        events_are(f, "vm.power-button\nsignal\n");
}

static void test_stop_of_a_stopped_process(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;

        launch(f);
        assert_ok(cc_pidfd_signal(f->proc.pidfd, SIGSTOP, &err));
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 0, &err));
        assert_true(ended(f));
        /* Again, of what is gone. */
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 1000, &err));
}

/* ---- busy and dead (acceptance 12) ---- */

static void test_slow_is_busy(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        enum hv_state hv = HV_BROKEN;

        launch(f);
        double_fault(&f->vmm, "{\"endpoint\":\"vm.info\",\"do\":\"delay\",\"ms\":1500}");
        assert_ok(drv->state(&f->env, f->run, &hv, &err));
        assert_int_equal(hv, HV_RUNNING);
        double_fault(&f->vmm, "{\"endpoint\":\"vm.info\",\"do\":\"hang\"}");
        assert_int_equal(drv->state(&f->env, f->run, &hv, &err), -CC_TIMEOUT);
        assert_int_equal(drv->find(f->run, f->log, f->proc.starttime, &found), 0);
        assert_int_equal(found.pid, f->proc.pid);
        /* And nothing that still answers is removed. */
        assert_int_equal(drv->vacant(&f->env, f->run, &err), -CC_STATE);
}

static void test_dead_is_dead(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        enum hv_state hv = HV_BROKEN;

        launch(f);
        assert_ok(drv->state(&f->env, f->run, &hv, &err));
        assert_int_equal(hv, HV_RUNNING);
        double_fault(&f->vmm, "{\"endpoint\":\"vm.info\",\"do\":\"crash\"}");
        assert_int_equal(drv->state(&f->env, f->run, &hv, &err), -CC_IO);
        assert_int_equal(cc_pidfd_wait(f->proc.pidfd, 5000), 1);
        assert_int_equal(drv->find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
        assert_int_equal(drv->state(&f->env, f->run, &hv, &err), -CC_UNAVAILABLE);
        assert_ok(drv->vacant(&f->env, f->run, &err));
        cc_reap(f->proc.pid);
}

static void test_states(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        enum hv_state hv = HV_BROKEN;

        launch(f);
        assert_ok(drv->resume(&f->env, f->run, &err)); /* of a running machine: success */
        assert_ok(ch_pause(f->run, &err));
        assert_ok(ch_pause(f->run, &err));
        assert_ok(drv->state(&f->env, f->run, &hv, &err));
        assert_int_equal(hv, HV_PAUSED);
        assert_ok(drv->resume(&f->env, f->run, &err));
        assert_ok(drv->state(&f->env, f->run, &hv, &err));
        assert_int_equal(hv, HV_RUNNING);
        assert_ok(ch_put(f->run, "vm.shutdown", NULL, CH_API_MS, NULL, &err));
        assert_ok(drv->state(&f->env, f->run, &hv, &err));
        assert_int_equal(hv, HV_UNCONFIGURED);
        /* A refusal carries the VMM's chain of causes. */
        assert_int_equal(drv->resume(&f->env, f->run, &err), -CC_STATE);
        assert_non_null(strstr(err.msg, "vm.resume: "));
        print_message("%s\n", err.msg);
}

/* ---- launch ---- */

static void test_api_not_ready_yet(void **state)
{
        static const char *const faults[] = {
                "{\"endpoint\":\"vm.info\",\"nth\":1,\"do\":\"reply\",\"status\":404,\"body\":["
                "\"VM "
                "is not created\"]}",
                "{\"endpoint\":\"vm.info\",\"nth\":1,\"do\":\"reply\",\"status\":500,\"body\":["
                "\"VM "
                "is not created\"]}",
                "{\"endpoint\":\"vm.info\",\"nth\":1,\"do\":\"reply\",\"status\":500,\"body\":["
                "\"later\"]}",
                "{\"endpoint\":\"vm.info\",\"nth\":1,\"do\":\"reply\",\"status\":200,\"body\":{"
                "\"state\":\"Created\"}}",
                "{\"endpoint\":\"vm.info\",\"nth\":1,\"do\":\"drop-before\"}",
                "{\"endpoint\":\"vm.info\",\"nth\":1,\"do\":\"delay\",\"ms\":300}",
        };
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;

        for (size_t i = 0; i < CC_ARRAY_LEN(faults); i++) {
                double_fault(&f->vmm, faults[i]);
                launch(f);
                assert_ok(drv->stop(&f->env, f->run, &f->proc, 0, &err));
                vm_proc_clear(&f->proc);
        }
}

static void test_api_never_ready(void **state)
{
        static const struct {
                const char *fault, *says;
                int class;
                bool timed;
        } rows[] = {
                { "{\"do\":\"raw\",\"body\":\"SSH-2.0-x\\r\\n\"}", "the answer is not HTTP",
                  -CC_INVALID },
                { "{\"do\":\"reply\",\"status\":200,\"body\":\"<html>\"}", "vm.info: answer",
                  -CC_INVALID },
                { "{\"do\":\"reply\",\"status\":200,\"body\":[]}", "no object", -CC_INVALID },
                { "{\"do\":\"reply\",\"status\":200,\"body\":{\"state\":\"Dreaming\"}}", "Dreaming",
                  -CC_STATE },
                { "{\"do\":\"reply\",\"status\":200,\"body\":{\"state\":7}}", "no known state",
                  -CC_STATE },
                { "{\"do\":\"reply\",\"status\":400,\"body\":{\"error\":\"what\"}}", "what",
                  -CC_INVALID },
                { "{\"do\":\"cut\",\"bytes\":20}", "connection ended", -CC_IO },
                { "{\"do\":\"hang\"}", "no answer within", -CC_TIMEOUT, true },
                { "{\"do\":\"reply\",\"status\":404,\"body\":[\"VM is not created\"]}",
                  "not created", -CC_STATE, true },
                { "{\"do\":\"reply\",\"status\":200,\"body\":{\"state\":\"Created\"}}",
                  "its machine is Created", -CC_STATE, true },
        };
        struct fixture *f = fixture(state);

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                /* Time enough for a loaded host to start the double, where all of it is used. */
                f->env.socket_wait_ms = rows[i].timed ? 600 : 5000;
                double_fault(&f->vmm, rows[i].fault);
                assert_int_equal(launch_fails(f, rows[i].says), rows[i].class);
        }
}

static void test_dies_during_start(void **state)
{
        struct fixture *f = fixture(state);

        double_fault(&f->vmm, "{\"endpoint\":\"vm.info\",\"do\":\"crash\"}");
        assert_int_equal(launch_fails(f, "launch cloud-hypervisor: "), -CC_UNAVAILABLE);
        double_fault(&f->vmm, "");
        /* Its last words are a chain of causes; we say them in one line. */
        f->disk.format = "qcow2";
        assert_int_equal(launch_fails(f, "launch cloud-hypervisor: Error booting VM: "),
                         -CC_UNAVAILABLE);
}

/* Scripts instead of the double. */
static void use_script(struct fixture *f, const char *text)
{
        CC_FREE char *path = cc_path_join(f->dir, "script");

        double_write(path, text);
        assert_int_equal(chmod(path, 0700), 0);
        f->env.binary = f->vmm.binary ? f->vmm.binary : path;
        (void)unlink(f->env.binary);
        assert_int_equal(rename(path, f->env.binary), 0);
}

#define SCRIPT_VERSION                                                                             \
        "#!/bin/sh\n[ \"$1\" != --version ] || { echo cloud-hypervisor v53.0; exit 0; }\n"

static void test_exits_at_once(void **state)
{
        struct fixture *f = fixture(state);

        use_script(f, SCRIPT_VERSION "echo 'no KVM for you' >&2; exit 1\n");
        assert_int_equal(launch_fails(f, "launch cloud-hypervisor: no KVM for you"),
                         -CC_UNAVAILABLE);
        use_script(f, SCRIPT_VERSION "exit 0\n");
        assert_int_equal(launch_fails(f, "ended without a message"), -CC_UNAVAILABLE);
}

static void test_no_socket(void **state)
{
        struct fixture *f = fixture(state);

        f->env.socket_wait_ms = 200;
        use_script(f, SCRIPT_VERSION "exec sleep 60\n");
        assert_int_equal(launch_fails(f, "no API socket within 200 ms"), -CC_TIMEOUT);
}

/* A leftover of a VMM that was killed is no obstacle, and the log of the last start is kept. */
static void test_start_over(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *old_log = cc_path_join(f->log, CH_LOG ".1");
        CC_FREE char *serial = cc_path_join(f->run, CH_SERIAL_SOCK);

        launch(f);
        assert_ok(cc_pidfd_signal(f->proc.pidfd, SIGKILL, &err));
        assert_int_equal(cc_pidfd_wait(f->proc.pidfd, 5000), 1);
        cc_reap(f->proc.pid);
        vm_proc_clear(&f->proc);
        double_write(serial, "stale");
        assert_false(cc_exists(old_log));
        launch(f);
        assert_true(cc_exists(old_log));
        assert_false(cc_exists(serial));
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 0, &err));
}

/* ---- what is missing or does not fit ---- */

static void test_missing(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        struct vm_spec uefi = f->spec;

        uefi.kernel = uefi.cmdline = NULL;
        assert_int_equal(drv->check(&f->env, &uefi, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "firmware/CLOUDHV.fd is missing"));
        assert_true(err.hint[0]);

        assert_int_equal(unlink(f->kernel), 0);
        assert_int_equal(launch_fails(f, f->kernel), -CC_NOT_FOUND);

        f->env.binary = "/nonexistent/cloud-hypervisor";
        assert_int_equal(drv->probe(&f->env, NULL, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "/nonexistent/cloud-hypervisor not found"));
        assert_int_equal(launch_fails(f, "not found"), -CC_UNAVAILABLE);
        f->env.binary = "/bin/true";
        assert_int_equal(drv->probe(&f->env, NULL, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "does not look like"));
        use_script(f, "#!/bin/sh\necho cloud-hypervisor v50.0\n");
        assert_int_equal(drv->probe(&f->env, NULL, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "is version 50.0, need >= 51.0"));
}

static void test_version_is_cached(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *count = cc_path_join(f->dir, "count");
        CC_FREE char *text =
                xasprintf("#!/bin/sh\necho >>%s\necho cloud-hypervisor v52.1\n", count);
        struct stat st;

        use_script(f, text);
        f->env.cache_dir = f->dir;
        for (int i = 0; i < 3; i++) {
                CC_BUF struct cc_buf version = { 0 };

                assert_ok(drv->version(&f->env, &version, &err));
                assert_string_equal(version.data, "52.1");
        }
        assert_int_equal(stat(count, &st), 0);
        assert_int_equal(st.st_size, 1);
        /* Another program under the same name is asked again. */
        use_script(f, "#!/bin/sh\necho cloud-hypervisor v53.0.1-dirty\n");
        {
                CC_BUF struct cc_buf version = { 0 };

                assert_ok(drv->version(&f->env, &version, &err));
                assert_string_equal(version.data, "53.0.1-dirty");
        }
}

static void test_socket_path_too_long(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        char run[HV_SOCKET_PATH_MAX];

        memset(run, 'x', sizeof(run) - 1);
        run[sizeof(run) - 1] = '\0';
        f->spec.run_dir = run;
        assert_int_equal(drv->check(&f->env, &f->spec, &err), -CC_INVALID);
        assert_non_null(strstr(err.msg, "at most 107 fit"));
}

/* ---- identity ---- */

static void set_pid(struct fixture *f, pid_t pid)
{
        CC_FREE char *path = cc_path_join(f->run, CH_PID);
        CC_FREE char *text = xasprintf("%d\n", (int)pid);

        double_write(path, text);
}

static void test_recycled_pid(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        CC_FREE char *path = cc_path_join(f->run, CH_PID);

        /* Somebody else's process, and no VMM. */
        set_pid(f, getpid());
        assert_int_equal(ch_find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
        launch(f);
        /* The VMM lives, its pid file is wrong, gone, or full of garbage. */
        set_pid(f, getpid());
        assert_int_equal(ch_find(f->run, f->log, 0, &found), 0);
        assert_int_equal(found.pid, f->proc.pid);
        assert_true(found.starttime == f->proc.starttime);
        vm_proc_clear(&found);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(ch_find(f->run, f->log, f->proc.starttime, &found), 0);
        assert_int_equal(found.pid, f->proc.pid);
        vm_proc_clear(&found);
        double_write(path, "12 monkeys\n");
        assert_int_equal(ch_find(f->run, f->log, 0, &found), 0);
        vm_proc_clear(&found);
        assert_int_equal(ch_find(f->run, f->log, f->proc.starttime + 1, &found), -CC_NOT_FOUND);
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 0, &err));
        set_pid(f, f->proc.pid);
        assert_int_equal(ch_find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
}

/* The first child of a process, or 0. */
static pid_t child_of(pid_t pid)
{
        CC_FREE char *path = xasprintf("/proc/%d/task/%d/children", (int)pid, (int)pid);
        CC_FREE char *text = NULL;
        struct cc_err err = CC_ERR_INIT;

        if (!cc_exists(path))
                skip_because("needs /proc/PID/task/TID/children");
        assert_ok(cc_read_file(path, 4096, &text, NULL, &err));
        return (pid_t)strtol(text, NULL, 10);
}

/* The helper that keeps a console's size has the VMM's command line, and may outlive it. */
static void test_helper_is_no_vmm(void **state)
{
        struct fixture *f = fixture(state);
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        CC_FREE char *pid_file = cc_path_join(f->run, CH_PID);
        pid_t helper;

        launch(f);
        assert_int_equal(unlink(pid_file), 0);
        helper = child_of(f->proc.pid);
        assert_true(helper > 0);
        assert_int_equal(ch_find(f->run, f->log, 0, &found), 0);
        assert_int_equal(found.pid, f->proc.pid);
        vm_proc_clear(&found);
        /* Killed, the VMM leaves its socket, and the helper where it is. */
        assert_int_equal(kill(helper, SIGSTOP), 0);
        assert_int_equal(kill(f->proc.pid, SIGKILL), 0);
        assert_int_equal(cc_pidfd_wait(f->proc.pidfd, 10000), 1);
        assert_int_equal(ch_find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
        set_pid(f, helper);
        assert_int_equal(ch_find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
        assert_int_equal(kill(helper, SIGKILL), 0);
}

/* A process that only mentions the socket is not the VMM, whatever the pid file says. */
static void test_mention_is_no_identity(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        VM_PROC struct vm_proc found = VM_PROC_INIT;
        VM_PROC struct vm_proc decoy = VM_PROC_INIT;
        CC_FREE char *socket = cc_path_join(f->run, CH_API_SOCK);
        CC_FREE char *joined = xasprintf("--api-socket %s", socket);
        const char *const argvs[][8] = {
                { "/bin/sh", "-c", "sleep 60; :", "x", "--api-socket", socket, NULL },
                { "/bin/sh", "-c", "sleep 60; :", joined, NULL },
                { "/usr/bin/tail", "-f", "/dev/null", socket, NULL },
        };

        double_write(socket, "");
        for (size_t i = 0; i < CC_ARRAY_LEN(argvs); i++) {
                struct cc_spawn spawn = {
                        .argv = argvs[i], .fd_in = -1, .fd_out = -1, .fd_err = -1
                };

                assert_ok(cc_spawn(&spawn, &decoy.pid, &decoy.pidfd, &err));
                set_pid(f, decoy.pid);
                assert_int_equal(ch_find(f->run, f->log, 0, &found), -CC_NOT_FOUND);
                hv_abort(&decoy);
        }
}

/* Something answers on the socket that cannot be the VMM of this directory. */
static void test_stranger_on_the_socket(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        int fd;

        assert_ok(drv->vacant(&f->env, f->run, &err));
        assert_ok(hv_listen_unix(f->run, CH_API_SOCK, &fd, &err));
        assert_int_equal(drv->vacant(&f->env, f->run, &err), -CC_STATE);
        assert_non_null(strstr(err.msg, "still answers"));
        close(fd);
        assert_ok(drv->vacant(&f->env, f->run, &err));
}

/* ---- console ---- */

static bool hears(int fd, const char *text)
{
        CC_BUF struct cc_buf heard = { 0 };
        int64_t end = cc_monotonic() + 10 * CC_NSEC_PER_SEC;

        while (cc_monotonic() < end) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                char chunk[512];
                ssize_t n;

                (void)poll(&p, 1, 100);
                n = read(fd, chunk, sizeof(chunk));
                if (n > 0)
                        cc_buf_add(&heard, chunk, (size_t)n);
                if (heard.len && strstr(heard.data, text))
                        return true;
        }
        return false;
}

static void test_pty_console(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int fd = -1;

        f->spec.cmdline = "console=hvc0 cocoon.hostname=talker";
        launch(f);
        /* Questions may be asked again: the answer to the first is lost. */
        double_fault(&f->vmm, "{\"endpoint\":\"vm.info\",\"nth\":2,\"do\":\"drop-before\"}");
        assert_ok(drv->console_open(f->run, f->proc.pidfd, &fd, &err));
        assert_true(isatty(fd));
        assert_true(hears(fd, "cocoon-tiny ready: hostname=talker"));
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 0, &err));
}

static void test_serial_console(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *dir = cc_path_join(f->dir, "firmware");
        CC_FREE char *firmware = cc_path_join(dir, "CLOUDHV.fd");
        CC_CLOSE int fd = -1;
        struct stat st;

        assert_int_equal(mkdir(dir, 0700), 0);
        double_write(firmware, "firmware");
        f->spec.kernel = f->spec.cmdline = NULL;
        launch(f);
        assert_ok(drv->console_open(f->run, f->proc.pidfd, &fd, &err));
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(S_ISSOCK(st.st_mode));
        assert_ok(drv->stop(&f->env, f->run, &f->proc, 0, &err));
}

static void test_no_console(void **state)
{
        struct fixture *f = fixture(state);
        struct cc_err err = CC_ERR_INIT;
        int fd = -1;

        launch(f);
        double_fault(&f->vmm,
                     "{\"endpoint\":\"vm.info\",\"do\":\"reply\",\"status\":200,\"body\":{"
                     "\"state\":\"Running\",\"config\":{\"console\":{\"mode\":\"Null\"}}}}");
        assert_int_equal(drv->console_open(f->run, f->proc.pidfd, &fd, &err), -CC_UNAVAILABLE);
        assert_non_null(strstr(err.msg, "its mode is \"Null\""));
        assert_int_equal(fd, -1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                test(test_lost_replies),
                test(test_lost_button_reply),
                test(test_lost_shutdown_reply),
                test(test_graceful_stop),
                test(test_guest_ignores_the_button),
                test(test_button_refused),
                test(test_stop_with_a_hanging_api),
                test(test_stop_of_a_stopped_process),
                test(test_slow_is_busy),
                test(test_dead_is_dead),
                test(test_states),
                test(test_api_not_ready_yet),
                test(test_api_never_ready),
                test(test_dies_during_start),
                test(test_exits_at_once),
                test(test_no_socket),
                test(test_start_over),
                test(test_missing),
                test(test_version_is_cached),
                test(test_socket_path_too_long),
                test(test_recycled_pid),
                test(test_helper_is_no_vmm),
                test(test_mention_is_no_identity),
                test(test_stranger_on_the_socket),
                test(test_pty_console),
                test(test_serial_console),
                test(test_no_console),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
