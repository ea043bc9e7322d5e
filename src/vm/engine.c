/* A command's context, and the small steps that every verb shares. Flows live in their own files.
 */
#include "vm/vm.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "vm/internal.h"

int engine_open(const struct config *config, struct engine *ret, struct cc_err *err)
{
        struct meta_open_args args = {
                .root_dir = config->root_dir,
                .run_dir = config->run_dir,
        };
        struct meta *meta = NULL;
        int r = layout_create(config, err);

        if (r == 0)
                r = meta_open(&args, &meta, err);
        if (r < 0)
                return r;
        *ret = (struct engine){ .config = config, .meta = meta };
        return 0;
}

void engine_close(struct engine *e)
{
        meta_close(e->meta);
        memset(e, 0, sizeof(*e));
}

void vm_hv_env(const struct config *c, const struct hv_driver *drv, struct hv_env *ret)
{
        /* Which configuration key names a driver's binary: the keys are older than the table. */
        static const struct {
                const char *driver;
                size_t key;
        } binaries[] = {
                { "cloud-hypervisor", offsetof(struct config, ch_binary) },
                { "firecracker", offsetof(struct config, fc_binary) },
                { "qemu", offsetof(struct config, qemu_binary) },
        };
        const char *binary = drv->name;

        for (size_t i = 0; i < CC_ARRAY_LEN(binaries); i++)
                if (cc_streq(binaries[i].driver, drv->name))
                        binary = *(char *const *)((const char *)c + binaries[i].key);
        *ret = (struct hv_env){
                .binary = binary,
                .accel = c->qemu_accel,
                .firmware = c->qemu_firmware,
                .bios = c->qemu_bios,
                .root_dir = c->root_dir,
                .cache_dir = c->run_dir,
                .balloon = c->qemu_balloon,
                .socket_wait_ms = (int)(c->socket_wait_timeout_seconds * 1000),
                .grace_ms = (int)(c->terminate_grace_period_seconds * 1000),
        };
}

struct net_env vm_net_env(const struct engine *e)
{
        return (struct net_env){ .config = e->config, .meta = e->meta };
}

int vm_lock(struct engine *e, const char *id, const char *op, int *ret, struct cc_err *err)
{
        CC_FREE char *path = layout_vm_lock(e->config, id);
        int64_t deadline = 0;

        if (e->lock_timeout_ms > 0)
                deadline = cc_monotonic() + e->lock_timeout_ms * CC_NSEC_PER_MSEC;
        return cc_lock(path, CC_LOCK_EXCLUSIVE, op, deadline, ret, err);
}

int vm_load_locked(struct engine *e, const char *id, struct vm_record *ret,
                   const struct hv_driver **ret_drv, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        const struct hv_driver *drv = NULL;
        int r = vm_rm_roll_forward(e, id, err);

        if (r < 0)
                return cc_wrap(err, "vm %s: finish interrupted removal", id);
        if (r > 0)
                return cc_fail(err, CC_CONFLICT,
                               "vm %s was being removed; the removal is finished now", id);
        r = meta_vm_get(e->meta, id, &vm, err);
        if (r < 0)
                return cc_wrap(err, "vm %s", id);
        r = hv_driver_find(vm.hypervisor, &drv, err);
        if (r < 0)
                return cc_wrap(err, "vm %s", id);
        r = vm_recover_locked(e, drv, &vm, err);
        if (r < 0)
                return cc_wrap(err, "vm %s", id);
        *ret = vm;
        vm = (struct vm_record)VM_RECORD_INIT;
        *ret_drv = drv;
        return 0;
}

void vm_quiesce(struct engine *e, const struct vm_record *vm)
{
        struct net_env env = vm_net_env(e);
        const struct net_provider *net = NULL;
        struct cc_err err = CC_ERR_INIT;
        int r = net_provider_find(vm_net_backend(vm), &net, &err);

        if (r == 0 && net)
                r = net->quiesce(&env, vm, &err);
        if (r < 0)
                cc_warn("vm.network", "quiesce network of %s: %s", vm->id, err.msg);
}

int vm_commit(struct engine *e, struct vm_record *vm, const char *reason, struct cc_err *err)
{
        int r = meta_begin(e->meta, META_DURABLE, err);

        if (r < 0)
                return r;
        r = meta_vm_update(e->meta, vm, reason, err);
        if (r < 0) {
                meta_rollback(e->meta);
                return r;
        }
        return meta_commit(e->meta, err);
}

void vm_set_state(struct vm_record *vm, enum vm_state state)
{
        cc_strset(&vm->state, vm_state_name(state));
}

bool vm_in_state(const struct vm_record *vm, enum vm_state state)
{
        return cc_streq(vm->state, vm_state_name(state));
}

void vm_reclaim_nics(struct engine *e, const struct net_provider *net, const struct vm_record *vm)
{
        struct net_env env = vm_net_env(e);
        struct cc_err err = CC_ERR_INIT;

        if (net->reclaim && net->reclaim(&env, vm, &err) < 0)
                cc_warn("vm.net", "vm %s: %s", vm->id, err.msg);
}

void vm_remove_runtime(const struct hv_driver *drv, const struct vm_record *vm, const char *tag)
{
        struct cc_err err = CC_ERR_INIT;

        for (const char *const *name = drv->runtime_files; name && *name; name++) {
                CC_FREE char *path = cc_path_join(vm->run_dir, *name);

                if (cc_unlink(path, &err) < 0)
                        cc_warn(tag, "vm %s: %s", vm->id, err.msg);
        }
}
