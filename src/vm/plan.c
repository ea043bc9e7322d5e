/*
 * From a request to a record that has not happened yet: driver, image, boot mode, disks, network
 * provider. Nothing here changes the host, so that create can fail before it leaves a trace and
 * debug can show what create would do; only the image's merged layer is made here when the VM needs
 * it, which belongs to the image like what a pull makes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "disk/cidata.h"
#include "image/module.h"
#include "vm/internal.h"

/* Longest path that sockaddr_un holds with its NUL, and the longest socket name a driver or agent
 * makes in a run dir. */
#define SOCKET_PATH_MAX 107
#define SOCKET_NAME_MAX (sizeof("console.sock") - 1)

void vm_plan_clear(struct vm_plan *plan)
{
        image_unlock(&plan->blob_locks);
        free(plan->data_sizes);
        free(plan->base_image);
        vm_record_clear(&plan->vm);
        memset(plan, 0, sizeof(*plan));
}

static int check_boot_mode(const struct vm_request *req, const struct hv_driver *drv, bool cloudimg,
                           struct cc_err *err)
{
        if (req->windows && !cloudimg)
                return cc_fail(
                        err, CC_UNSUPPORTED,
                        "--windows requires cloudimg (UEFI boot), got OCI direct boot image");
        if (cloudimg && !(drv->caps & HV_CAP_UEFI))
                return cc_fail(err, CC_UNSUPPORTED,
                               "backend %s requires OCI images (direct kernel boot): %s is a cloud "
                               "image",
                               drv->name, req->image);
        if (!cloudimg)
                return hv_require(drv, HV_CAP_DIRECT_BOOT, "direct kernel boot", err);
        return 0;
}

/* Beyond this the names of the layers leave no room for NICs and data disks in 2047 bytes of kernel
 * command line, and come near what the guest's overlayfs takes as mount options (images.md §6). */
#define MAX_LAYERS 96

/* How many disks a driver attaches beside that many NICs. */
static size_t disk_room(const struct hv_driver *drv, size_t nics)
{
        size_t shared = drv->max_devices > nics ? drv->max_devices - nics : 0;

        return drv->max_devices && shared < drv->max_disks ? shared : drv->max_disks;
}

/* Does the VM boot from all layers as one? By request, and when there are too many of them, by
 * themselves or for the disks a driver can attach. UNSUPPORTED: not even then. */
static int choose_form(const struct vm_request *req, const struct hv_driver *drv,
                       const struct image_record *image, bool *ret_flat, struct cc_err *err)
{
        size_t layers = image->layers.len;
        size_t writable = 1 + req->n_data_disks;
        size_t room = disk_room(drv, (size_t)req->nics);
        bool fits = layers <= MAX_LAYERS && layers + writable <= room;

        if ((req->flat || !fits) && 1 + writable > room)
                return cc_fail(
                        err, CC_UNSUPPORTED,
                        "backend %s attaches at most %zu disks (with %lld NICs): %s needs %zu "
                        "(%zu layers + 1 COW disk + %zu data disks), merged into one layer still "
                        "%zu",
                        drv->name, room, (long long)req->nics, req->image, layers + writable,
                        layers, req->n_data_disks, 1 + writable);
        *ret_flat = req->flat || !fits;
        return 0;
}

static int flatten(struct engine *e, struct image_record *image, struct cc_err *err)
{
        struct image_env env = { .config = e->config, .meta = e->meta };
        const struct image_module *module;
        const void *opened;
        int r;

        if (image->flat && cc_is_hex(image->flat, 64)) {
                CC_FREE char *path = layout_oci_blob(e->config, image->flat);

                if (cc_is_valid_file(path))
                        return 0;
        }
        r = cc_module_open("image", &opened, err);
        if (r < 0)
                return r;
        module = opened;
        return module->flatten(&env, image, err);
}

static struct vm_disk *add_disk(struct vm_record *vm, const char *role, bool ro)
{
        struct vm_disk *d = record_array_add(&vm_disk_type, &vm->storage_configs);

        d->role = xstrdup(role);
        d->ro = ro;
        d->direct_io = -1;
        return d;
}

/* What the command line or the seed leaves out, or the driver ignores, must not go unnoticed. */
static void warn_disks(const struct vm_plan *plan)
{
        const struct vm_record *vm = &plan->vm;
        const char *carrier = plan->cloudimg ? "cloud-init" : "the kernel command line";

        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                const struct vm_disk *d = vm_disk_at(vm, i);

                if (d->direct_io >= 0 && !(plan->drv->caps & HV_CAP_DIRECT_IO))
                        cc_warn("vm.create",
                                "data disk %s: backend %s ignores directio=", d->serial,
                                plan->drv->name);
                if (plan->cloudimg && plan->req->windows)
                        continue;
                if (!cc_isempty(d->mount_point) &&
                    !(plan->cloudimg ? cidata_can_mount(d->mount_point)
                                     : vm_cmdline_carries(d->mount_point)))
                        cc_warn("vm.create",
                                "data disk %s: %s cannot carry the mount point \"%s\", mount it "
                                "in the guest",
                                d->serial, carrier, d->mount_point);
        }
}

/* In attach order (images.md §6); the paths of writable disks follow with the VM's identity. */
static int plan_disks(struct vm_plan *plan, const struct image_files *files, struct cc_err *err)
{
        struct vm_record *vm = &plan->vm;
        struct record_array data = { 0 };
        struct vm_disk *d;
        int r = vm_data_disks(plan->req, &data, &plan->data_sizes, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < files->layers.len && !plan->cloudimg; i++) {
                d = add_disk(vm, "layer", true);
                d->path = xstrdup(files->layers.v[i]);
                d->serial = xasprintf("cocoon-layer%zu", i);
        }
        d = add_disk(vm, "cow", false);
        if (!plan->cloudimg)
                d->serial = xstrdup("cocoon-cow");
        plan->n_data = data.len;
        for (size_t i = 0; i < data.len; i++) {
                d = record_array_add(&vm_disk_type, &vm->storage_configs);
                *d = ((struct vm_disk *)data.v)[i]; /* moved, so only the array itself is freed */
        }
        free(data.v);
        /* Last, so that it takes no other disk's name with it when it goes. */
        if (plan->cloudimg && !plan->req->windows)
                (void)add_disk(vm, "cidata", true);
        warn_disks(plan);
        return 0;
}

static void plan_labels(struct vm_record *vm, const struct cc_strv *labels)
{
        if (!labels || labels->len == 0)
                return;
        vm->config.labels = json_object();
        for (size_t i = 0; i < labels->len; i++) {
                const char *eq = strchr(labels->v[i], '=');
                CC_FREE char *key = xstrndup(labels->v[i], (size_t)(eq - labels->v[i]));

                (void)json_object_set_new(vm->config.labels, key, json_string(eq + 1));
        }
}

static void plan_config(struct vm_plan *plan, const struct image_record *image, bool flat)
{
        const struct vm_request *req = plan->req;
        struct vm_config *c = &plan->vm.config;

        c->cpu = req->cpu;
        c->memory = req->memory;
        c->storage = req->storage;
        c->queue_size = req->queue_size;
        c->disk_queue_size = req->disk_queue_size;
        c->image = xstrdup(image->ref ? image->ref : req->image);
        c->image_digest = xstrdup0(plan->cloudimg ? image->content_sum : image->manifest_digest);
        c->image_type = xstrdup(plan->cloudimg ? IMAGE_CLOUDIMG : IMAGE_OCI);
        if (!cc_isempty(req->network))
                c->network = xstrdup(req->network);
        c->no_direct_io = req->no_direct_io;
        c->windows = req->windows;
        c->shared_memory = req->shared_memory;
        c->no_watchdog = req->no_watchdog;
        c->no_balloon = req->no_balloon;
        c->hugepages = req->hugepages;
        c->mergeable = req->mergeable;
        c->pci = req->pci;
        c->flat = flat;
        if (req->publish)
                cc_strv_copy(&c->publish, req->publish);
        plan_labels(&plan->vm, req->labels);
        plan->name_defaulted = cc_isempty(req->name);
        c->name = plan->name_defaulted ? image_default_vm_name(req->image) : xstrdup(req->name);
}

/* The image's files under its blob locks, which stay held until the pins are committed. */
static int plan_image(struct engine *e, struct vm_plan *plan, struct cc_err *err)
{
        IMAGE_RECORD struct image_record image = IMAGE_RECORD_INIT;
        CC_CLEANUP(image_files_clear) struct image_files files = { 0 };
        struct vm_record *vm = &plan->vm;
        char kind[16];
        bool flat = false;
        int r = image_resolve(e->meta, plan->req->image, kind, &image, err);

        /* Scripts match on this text (cli.md §6): at create every store says why it has nothing. */
        if (r == -CC_NOT_FOUND && err)
                (void)snprintf(err->msg, sizeof(err->msg),
                               "image \"%s\" not resolved: oci: not found; cloudimg: not found",
                               plan->req->image);
        if (r < 0)
                return r;
        plan->cloudimg = cc_streq(kind, IMAGE_CLOUDIMG);
        r = check_boot_mode(plan->req, plan->drv, plan->cloudimg, err);
        if (r < 0)
                return r;
        if (!plan->cloudimg)
                r = choose_form(plan->req, plan->drv, &image, &flat, err);
        if (r == 0 && flat) {
                r = flatten(e, &image, err);
                if (r < 0)
                        return cc_wrap(err, "merge the layers of %s", plan->req->image);
        }
        if (r < 0)
                return r;
        r = image_lock_blobs(e->config, &image, kind, &plan->blob_locks, err);
        if (r == 0)
                r = image_files(e->config, kind, &image, flat, &files, err);
        if (r != 0)
                return r;
        plan_config(plan, &image, flat);
        r = plan_disks(plan, &files, err);
        if (r < 0)
                return r;
        if (plan->cloudimg) {
                plan->base_image = xstrdup(files.layers.v[0]);
        } else {
                vm->boot_config.kernel_path = xstrdup(files.kernel);
                vm->boot_config.initrd_path = xstrdup0(files.initrd);
        }
        cc_strv_copy(&vm->image_blob_ids, &files.pins);
        cc_strv_sort(&vm->image_blob_ids);
        return 0;
}

int vm_plan_make(struct engine *e, const struct vm_request *req, struct vm_plan *ret,
                 struct cc_err *err)
{
        VM_PLAN struct vm_plan plan = { .req = req };
        struct net_env net = vm_net_env(e);
        /* First what needs no host: choosing a driver may take a probe and says what it chose. */
        int r = vm_request_check(req, err);

        if (r == 0)
                r = vm_choose_driver(e->config, req->driver, &plan.drv, err);
        if (r < 0)
                return r;
        vm_hv_env(e->config, plan.drv, &plan.env);
        r = vm_validate(req, plan.drv, err);
        if (r == 0)
                r = plan_image(e, &plan, err);
        if (r == 0)
                r = net_provider_choose(&net, req->network ? req->network : "",
                                        req->bridge ? req->bridge : "", req->nics, plan.drv->caps,
                                        &plan.net, err);
        if (r < 0)
                return r;
        if (req->publish && req->publish->len && (!plan.net || !(plan.net->caps & NET_CAP_PUBLISH)))
                return cc_fail(err, CC_UNSUPPORTED, "--publish: network %s cannot forward ports",
                               plan.net ? plan.net->name : "none");
        plan.vm.hypervisor = xstrdup(plan.drv->name);
        if (plan.net)
                plan.vm.net_backend = xstrdup(plan.net->name);
        /* What was asked for at creation holds for life; a default may be another tomorrow. */
        if (e->config->dns_given)
                cc_strv_copy(&plan.vm.config.dns, &e->config->dns_servers);
        if (!cc_isempty(req->bridge))
                plan.vm.net_bridge_dev = xstrdup(req->bridge);
        vm_set_state(&plan.vm, VM_CREATING);
        r = vm_seed_check(e->config, &plan.vm, req->user, req->password, err);
        if (r < 0)
                return r;
        *ret = plan;
        memset(&plan, 0, sizeof(plan));
        return 0;
}

int vm_plan_identify(struct engine *e, struct vm_plan *plan, const char *id, struct cc_err *err)
{
        struct vm_record *vm = &plan->vm;
        size_t n;

        cc_strset(&vm->id, id);
        free(vm->run_dir);
        free(vm->log_dir);
        vm->run_dir = layout_vm_run_dir(e->config, plan->drv->dir, id);
        vm->log_dir = layout_vm_log_dir(e->config, plan->drv->dir, id);
        n = strlen(vm->run_dir) + 1 + SOCKET_NAME_MAX;
        if (n > SOCKET_PATH_MAX)
                return cc_fail(err, CC_INVALID,
                               "run directory %s is too long: sockets in it would have %zu bytes, "
                               "the limit is %d (choose a shorter --run-dir)",
                               vm->run_dir, n, SOCKET_PATH_MAX);
        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                struct vm_disk *d = vm_disk_at(vm, i);

                if (cc_streq(d->role, "cow")) {
                        free(d->path);
                        d->path = cc_path_join(vm->run_dir,
                                               plan->cloudimg ? "overlay.qcow2" : "cow.raw");
                } else if (cc_streq(d->role, "data")) {
                        free(d->path);
                        d->path = xasprintf("%s/data-%s.raw", vm->run_dir, d->serial);
                } else if (cc_streq(d->role, "cidata")) {
                        free(d->path);
                        d->path = cc_path_join(vm->run_dir, VM_SEED_NAME);
                }
        }
        return vm_rebuild_cmdline(e->config, plan->drv, vm, err);
}

int vm_plan_check(const struct vm_plan *plan, struct cc_err *err)
{
        VM_SPEC_BUF struct vm_spec_buf b = { 0 };
        CC_FREE struct hv_nic *nics = NULL;
        int r = vm_spec_build(&plan->vm, &b, err);

        if (r < 0)
                return r;
        if (b.spec.n_nics == 0 && plan->net) {
                bool user = plan->net->caps & NET_CAP_USER;
                int64_t queues = vm_nic_queues(plan->drv);

                nics = xcalloc((size_t)plan->req->nics + 1, sizeof(*nics));
                for (int64_t i = 0; i < plan->req->nics; i++)
                        nics[i] = (struct hv_nic){
                                .tap = user ? NULL : "tap",
                                .mac = "02:00:00:00:00:01",
                                .num_queues = queues > 0 ? queues : plan->req->cpu * 2,
                                .queue_size = plan->req->queue_size,
                        };
                b.spec.nics = nics;
                b.spec.n_nics = (size_t)plan->req->nics;
        }
        return plan->drv->check(&plan->env, &b.spec, err);
}
