/*
 * Create and run (state.md §3, labels C1-C5).
 *
 *   C1  validate, draw an ID, take the VM's lock
 *   C2  image under shared blob locks, reserve (relaxed placeholder with the blob pins), unlock
 * blobs C3  network C4  directories and disks C5  durable: created T1-T5 for run, under the same
 * lock (start.c)
 *
 * From C2 on the row exists before anything it names does, and everything it names is derived from
 * it: killed anywhere, what is left is a `creating` row whose lock is free, and reconcile removes
 * the rest by the row. A failure undoes the steps in reverse; the row goes last.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "vm/internal.h"

/* Two VMs sharing their first 8 characters of 40 random bits: a second draw is already unlikely. */
#define MAX_DRAWS 16

#define NAME_MAX_LEN 63

static int insert(struct engine *e, struct vm_record *vm, struct cc_err *err)
{
        int r = meta_begin(e->meta, META_RELAXED, err);

        if (r < 0)
                return r;
        r = meta_vm_insert(e->meta, vm, err);
        if (r < 0) {
                meta_rollback(e->meta);
                return r;
        }
        return meta_commit(e->meta, err);
}

/* A name nobody asked for must not fail: "-" and four characters of the ID make it unique. */
static void suffix_name(struct vm_record *vm)
{
        char suffix[6] = "-";
        int room = NAME_MAX_LEN - 5;
        char *name;

        for (size_t i = 0; i < 4; i++)
                suffix[1 + i] =
                        (char)(vm->id[i] >= 'A' && vm->id[i] <= 'Z' ? vm->id[i] + 32 : vm->id[i]);
        name = xasprintf("%.*s%s", room, vm->config.name, suffix);
        free(vm->config.name);
        vm->config.name = name;
}

/* C1 (identity, lock) and the reservation of C2. *ret_lock is owned. */
static int reserve(struct engine *e, struct vm_plan *plan, const char *op, int *ret_lock,
                   struct cc_err *err)
{
        CC_FREE char *base = xstrdup(plan->vm.config.name);

        for (int draw = 0; draw < MAX_DRAWS; draw++) {
                struct cc_err why = CC_ERR_INIT;
                CC_CLOSE int lock = -1;
                char id[CC_ID_LEN + 1];
                int r;

                cc_id_new(id);
                cc_strset(&plan->vm.config.name, base);
                r = vm_plan_identify(e, plan, id, err);
                if (r == 0)
                        r = vm_plan_check(plan, err);
                if (r == 0)
                        r = vm_lock(e, id, op, &lock, err);
                if (r < 0)
                        return r;
                r = insert(e, &plan->vm, &why);
                if (r < 0 && cc_streq(why.code, "name_taken") && plan->name_defaulted) {
                        suffix_name(&plan->vm);
                        why = (struct cc_err)CC_ERR_INIT;
                        r = insert(e, &plan->vm, &why);
                }
                if (r == 0) {
                        *ret_lock = TAKE_FD(lock);
                        return 0;
                }
                if (!cc_streq(why.code, "id8_taken"))
                        return cc_err_copy(err, &why);
        }
        return cc_fail(err, CC_INTERNAL, "no free VM ID after %d draws", MAX_DRAWS);
}

static int make_network(struct engine *e, struct vm_plan *plan, struct cc_err *err)
{
        struct net_env env = vm_net_env(e);
        struct vm_record *vm = &plan->vm;
        CC_FREE struct net_spec *specs = NULL;
        int r;

        if (!plan->net)
                return 0;
        r = plan->net->prepare(&env, vm, err);
        if (r < 0)
                return cc_wrap(err, "network");
        if (plan->req->nics == 0)
                return 0;
        specs = xcalloc((size_t)plan->req->nics, sizeof(*specs));
        for (int64_t i = 0; i < plan->req->nics; i++)
                specs[i] = (struct net_spec){ .index = (size_t)i,
                                              .num_queues = vm_nic_queues(plan->drv) };
        r = plan->net->add(&env, vm, specs, (size_t)plan->req->nics, &vm->network_configs, err);
        return r < 0 ? cc_wrap(err, "network") : 0;
}

static int make_files(struct engine *e, struct vm_plan *plan, struct cc_err *err)
{
        VM_SPEC_BUF struct vm_spec_buf spec = { 0 };
        int r = cc_mkdir_p(plan->vm.run_dir, 0750, err);

        if (r == 0)
                r = cc_mkdir_p(plan->vm.log_dir, 0750, err);
        if (r == 0)
                r = vm_make_disks(plan, err);
        if (r == 0)
                r = vm_seed_write(e->config, &plan->vm, plan->req->user, plan->req->password, err);
        if (r == 0)
                r = vm_kernel_ready(plan->drv, &plan->vm, err);
        if (r == 0)
                r = vm_spec_build(&plan->vm, &spec, err);
        if (r == 0)
                r = plan->drv->prepare(&plan->env, &spec.spec, err);
        return r;
}

static int finalize(struct engine *e, struct vm_plan *plan, struct cc_err *err)
{
        struct vm_record *vm = &plan->vm;
        int r = vm_disks_check(vm, err);

        if (r < 0)
                return r;
        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "interrupted");
        vm_set_state(vm, VM_CREATED);
        return vm_commit(e, vm, "create", err);
}

static int steps(struct engine *e, struct vm_plan *plan, struct cc_err *err)
{
        int r = cc_failpoint("create.C2", err);

        if (r == 0)
                r = make_network(e, plan, err);
        if (r == 0)
                r = cc_failpoint("create.C3", err);
        /* Now the NICs are known. */
        if (r == 0)
                r = vm_rebuild_cmdline(e->config, plan->drv, &plan->vm, err);
        if (r == 0)
                r = make_files(e, plan, err);
        if (r == 0)
                r = cc_failpoint("create.C4", err);
        if (r == 0)
                r = finalize(e, plan, err);
        if (r == 0)
                r = cc_failpoint("create.C5", err);
        return r;
}

static int delete_row(struct engine *e, const char *id, struct cc_err *err)
{
        int r = meta_begin(e->meta, META_DURABLE, err);

        if (r < 0)
                return r;
        r = meta_vm_delete(e->meta, id, err);
        if (r < 0) {
                meta_rollback(e->meta);
                return r;
        }
        return meta_commit(e->meta, err);
}

/* Not cancelable. A step that fails is logged and leaves the row, which is what reconcile and gc
 * need to try again. */
static void roll_back(struct engine *e, const struct vm_plan *plan)
{
        const struct vm_record *vm = &plan->vm;
        struct net_env env = vm_net_env(e);
        struct cc_err err = CC_ERR_INIT;
        int r = 0;

        cc_uninterruptible_begin();
        env.deadline = cc_monotonic() + NET_ROLLBACK_NS;
        if (plan->net)
                r = plan->net->delete (&env, vm, &err);
        if (r == 0)
                r = cc_rm_rf(vm->run_dir, &err);
        if (r == 0)
                r = cc_rm_rf(vm->log_dir, &err);
        if (r == 0)
                r = delete_row(e, vm->id, &err);
        if (r < 0)
                cc_warn("vm.create", "roll back %s: %s", vm->id, err.msg);
        cc_uninterruptible_end();
}

int vm_create(struct engine *e, const struct vm_request *req, bool start, struct vm_record *ret,
              struct cc_err *err)
{
        VM_PLAN struct vm_plan plan = { 0 };
        CC_CLOSE int lock = -1;
        int r = vm_plan_make(e, req, &plan, err);

        if (r < 0)
                return r;
        r = reserve(e, &plan, start ? "vm.run" : "vm.create", &lock, err);
        if (r < 0)
                return r;
        image_unlock(&plan.blob_locks);
        r = steps(e, &plan, err);
        if (r < 0) {
                roll_back(e, &plan);
                return r;
        }
        if (start) {
                r = vm_start_locked(e, plan.drv, &plan.vm, err);
                if (r < 0)
                        return cc_wrap(err, "start %s", plan.vm.id);
        }
        vm_present(e->config, &plan.vm);
        vm_record_clear(ret);
        *ret = plan.vm;
        plan.vm = (struct vm_record)VM_RECORD_INIT;
        return 0;
}
