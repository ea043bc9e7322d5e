/*
 * Clone (state.md §6, labels K1-K9).
 *
 *   K1  new ID, VM lock, snapshot lease, the source VM's lock shared if it still exists
 *   K2  reserve (relaxed) with the snapshot's pins, its row verified in the same transaction
 *   K3  network
 *   K4  files staged into the run dir: memory linked, disks reflinked, seed disk made anew
 *   K5  VMM launched                      (in the driver)
 *   K6  loaded, NICs and disks swapped while paused
 *   K7  resumed, swap settled
 *   K8  durable: running
 *   K9  locks released; the guest's agent, where there is one, gives it entropy and identity (the
 *       use of the snapshot was noted in K8's transaction)
 *
 * As with create, everything made after K2 is derived from the row: killed anywhere, a `creating`
 * row with a free lock is left, and reconcile removes VMM, network, directories and row.
 */
#include <errno.h>
#include <stdio.h>
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
#include "config/layout.h"
#include "image/image.h"
#include "vm/agent.h"
#include "vm/revive.h"

#define MAX_DRAWS       16
#define SOCKET_PATH_MAX 107
#define SOCKET_NAME_MAX (sizeof("console.sock") - 1)
#define MAX_NICS        128

struct clone {
        struct engine *e;
        const struct vm_clone_request *req;
        struct revival rev;
        struct vm_record vm;
        const struct net_provider *net;
        struct image_locks blob_locks;
        int64_t nics;
        int64_t since; /* when the last step ended */
        int lock, source_lock;
};

static void clone_clear(struct clone *c)
{
        image_unlock(&c->blob_locks);
        vm_record_clear(&c->vm);
        revival_clear(&c->rev);
        if (c->source_lock >= 0)
                close(c->source_lock);
        if (c->lock >= 0)
                close(c->lock);
}

/* A step is done: its label for the crash tests, its time for the bench. */
static int passed(struct clone *c, const char *label, struct cc_err *err)
{
        int64_t now = cc_monotonic();

        cc_debug("vm.clone", "phase %s %lld us", label, (long long)(now - c->since) / 1000);
        c->since = now;
        return cc_failpoint(label, err);
}

/* ---- before anything exists ---- */

static int check_request(const struct vm_clone_request *req, struct cc_err *err)
{
        if (!cc_isempty(req->name) && !cc_vm_name_valid(req->name))
                return cc_fail(err, CC_INVALID,
                               "invalid VM name \"%s\": want ^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$",
                               req->name);
        if (req->nics < -1 || req->nics > MAX_NICS)
                return cc_fail(err, CC_INVALID, "nics must be between 0 and %d, got %lld", MAX_NICS,
                               (long long)req->nics);
        if (req->queue_size < 0 || req->disk_queue_size < 0)
                return cc_fail(err, CC_INVALID, "queue size must not be negative");
        return 0;
}

static int check_caps(struct clone *c, struct cc_err *err)
{
        const struct hv_driver *drv = c->rev.drv;

        c->nics = c->req->nics < 0 ? c->rev.rec.nics : c->req->nics;
        if (c->nics != c->rev.rec.nics && !(drv->caps & HV_CAP_NIC_SWAP))
                return cc_fail(err, CC_UNSUPPORTED,
                               "--nics: backend %s cannot change the number of NICs of a clone "
                               "(snapshot has %lld)",
                               drv->name, (long long)c->rev.rec.nics);
        if (c->req->disk_queue_size &&
            c->req->disk_queue_size != c->rev.rec.config.disk_queue_size &&
            !(drv->caps & HV_CAP_DISK_REQUEUE))
                return cc_fail(err, CC_UNSUPPORTED, "%s: disk queue size is fixed by the snapshot",
                               drv->name);
        return 0;
}

/* Flags first, then as the source was attached. */
static int choose_network(struct clone *c, struct cc_err *err)
{
        struct net_env env = vm_net_env(c->e);
        const struct snapshot_record *s = &c->rev.rec;
        const char *network = c->req->network;
        const char *bridge = c->req->bridge;

        if (cc_isempty(network) && cc_isempty(bridge)) {
                bridge = s->net_bridge_dev;
                if (cc_isempty(bridge))
                        network = s->config.network;
                /* Recorded without a network's name: by provider. */
                if (cc_isempty(bridge) && cc_isempty(network) && !cc_isempty(s->net_backend))
                        return net_provider_find(s->net_backend, &c->net, err);
        }
        return net_provider_choose(&env, network ? network : "", bridge ? bridge : "", c->nics,
                                   c->rev.drv->caps, &c->net, err);
}

/* Everything that can be refused, up to and with the snapshot itself. */
static int prepare(struct clone *c, struct cc_err *err)
{
        int r = check_request(c->req, err);

        if (r == 0)
                r = revival_open(c->e, &c->req->source, "vm.clone", &c->rev, err);
        if (r == 0)
                r = check_caps(c, err);
        if (r == 0)
                r = revival_judge(c->e, &c->rev, err);
        return r < 0 ? r : choose_network(c, err);
}

/* ---- K1, K2 ---- */

static void default_name(struct clone *c)
{
        if (!cc_isempty(c->req->name)) {
                cc_strset(&c->vm.config.name, c->req->name);
                return;
        }
        free(c->vm.config.name);
        c->vm.config.name = xasprintf("cocoon-clone-%.*s", CC_ID8_LEN, c->vm.id);
}

/* A cloud image learns its new identity from its seed. A snapshot of a later boot has none
 * attached: then the clone's is added while it is loaded. */
static void add_seed(struct vm_record *vm)
{
        struct vm_disk *d;

        if (!cc_streq(vm->config.image_type, IMAGE_CLOUDIMG) || vm->config.windows)
                return;
        for (size_t i = 0; i < vm->storage_configs.len; i++)
                if (cc_streq(vm_disk_at(vm, i)->role, "cidata"))
                        return;
        d = record_array_add(&vm_disk_type, &vm->storage_configs);
        d->role = xstrdup("cidata");
        d->ro = true;
        d->path = cc_path_join(vm->run_dir, VM_SEED_NAME);
}

static int identify(struct clone *c, const char *id, struct cc_err *err)
{
        const struct config *config = c->e->config;
        struct vm_record *vm = &c->vm;
        size_t n;
        int r;

        vm_record_clear(vm);
        vm->id = xstrdup(id);
        vm->hypervisor = xstrdup(c->rev.drv->name);
        vm->run_dir = layout_vm_run_dir(config, c->rev.drv->dir, id);
        vm->log_dir = layout_vm_log_dir(config, c->rev.drv->dir, id);
        n = strlen(vm->run_dir) + 1 + SOCKET_NAME_MAX;
        if (n > SOCKET_PATH_MAX)
                return cc_fail(err, CC_INVALID,
                               "run directory %s is too long: sockets in it would have %zu bytes, "
                               "the limit is %d (choose a shorter --run-dir)",
                               vm->run_dir, n, SOCKET_PATH_MAX);
        r = revival_fill(c->e, &c->rev, vm, err);
        if (r < 0)
                return r;
        default_name(c);
        if (!cc_isempty(c->req->network))
                cc_strset(&vm->config.network, c->req->network);
        else
                cc_strset(&vm->config.network, c->rev.rec.config.network);
        cc_strv_copy(&vm->config.dns, &c->rev.rec.config.dns);
        if (c->req->queue_size)
                vm->config.queue_size = c->req->queue_size;
        if (c->req->disk_queue_size)
                vm->config.disk_queue_size = c->req->disk_queue_size;
        if (c->req->no_direct_io >= 0)
                vm->config.no_direct_io = c->req->no_direct_io == 1;
        if (c->net)
                vm->net_backend = xstrdup(c->net->name);
        if (!cc_isempty(c->req->bridge))
                vm->net_bridge_dev = xstrdup(c->req->bridge);
        else if (cc_isempty(c->req->network) && !cc_isempty(c->rev.rec.net_bridge_dev))
                vm->net_bridge_dev = xstrdup(c->rev.rec.net_bridge_dev);
        add_seed(vm);
        vm_set_state(vm, VM_CREATING);
        return 0;
}

/* Whose files the driver touches while it loads: the VM that was saved, or where device state names
 * paths, the one that these lie in. "" none. Caller frees. */
static char *source_id(const struct clone *c)
{
        const struct record_array *disks = &c->rev.side.storage_configs;

        if (!(c->rev.drv->caps & HV_CAP_FIXED_PATHS))
                return xstrdup(c->rev.rec.source_vm_id ? c->rev.rec.source_vm_id : "");
        for (size_t i = 0; i < disks->len; i++) {
                const struct vm_disk *d = (const struct vm_disk *)disks->v + i;
                CC_FREE char *dir = NULL;

                if (!cc_streq(d->role, "cow"))
                        continue;
                dir = xstrndup(d->path, (size_t)(cc_basename(d->path) - d->path) - 1);
                return xstrdup(cc_basename(dir));
        }
        return xstrdup("");
}

/* The driver's own limits, with NICs that do not exist yet. */
static int check_machine(const struct clone *c, struct cc_err *err)
{
        VM_SPEC_BUF struct vm_spec_buf b = { 0 };
        CC_FREE struct hv_nic *nics = xcalloc((size_t)c->nics + 1, sizeof(*nics));
        bool user = c->net && (c->net->caps & NET_CAP_USER);
        int r = vm_spec_build(&c->vm, &b, err);

        if (r < 0)
                return r;
        for (int64_t i = 0; i < c->nics; i++)
                nics[i] = (struct hv_nic){
                        .tap = user ? NULL : "tap",
                        .mac = "02:00:00:00:00:01",
                        .num_queues = 2 * c->vm.config.cpu,
                        .queue_size = c->vm.config.queue_size,
                };
        b.spec.nics = nics;
        b.spec.n_nics = (size_t)c->nics;
        return c->rev.drv->check(&c->rev.env, &b.spec, err);
}

/* Several clones of one VM may hold it; verbs that change the source wait. */
static int lock_source(struct clone *c, struct cc_err *err)
{
        CC_FREE char *id = source_id(c);
        CC_FREE char *path = NULL;
        int64_t deadline = 0;

        if (c->source_lock >= 0 || !cc_id_valid(id))
                return 0;
        path = layout_vm_lock(c->e->config, id);
        /* The file outlives its VM until gc takes it; without it there is nobody to wait for. */
        if (!cc_exists(path))
                return 0;
        if (c->e->lock_timeout_ms > 0)
                deadline = cc_monotonic() + c->e->lock_timeout_ms * CC_NSEC_PER_MSEC;
        return cc_lock(path, CC_LOCK_SHARED, "vm.clone", deadline, &c->source_lock, err);
}

static int insert(struct clone *c, struct cc_err *err)
{
        struct meta *m = c->e->meta;
        int r = meta_begin(m, META_RELAXED, err);

        if (r < 0)
                return r;
        if (!c->rev.from_dir) {
                SNAPSHOT_RECORD struct snapshot_record again = SNAPSHOT_RECORD_INIT;

                r = meta_snapshot_get(m, c->rev.rec.id, &again, err);
                if (r < 0)
                        r = cc_wrap(err, "inspect snapshot %s", c->rev.rec.id);
        }
        if (r == 0)
                r = meta_vm_insert(m, &c->vm, err);
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        return meta_commit(m, err);
}

/* Without a row nothing pins the blobs until ours does: they are locked from the check that they
 * are there to the commit. */
static int lock_blobs(struct clone *c, struct cc_err *err)
{
        const struct cc_strv *pins = &c->vm.image_blob_ids;
        const char *hex;

        image_unlock(&c->blob_locks);
        if (!c->rev.from_dir)
                return 0;
        c->blob_locks.fds = xcalloc(pins->len + 1, sizeof(*c->blob_locks.fds));
        cc_strv_foreach (pins, i, hex) {
                CC_FREE char *path = layout_blob_lock(c->e->config, hex);
                int r = cc_lock(path, CC_LOCK_SHARED, "vm.clone", 0,
                                &c->blob_locks.fds[c->blob_locks.n], err);

                if (r < 0)
                        return r;
                c->blob_locks.n++;
        }
        return 0;
}

static int reserve(struct clone *c, struct cc_err *err)
{
        for (int draw = 0; draw < MAX_DRAWS; draw++) {
                struct cc_err why = CC_ERR_INIT;
                char id[CC_ID_LEN + 1];
                int r;

                cc_id_new(id);
                r = identify(c, id, err);
                if (r == 0)
                        r = check_machine(c, err);
                if (r == 0)
                        r = vm_lock(c->e, id, "vm.clone", &c->lock, err);
                if (r == 0)
                        r = lock_source(c, err);
                if (r == 0)
                        r = lock_blobs(c, err);
                if (r == 0)
                        r = revival_check_base(c->e, &c->rev, &c->vm, err);
                if (r == 0)
                        r = passed(c, "clone.K1", err);
                if (r < 0)
                        return r;
                r = insert(c, &why);
                image_unlock(&c->blob_locks);
                if (r == 0)
                        return 0;
                close(TAKE_FD(c->lock));
                if (!cc_streq(why.code, "id8_taken"))
                        return cc_err_copy(err, &why);
        }
        return cc_fail(err, CC_INTERNAL, "no free VM ID after %d draws", MAX_DRAWS);
}

/* ---- K3-K8 ---- */

static int make_network(struct clone *c, struct cc_err *err)
{
        struct net_env env = vm_net_env(c->e);
        CC_FREE struct net_spec *specs = NULL;
        int r;

        if (!c->net)
                return 0;
        r = c->net->prepare(&env, &c->vm, err);
        if (r == 0 && c->nics > 0) {
                specs = xcalloc((size_t)c->nics, sizeof(*specs));
                for (int64_t i = 0; i < c->nics; i++)
                        specs[i] = (struct net_spec){ .index = (size_t)i,
                                                      .num_queues = vm_nic_queues(c->rev.drv) };
                r = c->net->add(&env, &c->vm, specs, (size_t)c->nics, &c->vm.network_configs, err);
        }
        return r < 0 ? cc_wrap(err, "network") : 0;
}

/* K4. */
static int make_files(struct clone *c, struct cc_err *err)
{
        const struct vm_record *vm = &c->vm;
        int r = vm_rebuild_cmdline(c->e->config, c->rev.drv, &c->vm, err);

        if (r == 0)
                r = cc_mkdir_p(vm->run_dir, 0750, err);
        if (r == 0)
                r = cc_mkdir_p(vm->log_dir, 0750, err);
        if (r == 0)
                r = vm_kernel_ready(c->rev.drv, &c->vm, err);
        if (r == 0)
                r = snap_stage(c->rev.drv, c->rev.rec.data_dir, vm->run_dir, true, err);
        if (r == 0)
                r = revival_rebase(c->e, &c->rev, vm->run_dir, err);
        /* Another instance ID, name and NICs; the credentials stay as the guest has them. */
        if (r == 0)
                r = vm_seed_write(c->e->config, vm, NULL, NULL, err);
        if (r == 0)
                r = vm_disks_check(vm, err);
        return r;
}

static int finalize(struct clone *c, const struct vm_proc *proc, struct cc_err *err)
{
        struct vm_record *vm = &c->vm;
        int64_t now = cc_now();
        int r;

        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "interrupted");
        vm->first_booted = true;
        vm->started_at = now;
        vm_set_proc(vm, proc);
        vm_set_state(vm, VM_RUNNING);
        r = meta_begin(c->e->meta, META_DURABLE, err);
        if (r < 0)
                return r;
        r = meta_vm_update(c->e->meta, vm, "clone", err);
        if (r == 0 && !c->rev.from_dir)
                r = meta_snapshot_touch(c->e->meta, c->rev.rec.id, now, err);
        if (r < 0) {
                meta_rollback(c->e->meta);
                return r;
        }
        return meta_commit(c->e->meta, err);
}

static int steps(struct clone *c, struct vm_proc *proc, struct cc_err *err)
{
        struct revive_how how = { .mode = c->req->mode, .clone = true, .label = "clone.K5" };
        int r = passed(c, "clone.K2", err);

        if (r == 0)
                r = make_network(c, err);
        if (r == 0)
                r = passed(c, "clone.K3", err);
        if (r == 0)
                r = make_files(c, err);
        if (r == 0)
                r = passed(c, "clone.K4", err);
        if (r == 0)
                r = revive_load(c->e, &c->rev, &how, &c->vm, proc, err);
        if (r == 0) {
                /* Before the guest speaks. */
                vm_start_relay(c->e, c->rev.drv, &c->vm, proc);
                r = passed(c, "clone.K6", err);
        }
        if (r == 0)
                r = revive_resume(c->e, &c->rev, &how, &c->vm, proc, err);
        if (r == 0)
                r = passed(c, "clone.K7", err);
        return r < 0 ? r : finalize(c, proc, err);
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

/* Not cancelable. A step that fails is logged and leaves the row for reconcile and gc. */
static void roll_back(struct clone *c, struct vm_proc *proc)
{
        const struct vm_record *vm = &c->vm;
        struct net_env env = vm_net_env(c->e);
        struct cc_err err = CC_ERR_INIT;
        int r = 0;

        cc_uninterruptible_begin();
        if (proc->pidfd >= 0)
                r = c->rev.drv->stop(&c->rev.env, vm->run_dir, proc, 0, &err);
        env.deadline = cc_monotonic() + NET_ROLLBACK_NS;
        if (r == 0 && c->net)
                r = c->net->delete (&env, vm, &err);
        if (r == 0)
                r = cc_rm_rf(vm->run_dir, &err);
        if (r == 0)
                r = cc_rm_rf(vm->log_dir, &err);
        if (r == 0)
                r = delete_row(c->e, vm->id, &err);
        if (r < 0)
                cc_warn("vm.clone", "roll back %s: %s", vm->id, err.msg);
        cc_uninterruptible_end();
}

/* K9. The VM is complete: nobody should wait for its guest. */
static bool settle_guest(struct clone *c)
{
        struct vm_guest_setup how = { .clone = true,
                                      .identity = true,
                                      .known = revival_agent(&c->rev) };
        bool settled = false;

        close(TAKE_FD(c->lock));
        if (c->source_lock >= 0)
                close(TAKE_FD(c->source_lock));
        revival_release(&c->rev);
        if (!c->req->no_guest_setup)
                vm_guest_setup(c->e->config, &c->vm, &how, &settled);
        return settled;
}

int vm_clone(struct engine *e, const struct vm_clone_request *req, struct vm_record *ret,
             bool *ret_settled, struct cc_err *err)
{
        CC_CLEANUP(clone_clear)
        struct clone c = {
                .e = e,
                .req = req,
                .rev = REVIVAL_INIT,
                .since = cc_monotonic(),
                .lock = -1,
                .source_lock = -1,
        };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        int r = prepare(&c, err);

        if (r == 0)
                r = reserve(&c, err);
        if (r < 0)
                return r;
        r = steps(&c, &proc, err);
        if (r < 0) {
                roll_back(&c, &proc);
                return r;
        }
        r = passed(&c, "clone.K8", err);
        if (r < 0)
                return r;
        *ret_settled = settle_guest(&c);
        r = cc_failpoint("clone.K9", err);
        if (r < 0)
                return r;
        vm_present(e->config, &c.vm);
        vm_record_clear(ret);
        *ret = c.vm;
        c.vm = (struct vm_record)VM_RECORD_INIT;
        return 0;
}
