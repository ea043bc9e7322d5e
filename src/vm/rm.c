/*
 * Removal (state.md §3, labels D1-D5).
 *
 *   D1  lock; the VMM is gone (only --force ends a live one)
 *   D2  durable tombstone "deleting" with everything the rest needs
 *   D3  network torn down
 *   D4  run and log directories removed
 *   D5  durable: row, tombstone and the swept network rows go together
 *
 * D2 is the point of no return: whatever happens then, the next verb that meets the tombstone does
 * D3-D5 again from its payload. Every step is idempotent, and the name is free only after D5.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "vm/internal.h"

#define TOMBSTONE_VM "vm"

/* The payload is a record cut down to what removal needs, so that reading it back is reading a
 * record. */
static char *payload(const struct vm_record *vm)
{
        struct vm_record cut = VM_RECORD_INIT;

        cut.id = vm->id;
        cut.hypervisor = vm->hypervisor;
        cut.state = vm->state;
        cut.config.name = vm->config.name;
        cut.config.network = vm->config.network;
        cut.net_backend = vm->net_backend;
        cut.netns_path = vm->netns_path;
        cut.net_bridge_dev = vm->net_bridge_dev;
        cut.network_configs = vm->network_configs;
        cut.run_dir = vm->run_dir;
        cut.log_dir = vm->log_dir;
        return vm_record_text(&cut); /* all borrowed: nothing to clear */
}

/* D2. */
static int bury(struct engine *e, const struct vm_record *vm, struct cc_err *err)
{
        CC_FREE char *text = payload(vm);
        char lease[CC_ID_LEN + 1];
        struct tombstone t = {
                .kind = TOMBSTONE_VM,
                .id = vm->id,
                .lease_id = lease,
                .phase = TOMBSTONE_DELETING,
                .leased_at = cc_now(),
                .payload = text,
        };
        int r;

        cc_id_new(lease);
        r = meta_begin(e->meta, META_DURABLE, err);
        if (r < 0)
                return r;
        r = meta_tombstone_put(e->meta, &t, err);
        if (r < 0) {
                meta_rollback(e->meta);
                return r;
        }
        return meta_commit(e->meta, err);
}

static int collect_if_name(void *ctx, const struct meta_network *row, struct cc_err *err)
{
        cc_strv_add(ctx, row->if_name);
        return 0;
}

/* D5. With a failed teardown the network rows stay: gc repeats the DEL from them. */
static int forget(struct engine *e, const char *id, bool keep_network, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        int r = meta_begin(e->meta, META_DURABLE, err);

        if (r < 0)
                return r;
        if (!keep_network)
                r = meta_network_each(e->meta, id, collect_if_name, &names, err);
        for (size_t i = 0; i < names.len && r == 0; i++)
                r = meta_network_delete(e->meta, id, names.v[i], err);
        if (r == 0)
                r = meta_vm_delete(e->meta, id, err);
        if (r == 0)
                r = meta_tombstone_delete(e->meta, TOMBSTONE_VM, id, err);
        if (r < 0) {
                meta_rollback(e->meta);
                return r;
        }
        return meta_commit(e->meta, err);
}

/* D3-D5. Directories are only removed when they are this VM's: the last component is its ID. */
static int finish(struct engine *e, const struct vm_record *vm, struct cc_err *err)
{
        const char *dirs[] = { vm->run_dir, vm->log_dir };
        struct net_env env = vm_net_env(e);
        struct cc_err network = CC_ERR_INIT;
        int r = 0;
        int failed = net_delete_all(&env, vm, &network);

        r = cc_failpoint("rm.D3", err);
        for (size_t i = 0; i < CC_ARRAY_LEN(dirs) && r == 0; i++) {
                if (cc_isempty(dirs[i]))
                        continue;
                if (!cc_id_valid(vm->id) || !cc_streq(cc_basename(dirs[i]), vm->id))
                        return cc_fail(err, CC_CORRUPT,
                                       "vm %s: refusing to remove %s, which is not its directory",
                                       vm->id, dirs[i]);
                r = cc_rm_rf(dirs[i], err);
        }
        if (r == 0 && !cc_isempty(vm->run_dir)) {
                CC_FREE char *staging = vm_staging_dir(vm);

                r = cc_rm_rf(staging, err);
        }
        if (r == 0)
                r = cc_failpoint("rm.D4", err);
        if (r == 0)
                r = forget(e, vm->id, failed < 0, err);
        if (r == 0)
                r = cc_failpoint("rm.D5", err);
        if (r < 0)
                return r;
        if (failed < 0) {
                r = cc_fail(err, network.class, "vm(s) deleted but network cleanup failed: %s",
                            network.msg);
                cc_code(err, "network_cleanup");
                return r;
        }
        return 0;
}

int vm_rm_locked(struct engine *e, const struct vm_record *vm, struct cc_err *err)
{
        int r = bury(e, vm, err);

        if (r == 0)
                r = cc_failpoint("rm.D2", err);
        if (r < 0)
                return r;
        /* From here on only forward. */
        cc_uninterruptible_begin();
        r = finish(e, vm, err);
        cc_uninterruptible_end();
        return r;
}

struct found {
        struct vm_record vm;
        bool any;
};

static int read_tombstone(void *ctx, const struct tombstone *t, struct cc_err *err)
{
        struct found *found = ctx;

        if (t->phase != TOMBSTONE_DELETING)
                return 0; /* leased by a gc that decided nothing yet */
        found->any = true;
        return vm_record_parse(t->payload, strlen(t->payload), &found->vm, err);
}

int vm_rm_roll_forward(struct engine *e, const char *id, struct cc_err *err)
{
        struct found found = { .vm = VM_RECORD_INIT };
        int r = meta_tombstone_get(e->meta, TOMBSTONE_VM, id, read_tombstone, &found, err);

        if (r == 0 && found.any && !cc_streq(found.vm.id, id))
                r = cc_fail(err, CC_CORRUPT, "tombstone of vm %s names vm %s", id,
                            found.vm.id ? found.vm.id : "");
        if (r == 0 && found.any) {
                cc_uninterruptible_begin();
                r = finish(e, &found.vm, err);
                cc_uninterruptible_end();
        }
        vm_record_clear(&found.vm);
        return r < 0 ? r : found.any;
}

/* D1. */
static int ensure_dead(struct engine *e, const struct hv_driver *drv, const struct vm_record *vm,
                       bool force, struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct hv_env env;
        int r;

        r = vm_is_live(drv, vm, &proc, err);
        if (r < 0)
                return r;
        vm_hv_env(e->config, drv, &env);
        if (r == 0)
                return drv->vacant && !cc_isempty(vm->run_dir) ? drv->vacant(&env, vm->run_dir, err)
                                                               : 0;
        if (!force)
                return cc_fail(err, CC_STATE, "running (force required)");
        r = drv->stop(&env, vm->run_dir, &proc, 0, err);
        return r < 0 ? cc_wrap(err, "stop vm %s", vm->id) : 0;
}

int vm_rm(struct engine *e, const char *id, bool force, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        const struct hv_driver *drv;
        CC_CLOSE int lock = -1;
        int r = vm_lock(e, id, "vm.rm", &lock, err);

        if (r == 0)
                r = vm_rm_roll_forward(e, id, err);
        if (r != 0)
                return r < 0 ? r : 0;
        r = vm_load_locked(e, id, &vm, &drv, err);
        if (r == 0)
                r = ensure_dead(e, drv, &vm, force || vm_in_state(&vm, VM_CREATING), err);
        if (r == 0)
                r = cc_failpoint("rm.D1", err);
        if (r == 0)
                r = vm_rm_locked(e, &vm, err);
        return r;
}
