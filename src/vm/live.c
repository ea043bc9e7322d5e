/* Entering a verb that acts on a running VM. See internal.h. */
#include <string.h>

#include "base/log.h"
#include "vm/internal.h"

void vm_live_close(struct vm_live *l)
{
        vm_record_clear(&l->vm);
        vm_proc_clear(&l->proc);
        if (l->lock >= 0)
                close(l->lock);
        l->lock = -1;
}

int vm_live_open(struct engine *e, const char *id, const char *op, struct vm_live *ret,
                 struct cc_err *err)
{
        VM_LIVE struct vm_live l = VM_LIVE_INIT;
        int r = vm_lock(e, id, op, &l.lock, err);

        if (r == 0)
                r = vm_load_locked(e, id, &l.vm, &l.drv, err);
        if (r < 0)
                return r;
        vm_hv_env(e->config, l.drv, &l.env);
        *ret = l;
        l = (struct vm_live)VM_LIVE_INIT;
        return 0;
}

static int not_running(const struct vm_record *vm, const char *state, struct cc_err *err)
{
        int r = cc_fail(err, CC_STATE, "vm is not running: vm %s is %s: vm not running", vm->id,
                        state);

        cc_code(err, "vm_not_running");
        return r;
}

int vm_check_running(const struct hv_driver *drv, const struct hv_env *env,
                     const struct vm_record *vm, struct vm_proc *proc, struct cc_err *err)
{
        enum hv_state state;
        int r;

        if (!vm_in_state(vm, VM_RUNNING))
                return not_running(vm, vm->state, err);
        r = vm_is_live(drv, vm, proc, err);
        if (r <= 0)
                return r < 0 ? r : not_running(vm, VM_STATE_STALE, err);
        r = drv->state(env, vm->run_dir, &state, err);
        if (r < 0)
                return cc_wrap(err, "vm %s", vm->id);
        if (state == HV_PAUSED) {
                cc_warn("vm.live", "vm %s was left paused, resuming it", vm->id);
                r = drv->resume(env, vm->run_dir, err);
                return r < 0 ? cc_wrap(err, "resume vm %s", vm->id) : 0;
        }
        return state == HV_RUNNING ? 0 : not_running(vm, vm->state, err);
}

int vm_live_check(struct vm_live *l, struct cc_err *err)
{
        return vm_check_running(l->drv, &l->env, &l->vm, &l->proc, err);
}
