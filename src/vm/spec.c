/* A record turned into what a driver takes: nothing but paths, numbers and names. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/log.h"
#include "vm/internal.h"

void vm_spec_clear(struct vm_spec_buf *b)
{
        free(b->disks);
        free(b->nics);
        free(b->forwards);
        memset(b, 0, sizeof(*b));
}

/* Some file systems (tmpfs) know no O_DIRECT: the page cache then is the only way. A disk that does
 * not exist yet (`vm debug`) is judged by its directory. */
static bool direct_possible(const char *path)
{
        CC_FREE char *dir = xstrndup(path, (size_t)(cc_basename(path) - path));
        CC_CLOSE int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

        if (fd < 0 && errno == ENOENT)
                fd = open(*dir ? dir : ".", O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
        return fd >= 0 || errno != EINVAL;
}

static bool ends_in_qcow2(const struct vm_disk *d)
{
        /* The overlay of a cloud image is the only qcow2 disk we make, and never probed. */
        return cc_streq(d->role, "cow") && cc_endswith(d->path, ".qcow2");
}

static void build_disk(const struct vm_record *vm, const struct vm_disk *d, struct hv_disk *out)
{
        bool qcow2 = ends_in_qcow2(d);

        *out = (struct hv_disk){
                .path = d->path,
                .serial = cc_isempty(d->serial) ? NULL : d->serial,
                .format = qcow2 ? "qcow2" : "raw",
                .ro = d->ro,
                .role = d->role,
                .boot = cc_streq(d->role, "cow") && cc_isempty(vm->boot_config.kernel_path),
        };
        if (!d->ro && !qcow2) {
                out->direct = d->direct_io >= 0 && cc_streq(d->role, "data")
                                      ? d->direct_io == 1
                                      : !vm->config.no_direct_io;
                if (out->direct && !direct_possible(d->path)) {
                        cc_debug("vm.spec",
                                 "%s: file system without O_DIRECT, using the page cache", d->path);
                        out->direct = false;
                }
        }
}

static int build_forwards(const struct vm_record *vm, struct vm_spec_buf *b, struct cc_err *err)
{
        const struct cc_strv *publish = &vm->config.publish;

        b->forwards = xcalloc(publish->len + 1, sizeof(*b->forwards));
        for (size_t i = 0; i < publish->len; i++) {
                int r = net_publish_parse(publish->v[i], &b->forwards[i].host,
                                          &b->forwards[i].guest, err);

                if (r < 0)
                        return r;
        }
        b->spec.forwards = b->forwards;
        b->spec.n_forwards = publish->len;
        return 0;
}

int64_t vm_nic_queues(const struct hv_driver *drv)
{
        return drv->caps & HV_CAP_ONE_QUEUE ? 2 : 0;
}

int vm_spec_build(const struct vm_record *vm, struct vm_spec_buf *ret, struct cc_err *err)
{
        VM_SPEC_BUF struct vm_spec_buf b = { 0 };
        const struct vm_config *c = &vm->config;
        const struct boot_config *boot = &vm->boot_config;
        size_t n = 0;
        int r = vm_nics_check(vm, err);

        if (r < 0)
                return r;
        b.spec = (struct vm_spec){
                .id = vm->id,
                .name = c->name,
                .run_dir = vm->run_dir,
                .log_dir = vm->log_dir,
                .cpu = c->cpu,
                .memory = c->memory,
                .kernel = cc_isempty(boot->kernel_path) ? NULL : boot->kernel_path,
                .initrd = cc_isempty(boot->initrd_path) ? NULL : boot->initrd_path,
                .cmdline = boot->cmdline,
                .windows = c->windows,
                .shared_memory = c->shared_memory,
                .hugepages = c->hugepages,
                .mergeable = c->mergeable,
                .no_watchdog = c->no_watchdog,
                .no_balloon = c->no_balloon,
                .pci = c->pci,
                .disk_queue_size = c->disk_queue_size,
                .netns = vm_netns_path(vm),
        };
        b.disks = xcalloc(vm->storage_configs.len + 1, sizeof(*b.disks));
        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                const struct vm_disk *d = vm_disk_at(vm, i);

                /* The seed disk is only for the first boot. */
                if (cc_streq(d->role, "cidata") && vm->first_booted)
                        continue;
                build_disk(vm, d, &b.disks[n++]);
        }
        b.spec.disks = b.disks;
        b.spec.n_disks = n;
        b.nics = xcalloc(vm->network_configs.len + 1, sizeof(*b.nics));
        for (size_t i = 0; i < vm->network_configs.len; i++) {
                const struct nic *nic = vm_nic(vm, i);

                b.nics[i] = (struct hv_nic){
                        .tap = cc_isempty(nic->tap) ? NULL : nic->tap,
                        .mac = nic->mac,
                        .num_queues = nic->num_queues,
                        .queue_size = nic->queue_size,
                        .mtu = nic->mtu,
                };
        }
        b.spec.nics = b.nics;
        b.spec.n_nics = vm->network_configs.len;
        r = build_forwards(vm, &b, err);
        if (r < 0)
                return r;
        *ret = b;
        memset(&b, 0, sizeof(b));
        return 0;
}
