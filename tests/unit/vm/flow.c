/*
 * The state machine with a driver whose VMM is a sleeping shell: every answer of a live VMM, every
 * failure of a start, and what the record says afterwards. Crashes are tested with the real program
 * (tests/e2e/crash.bats).
 */
#include "unit.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/id.h"
#include "base/proc.h"
#include "console/console.h"
#include "vm/internal.h"

/* ---- the driver ---- */

static struct {
        enum hv_state state;
        bool launch_fails, stop_fails, resumed;
        int launches, stops, last_grace;
} fake;

static char *pid_path(const char *run_dir)
{
        return cc_path_join(run_dir, "fake.pid");
}

static int fake_probe(const struct hv_env *env, struct cc_buf *detail, struct cc_err *err)
{
        return 0;
}

static int fake_check(const struct hv_env *env, const struct vm_spec *spec, struct cc_err *err)
{
        return 0;
}

static int fake_launch(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
                       struct cc_err *err)
{
        CC_FREE char *pid_file = pid_path(spec->run_dir);
        const char *argv[] = { "/bin/sh", "-c", "sleep 300; :", spec->log_dir, NULL };
        struct cc_spawn spawn = {
                .argv = argv,
                .fd_in = -1,
                .fd_out = -1,
                .fd_err = -1,
                .pid_file = pid_file,
                .new_session = true,
        };
        int r;

        fake.launches++;
        if (fake.launch_fails)
                return cc_fail(err, CC_IO, "launch fake: no luck");
        r = cc_spawn(&spawn, &ret->pid, &ret->pidfd, err);
        if (r == 0)
                (void)cc_proc_starttime(ret->pid, &ret->starttime);
        return r;
}

static int fake_find(const char *run_dir, const char *log_dir, uint64_t starttime,
                     struct vm_proc *ret)
{
        CC_FREE char *pid_file = pid_path(run_dir);
        const char *const needles[] = { log_dir, NULL };

        if (cc_pid_file_read(pid_file, &ret->pid) < 0)
                return -CC_NOT_FOUND;
        if (cc_proc_open(ret->pid, starttime, needles, &ret->pidfd) < 0)
                return -CC_NOT_FOUND;
        return cc_proc_starttime(ret->pid, &ret->starttime);
}

static int fake_state(const struct hv_env *env, const char *run_dir, enum hv_state *ret,
                      struct cc_err *err)
{
        *ret = fake.state;
        return 0;
}

static int fake_stop(const struct hv_env *env, const char *run_dir, struct vm_proc *proc,
                     int grace_ms, struct cc_err *err)
{
        fake.stops++;
        fake.last_grace = grace_ms;
        if (fake.stop_fails)
                return cc_fail(err, CC_TIMEOUT, "it will not die");
        (void)kill(-proc->pid, SIGKILL);
        (void)waitpid(proc->pid, NULL, 0);
        return 0;
}

static int fake_resume(const struct hv_env *env, const char *run_dir, struct cc_err *err)
{
        fake.resumed = true;
        return 0;
}

static const char *const fake_runtime[] = { "fake.pid", "api.sock", NULL };

static const struct hv_driver driver = {
        .name = "fake",
        .title = "Fake",
        .dir = "fake",
        .console_prefix = "console=x",
        .caps = HV_CAP_DIRECT_BOOT | HV_CAP_SERIAL_NAMES,
        .max_disks = 8,
        .max_nics = 8,
        .probe = fake_probe,
        .check = fake_check,
        .prepare = fake_check,
        .launch = fake_launch,
        .find = fake_find,
        .state = fake_state,
        .stop = fake_stop,
        .resume = fake_resume,
        .runtime_files = fake_runtime,
        .socket_name = "api.sock",
};

/* ---- fixture: a store and one created VM ---- */

struct fixture {
        void *dir;
        struct config c;
        struct engine e;
        struct vm_record vm;
};

static void add_disk(struct fixture *f, const char *role, bool ro)
{
        struct vm_disk *d = record_array_add(&vm_disk_type, &f->vm.storage_configs);

        d->path = xasprintf("%s/%s.img", (char *)f->dir, role);
        d->serial = xasprintf("cocoon-%s", role);
        d->role = xstrdup(role);
        d->ro = ro;
        d->direct_io = -1;
}

static void store(struct fixture *f, enum vm_state vm_state)
{
        struct cc_err err = CC_ERR_INIT;

        vm_set_state(&f->vm, VM_CREATING);
        assert_ok(meta_begin(f->e.meta, META_RELAXED, &err));
        assert_ok(meta_vm_insert(f->e.meta, &f->vm, &err));
        assert_ok(meta_commit(f->e.meta, &err));
        if (vm_state == VM_CREATING)
                return;
        vm_set_state(&f->vm, vm_state);
        assert_ok(vm_commit(&f->e, &f->vm, "create", &err));
}

static int setup(void **state)
{
        struct fixture *f = xcalloc(1, sizeof(*f));
        struct cc_err err = CC_ERR_INIT;
        char id[CC_ID_LEN + 1];

        memset(&fake, 0, sizeof(fake));
        if (scratch_setup(&f->dir) < 0)
                return -1;
        f->c = (struct config){
                .root_dir = xasprintf("%s/root", (char *)f->dir),
                .run_dir = xasprintf("%s/run", (char *)f->dir),
                .log_dir = xasprintf("%s/log", (char *)f->dir),
                .hypervisor = xstrdup("auto"),
                .pool_size = 2,
                .stop_timeout_seconds = 3,
                .socket_wait_timeout_seconds = 1,
                .terminate_grace_period_seconds = 1,
        };
        assert_ok(engine_open(&f->c, &f->e, &err));
        cc_id_new(id);
        f->vm.id = xstrdup(id);
        /* A driver that is built in, for the verbs that look it up; the steps get the fake. */
        f->vm.hypervisor = xstrdup(hv_driver_at(0)->name);
        f->vm.config.name = xstrdup("web");
        f->vm.config.image_type = xstrdup("oci");
        f->vm.boot_config.kernel_path = xstrdup("/k");
        f->vm.run_dir = xasprintf("%s/fake/%s", f->c.run_dir, id);
        f->vm.log_dir = xasprintf("%s/fake/%s", f->c.log_dir, id);
        assert_ok(cc_mkdir_p(f->vm.run_dir, 0750, &err));
        assert_ok(cc_mkdir_p(f->vm.log_dir, 0750, &err));
        add_disk(f, "layer", true);
        add_disk(f, "cow", false);
        *state = f;
        return 0;
}

static void kill_leftover(struct fixture *f)
{
        struct vm_proc p = VM_PROC_INIT;

        if (fake_find(f->vm.run_dir, f->vm.log_dir, 0, &p) == 0) {
                (void)kill(-p.pid, SIGKILL);
                (void)waitpid(p.pid, NULL, 0);
        }
        vm_proc_clear(&p);
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        kill_leftover(f);
        engine_close(&f->e);
        vm_record_clear(&f->vm);
        free(f->c.root_dir);
        free(f->c.run_dir);
        free(f->c.log_dir);
        free(f->c.hypervisor);
        (void)scratch_teardown(&f->dir);
        free(f);
        return 0;
}

static void assert_stored_state(struct fixture *f, enum vm_state want, const char *reason)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        assert_ok(meta_vm_get(f->e.meta, f->vm.id, &vm, &err));
        assert_string_equal(vm.state, vm_state_name(want));
        if (reason)
                assert_string_equal(vm.last_transition_reason, reason);
}

static bool alive(const struct fixture *f)
{
        VM_PROC struct vm_proc p = VM_PROC_INIT;

        return fake_find(f->vm.run_dir, f->vm.log_dir, 0, &p) == 0;
}

/* ---- start ---- */

static void start_stop_start(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        int64_t generation;

        store(f, VM_CREATED);
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        assert_stored_state(f, VM_RUNNING, "boot");
        assert_true(alive(f));
        assert_non_null(f->vm.proc);
        assert_true(f->vm.proc->starttime > 0);
        assert_true(f->vm.first_booted);
        assert_non_null(strstr(f->vm.boot_config.cmdline, "cocoon.hostname=web"));

        /* Starting a running VM changes nothing. */
        generation = f->vm.transition_generation;
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        assert_int_equal(fake.launches, 1);
        assert_int_equal(f->vm.transition_generation, generation);

        assert_ok(vm_stop_locked(&f->e, &driver, &f->vm, 3000, &err));
        assert_int_equal(fake.last_grace, 3000);
        assert_stored_state(f, VM_STOPPED, "stop-user");
        assert_false(alive(f));
        assert_true(f->vm.stopped_at > 0);
        assert_null(f->vm.proc);

        /* Stopping a stopped one neither. */
        generation = f->vm.transition_generation;
        assert_ok(vm_stop_locked(&f->e, &driver, &f->vm, 3000, &err));
        assert_int_equal(f->vm.transition_generation, generation);

        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        assert_stored_state(f, VM_RUNNING, "restart");
        assert_int_equal(f->vm.stopped_at, 0);
}

static void launch_failure_is_an_error_state(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        store(f, VM_CREATED);
        fake.launch_fails = true;
        assert_int_equal(vm_start_locked(&f->e, &driver, &f->vm, &err), -CC_IO);
        assert_string_equal(err.msg, "launch fake: no luck");
        assert_stored_state(f, VM_ERROR, "error");
        fake.launch_fails = false;
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        assert_stored_state(f, VM_RUNNING, "boot");
}

static void injected_failures(void **state)
{
        static const struct {
                const char *label;
                enum vm_state after;
        } rows[] = {
                { "start.T2:error", VM_CREATED },
                { "start.T4:error", VM_ERROR },
                { "start.T5:error", VM_ERROR },
        };
        struct fixture *f = *state;

        store(f, VM_CREATED);
        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++) {
                struct cc_err err = CC_ERR_INIT;

                assert_int_equal(setenv("COCOON_FAILPOINT", rows[i].label, 1), 0);
                assert_int_equal(vm_start_locked(&f->e, &driver, &f->vm, &err), -CC_INTERNAL);
                assert_int_equal(unsetenv("COCOON_FAILPOINT"), 0);
                assert_stored_state(f, rows[i].after, NULL);
                assert_false(alive(f));
        }
}

/* Killed after T3-T5: a VMM lives, the record is old. */
static void a_live_vmm_is_adopted(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        int64_t started;

        store(f, VM_CREATED);
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        started = f->vm.started_at;
        vm_set_state(&f->vm, VM_STOPPED);
        free(f->vm.proc->boot_id);
        free(f->vm.proc);
        f->vm.proc = NULL;
        assert_ok(vm_commit(&f->e, &f->vm, "stop-user", &err));

        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        assert_int_equal(fake.launches, 1);
        assert_stored_state(f, VM_RUNNING, NULL);
        assert_int_equal(f->vm.started_at, started);
        assert_non_null(f->vm.proc);
}

static void a_paused_vmm_is_resumed(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        store(f, VM_CREATED);
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        fake.state = HV_PAUSED;
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        assert_true(fake.resumed);
        assert_int_equal(fake.launches, 1);
}

static void an_unconfigured_vmm_is_replaced(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        int64_t pid;

        store(f, VM_CREATED);
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        pid = f->vm.proc->pid;
        fake.state = HV_UNCONFIGURED;
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        assert_int_equal(fake.launches, 2);
        assert_int_equal(fake.stops, 1);
        assert_int_equal(fake.last_grace, 0);
        assert_int_not_equal(f->vm.proc->pid, pid);
}

/* The record's process is dead, and another one of this VM lives behind a newer pid file: without
 * the identity cleared at T2, start would take the VM for dead and run it twice. */
static void a_restart_forgets_the_dead_process(void **state)
{
        struct fixture *f = *state;
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err err = CC_ERR_INIT;

        store(f, VM_CREATED);
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        kill_leftover(f);
        assert_int_equal(setenv("COCOON_FAILPOINT", "start.T2:error", 1), 0);
        assert_true(vm_start_locked(&f->e, &driver, &f->vm, &err) < 0);
        assert_int_equal(unsetenv("COCOON_FAILPOINT"), 0);
        assert_ok(meta_vm_get(f->e.meta, f->vm.id, &vm, &err));
        assert_null(vm.proc);
}

static void damaged_records_do_not_start(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        store(f, VM_CREATED);
        cc_strset(&f->vm.boot_config.kernel_path, NULL);
        assert_true(vm_start_locked(&f->e, &driver, &f->vm, &err) < 0);
        cc_strset(&f->vm.boot_config.kernel_path, "/k");
        vm_disk_at(&f->vm, 0)->ro = false; /* a writable layer */
        assert_true(vm_start_locked(&f->e, &driver, &f->vm, &err) < 0);
        assert_int_equal(fake.launches, 0);
        assert_stored_state(f, VM_CREATED, NULL);
}

/* ---- stop ---- */

static void stop_failure_is_an_error_state(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        store(f, VM_CREATED);
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        fake.stop_fails = true;
        assert_int_equal(vm_stop_locked(&f->e, &driver, &f->vm, 0, &err), -CC_TIMEOUT);
        assert_stored_state(f, VM_ERROR, "error");
        fake.stop_fails = false;
        assert_ok(vm_stop_locked(&f->e, &driver, &f->vm, 0, &err));
        assert_stored_state(f, VM_STOPPED, "stop-user");
}

static void a_paused_guest_is_woken_for_a_graceful_stop(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        store(f, VM_CREATED);
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        fake.state = HV_PAUSED;
        assert_ok(vm_stop_locked(&f->e, &driver, &f->vm, 1000, &err));
        assert_true(fake.resumed);
        assert_stored_state(f, VM_STOPPED, "stop-user");
}

static void stop_of_a_dead_vm_says_why(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        store(f, VM_CREATED);
        assert_ok(vm_start_locked(&f->e, &driver, &f->vm, &err));
        kill_leftover(f);
        assert_ok(vm_stop_locked(&f->e, &driver, &f->vm, 0, &err));
        assert_int_equal(fake.stops, 0);
        assert_stored_state(f, VM_STOPPED, "unexpected-exit");
}

static void stop_of_a_created_vm(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *stale = cc_path_join(f->vm.run_dir, "api.sock");

        store(f, VM_CREATED);
        assert_ok(cc_publish(stale, "", 0, 0600, &err));
        assert_ok(vm_stop(&f->e, f->vm.id, false, 0, &err));
        assert_stored_state(f, VM_STOPPED, NULL);
}

/* ---- rm and reconcile ---- */

static void assert_gone(struct fixture *f)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;

        assert_int_equal(meta_vm_get(f->e.meta, f->vm.id, &vm, NULL), -CC_NOT_FOUND);
        assert_false(cc_exists(f->vm.run_dir));
        assert_false(cc_exists(f->vm.log_dir));
        assert_int_equal(vm_rm_roll_forward(&f->e, f->vm.id, NULL), 0);
}

static void rm_removes_everything(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        store(f, VM_STOPPED);
        assert_ok(vm_rm(&f->e, f->vm.id, false, &err));
        assert_gone(f);
        assert_int_equal(vm_rm(&f->e, f->vm.id, false, &err), -CC_NOT_FOUND);
        assert_non_null(strstr(err.msg, "vm not found"));
}

/* After D2 every verb finishes the removal; only rm calls that success. */
static void tombstones_roll_forward(void **state)
{
        static const char *const labels[] = { "rm.D2:error", "rm.D3:error", "rm.D4:error" };
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;

        for (size_t i = 0; i < CC_ARRAY_LEN(labels); i++) {
                for (int verb = 0; verb < 4; verb++) {
                        const char *outcome = "";
                        char id[27];

                        store(f, VM_STOPPED);
                        assert_ok(cc_mkdir_p(f->vm.run_dir, 0750, &err));
                        assert_ok(cc_mkdir_p(f->vm.log_dir, 0750, &err));
                        assert_int_equal(setenv("COCOON_FAILPOINT", labels[i], 1), 0);
                        assert_int_equal(vm_rm(&f->e, f->vm.id, false, NULL), -CC_INTERNAL);
                        assert_int_equal(unsetenv("COCOON_FAILPOINT"), 0);
                        if (verb == 0)
                                assert_ok(vm_rm(&f->e, f->vm.id, false, &err));
                        else if (verb == 1)
                                assert_int_equal(vm_start(&f->e, f->vm.id, NULL), -CC_CONFLICT);
                        else if (verb == 2)
                                assert_int_equal(vm_stop(&f->e, f->vm.id, false, 0, NULL),
                                                 -CC_CONFLICT);
                        else {
                                assert_ok(vm_reconcile_stale_create(&f->e, f->vm.id, &outcome, id,
                                                                    &err));
                                assert_string_equal(outcome, "collected");
                        }
                        assert_gone(f);
                }
        }
}

/* A payload that names somebody else's directory must not be obeyed. */
static void a_tampered_payload_is_refused(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        CC_FREE char *precious = cc_path_join(f->dir, "precious");

        store(f, VM_STOPPED);
        assert_ok(cc_mkdir_p(precious, 0750, &err));
        cc_strset(&f->vm.run_dir, precious);
        assert_int_equal(vm_rm_locked(&f->e, &f->vm, &err), -CC_CORRUPT);
        assert_true(cc_exists(precious));
}

static void reconcile_outcomes(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        const char *outcome = "";
        char id[27];
        int lock;

        store(f, VM_CREATING);
        assert_ok(vm_lock(&f->e, f->vm.id, "test", &lock, &err));
        assert_ok(vm_reconcile_stale_create(&f->e, "web", &outcome, id, &err));
        assert_string_equal(outcome, "busy");
        assert_string_equal(id, f->vm.id);
        close(lock);
        assert_int_equal(vm_start(&f->e, f->vm.id, NULL), -CC_STATE);
        assert_ok(vm_reconcile_stale_create(&f->e, "web", &outcome, id, &err));
        assert_string_equal(outcome, "collected");
        assert_gone(f);
        assert_ok(vm_reconcile_stale_create(&f->e, "web", &outcome, id, &err));
        assert_string_equal(outcome, "not-found");
}

static void reconcile_leaves_finished_vms(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        const char *outcome = "";
        char id[27];

        store(f, VM_CREATED);
        assert_ok(vm_reconcile_stale_create(&f->e, "web", &outcome, id, &err));
        assert_string_equal(outcome, "not-creating");
        assert_stored_state(f, VM_CREATED, NULL);
}

static void locks_time_out(void **state)
{
        struct fixture *f = *state;
        struct cc_err err = CC_ERR_INIT;
        int lock;

        store(f, VM_STOPPED);
        assert_ok(vm_lock(&f->e, f->vm.id, "vm.test", &lock, &err));
        f->e.lock_timeout_ms = 50;
        assert_int_equal(vm_rm(&f->e, f->vm.id, false, &err), -CC_BUSY);
        assert_non_null(strstr(err.msg, "vm.test"));
        close(lock);
        assert_ok(vm_rm(&f->e, f->vm.id, false, &err));
}

static void readers_see_stale(void **state)
{
        struct fixture *f = *state;

        store(f, VM_RUNNING);
        vm_present(&f->c, &f->vm);
        assert_string_equal(f->vm.state, VM_STATE_STALE);
        assert_int_equal(f->vm.pid, 0);
        assert_stored_state(f, VM_RUNNING, NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                T(start_stop_start),
                T(launch_failure_is_an_error_state),
                T(injected_failures),
                T(a_live_vmm_is_adopted),
                T(a_paused_vmm_is_resumed),
                T(an_unconfigured_vmm_is_replaced),
                T(a_restart_forgets_the_dead_process),
                T(damaged_records_do_not_start),
                T(stop_failure_is_an_error_state),
                T(a_paused_guest_is_woken_for_a_graceful_stop),
                T(stop_of_a_dead_vm_says_why),
                T(stop_of_a_created_vm),
                T(rm_removes_everything),
                T(tombstones_roll_forward),
                T(a_tampered_payload_is_refused),
                T(reconcile_outcomes),
                T(reconcile_leaves_finished_vms),
                T(locks_time_out),
                T(readers_see_stale),
        };

        if (argc > 1 && strcmp(argv[1], CONSOLE_RELAY_VERB) == 0)
                return console_relay_main(argc, argv, hv_console_open);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
