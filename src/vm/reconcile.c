/* What killed verbs left, repaired from outside: `vm reconcile-stale-create` (lock free and state
 * creating means that nobody will ever finish it, state.md §3, so it is removed like any VM), and
 * removals that a tombstone records. Never waits for a VM's lock. */
#include <string.h>

#include "base/fs.h"
#include "base/id.h"
#include "config/layout.h"
#include "vm/internal.h"

static int collect(struct engine *e, const struct vm_record *vm, const struct hv_driver *drv,
                   struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct hv_env env;
        int r = vm_is_live(drv, vm, &proc, err);

        vm_hv_env(e->config, drv, &env);
        if (r > 0)
                r = drv->stop(&env, vm->run_dir, &proc, 0, err);
        return r < 0 ? r : vm_rm_locked(e, vm, err);
}

int vm_reconcile_stale_create(struct engine *e, const char *ref, const char **ret_outcome,
                              char ret_id[27], struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        const struct hv_driver *drv;
        struct cc_err why = CC_ERR_INIT;
        CC_FREE char *path = NULL;
        CC_CLOSE int lock = -1;
        int r;

        ret_id[0] = '\0';
        r = meta_vm_resolve(e->meta, ref, ret_id, &why);
        if (r == -CC_NOT_FOUND) {
                *ret_outcome = "not-found";
                return 0;
        }
        if (r < 0)
                return cc_err_copy(err, &why);
        path = layout_vm_lock(e->config, ret_id);
        r = cc_lock_try(path, CC_LOCK_EXCLUSIVE, "vm.reconcile", &lock, &why);
        if (r == -CC_BUSY) {
                *ret_outcome = "busy";
                return 0;
        }
        if (r < 0)
                return cc_err_copy(err, &why);
        r = vm_rm_roll_forward(e, ret_id, err);
        if (r < 0)
                return r;
        if (r > 0) {
                *ret_outcome = "collected";
                return 0;
        }
        r = vm_load_locked(e, ret_id, &vm, &drv, &why);
        if (r == -CC_NOT_FOUND) {
                *ret_outcome = "not-found";
                return 0;
        }
        if (r < 0)
                return cc_err_copy(err, &why);
        if (!vm_in_state(&vm, VM_CREATING)) {
                *ret_outcome = "not-creating";
                return 0;
        }
        r = collect(e, &vm, drv, err);
        if (r < 0)
                return r;
        *ret_outcome = "collected";
        return 0;
}

int vm_finish_removal(struct engine *e, const char *id, bool *ret_done, struct cc_err *err)
{
        CC_FREE char *path = layout_vm_lock(e->config, id);
        struct cc_err why = CC_ERR_INIT;
        CC_CLOSE int lock = -1;
        int r = cc_lock_try(path, CC_LOCK_EXCLUSIVE, "gc", &lock, &why);

        if (r == -CC_BUSY) {
                *ret_done = false;
                return 0;
        }
        if (r < 0)
                return cc_err_copy(err, &why);
        r = vm_rm_roll_forward(e, id, err);
        if (r < 0)
                return r;
        *ret_done = r > 0;
        return 0;
}
