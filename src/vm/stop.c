/*
 * Stop (state.md §3, labels P1-P4).
 *
 *   P1  lock
 *   P2  the VMM is gone: gracefully within the timeout, then forced
 *   P3  network quiesced, runtime files removed
 *   P4  durable: stopped
 *
 * Killed after P2 the record says running and no process is there: shown as "stopped (stale)", and
 * the next stop or start converges.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "vm/internal.h"

/* A failed stop is recorded, unless the user only gave up waiting. */
static int stop_failed(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                       struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct cc_err why = CC_ERR_INIT;

        if (err && err->class == CC_CANCELED && vm_find_live(drv, vm, &proc) == 0)
                return cc_wrap(err, "vm %s is still running", vm->id);
        cc_uninterruptible_begin();
        vm_set_state(vm, VM_ERROR);
        if (vm_commit(e, vm, "error", &why) < 0)
                cc_warn("vm.stop", "vm %s: %s", vm->id, why.msg);
        cc_uninterruptible_end();
        return cc_wrap(err, "stop vm %s", vm->id);
}

/* P4. Nothing is written when the record says so already. */
static int commit_stopped(struct engine *e, struct vm_record *vm, bool by_user, struct cc_err *err)
{
        if (vm_in_state(vm, VM_STOPPED) && !vm->proc)
                return 0;
        vm_forget_proc(vm);
        /* A VM that was not running has not stopped now. */
        if (vm_in_state(vm, VM_RUNNING) || vm_in_state(vm, VM_ERROR) || by_user)
                vm->stopped_at = cc_now();
        /* An interrupted restore stays an error: only restore and rm may touch its disks. */
        vm_set_state(vm, vm->restore_pending ? VM_ERROR : VM_STOPPED);
        return vm_commit(e, vm, by_user ? "stop-user" : "unexpected-exit", err);
}

/* A guest that a dead verb left paused would sleep through the power button. */
static void wake(const struct hv_driver *drv, const struct hv_env *env, const struct vm_record *vm)
{
        struct cc_err err = CC_ERR_INIT;
        enum hv_state state;

        if (drv->state(env, vm->run_dir, &state, &err) < 0 || state != HV_PAUSED)
                return;
        if (drv->resume(env, vm->run_dir, &err) < 0)
                cc_warn("vm.stop", "resume %s: %s", vm->id, err.msg);
}

int vm_stop_locked(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                   int grace_ms, struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct cc_err local = CC_ERR_INIT;
        bool was_running = vm_in_state(vm, VM_RUNNING);
        struct hv_env env;
        bool live;
        int r;

        if (!err)
                err = &local;
        r = vm_is_live(drv, vm, &proc, err);
        if (r < 0)
                return r;
        live = r > 0;
        r = 0;
        vm_hv_env(e->config, drv, &env);
        if (live && grace_ms > 0)
                wake(drv, &env, vm);
        if (live)
                r = drv->stop(&env, vm->run_dir, &proc, grace_ms, err);
        if (r == 0)
                r = cc_failpoint("stop.P2", err);
        if (r < 0)
                return stop_failed(e, drv, vm, err);
        vm_quiesce(e, vm);
        vm_remove_runtime(drv, vm, "vm.stop");
        vm_seed_forget(e->config, vm, "vm.stop");
        r = cc_failpoint("stop.P3", err);
        if (r == 0)
                r = commit_stopped(e, vm, live || !was_running, err);
        if (r == 0)
                r = cc_failpoint("stop.P4", err);
        return r;
}

int vm_stop(struct engine *e, const char *id, bool force, int64_t timeout_s, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        const struct hv_driver *drv;
        CC_CLOSE int lock = -1;
        int64_t grace = timeout_s > 0 ? timeout_s : e->config->stop_timeout_seconds;
        int r = vm_lock(e, id, "vm.stop", &lock, err);

        if (r == 0)
                r = vm_load_locked(e, id, &vm, &drv, err);
        if (r < 0)
                return r;
        if (vm_in_state(&vm, VM_CREATING))
                return cc_fail(err, CC_STATE,
                               "vm %s is creating: its creation was interrupted; remove it with "
                               "vm rm",
                               id);
        if (grace > INT32_MAX / 1000)
                grace = INT32_MAX / 1000;
        return vm_stop_locked(e, drv, &vm, force ? 0 : (int)grace * 1000, err);
}
