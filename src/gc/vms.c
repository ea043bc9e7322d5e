/*
 * A driver's module: creations and hibernations that nobody finishes, and run, log and staging
 * directories without a record. A directory needs no tombstone: as long as it exists, the next
 * cycle finds it again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/id.h"
#include "config/layout.h"
#include "gc/internal.h"

#define STAGING_SUFFIX ".restore-staging"

static const char stale_creating[] = "stale-creating";
static const char half_hibernated[] = "interrupted-hibernate";
static const char orphan_run[] = "orphan-runDir";
static const char orphan_log[] = "orphan-logDir";
static const char orphan_staging[] = "orphan-staging";

/* "<id>.restore-staging" → id. */
static bool staging_id(const char *name, char id[CC_ID_LEN + 1])
{
        if (strlen(name) != CC_ID_LEN + strlen(STAGING_SUFFIX) ||
            !cc_endswith(name, STAGING_SUFFIX))
                return false;
        memcpy(id, name, CC_ID_LEN);
        id[CC_ID_LEN] = '\0';
        return cc_id_valid(id);
}

static int scan_dir(const char *dir, const char *reason, const struct cc_strv *known,
                    struct gc_list *ret, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        char id[CC_ID_LEN + 1];
        const char *name;
        int r = gc_names(dir, &names, err);

        if (r < 0)
                return r;
        cc_strv_foreach (&names, i, name) {
                if (cc_id_valid(name) && !gc_has(known, name))
                        gc_list_add(ret, name, reason, cc_path_join(dir, name));
                else if (reason == orphan_run && staging_id(name, id))
                        gc_list_add(ret, id, orphan_staging, cc_path_join(dir, name));
        }
        return 0;
}

int gc_vms_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret, struct cc_err *err)
{
        const struct config *c = gc->e->config;
        CC_FREE char *run = cc_path_join(c->run_dir, mod->drv->dir);
        CC_FREE char *log = cc_path_join(c->log_dir, mod->drv->dir);
        CC_STRV struct cc_strv known = { 0 };
        CC_STRV struct cc_strv creating = { 0 };
        CC_STRV struct cc_strv hibernating = { 0 };
        const char *id;
        int r = meta_vm_ids_in_state(gc->e->meta, mod->drv->name, vm_state_name(VM_CREATING),
                                     &creating, err);

        cc_strv_foreach (&creating, i, id)
                gc_list_add(ret, id, stale_creating, NULL);
        if (r == 0)
                r = meta_vm_ids_hibernating(gc->e->meta, mod->drv->name, &hibernating, err);
        cc_strv_foreach (&hibernating, i, id)
                gc_list_add(ret, id, half_hibernated, NULL);
        if (r == 0)
                r = meta_vm_ids(gc->e->meta, &known, err);
        if (r == 0)
                r = scan_dir(run, orphan_run, &known, ret, err);
        return r < 0 ? r : scan_dir(log, orphan_log, &known, ret, err);
}

/* The VMM of a directory without record, if one runs; verified before it is ended. */
static int kill_orphan(struct gc *gc, const struct hv_driver *drv, const char *id,
                       struct cc_err *err)
{
        const struct config *c = gc->e->config;
        CC_FREE char *run = layout_vm_run_dir(c, drv->dir, id);
        CC_FREE char *log = layout_vm_log_dir(c, drv->dir, id);
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct hv_env env;
        int r;

        r = drv->find(run, log, 0, &proc);
        if (r == -CC_NOT_FOUND)
                return 0;
        if (r < 0)
                return cc_fail(err, CC_IO, "vm %s: cannot tell whether its VMM is alive", id);
        vm_hv_env(c, drv, &env);
        return drv->stop(&env, run, &proc, 0, err);
}

/* A staging directory is its VM's while the record is marked as being restored. */
static int staging_in_use(struct gc *gc, const char *id, bool *ret, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err why = CC_ERR_INIT;
        int r = meta_vm_get(gc->e->meta, id, &vm, &why);

        if (r == -CC_NOT_FOUND) {
                *ret = false;
                return 0;
        }
        if (r < 0)
                return cc_err_copy(err, &why);
        *ret = vm.restore_pending != NULL;
        return 0;
}

static int still_garbage(struct gc *gc, const struct gc_candidate *c, bool *ret, struct cc_err *err)
{
        bool in_use = true;
        int r = c->reason == orphan_staging ? staging_in_use(gc, c->id, &in_use, err)
                                            : meta_vm_exists(gc->e->meta, c->id, &in_use, err);

        *ret = !in_use;
        return r;
}

static int collect_dir(struct gc *gc, const struct hv_driver *drv, const struct gc_candidate *c,
                       char **ret_detail, int64_t *ret_bytes, struct cc_err *err)
{
        CC_FREE char *lock_path = layout_vm_lock(gc->e->config, c->id);
        CC_CLOSE int lock = -1;
        bool garbage = false;
        int r = gc_lock(lock_path, &lock, err);

        if (r > 0)
                r = still_garbage(gc, c, &garbage, err);
        if (r < 0 || !garbage)
                return r < 0 ? r : 0;
        *ret_bytes = cc_tree_bytes(c->path);
        *ret_detail = xasprintf("id=%s %s=%s", c->id, c->reason == orphan_log ? "logDir" : "runDir",
                                c->path);
        if (gc->dry_run)
                return GC_WOULD;
        if (c->reason != orphan_staging)
                r = kill_orphan(gc, drv, c->id, err);
        if (r >= 0)
                r = cc_rm_rf(c->path, err);
        return r < 0 ? r : GC_DONE;
}

/* Only whether it could be collected now. */
static int creation_is_stale(struct gc *gc, const char *id, struct cc_err *err)
{
        CC_FREE char *lock_path = layout_vm_lock(gc->e->config, id);
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_CLOSE int lock = -1;
        int r = gc_lock(lock_path, &lock, err);

        if (r <= 0)
                return r;
        r = meta_vm_get(gc->e->meta, id, &vm, NULL);
        if (r == -CC_NOT_FOUND)
                return 0;
        return cc_streq(vm.state, vm_state_name(VM_CREATING));
}

static int collect_creation(struct gc *gc, const struct gc_candidate *c, char **ret_detail,
                            struct cc_err *err)
{
        char id[CC_ID_LEN + 1] = "";
        const char *outcome = "";
        int r;

        if (gc->dry_run) {
                r = creation_is_stale(gc, c->id, err);
                if (r <= 0)
                        return r;
        } else {
                r = vm_reconcile_stale_create(gc->e, c->id, &outcome, id, err);
                if (r < 0 || !cc_streq(outcome, "collected"))
                        return r;
        }
        *ret_detail = xasprintf("id=%s", c->id);
        return gc->dry_run ? GC_WOULD : GC_DONE;
}

/* The snapshot is complete: what is left is to end the VMM. Its maker, if alive, has the lock. */
static int finish_hibernation(struct gc *gc, const struct gc_module *mod,
                              const struct gc_candidate *c, char **ret_detail, struct cc_err *err)
{
        CC_FREE char *lock_path = layout_vm_lock(gc->e->config, c->id);
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_err why = CC_ERR_INIT;
        CC_CLOSE int lock = -1;
        int r = gc_lock(lock_path, &lock, err);

        if (r <= 0)
                return r;
        r = meta_vm_get(gc->e->meta, c->id, &vm, &why);
        if (r == -CC_NOT_FOUND || (r == 0 && !vm.hibernating))
                return 0;
        if (r < 0)
                return cc_err_copy(err, &why);
        *ret_detail = xasprintf("id=%s", c->id);
        if (gc->dry_run)
                return GC_WOULD;
        r = vm_recover_locked(gc->e, mod->drv, &vm, err);
        return r < 0 ? r : GC_DONE;
}

int gc_vms_collect(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                   char **ret_detail, int64_t *ret_bytes, struct cc_err *err)
{
        if (c->reason == stale_creating)
                return collect_creation(gc, c, ret_detail, err);
        if (c->reason == half_hibernated)
                return finish_hibernation(gc, mod, c, ret_detail, err);
        return collect_dir(gc, mod->drv, c, ret_detail, ret_bytes, err);
}
