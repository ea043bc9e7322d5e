/*
 * Save and hibernate (state.md §4, labels S1-S9 and H1-H11).
 *
 *   S1  lock, guards: live, nothing attached, name free          H1
 *   S2  ID, build lease, durable pending row                     H2
 *   S3  data directory                                           H3
 *   S4  pause                                                    H4
 *   S5  the driver's files, straight into the data directory     H5
 *   S6  writable disks: reflink or data extents                  H6
 *   S7  resume, on every way out       | cidata, sidecar, fsync  H7
 *   S8  cidata, sidecar, fsync         | durable: snapshot complete, VM `hibernating`  H8
 *   S9  durable: snapshot complete     | VMM ended H9, network idle H10, durable: stopped H11
 *
 * Killed in the pause, the VMM is paused and nobody owns it: the next verb on the VM, or gc before
 * it removes the pending snapshot, resumes it. The build lease is the kernel's to release.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "vm/agent.h"
#include "vm/internal.h"
#include "vm/snapshot.h"

#define MAX_DESCRIPTION 4096

struct capture {
        struct engine *e;
        const struct hv_driver *drv;
        struct hv_env env;
        struct vm_record *vm;
        struct vm_proc proc;
        struct snapshot_record rec;
        struct cc_strv attached; /* disks, as the driver names them */
        bool hibernate;
        bool agent; /* the guest's answers */
        int lease;
};

static void capture_clear(struct capture *c)
{
        vm_proc_clear(&c->proc);
        snapshot_record_clear(&c->rec);
        cc_strv_free(&c->attached);
        if (c->lease >= 0)
                close(c->lease);
}

struct snap_env vm_snap_env(const struct engine *e)
{
        return (struct snap_env){ .config = e->config,
                                  .meta = e->meta,
                                  .lock_timeout_ms = e->lock_timeout_ms };
}

/* Step n of either flow is done. */
static int passed(const struct capture *c, int n, struct cc_err *err)
{
        char label[16];

        (void)snprintf(label, sizeof(label), c->hibernate ? "hibernate.H%d" : "save.S%d", n);
        return cc_failpoint(label, err);
}

static int check_attached(struct capture *c, struct cc_err *err)
{
        HV_ATTACHMENTS struct hv_attachments all = { 0 };
        CC_STRV struct cc_strv ids = { 0 };
        CC_FREE char *list = NULL;
        int r = c->drv->attachments ? c->drv->attachments(&c->env, c->vm->run_dir, &all, err) : 0;

        if (r < 0 || all.n == 0)
                return r;
        for (size_t i = 0; i < all.n; i++)
                cc_strv_add(&ids, all.v[i].id);
        list = cc_strv_join(&ids, ", ");
        return cc_fail(err, CC_STATE, "vm %s has attached devices (%s): detach first", c->vm->id,
                       list);
}

/* S1. */
static int guard(struct capture *c, const char *name, const char *description, struct cc_err *err)
{
        struct snap_env env = vm_snap_env(c->e);
        int r = hv_require(c->drv, HV_CAP_SNAPSHOT, c->hibernate ? "hibernate" : "snapshot save",
                           err);

        if (r == 0 && strlen(description) > MAX_DESCRIPTION)
                r = cc_fail(err, CC_INVALID, "description is longer than %d bytes",
                            MAX_DESCRIPTION);
        if (r == 0)
                r = vm_disks_check(c->vm, err);
        if (r == 0)
                r = vm_check_running(c->drv, &c->env, c->vm, &c->proc, err);
        if (r == 0)
                r = check_attached(c, err);
        /* The state of a NIC that the record does not know would fit no machine made from it. */
        if (r == 0)
                r = vm_drop_stray_nics(c->drv, &c->env, c->vm, err);
        if (r == 0 && c->drv->can_capture)
                r = c->drv->can_capture(&c->env, c->vm->run_dir, err);
        if (r == 0)
                r = snap_name_free(&env, name, err);
        /* For clones, which need not look for an agent then that there is not. */
        if (r == 0)
                c->agent = vm_agent_present(c->e->config, c->vm);
        return r;
}

/* What a snapshot takes of its VM: the guest-visible configuration, and how it was attached. */
static void describe(struct capture *c, const char *name, const char *description)
{
        const struct vm_record *vm = c->vm;
        struct snapshot_record *s = &c->rec;

        record_copy(&vm_config_type, &s->config, &vm->config);
        /* The VM's own, not the snapshot's. */
        cc_strset(&s->config.name, NULL);
        cc_strset(&s->config.cpuset_cpus, NULL);
        cc_strv_free(&s->config.publish);
        json_decref(s->config.labels);
        json_decref(s->config.extra);
        s->config.labels = s->config.extra = NULL;
        s->name = xstrdup(name);
        s->description = *description ? xstrdup(description) : NULL;
        cc_strv_copy(&s->image_blob_ids, &vm->image_blob_ids);
        s->hypervisor = xstrdup(c->drv->name);
        s->nics = (int64_t)vm->network_configs.len;
        if (*vm_net_backend(vm))
                s->net_backend = xstrdup(vm_net_backend(vm));
        if (*vm_net_bridge(vm))
                s->net_bridge_dev = xstrdup(vm_net_bridge(vm));
        s->source_vm_id = xstrdup(vm->id);
}

static bool names_disk(const struct capture *c, const struct vm_disk *d)
{
        const char *name;

        cc_strv_foreach (&c->attached, i, name) {
                if (cc_streq(name, d->path) || cc_streq(name, cc_basename(d->path)))
                        return true;
        }
        return false;
}

/* Disks of the machine that are `ro` or not, beside their layers, into the data directory. */
static int copy_disks(const struct capture *c, bool ro, struct cc_err *err)
{
        int r = 0;

        for (size_t i = 0; i < c->vm->storage_configs.len && r == 0; i++) {
                const struct vm_disk *d = vm_disk_at(c->vm, i);
                CC_FREE char *to = cc_path_join(c->rec.data_dir, cc_basename(d->path));

                if (d->ro == ro && snap_disk_resident(d) && names_disk(c, d))
                        r = snap_copy(d->path, to, err);
        }
        return r;
}

/* S4-S6, in the pause. */
static int capture_paused(struct capture *c, struct cc_err *err)
{
        int r = passed(c, 4, err);

        if (r == 0)
                r = c->drv->capture(&c->env, c->vm->run_dir, &c->proc, c->rec.data_dir,
                                    &c->attached, err);
        if (r == 0)
                r = passed(c, 5, err);
        if (r == 0)
                r = copy_disks(c, false, err);
        return r < 0 ? r : passed(c, 6, err);
}

/* S7: not cancelable. */
static int resume(const struct capture *c, struct cc_err *err)
{
        int r;

        cc_uninterruptible_begin();
        r = c->drv->resume(&c->env, c->vm->run_dir, err);
        cc_uninterruptible_end();
        return r;
}

/* After a failure in the pause: only logged, the failure is what the user should see. */
static void resume_after(const struct capture *c)
{
        struct cc_err why = CC_ERR_INIT;

        if (resume(c, &why) < 0)
                cc_warn("snapshot.save", "resume %s: %s", c->vm->id, why.msg);
}

/* S8, H7: what needs no pause, and everything on the disk. */
static int complete_files(const struct capture *c, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(c->rec.data_dir, SNAP_SIDECAR);
        CC_FREE char *text = NULL;
        CC_JSON json_t *sidecar = NULL;
        int r = copy_disks(c, true, err);

        if (r == 0)
                r = snap_sidecar_make(c->e->config, c->vm, &c->attached, &sidecar, err);
        if (r == 0 && c->drv->sidecar)
                r = c->drv->sidecar(&c->env, c->vm->run_dir, sidecar, err);
        if (r < 0)
                return r;
        json_object_set_new(sidecar, VM_AGENT_KEY, json_boolean(c->agent));
        text = cc_json_pretty(sidecar);
        r = cc_publish(path, text, strlen(text), SNAP_MODE, err);
        if (r == 0)
                r = snap_sync(c->rec.data_dir, err);
        if (r == 0) {
                CC_FREE char *parent =
                        xstrndup(c->rec.data_dir,
                                 (size_t)(cc_basename(c->rec.data_dir) - c->rec.data_dir) - 1);

                r = cc_fsync_dir(parent, err);
        }
        return r;
}

/* S9, H8: one durable transaction. */
static int commit(struct capture *c, struct cc_err *err)
{
        int64_t bytes = 0;
        int r = snap_allocated(c->rec.data_dir, &bytes, err);

        if (r < 0)
                return r;
        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "interrupted");
        cc_strv_add(&c->vm->snapshot_ids, c->rec.id);
        cc_strv_sort(&c->vm->snapshot_ids);
        c->vm->hibernating = c->hibernate;
        r = meta_begin(c->e->meta, META_DURABLE, err);
        if (r < 0)
                return r;
        r = snap_finalize(c->e->meta, &c->rec, bytes, err);
        if (r == 0)
                r = meta_vm_update(c->e->meta, c->vm, NULL, err);
        if (r < 0) {
                meta_rollback(c->e->meta);
                return r;
        }
        return meta_commit(c->e->meta, err);
}

/* S3. */
static int make_dir(const struct capture *c, struct cc_err *err)
{
        if (mkdir(c->rec.data_dir, 0750) < 0)
                return cc_fail_errno(err, errno, "create directory %s", c->rec.data_dir);
        return passed(c, 3, err);
}

/* S3-S9. On failure the VM runs; the caller removes the snapshot. */
static int save_steps(struct capture *c, struct cc_err *err)
{
        int r = make_dir(c, err);

        if (r == 0)
                r = c->drv->pause(&c->env, c->vm->run_dir, err);
        if (r < 0)
                return r;
        r = capture_paused(c, err);
        if (r < 0) {
                resume_after(c);
                return r;
        }
        r = resume(c, err);
        if (r < 0)
                return cc_wrap(err, "snapshot data captured but resume failed");
        r = passed(c, 7, err);
        if (r == 0)
                r = complete_files(c, err);
        if (r == 0)
                r = passed(c, 8, err);
        return r < 0 ? r : commit(c, err);
}

/* H3-H8, the same without a resume in between. */
static int hibernate_steps(struct capture *c, struct cc_err *err)
{
        int r = make_dir(c, err);

        if (r == 0)
                r = c->drv->pause(&c->env, c->vm->run_dir, err);
        if (r < 0)
                return r;
        r = capture_paused(c, err);
        if (r == 0)
                r = complete_files(c, err);
        if (r == 0)
                r = passed(c, 7, err);
        if (r == 0)
                r = commit(c, err);
        if (r < 0)
                resume_after(c);
        return r;
}

static int run(struct engine *e, const char *id, bool hibernate, const char *name,
               const char *description, struct snapshot_record *ret, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        CC_CLEANUP(capture_clear)
        struct capture c = {
                .e = e, .vm = &vm, .proc = VM_PROC_INIT, .hibernate = hibernate, .lease = -1
        };
        const char *op = hibernate ? "vm.hibernate" : "snapshot.save";
        struct snap_env env = vm_snap_env(e);
        CC_CLOSE int lock = -1;
        int r = vm_lock(e, id, op, &lock, err);

        if (r == 0)
                r = vm_load_locked(e, id, &vm, &c.drv, err);
        if (r < 0)
                return r;
        vm_hv_env(e->config, c.drv, &c.env);
        r = guard(&c, name, description, err);
        if (r == 0)
                r = passed(&c, 1, err);
        if (r < 0)
                return r;
        describe(&c, name, description);
        r = snap_reserve(&env, op, &c.rec, &c.lease, err);
        if (r < 0)
                return r;
        r = passed(&c, 2, err);
        if (r == 0)
                r = hibernate ? hibernate_steps(&c, err) : save_steps(&c, err);
        if (r < 0) {
                snap_discard(&env, &c.rec);
                return r;
        }
        /* The snapshot is complete, whatever happens now. */
        r = passed(&c, hibernate ? 8 : 9, err);
        if (r == 0 && hibernate)
                r = vm_finish_hibernate(e, c.drv, &vm, err);
        if (r < 0)
                return r;
        *ret = c.rec;
        c.rec = (struct snapshot_record)SNAPSHOT_RECORD_INIT;
        return 0;
}

int vm_save(struct engine *e, const char *id, const char *name, const char *description,
            struct snapshot_record *ret, struct cc_err *err)
{
        return run(e, id, false, name, description, ret, err);
}

int vm_hibernate(struct engine *e, const char *id, const char *name, const char *description,
                 struct snapshot_record *ret, struct cc_err *err)
{
        return run(e, id, true, name, description, ret, err);
}
