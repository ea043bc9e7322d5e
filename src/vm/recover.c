/*
 * What a killed hibernate or restore left of a VM (state.md §8). Whoever holds the VM's lock knows
 * that its maker is dead.
 *
 *   hibernating        the snapshot is complete: forward, end the VMM, stopped
 *   marker "staged"    nothing of the VM was touched but perhaps its VMM ended: back, the staging
 *                      directory goes; without VMM it is stopped now
 *   marker "swapping"  the run dir may hold files of two vintages: only restore and rm go on
 *
 * A VMM that was left paused is resumed by the verb that needs it running (start, stop, save).
 */
#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "vm/internal.h"
#include "vm/snapshot.h"

char *vm_staging_dir(const struct vm_record *vm)
{
        return xasprintf("%s.restore-staging", vm->run_dir);
}

int vm_finish_hibernate(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                        struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct hv_env env;
        int r;

        vm_hv_env(e->config, drv, &env);
        cc_uninterruptible_begin();
        r = vm_is_live(drv, vm, &proc, err);
        if (r > 0)
                r = drv->stop(&env, vm->run_dir, &proc, 0, err);
        if (r < 0)
                r = cc_wrap(err, "end the hibernated vm %s", vm->id);
        if (r == 0)
                r = cc_failpoint("hibernate.H9", err);
        if (r == 0) {
                vm_quiesce(e, vm);
                vm_remove_runtime(drv, vm, "vm.hibernate");
                r = cc_failpoint("hibernate.H10", err);
        }
        if (r == 0) {
                vm->hibernating = false;
                vm_forget_proc(vm);
                vm->stopped_at = cc_now();
                vm_set_state(vm, VM_STOPPED);
                r = vm_commit(e, vm, "stop-user", err);
        }
        if (r == 0)
                r = cc_failpoint("hibernate.H11", err);
        cc_uninterruptible_end();
        return r;
}

void vm_drop_restore_marker(struct vm_record *vm)
{
        struct restore_pending *p = TAKE_PTR(vm->restore_pending);

        if (!p)
                return;
        free(p->phase);
        free(p->snapshot_id);
        free(p->from_dir);
        json_decref(p->extra);
        free(p);
}

static int undo_staged(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                       struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_FREE char *staging = vm_staging_dir(vm);
        int live = vm_is_live(drv, vm, &proc, err);
        int r = live < 0 ? live : cc_rm_rf(staging, err);

        if (r < 0)
                return cc_wrap(err, "drop an interrupted restore");
        vm_drop_restore_marker(vm);
        if (!live && vm_in_state(vm, VM_RUNNING)) {
                vm_quiesce(e, vm);
                vm_remove_runtime(drv, vm, "vm.recover");
                vm_forget_proc(vm);
                vm->stopped_at = cc_now();
                vm_set_state(vm, VM_STOPPED);
                return vm_commit(e, vm, "stop-user", err);
        }
        return vm_commit(e, vm, NULL, err);
}

int vm_recover_locked(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                      struct cc_err *err)
{
        int r = 0;

        if (vm->hibernating) {
                cc_info("vm.recover", "finishing the interrupted hibernation of %s", vm->id);
                r = vm_finish_hibernate(e, drv, vm, err);
        }
        if (r == 0 && vm->restore_pending && cc_streq(vm->restore_pending->phase, RESTORE_STAGED)) {
                cc_info("vm.recover", "undoing the interrupted restore of %s", vm->id);
                r = undo_staged(e, drv, vm, err);
        }
        return r;
}

/* A VM that its maker left in the pause of a save. Best effort: whoever needs it running resumes it
 * anyway. */
static void wake_source(struct engine *e, const char *id)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_FREE char *path = layout_vm_lock(e->config, id);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        const struct hv_driver *drv;
        CC_CLOSE int lock = -1;
        enum hv_state state;
        struct hv_env env;

        if (!cc_exists(path) ||
            cc_lock_try(path, CC_LOCK_EXCLUSIVE, "snapshot.rm", &lock, NULL) < 0 ||
            meta_vm_get(e->meta, id, &vm, NULL) < 0 || vm.hibernating ||
            hv_driver_find(vm.hypervisor, &drv, NULL) < 0 || vm_find_live(drv, &vm, &proc) < 0)
                return;
        vm_hv_env(e->config, drv, &env);
        if (drv->state(&env, vm.run_dir, &state, NULL) == 0 && state == HV_PAUSED)
                (void)drv->resume(&env, vm.run_dir, NULL);
}

int vm_snapshot_rm(struct engine *e, const char *id, struct cc_err *err)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        struct snap_env env = vm_snap_env(e);

        if (meta_snapshot_get(e->meta, id, &s, NULL) == 0 && s.pending &&
            cc_id_valid(s.source_vm_id ? s.source_vm_id : ""))
                wake_source(e, s.source_vm_id);
        return snap_rm(&env, id, err);
}
