/* Finding, judging and loading a snapshot. See revive.h. */
#include "vm/revive.h"
#include "vm/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/proc.h"
#include "config/layout.h"
#include "disk/disk.h"

#define BACKING_MAX 1023 /* the format's limit on a backing file's name */

void revival_clear(struct revival *r)
{
        snapshot_record_clear(&r->rec);
        snap_sidecar_clear(&r->side);
        json_decref(r->side_json);
        free(r->disks);
        cc_strv_free(&r->macs);
        if (r->lease >= 0)
                close(r->lease);
        *r = (struct revival)REVIVAL_INIT;
}

int revival_open(struct engine *e, const struct vm_source *source, const char *op,
                 struct revival *ret, struct cc_err *err)
{
        REVIVAL struct revival r = REVIVAL_INIT;
        struct snap_env env = vm_snap_env(e);
        int e2;

        r.from_dir = !cc_isempty(source->from_dir);
        if (r.from_dir)
                e2 = snap_from_dir(source->from_dir, &r.rec, err);
        else
                e2 = snap_open(&env, source->snapshot, op, &r.rec, &r.lease, err);
        if (e2 < 0)
                return cc_wrap(err, "inspect snapshot %s",
                               r.from_dir ? source->from_dir : source->snapshot);
        e2 = hv_driver_find(r.rec.hypervisor, &r.drv, err);
        if (e2 == 0)
                e2 = hv_require(r.drv, HV_CAP_SNAPSHOT, "snapshots", err);
        if (e2 < 0)
                return e2;
        vm_hv_env(e->config, r.drv, &r.env);
        *ret = r;
        r = (struct revival)REVIVAL_INIT;
        return 0;
}

static struct vm_disk *side_disk(const struct revival *r, size_t i)
{
        return (struct vm_disk *)r->side.storage_configs.v + i;
}

/* The disks as the driver may compare them; nothing is opened. */
static void describe_disks(struct revival *r)
{
        bool direct = !cc_isempty(r->side.boot_config.kernel_path);

        r->disks = xcalloc(r->side.storage_configs.len + 1, sizeof(*r->disks));
        for (size_t i = 0; i < r->side.storage_configs.len; i++) {
                const struct vm_disk *d = side_disk(r, i);
                bool cow = cc_streq(d->role, "cow");

                r->disks[i] = (struct hv_disk){
                        .path = d->path,
                        .serial = cc_isempty(d->serial) ? NULL : d->serial,
                        .format = cow && cc_endswith(d->path, ".qcow2") ? "qcow2" : "raw",
                        .ro = d->ro,
                        .boot = cow && !direct,
                        .role = d->role,
                };
        }
}

/* Device state that names the source's paths loads only where those paths can be (firecracker.md
 * §8). */
static int check_layout(const struct engine *e, const struct revival *r, struct cc_err *err)
{
        const struct config *c = e->config;
        const char *root = r->side.source_root_dir;
        const char *run = r->side.source_run_dir;

        if (!(r->drv->caps & HV_CAP_FIXED_PATHS))
                return 0;
        if ((!cc_isempty(root) && !cc_streq(root, c->root_dir)) ||
            (!cc_isempty(run) && !cc_streq(run, c->run_dir)))
                return cc_fail(err, CC_UNSUPPORTED,
                               "snapshot was taken with root %s and run directory %s; here they "
                               "are %s and %s, and backend %s needs the same",
                               root ? root : "-", run ? run : "-", c->root_dir, c->run_dir,
                               r->drv->name);
        return 0;
}

/* Both tell the machine's size; a snapshot whose halves disagree was tampered with. */
static int check_size(const struct revival *r, struct cc_err *err)
{
        if (r->side.cpu && r->side.cpu != r->rec.config.cpu)
                return cc_fail(err, CC_INVALID,
                               "snapshot: its record says %lld vCPUs, its machine has %lld",
                               (long long)r->rec.config.cpu, (long long)r->side.cpu);
        if (r->side.memory && r->side.memory != r->rec.config.memory)
                return cc_fail(err, CC_INVALID,
                               "snapshot: its record says %lld bytes of memory, its machine has "
                               "%lld",
                               (long long)r->rec.config.memory, (long long)r->side.memory);
        return 0;
}

static int check_storage(const struct revival *r, struct cc_err *err)
{
        for (size_t i = 0; i < r->side.storage_configs.len; i++) {
                const struct vm_disk *d = side_disk(r, i);
                CC_FREE char *path = cc_path_join(r->rec.data_dir, cc_basename(d->path));
                struct stat st;

                if (!cc_streq(d->role, "cow") || cc_endswith(path, ".qcow2"))
                        continue;
                if (lstat(path, &st) < 0)
                        return cc_fail_errno(err, errno, "stat %s", path);
                /* A plain tar collapses holes: the guest's file system would end in nothing. */
                if (st.st_size != r->rec.config.storage)
                        return cc_fail(err, CC_CORRUPT,
                                       "snapshot: %s has %lld bytes, the record says %lld",
                                       cc_basename(path), (long long)st.st_size,
                                       (long long)r->rec.config.storage);
        }
        return 0;
}

static void take_macs(struct revival *r)
{
        const struct snap_nic *nics = r->side.nics.v;

        if (r->side.nics.len == 0)
                return;
        cc_strv_free(&r->macs);
        for (size_t i = 0; i < r->side.nics.len; i++)
                cc_strv_add(&r->macs, nics[i].mac ? nics[i].mac : "");
}

int revival_judge(struct engine *e, struct revival *r, struct cc_err *err)
{
        int e2 = snap_config_check(&r->rec, err);

        if (e2 == 0)
                e2 = snap_sidecar_read(e->config, r->rec.data_dir, &r->side, &r->side_json, err);
        if (e2 == 0)
                e2 = check_layout(e, r, err);
        if (e2 == 0)
                e2 = check_size(r, err);
        if (e2 == 0)
                e2 = check_storage(r, err);
        if (e2 == 0 && r->side.nics.len && (int64_t)r->side.nics.len != r->rec.nics)
                e2 = cc_fail(err, CC_INVALID,
                             "snapshot: its record says %lld NICs, its machine has %zu",
                             (long long)r->rec.nics, r->side.nics.len);
        if (e2 < 0)
                return e2;
        describe_disks(r);
        r->hv = (struct hv_snapshot){
                .dir = r->rec.data_dir,
                .cpu = r->rec.config.cpu,
                .memory = r->rec.config.memory,
                .disks = r->disks,
                .n_disks = r->side.storage_configs.len,
                .n_nics = (size_t)r->rec.nics,
                .shared_memory = r->rec.config.shared_memory,
        };
        e2 = r->drv->preflight(&r->env, &r->hv, r->side_json, &r->macs, err);
        if (e2 == 0)
                take_macs(r);
        return e2;
}

int revival_fill(struct engine *e, const struct revival *r, struct vm_record *vm,
                 struct cc_err *err)
{
        const struct vm_config *from = &r->rec.config;
        struct vm_config *c = &vm->config;

        c->cpu = from->cpu;
        c->memory = from->memory;
        c->storage = from->storage;
        c->queue_size = from->queue_size;
        c->disk_queue_size = from->disk_queue_size;
        cc_strset(&c->image, from->image);
        cc_strset(&c->image_digest, from->image_digest);
        cc_strset(&c->image_type, from->image_type);
        c->no_direct_io = from->no_direct_io;
        c->windows = from->windows;
        c->shared_memory = from->shared_memory;
        c->no_watchdog = from->no_watchdog;
        c->no_balloon = from->no_balloon;
        c->hugepages = from->hugepages;
        c->mergeable = from->mergeable;
        c->pci = from->pci;
        c->flat = from->flat;
        cc_strv_copy(&vm->image_blob_ids, &r->rec.image_blob_ids);
        cc_strv_sort(&vm->image_blob_ids);
        return snap_localise(e->config, &r->rec, &r->side, vm->run_dir, vm, err);
}

static int missing(const struct revival *r, const char *path, struct cc_err *err)
{
        int e = cc_fail(err, CC_UNAVAILABLE, "base file %s of image %s is missing", path,
                        r->rec.config.image ? r->rec.config.image : "(unknown)");

        cc_hint(err, "pull the image, or clone with --pull");
        cc_code(err, "base_missing");
        return e;
}

/* The base image of an overlay: the one pinned blob of a cloud image that `name` speaks of. NULL:
 * none. Caller frees. */
static char *base_path(const struct engine *e, const struct revival *r, const char *name)
{
        const char *hex;

        cc_strv_foreach (&r->rec.image_blob_ids, i, hex) {
                CC_FREE char *file = xasprintf("%s.qcow2", hex);

                if (cc_streq(cc_basename(name), file))
                        return layout_cloudimg_blob(e->config, hex);
        }
        return NULL;
}

/* What the overlay in `dir` says it lies over; "" nothing. */
static int read_backing(const char *path, char **ret, struct cc_err *err)
{
        CC_CLOSE int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        struct qcow2_info info;
        unsigned char size[4];
        CC_FREE char *name = NULL;
        size_t n;
        int r = qcow2_read_info(path, &info, err);

        if (r < 0)
                return r;
        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        /* Bit 2: the data is in another file, which the header would name. */
        if (info.crypt_method || (info.incompatible & 4))
                return cc_fail(err, CC_INVALID, "%s: encrypted or external data", path);
        if (!info.backing_offset) {
                *ret = xstrdup("");
                return 0;
        }
        r = cc_pread_all(fd, size, sizeof(size), 16, err);
        if (r < 0)
                return r;
        n = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
        if (n > BACKING_MAX || info.backing_offset > INT32_MAX)
                return cc_fail(err, CC_INVALID, "%s: bad backing file name", path);
        name = xcalloc(n + 1, 1);
        r = cc_pread_all(fd, name, n, (off_t)info.backing_offset, err);
        if (r < 0)
                return r;
        if (strlen(name) != n)
                return cc_fail(err, CC_INVALID, "%s: bad backing file name", path);
        *ret = TAKE_PTR(name);
        return 0;
}

static const struct vm_disk *overlay_of(const struct revival *r)
{
        for (size_t i = 0; i < r->side.storage_configs.len; i++)
                if (cc_streq(side_disk(r, i)->role, "cow") &&
                    cc_endswith(side_disk(r, i)->path, ".qcow2"))
                        return side_disk(r, i);
        return NULL;
}

/* The overlay's base here, in *ret; INVALID when it names anything but an image of the snapshot. */
static int find_base(const struct engine *e, const struct revival *r, const char *dir, char **ret,
                     bool *ret_same, struct cc_err *err)
{
        const struct vm_disk *overlay = overlay_of(r);
        CC_FREE char *path = cc_path_join(dir, cc_basename(overlay->path));
        CC_FREE char *backing = NULL;
        CC_FREE char *base = NULL;
        int e2 = read_backing(path, &backing, err);

        if (e2 < 0)
                return e2;
        base = base_path(e, r, backing);
        if (!base)
                return cc_fail(err, CC_INVALID,
                               "snapshot: its overlay lies over \"%s\", which is not its image",
                               backing);
        *ret_same = cc_streq(base, backing);
        *ret = TAKE_PTR(base);
        return 0;
}

int revival_check_base(struct engine *e, const struct revival *r, const struct vm_record *vm,
                       struct cc_err *err)
{
        const char *boot[] = { vm->boot_config.kernel_path, vm->boot_config.initrd_path };

        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                const struct vm_disk *d = vm_disk_at(vm, i);

                if (!snap_disk_resident(d) && !cc_is_valid_file(d->path))
                        return missing(r, d->path, err);
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(boot); i++)
                if (!cc_isempty(boot[i]) && !cc_is_valid_file(boot[i]))
                        return missing(r, boot[i], err);
        if (overlay_of(r)) {
                CC_FREE char *base = NULL;
                bool same;
                int e2 = find_base(e, r, r->rec.data_dir, &base, &same, err);

                if (e2 < 0)
                        return e2;
                if (!cc_is_valid_file(base))
                        return missing(r, base, err);
        }
        return 0;
}

int revival_rebase(struct engine *e, const struct revival *r, const char *dir, struct cc_err *err)
{
        CC_FREE char *base = NULL;
        CC_FREE char *path = NULL;
        bool same = false;
        int e2;

        if (!overlay_of(r))
                return 0;
        e2 = find_base(e, r, dir, &base, &same, err);
        if (e2 < 0 || same)
                return e2;
        path = cc_path_join(dir, cc_basename(overlay_of(r)->path));
        {
                const char *const argv[] = { "qemu-img", "rebase", "-u", "-f", "qcow2", "-F",
                                             "qcow2",    "-b",     base, path, NULL };

                return cc_run_ok(argv, 60000, NULL, err);
        }
}

/* A spec whose disks are the snapshot's: also the seed disk, if it was attached. The record is
 * borrowed and seen as a first boot; only a clone may have more disks than its snapshot. */
static int build_spec(const struct revival *r, const struct revive_how *how,
                      const struct vm_record *vm, struct vm_spec_buf *ret, struct cc_err *err)
{
        struct vm_record view = *vm;

        view.first_booted = false;
        if (!how->clone)
                view.storage_configs.len = r->hv.n_disks;
        return vm_spec_build(&view, ret, err);
}

static void fill_load(const struct revival *r, const struct revive_how *how,
                      const struct vm_record *vm, const char *vms_dir, struct hv_snapshot *snap,
                      struct hv_load *ret)
{
        *snap = r->hv;
        snap->dir = vm->run_dir;
        *ret = (struct hv_load){
                .snap = snap,
                .mode = how->mode,
                .clone = how->clone,
                .vms_dir = vms_dir,
                .failpoint = how->label,
        };
}

int revive_load(struct engine *e, const struct revival *r, const struct revive_how *how,
                const struct vm_record *vm, struct vm_proc *ret, struct cc_err *err)
{
        VM_SPEC_BUF struct vm_spec_buf spec = { 0 };
        VM_PROC struct vm_proc proc = VM_PROC_INIT;
        CC_FREE char *vms_dir = layout_vms_dir(e->config, r->drv->dir);
        struct hv_snapshot snap;
        struct hv_load load;
        int e2 = build_spec(r, how, vm, &spec, err);

        if (e2 < 0)
                return e2;
        fill_load(r, how, vm, vms_dir, &snap, &load);
        e2 = r->drv->load(&r->env, &spec.spec, &load, &proc, err);
        if (e2 == 0 && r->drv->rewire) {
                e2 = r->drv->rewire(&r->env, &spec.spec, &load, &proc, err);
                if (e2 < 0) {
                        struct cc_err why = CC_ERR_INIT;

                        if (r->drv->stop(&r->env, vm->run_dir, &proc, 0, &why) < 0)
                                cc_warn("vm.load", "vm %s: %s", vm->id, why.msg);
                        vm_remove_runtime(r->drv, vm, "vm.load");
                }
        }
        if (e2 < 0)
                return e2;
        *ret = proc;
        proc = (struct vm_proc)VM_PROC_INIT;
        return 0;
}

int revival_agent(const struct revival *r)
{
        const json_t *j = json_object_get(r->side_json, VM_AGENT_KEY);

        return json_is_boolean(j) ? json_is_true(j) : -1;
}

void revival_release(struct revival *r)
{
        if (r->lease >= 0)
                close(TAKE_FD(r->lease));
}

int revive_resume(struct engine *e, const struct revival *r, const struct revive_how *how,
                  const struct vm_record *vm, const struct vm_proc *proc, struct cc_err *err)
{
        VM_SPEC_BUF struct vm_spec_buf spec = { 0 };
        CC_FREE char *vms_dir = layout_vms_dir(e->config, r->drv->dir);
        struct hv_snapshot snap;
        struct hv_load load;
        int e2 = build_spec(r, how, vm, &spec, err);

        if (e2 < 0)
                return e2;
        fill_load(r, how, vm, vms_dir, &snap, &load);
        e2 = r->drv->resume(&r->env, vm->run_dir, err);
        if (e2 == 0 && r->drv->settle)
                e2 = r->drv->settle(&r->env, &spec.spec, &load, proc, err);
        return e2;
}
