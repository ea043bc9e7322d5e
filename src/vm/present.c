/* Liveness: finding a record's process, and what readers are shown instead of a stale state.
 * Nothing here writes. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/proc.h"
#include "vm/internal.h"

int vm_find_live(const struct hv_driver *drv, const struct vm_record *vm, struct vm_proc *ret)
{
        uint64_t starttime = 0;

        if (cc_isempty(vm->run_dir) || cc_isempty(vm->log_dir))
                return -CC_NOT_FOUND;
        if (vm->proc) {
                char boot[37];

                cc_boot_id(boot);
                if (!cc_isempty(vm->proc->boot_id) && !cc_streq(vm->proc->boot_id, boot))
                        return -CC_NOT_FOUND;
                starttime = (uint64_t)vm->proc->starttime;
        }
        return drv->find(vm->run_dir, vm->log_dir, starttime, ret);
}

int vm_is_live(const struct hv_driver *drv, const struct vm_record *vm, struct vm_proc *ret,
               struct cc_err *err)
{
        int r = vm_find_live(drv, vm, ret);

        if (r == 0 || r == -CC_NOT_FOUND)
                return r == 0;
        return cc_fail(err, CC_IO, "vm %s: cannot tell whether its VMM is alive", vm->id);
}

void vm_present_proc(struct vm_record *vm, struct vm_proc *ret)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        const struct hv_driver *drv;

        vm->pid = 0;
        cc_strset(&vm->socket_path, NULL);
        cc_strset(&vm->vsock_socket, NULL);
        if (!vm_in_state(vm, VM_RUNNING))
                return;
        if (hv_driver_find(vm->hypervisor, &drv, NULL) < 0)
                return; /* a driver of another build: its liveness is not ours to judge */
        if (vm_find_live(drv, vm, &proc) < 0) {
                cc_strset(&vm->state, VM_STATE_STALE);
                return;
        }
        vm->pid = proc.pid;
        if (drv->socket_name)
                vm->socket_path = cc_path_join(vm->run_dir, drv->socket_name);
        if (drv->agent_vsock) {
                CC_FREE char *path = cc_path_join(vm->run_dir, drv->agent_vsock);

                if (cc_exists(path))
                        vm->vsock_socket = TAKE_PTR(path);
        }
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
}

void vm_present(const struct config *c, struct vm_record *vm)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;

        vm_present_proc(vm, &proc);
}
