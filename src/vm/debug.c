/* `vm debug`: everything create would check, and the argv of the launcher's own builder with the
 * commands that make its files. Reserves and creates nothing. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "disk/disk.h"
#include "vm/internal.h"

void vm_debug_clear(struct vm_debug *d)
{
        for (size_t i = 0; i < d->n_steps; i++)
                cc_strv_free(&d->steps[i]);
        free(d->steps);
        cc_strv_free(&d->argv);
        cc_strv_free(&d->requests);
        free(d->socket);
        memset(d, 0, sizeof(*d));
}

static struct cc_strv *add_step(struct vm_debug *d, const char *command)
{
        struct cc_strv *step;

        d->steps = xreallocarray(d->steps, d->n_steps + 1, sizeof(*d->steps));
        step = &d->steps[d->n_steps++];
        *step = (struct cc_strv){ 0 };
        cc_strv_add(step, command);
        return step;
}

static void add_raw(struct vm_debug *d, const char *path, int64_t size, const char *fstype)
{
        struct cc_strv *step = add_step(d, "truncate");
        bool whole = size % (INT64_C(1) << 30) == 0;

        cc_strv_add(step, "-s");
        cc_strv_addf(step, "%lld%s", (long long)(whole ? size >> 30 : size), whole ? "G" : "");
        cc_strv_add(step, path);
        if (cc_streq(fstype, "none"))
                return;
        step = add_step(d, "");
        cc_strv_free(step);
        disk_mkfs_argv(path, step);
}

static void add_overlay(struct vm_debug *d, const char *path, const char *base, int64_t size)
{
        static const char *const create[] = { "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b" };
        struct cc_strv *step = add_step(d, "qemu-img");
        struct qcow2_info info;

        for (size_t i = 0; i < CC_ARRAY_LEN(create); i++)
                cc_strv_add(step, create[i]);
        cc_strv_add(step, base);
        cc_strv_add(step, path);
        /* Like create: grown when that is more, never cut. */
        if (qcow2_read_info(base, &info, NULL) < 0 || (uint64_t)size <= info.virtual_size)
                return;
        step = add_step(d, "qemu-img");
        cc_strv_add(step, "resize");
        cc_strv_add(step, "-q");
        cc_strv_add(step, "-f");
        cc_strv_add(step, "qcow2");
        cc_strv_add(step, path);
        cc_strv_addf(step, "%lld", (long long)size);
}

/* Files beside the caller instead of in the directories of a VM that does not exist. */
static void move_files(struct vm_plan *plan, const char *cow)
{
        struct vm_record *vm = &plan->vm;
        const char *name = vm->config.name;

        free(vm->run_dir);
        vm->run_dir = xasprintf("debug-%s", name);
        cc_strset(&vm->log_dir, vm->run_dir);
        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                struct vm_disk *disk = vm_disk_at(vm, i);

                if (disk->ro)
                        continue;
                free(disk->path);
                if (cc_streq(disk->role, "data"))
                        disk->path = xasprintf("%s/data-%s.raw", vm->run_dir, disk->serial);
                else if (!cc_isempty(cow))
                        disk->path = xstrdup(cow);
                else
                        disk->path = xasprintf("cow-%s.%s", name, plan->cloudimg ? "qcow2" : "raw");
        }
}

static void add_files(const struct vm_plan *plan, struct vm_debug *d)
{
        const struct vm_record *vm = &plan->vm;
        struct cc_strv *step = add_step(d, "mkdir");
        size_t data = 0;

        cc_strv_add(step, "-p");
        cc_strv_add(step, vm->run_dir);
        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                const struct vm_disk *disk = vm_disk_at(vm, i);

                if (disk->ro)
                        continue;
                if (cc_streq(disk->role, "data"))
                        add_raw(d, disk->path, plan->data_sizes[data++], disk->fstype);
                else if (plan->cloudimg)
                        add_overlay(d, disk->path, plan->base_image, vm->config.storage);
                else
                        add_raw(d, disk->path, vm->config.storage, "ext4");
        }
}

/* What an earlier run of the same commands left in the way of the sockets. */
static void add_removals(const struct vm_plan *plan, struct vm_debug *d)
{
        struct cc_strv *step = add_step(d, "rm");

        cc_strv_add(step, "-f");
        for (const char *const *name = plan->drv->runtime_files; *name; name++)
                cc_strv_take(step, cc_path_join(plan->vm.run_dir, *name));
}

static void add_copies(struct vm_debug *d, const struct cc_strv *copies)
{
        for (size_t i = 0; i + 1 < copies->len; i += 2) {
                struct cc_strv *step = add_step(d, "cp");

                cc_strv_add(step, copies->v[i]);
                cc_strv_add(step, copies->v[i + 1]);
        }
}

/* NICs as the VM would get them, with a MAC drawn for the occasion. */
static void add_nics(struct vm_plan *plan)
{
        int64_t queues = vm_nic_queues(plan->drv);

        for (int64_t i = 0; i < plan->req->nics && plan->net; i++) {
                struct nic *nic = record_array_add(&nic_type, &plan->vm.network_configs);
                char mac[18];

                cc_mac_new(mac);
                cc_strset(&nic->mac, mac);
                if (!(plan->net->caps & NET_CAP_USER))
                        nic->tap = i ? xasprintf("tap%lld", (long long)i) : xstrdup("tap");
                nic->num_queues = queues > 0 ? queues : plan->req->cpu * 2;
                nic->queue_size = plan->req->queue_size;
        }
}

static int check_request(const struct vm_debug_request *how, const struct hv_driver *drv,
                         struct cc_err *err)
{
        const struct {
                bool given;
                const char *flag;
        } rows[] = {
                { how->max_cpu, "--max-cpu" },
                { how->balloon, "--balloon" },
                { !cc_isempty(how->ch_binary), "--ch" },
        };
        int r = 0;

        if (how->max_cpu < 0 || how->balloon < 0 || how->balloon > INT64_MAX >> 20)
                return cc_fail(err, CC_USAGE, "--max-cpu and --balloon cannot be %lld and %lld",
                               (long long)how->max_cpu, (long long)how->balloon);
        for (size_t i = 0; i < CC_ARRAY_LEN(rows) && r == 0; i++)
                if (rows[i].given)
                        r = hv_require(drv, HV_CAP_VCPU_MAX, rows[i].flag, err);
        return r;
}

int vm_debug(struct engine *e, const struct vm_request *req, const struct vm_debug_request *how,
             struct vm_debug *ret, struct cc_err *err)
{
        VM_PLAN struct vm_plan plan = { 0 };
        VM_SPEC_BUF struct vm_spec_buf spec = { 0 };
        VM_DEBUG struct vm_debug d = { 0 };
        CC_STRV struct cc_strv copies = { 0 };
        char id[CC_ID_LEN + 1];
        int r = vm_plan_make(e, req, &plan, err);

        if (r < 0)
                return r;
        /* The one thing that is made: it belongs to the image, and only its locks keep it now. */
        r = vm_kernel_ready(plan.drv, &plan.vm, err);
        image_unlock(&plan.blob_locks);
        if (r == 0)
                r = check_request(how, plan.drv, err);
        if (r < 0)
                return r;
        if (!cc_isempty(how->ch_binary))
                plan.env.binary = how->ch_binary;
        cc_id_new(id);
        r = vm_plan_identify(e, &plan, id, err);
        if (r < 0)
                return r;
        add_nics(&plan);
        /* Its seed would hold the password: the launch is that of every later boot. */
        plan.vm.first_booted = true;
        r = vm_rebuild_cmdline(e->config, plan.drv, &plan.vm, err);
        if (r == 0)
                r = vm_plan_check(&plan, err);
        if (r < 0)
                return r;
        move_files(&plan, how->cow);
        r = vm_spec_build(&plan.vm, &spec, err);
        spec.spec.max_cpu = how->max_cpu;
        spec.spec.balloon = how->balloon << 20;
        if (r == 0)
                r = plan.drv->debug(&plan.env, &spec.spec, &d.argv, &copies, err);
        if (r < 0)
                return r;
        if (plan.drv->debug_requests)
                r = plan.drv->debug_requests(&plan.env, &spec.spec, &d.requests, err);
        if (r < 0)
                return r;
        d.socket = cc_path_join(plan.vm.run_dir, plan.drv->socket_name);
        d.hint = plan.drv->debug_hint;
        add_files(&plan, &d);
        add_copies(&d, &copies);
        d.no_seed = plan.cloudimg && !req->windows;
        if (d.requests.len)
                add_removals(&plan, &d);
        *ret = d;
        d = (struct vm_debug){ 0 };
        return 0;
}
