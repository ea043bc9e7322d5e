/*
 * Start (state.md §3, labels T1-T5).
 *
 *   T1  lock, guards; a VMM that is already live is adopted, resumed or killed
 *   T2  network verified or rebuilt, stale runtime files removed, command line rebuilt
 *   T3  fork: the child writes the pid file before exec (in the driver)
 *   T4  socket ready, guest running (in the driver)
 *   T5  durable: running
 *
 * A failure up to T2 leaves the state as it was; at T3-T4 the VMM is killed and the state becomes
 * error. Killed after T3, the record is old and a VMM lives: its pid file and command line let the
 * next verb find it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/proc.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "console/console.h"
#include "vm/internal.h"

void vm_set_proc(struct vm_record *vm, const struct vm_proc *proc)
{
        char boot[37];

        if (!vm->proc)
                vm->proc = xcalloc(1, sizeof(*vm->proc));
        cc_boot_id(boot);
        vm->proc->pid = proc->pid;
        vm->proc->starttime = (int64_t)proc->starttime;
        cc_strset(&vm->proc->boot_id, boot);
}

void vm_forget_proc(struct vm_record *vm)
{
        if (vm->proc)
                free(vm->proc->boot_id);
        free(TAKE_PTR(vm->proc));
}

static int relay_for(const struct config *c, const struct hv_driver *drv,
                     const struct vm_record *vm, const struct vm_proc *proc, struct cc_err *err)
{
        CC_FREE char *lock_dir = layout_lock_dir(c);
        CC_FREE char *lock = xasprintf("%s/vm/%s.console.lock", lock_dir, vm->id);
        CC_FREE char *listen_path = cc_path_join(vm->run_dir, VM_CONSOLE_SOCKET);
        CC_FREE char *log = NULL;
        struct console_relay relay = {
                .driver = drv->name,
                .run_dir = vm->run_dir,
                .open = hv_console_open,
                .source = proc->console,
                .listen_path = listen_path,
                .vmm_pidfd = proc->pidfd,
                .lock_path = lock,
        };
        int r = cc_failpoint("start.relay", err);

        if (r < 0 || !drv->console_open)
                return r;
        if (drv->console_log_name)
                log = cc_path_join(vm->log_dir, drv->console_log_name);
        relay.log_path = log;
        return console_relay_start(&relay, err);
}

int vm_relay_ensure(const struct config *c, const struct vm_record *vm, struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        const struct hv_driver *drv;
        int r = hv_driver_find(vm->hypervisor, &drv, err);

        if (r < 0)
                return r;
        if (vm_find_live(drv, vm, &proc) < 0)
                return cc_fail(err, CC_STATE, "vm not running");
        return relay_for(c, drv, vm, &proc, err);
}

/* The guest runs with or without somebody at its console. */
void vm_start_relay(struct engine *e, const struct hv_driver *drv, const struct vm_record *vm,
                    const struct vm_proc *proc)
{
        struct cc_err err = CC_ERR_INIT;

        if (relay_for(e->config, drv, vm, proc, &err) < 0)
                cc_warn("vm.start", "vm %s: console unavailable: %s", vm->id, err.msg);
}

/* T5. */
static int commit_running(struct engine *e, struct vm_record *vm, const struct vm_proc *proc,
                          struct cc_err *err)
{
        const char *reason = vm->started_at ? "restart" : "boot";

        vm->started_at = cc_now();
        vm->stopped_at = 0;
        vm->first_booted = true;
        vm_set_proc(vm, proc);
        vm_set_state(vm, VM_RUNNING);
        return vm_commit(e, vm, reason, err);
}

/* The name of a running VM's namespace may be gone; only its VMM still knows the namespace. */
static void keep_network(struct engine *e, struct vm_record *vm)
{
        struct net_env env = vm_net_env(e);
        const struct net_provider *net = NULL;
        struct cc_err err = CC_ERR_INIT;
        int r = net_provider_find(vm_net_backend(vm), &net, &err);

        if (r < 0 || !net || !(net->caps & NET_CAP_NETNS) ||
            net->verify(&env, vm, NULL) != -CC_NOT_FOUND)
                return;
        r = net->prepare(&env, vm, &err);
        if (r < 0)
                cc_warn("vm.start", "network of %s: %s", vm->id, err.msg);
}

/* A live VMM found by start. 1: adopted, 0: it was unusable and is gone. */
static int adopt(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                 struct vm_proc *proc, struct cc_err *err)
{
        struct hv_env env;
        enum hv_state state;
        int r;

        vm_hv_env(e->config, drv, &env);
        r = drv->state(&env, vm->run_dir, &state, err);
        if (r < 0)
                return cc_wrap(err, "vm %s is live but does not answer", vm->id);
        if (state == HV_PAUSED) {
                /* Its verb is dead: we hold the lock. */
                r = drv->resume(&env, vm->run_dir, err);
                if (r < 0)
                        return cc_wrap(err, "resume vm %s", vm->id);
                state = HV_RUNNING;
        }
        if (state != HV_RUNNING) {
                cc_warn("vm.start", "vm %s: its VMM never ran the guest, starting it again",
                        vm->id);
                r = drv->stop(&env, vm->run_dir, proc, 0, err);
                return r < 0 ? cc_wrap(err, "vm %s", vm->id) : 0;
        }
        if (!vm_in_state(vm, VM_RUNNING)) {
                if (vm->started_at) {
                        /* Keep the time of the boot that is running, if it was recorded at all. */
                        vm_set_proc(vm, proc);
                        vm_set_state(vm, VM_RUNNING);
                        vm->stopped_at = 0;
                        r = vm_commit(e, vm, "restart", err);
                } else {
                        r = commit_running(e, vm, proc, err);
                }
                if (r < 0)
                        return r;
        } else if (!vm->proc) {
                vm_set_proc(vm, proc);
                r = vm_commit(e, vm, NULL, err);
                if (r < 0)
                        return r;
        }
        keep_network(e, vm);
        vm_start_relay(e, drv, vm, proc);
        return 1;
}

/* Devices are made again as this driver opens them, whatever an older record says. */
static void limit_queues(const struct hv_driver *drv, struct vm_record *vm)
{
        int64_t most = vm_nic_queues(drv);

        for (size_t i = 0; most > 0 && i < vm->network_configs.len; i++)
                if (vm_nic(vm, i)->num_queues > most)
                        vm_nic(vm, i)->num_queues = most;
}

/* T2, network part. */
int vm_ready_network(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                     struct cc_err *err)
{
        struct net_env env = vm_net_env(e);
        const struct net_provider *net = NULL;
        struct cc_err missing = CC_ERR_INIT;
        int r = net_provider_find(vm_net_backend(vm), &net, err);

        if (r < 0 || !net)
                return r;
        r = net->verify(&env, vm, &missing);
        if (r == 0) {
                r = net->unquiesce(&env, vm, err);
        } else if (r != -CC_NOT_FOUND) {
                r = cc_err_copy(err, &missing);
        } else {
                cc_warn("vm.start", "network missing for VM %s, recovering", vm->id);
                limit_queues(drv, vm);
                r = net->recover(&env, vm, err);
        }
        if (r < 0)
                return cc_wrap(err, "network");
        vm_reclaim_nics(e, net, vm);
        return 0;
}

/* T2. */
static int make_ready(struct engine *e, const struct hv_driver *drv, const struct hv_env *env,
                      struct vm_record *vm, struct vm_spec_buf *spec, struct cc_err *err)
{
        int r = vm_disks_check(vm, err);

        if (r == 0 && cc_isempty(vm->boot_config.kernel_path) &&
            cc_streq(vm->config.image_type, "oci"))
                r = cc_fail(err, CC_CORRUPT, "vm %s: the record names no kernel", vm->id);
        if (r < 0)
                return r;
        vm_remove_runtime(drv, vm, "vm.start");
        vm_seed_forget(e->config, vm, "vm.start");
        /* Nobody may take the dead process for the new one: the record's identity goes before the
         * new pid file comes. */
        if (vm->proc) {
                vm_forget_proc(vm);
                r = vm_commit(e, vm, NULL, err);
                if (r < 0)
                        return r;
        }
        r = vm_rebuild_cmdline(e->config, drv, vm, err);
        /* After a reboot or a cleanup of logs by others. */
        if (r == 0)
                r = cc_mkdir_p(vm->log_dir, 0750, err);
        if (r == 0)
                r = vm_kernel_ready(drv, vm, err);
        if (r == 0)
                r = vm_spec_build(vm, spec, err);
        if (r == 0)
                r = drv->check(env, &spec->spec, err);
        if (r == 0)
                r = drv->prepare(env, &spec->spec, err);
        return r;
}

/* After T3: kill what runs, and say in the record that the start failed. */
static void fail_launched(struct engine *e, const struct hv_driver *drv, const struct hv_env *env,
                          struct vm_record *vm, struct vm_proc *proc)
{
        struct cc_err err = CC_ERR_INIT;

        cc_uninterruptible_begin();
        if (proc->pidfd >= 0 && drv->stop(env, vm->run_dir, proc, 0, &err) < 0)
                cc_warn("vm.start", "vm %s: %s", vm->id, err.msg);
        vm_remove_runtime(drv, vm, "vm.start");
        vm_forget_proc(vm);
        vm_set_state(vm, VM_ERROR);
        if (vm_commit(e, vm, "error", &err) < 0)
                cc_warn("vm.start", "vm %s: %s", vm->id, err.msg);
        cc_uninterruptible_end();
}

int vm_start_locked(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                    struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        VM_PROC struct vm_proc old = VM_PROC_INIT;
        VM_SPEC_BUF struct vm_spec_buf spec = { 0 };
        struct hv_env env;
        int r = 0;

        vm_hv_env(e->config, drv, &env);
        r = vm_is_live(drv, vm, &old, err);
        if (r < 0)
                return r;
        if (r > 0) {
                r = adopt(e, drv, vm, &old, err);
                if (r != 0)
                        return r < 0 ? r : 0;
        }
        r = vm_ready_network(e, drv, vm, err);
        if (r == 0)
                r = make_ready(e, drv, &env, vm, &spec, err);
        if (r == 0)
                r = cc_failpoint("start.T2", err);
        if (r < 0) {
                vm_quiesce(e, vm);
                return r;
        }
        r = drv->launch(&env, &spec.spec, &proc, err);
        if (r == 0) {
                /* Before the commit: the guest speaks already, and a PTY keeps little of it. */
                vm_start_relay(e, drv, vm, &proc);
                r = cc_failpoint("start.T4", err);
        }
        if (r == 0)
                r = commit_running(e, vm, &proc, err);
        if (r == 0)
                r = cc_failpoint("start.T5", err);
        if (r < 0) {
                fail_launched(e, drv, &env, vm, &proc);
                vm_quiesce(e, vm);
        }
        return r;
}

int vm_start(struct engine *e, const char *id, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        const struct hv_driver *drv;
        CC_CLOSE int lock = -1;
        int r = vm_lock(e, id, "vm.start", &lock, err);

        if (r == 0)
                r = vm_load_locked(e, id, &vm, &drv, err);
        if (r < 0)
                return r;
        if (vm_in_state(&vm, VM_CREATING))
                return cc_fail(err, CC_STATE,
                               "vm %s is creating: its creation was interrupted; remove it with "
                               "vm rm",
                               id);
        /* The disks may be of two vintages. */
        if (vm.restore_pending) {
                r = cc_fail(err, CC_STATE, "vm %s: its restore was interrupted", id);
                cc_hint(err, "restore it again, from this or another snapshot, or remove it");
                return r;
        }
        return vm_start_locked(e, drv, &vm, err);
}
