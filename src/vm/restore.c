/*
 * Restore in place (state.md §6, labels R1-R9).
 *
 *   R1  VM lock, snapshot lease, every gate: until here nothing was touched
 *   R2  the complete file set beside the run dir
 *   R3  durable marker "staged"
 *   R4  network of a stopped VM; the VMM is gone
 *   R5  durable marker "swapping"
 *   R6  the host's end of the NICs; old files out, staged files in
 *   R7  launched, loaded, resumed
 *   R8  durable: configuration of the snapshot, running, no marker
 *   R9  staging directory gone, locks released; the guest's agent, where there is one, gives it
 *       entropy
 *
 * Up to R3 a failure leaves the VM as it was. After the kill there is no way back to the guest that
 * ran: the state becomes error and the marker stays; up to R5 it still tells that the files are the
 * old ones, so that the next verb merely clears it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "vm/agent.h"
#include "vm/revive.h"

struct restore {
        struct engine *e;
        const struct vm_restore_request *req;
        struct revival rev;
        struct vm_record *vm;  /* as it is */
        struct vm_record next; /* as it shall be */
        char *staging;
        bool drifted;  /* the guest's MACs are not the record's */
        bool requeued; /* its NICs have another number of queues */
        bool again;    /* an earlier restore was interrupted among the files */
};

static void restore_clear(struct restore *r)
{
        revival_clear(&r->rev);
        vm_record_clear(&r->next);
        free(r->staging);
}

/* ---- R1: gates ---- */

static int check_state(const struct vm_record *vm, struct cc_err *err)
{
        if (vm_in_state(vm, VM_RUNNING) || vm_in_state(vm, VM_STOPPED) || vm_in_state(vm, VM_ERROR))
                return 0;
        return cc_fail(err, CC_STATE,
                       "vm %s is %s, must be running, stopped or in error to restore", vm->id,
                       vm->state);
}

static int check_owner(const struct restore *r, const char *ref, struct cc_err *err)
{
        const char *snapshot = r->rev.from_dir ? r->req->source.from_dir : r->req->source.snapshot;

        if (!cc_isempty(r->rev.rec.id) && cc_strv_has(&r->vm->snapshot_ids, r->rev.rec.id))
                return 0;
        if (r->rev.from_dir && r->req->force) {
                cc_warn("vm.restore", "snapshot %s does not belong to VM %s: restoring as forced",
                        snapshot, ref);
                return 0;
        }
        (void)cc_fail(err, CC_INVALID, "snapshot %s does not belong to VM %s", snapshot, ref);
        if (r->rev.from_dir)
                cc_hint(err, "--force restores another VM's snapshot");
        return -CC_INVALID;
}

static int check_backend(const struct restore *r, const struct hv_driver *drv, struct cc_err *err)
{
        const char *snapshot = r->rev.from_dir ? r->req->source.from_dir : r->req->source.snapshot;

        if (r->rev.drv == drv)
                return 0;
        return cc_fail(err, CC_UNSUPPORTED, "snapshot %s was made by %s, not %s", snapshot,
                       r->rev.drv->name, drv->name);
}

static int check_nics(const struct restore *r, struct cc_err *err)
{
        if ((int64_t)r->vm->network_configs.len == r->rev.rec.nics)
                return 0;
        return cc_fail(err, CC_INVALID, "nic count mismatch: vm has %zu, snapshot has %lld",
                       r->vm->network_configs.len, (long long)r->rev.rec.nics);
}

/* The snapshot's disks are the VM's first ones; only the seed disk may follow. */
static int check_roles(const struct restore *r, struct cc_err *err)
{
        const struct record_array *disks = &r->rev.side.storage_configs;
        size_t n = r->vm->storage_configs.len;

        for (size_t i = 0; i < disks->len; i++) {
                const struct vm_disk *theirs = (const struct vm_disk *)disks->v + i;
                const struct vm_disk *ours = i < n ? vm_disk_at(r->vm, i) : NULL;

                if (!ours || !cc_streq(ours->role, theirs->role) ||
                    !cc_streq(ours->serial ? ours->serial : "",
                              theirs->serial ? theirs->serial : ""))
                        return cc_fail(err, CC_INVALID,
                                       "disk %zu of the snapshot (%s %s) is not the VM's", i,
                                       theirs->role, theirs->serial ? theirs->serial : "");
                if ((r->rev.drv->caps & HV_CAP_FIXED_PATHS) && !ours->ro &&
                    !cc_streq(ours->path, theirs->path))
                        return cc_fail(err, CC_INVALID,
                                       "disk %zu of the snapshot was at %s, the VM's is at %s", i,
                                       theirs->path, ours->path);
        }
        for (size_t i = disks->len; i < n; i++)
                if (!cc_streq(vm_disk_at(r->vm, i)->role, "cidata"))
                        return cc_fail(err, CC_INVALID, "the snapshot lacks disk %s of the VM",
                                       vm_disk_at(r->vm, i)->serial);
        return 0;
}

/* The guest keeps the NICs it was saved with: MACs, and queues by its processors. Host and record
 * follow (network.md §9). */
static void take_nics(struct restore *r)
{
        const struct vm_config *was = &r->vm->config;
        const struct vm_config *is = &r->next.config;
        int64_t most = vm_nic_queues(r->rev.drv);
        int64_t queues = most ? most : 2 * is->cpu;

        for (size_t i = 0; i < r->next.network_configs.len; i++) {
                struct nic *nic = vm_nic(&r->next, i);
                const char *mac = i < r->rev.macs.len ? r->rev.macs.v[i] : NULL;

                if (!cc_isempty(mac) && !cc_streq(nic->mac, mac)) {
                        cc_strset(&nic->mac, mac);
                        r->drifted = true;
                }
                /* Queues may differ for other reasons, with which the VM ran so far. */
                if (is->cpu != was->cpu && nic->num_queues != queues) {
                        nic->num_queues = queues;
                        r->requeued = true;
                }
                if (is->queue_size && is->queue_size != was->queue_size)
                        nic->queue_size = is->queue_size;
        }
}

/* The record after the restore (state.md §6.4). */
static int assemble(struct restore *r, struct cc_err *err)
{
        size_t k = r->rev.side.storage_configs.len;
        int e;

        record_copy(&vm_record_type, &r->next, r->vm);
        for (size_t i = 0; i < r->next.storage_configs.len; i++)
                record_clear(&vm_disk_type, vm_disk_at(&r->next, i));
        free(r->next.storage_configs.v);
        r->next.storage_configs = (struct record_array){ 0 };
        record_clear(&boot_config_type, &r->next.boot_config);
        e = revival_fill(r->e, &r->rev, &r->next, err);
        if (e < 0)
                return e;
        for (size_t i = 0; i < k; i++) {
                struct vm_disk *to = vm_disk_at(&r->next, i);

                /* A resident disk stays where the VM has it. */
                if (snap_disk_resident(to))
                        cc_strset(&to->path, vm_disk_at(r->vm, i)->path);
        }
        for (size_t i = k; i < r->vm->storage_configs.len; i++)
                record_copy(&vm_disk_type,
                            record_array_add(&vm_disk_type, &r->next.storage_configs),
                            vm_disk_at(r->vm, i));
        take_nics(r);
        e = vm_rebuild_cmdline(r->e->config, r->rev.drv, &r->next, err);
        if (e == 0)
                e = vm_disks_check(&r->next, err);
        if (e == 0)
                e = vm_nics_check(&r->next, err);
        return e < 0 ? e : revival_check_base(r->e, &r->rev, &r->next, err);
}

static int gate(struct restore *r, const struct hv_driver *drv, const char *ref, struct cc_err *err)
{
        int e = revival_open(r->e, &r->req->source, "vm.restore", &r->rev, err);

        if (e == 0)
                e = check_owner(r, ref, err);
        if (e == 0)
                e = check_backend(r, drv, err);
        if (e == 0)
                e = check_nics(r, err);
        if (e == 0)
                e = revival_judge(r->e, &r->rev, err);
        if (e == 0)
                e = check_roles(r, err);
        return e < 0 ? e : assemble(r, err);
}

/* ---- R2-R9 ---- */

/* R2. */
static int stage(struct restore *r, struct cc_err *err)
{
        int e = vm_kernel_ready(r->rev.drv, &r->next, err);

        if (e == 0)
                e = cc_rm_rf(r->staging, err);
        if (e == 0)
                e = cc_mkdir_p(r->staging, 0750, err);
        if (e == 0)
                e = snap_stage(r->rev.drv, r->rev.rec.data_dir, r->staging, true, err);
        if (e == 0)
                e = revival_rebase(r->e, &r->rev, r->staging, err);
        if (e == 0)
                e = snap_sync(r->staging, err);
        if (e == 0)
                e = cc_failpoint("restore.R2", err);
        return e;
}

static void set_marker(struct restore *r, const char *phase)
{
        struct vm_record *vm = r->vm;

        if (!vm->restore_pending)
                vm->restore_pending = xcalloc(1, sizeof(*vm->restore_pending));
        cc_strset(&vm->restore_pending->phase, phase);
        cc_strset(&vm->restore_pending->snapshot_id, r->rev.rec.id);
        cc_strset(&vm->restore_pending->from_dir, r->rev.from_dir ? r->rev.rec.data_dir : NULL);
}

/* R3. A VM whose earlier restore was interrupted stays "swapping": its files are mixed already. */
static int mark_staged(struct restore *r, struct cc_err *err)
{
        int e;

        r->again = r->vm->restore_pending != NULL;
        if (r->again)
                return cc_failpoint("restore.R3", err);
        set_marker(r, RESTORE_STAGED);
        e = vm_commit(r->e, r->vm, NULL, err);
        return e < 0 ? e : cc_failpoint("restore.R3", err);
}

/* R4. */
static int end_old(struct restore *r, struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        int live = vm_is_live(r->rev.drv, r->vm, &proc, err);
        int e = live < 0 ? live : 0;

        /* Before the kill, so that a network that cannot be healed costs nothing. */
        if (live == 0)
                e = vm_ready_network(r->e, r->rev.drv, r->vm, err);
        if (e < 0)
                return e;
        if (live > 0)
                e = r->rev.drv->stop(&r->rev.env, r->vm->run_dir, &proc, 0, err);
        if (e < 0)
                return cc_wrap(err, "stop vm %s", r->vm->id);
        vm_remove_runtime(r->rev.drv, r->vm, "vm.restore");
        return cc_failpoint("restore.R4", err);
}

/* R5. */
static int mark_swapping(struct restore *r, struct cc_err *err)
{
        int e;

        set_marker(r, RESTORE_SWAPPING);
        vm_forget_proc(r->vm);
        vm_set_state(r->vm, VM_ERROR);
        e = vm_commit(r->e, r->vm, "error", err);
        return e < 0 ? e : cc_failpoint("restore.R5", err);
}

/* The host's end of the NICs. Behind the marker, because a start with the old ones would fail. What
 * an interrupted restore has changed is not known: then it is made anew, as it is for queues. */
static int adopt_nics(struct restore *r, struct cc_err *err)
{
        struct net_env env = vm_net_env(r->e);
        const struct net_provider *net = NULL;
        int e = net_provider_find(vm_net_backend(&r->next), &net, err);

        if (e < 0 || !net)
                return e;
        if (r->again || r->requeued)
                return net->recover(&env, &r->next, err);
        for (size_t i = 0; r->drifted && e == 0 && i < r->next.network_configs.len; i++)
                e = net_adopt_mac(&env, r->vm, i, vm_nic(&r->next, i)->mac, err);
        return e;
}

/* Everything of a snapshot that the run dir holds, except a seed disk that is not being replaced.
 */
static int remove_old(struct restore *r, const struct cc_strv *staged, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *name;
        int e = snap_list(r->rev.drv, r->vm->run_dir, &names, err);

        cc_strv_foreach (&names, i, name) {
                CC_FREE char *path = cc_path_join(r->vm->run_dir, name);

                if (e < 0)
                        break;
                if (cc_streq(name, SNAP_CIDATA) && !cc_strv_has(staged, name))
                        continue;
                e = cc_unlink(path, err);
        }
        return e;
}

/* R6. */
static int swap(struct restore *r, struct cc_err *err)
{
        CC_STRV struct cc_strv staged = { 0 };
        const char *name;
        int e = snap_list(r->rev.drv, r->staging, &staged, err);

        if (e == 0)
                e = remove_old(r, &staged, err);
        cc_strv_foreach (&staged, i, name) {
                CC_FREE char *from = cc_path_join(r->staging, name);
                CC_FREE char *to = cc_path_join(r->vm->run_dir, name);

                if (e < 0)
                        break;
                if (rename(from, to) < 0)
                        e = cc_fail_errno(err, errno, "move %s", from);
        }
        if (e == 0)
                e = cc_fsync_dir(r->vm->run_dir, err);
        return e < 0 ? e : cc_failpoint("restore.R6", err);
}

/* R8. */
static int finalize(struct restore *r, const struct vm_proc *proc, struct cc_err *err)
{
        struct vm_record *vm = &r->next;
        int64_t now = cc_now();
        int e;

        vm_drop_restore_marker(vm);
        vm->transition_generation = r->vm->transition_generation;
        vm->started_at = now;
        vm->stopped_at = 0;
        vm->first_booted = true;
        vm_set_proc(vm, proc);
        vm_set_state(vm, VM_RUNNING);
        e = meta_begin(r->e->meta, META_DURABLE, err);
        if (e < 0)
                return e;
        e = meta_vm_update(r->e->meta, vm, "restore", err);
        if (e == 0 && !r->rev.from_dir)
                e = meta_snapshot_touch(r->e->meta, r->rev.rec.id, now, err);
        if (e < 0) {
                meta_rollback(r->e->meta);
                return e;
        }
        return meta_commit(r->e->meta, err);
}

/* A failure before the VMM was ended: the VM is as it was. */
static int back_out(struct restore *r, int e)
{
        struct cc_err why = CC_ERR_INIT;
        int e2;

        cc_uninterruptible_begin();
        e2 = cc_rm_rf(r->staging, &why);
        if (e2 == 0 && r->vm->restore_pending &&
            cc_streq(r->vm->restore_pending->phase, RESTORE_STAGED)) {
                vm_drop_restore_marker(r->vm);
                e2 = vm_commit(r->e, r->vm, NULL, &why);
        }
        if (e2 < 0)
                cc_warn("vm.restore", "vm %s: %s", r->vm->id, why.msg);
        cc_uninterruptible_end();
        return e;
}

/* A failure behind it: no VMM, state error, the marker stays. */
static int give_up(struct restore *r, struct vm_proc *proc, int e, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;

        cc_uninterruptible_begin();
        if (proc->pidfd >= 0 && r->rev.drv->stop(&r->rev.env, r->vm->run_dir, proc, 0, &why) < 0)
                cc_warn("vm.restore", "vm %s: %s", r->vm->id, why.msg);
        vm_remove_runtime(r->rev.drv, r->vm, "vm.restore");
        vm_quiesce(r->e, r->vm);
        vm_forget_proc(r->vm);
        vm_set_state(r->vm, VM_ERROR);
        if (vm_commit(r->e, r->vm, "error", &why) < 0)
                cc_warn("vm.restore", "vm %s: %s", r->vm->id, why.msg);
        cc_uninterruptible_end();
        if (cc_streq(r->vm->restore_pending ? r->vm->restore_pending->phase : NULL,
                     RESTORE_SWAPPING))
                cc_hint(err,
                        "its disks are the snapshot's already: restore it again, or remove it");
        return e;
}

static int steps(struct restore *r, struct cc_err *err)
{
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        struct revive_how how = { .mode = r->req->mode };
        VM_PROC struct vm_proc old = VM_PROC_INIT;
        int e = stage(r, err);

        if (e == 0)
                e = mark_staged(r, err);
        if (e < 0)
                return back_out(r, e);
        e = end_old(r, err);
        if (e < 0) {
                /* A VMM that is still there was not touched. */
                if (vm_is_live(r->rev.drv, r->vm, &old, NULL) != 0)
                        return back_out(r, e);
                return give_up(r, &proc, e, err);
        }
        e = mark_swapping(r, err);
        if (e == 0)
                e = adopt_nics(r, err);
        if (e == 0)
                e = swap(r, err);
        if (e == 0)
                e = revive_load(r->e, &r->rev, &how, &r->next, &proc, err);
        /* Before the guest speaks. */
        if (e == 0)
                vm_start_relay(r->e, r->rev.drv, &r->next, &proc);
        if (e == 0)
                e = revive_resume(r->e, &r->rev, &how, &r->next, &proc, err);
        if (e == 0)
                e = cc_failpoint("restore.R7", err);
        if (e == 0)
                e = finalize(r, &proc, err);
        if (e < 0)
                return give_up(r, &proc, e, err);
        return cc_failpoint("restore.R8", err);
}

/* R9: the guest draws the random numbers again that it drew after the snapshot was taken. */
static void settle_guest(const struct restore *r)
{
        struct vm_guest_setup how = { .known = revival_agent(&r->rev) };
        bool settled;

        vm_guest_setup(r->e->config, &r->next, &how, &settled);
}

int vm_restore(struct engine *e, const char *id, const char *ref,
               const struct vm_restore_request *req, struct vm_record *ret, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_CLEANUP(restore_clear)
        struct restore r = { .e = e, .req = req, .rev = REVIVAL_INIT, .vm = &vm };
        const struct hv_driver *drv;
        struct cc_err why = CC_ERR_INIT;
        CC_CLOSE int lock = -1;
        int e2 = vm_lock(e, id, "vm.restore", &lock, err);

        if (e2 == 0)
                e2 = vm_load_locked(e, id, &vm, &drv, err);
        if (e2 == 0)
                e2 = check_state(&vm, err);
        if (e2 == 0)
                e2 = gate(&r, drv, ref, err);
        if (e2 == 0)
                e2 = cc_failpoint("restore.R1", err);
        if (e2 < 0)
                return e2;
        r.staging = vm_staging_dir(&vm);
        e2 = steps(&r, err);
        if (e2 < 0)
                return e2;
        /* R9. */
        if (cc_rm_rf(r.staging, &why) < 0)
                cc_warn("vm.restore", "vm %s: %s", vm.id, why.msg);
        e2 = cc_failpoint("restore.R9", err);
        if (e2 < 0)
                return e2;
        close(TAKE_FD(lock));
        revival_release(&r.rev);
        settle_guest(&r);
        vm_present(e->config, &r.next);
        vm_record_clear(ret);
        *ret = r.next;
        r.next = (struct vm_record)VM_RECORD_INIT;
        return 0;
}
