/*
 * The kernel command line of a direct-boot VM (images.md §6, network.md §8). It is derived from the
 * record alone and rebuilt at every cold start, so that it can never name a NIC that is gone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "vm/internal.h"

/* How the guest finds disk i of the attach order: by serial, or as the i-th virtio disk. */
static void disk_name(const struct hv_driver *drv, const struct vm_record *vm, size_t i,
                      struct cc_buf *out)
{
        char letters[8];
        size_t n = sizeof(letters);
        size_t v = i + 1;

        if (drv->caps & HV_CAP_SERIAL_NAMES) {
                cc_buf_str(out, vm_disk_at(vm, i)->serial);
                return;
        }
        /* vda … vdz, vdaa … */
        letters[--n] = '\0';
        while (v > 0 && n > 0) {
                v--;
                letters[--n] = (char)('a' + v % 26);
                v /= 26;
        }
        cc_buf_printf(out, "/dev/vd%s", letters + n);
}

static void add_disks(const struct hv_driver *drv, const struct vm_record *vm, struct cc_buf *out)
{
        bool first = true;

        cc_buf_str(out, " boot=cocoon-overlay cocoon.layers=");
        for (size_t i = vm->storage_configs.len; i-- > 0;) {
                if (!cc_streq(vm_disk_at(vm, i)->role, "layer"))
                        continue;
                if (!first)
                        cc_buf_char(out, ',');
                disk_name(drv, vm, i, out);
                first = false;
        }
        for (size_t i = 0; i < vm->storage_configs.len; i++)
                if (cc_streq(vm_disk_at(vm, i)->role, "cow")) {
                        cc_buf_str(out, " cocoon.cow=");
                        disk_name(drv, vm, i, out);
                        break;
                }
}

/* With a driver that can emulate, the clock exists only under KVM; elsewhere KVM is a given. */
static bool has_kvm_clock(const struct config *c, const struct hv_driver *drv)
{
        if (!(drv->caps & HV_CAP_EMULATION))
                return true;
        return !cc_streq(c->qemu_accel, "tcg") && hv_kvm_probe(c->run_dir, NULL) == 0;
}

static void netmask(int64_t prefix, char out[16])
{
        uint32_t mask = prefix <= 0 ? 0 : prefix >= 32 ? ~0u : ~0u << (32 - prefix);

        (void)snprintf(out, 16, "%u.%u.%u.%u", mask >> 24, mask >> 16 & 255, mask >> 8 & 255,
                       mask & 255);
}

static void add_ip(const struct config *c, const struct vm_record *vm, size_t i, struct cc_buf *out)
{
        const struct nic_network *net = vm_nic(vm, i)->network;
        const struct cc_strv *dns = vm->config.dns.len ? &vm->config.dns : &c->dns_servers;
        char mask[16];

        netmask(net->prefix, mask);
        cc_buf_printf(out, " ip=%s::%s:%s:%s:eth%zu:off", net->ip, net->gateway ? net->gateway : "",
                      mask, vm->config.name, i);
        for (size_t k = 0; k < dns->len && k < 2; k++)
                cc_buf_printf(out, ":%s", dns->v[k]);
}

static bool is_static(const struct nic *nic)
{
        return nic->network && !cc_isempty(nic->network->ip);
}

static void add_network(const struct config *c, const struct vm_record *vm, struct cc_buf *out)
{
        size_t n = vm->network_configs.len;

        if (n > 0)
                cc_buf_str(out, " net.ifnames=0");
        cc_buf_printf(out, " cocoon.hostname=%s", vm->config.name);
        /* Kernel and initramfs keep only the last ip=: NIC 0 shall win. */
        for (size_t i = n; i-- > 0;)
                if (is_static(vm_nic(vm, i)))
                        add_ip(c, vm, i, out);
        for (size_t i = 0; i < n; i++) {
                const struct nic *nic = vm_nic(vm, i);

                if (is_static(nic))
                        cc_buf_printf(out, " cocoon.net=%zu,%s,%s/%lld,%s", i, nic->mac,
                                      nic->network->ip, (long long)nic->network->prefix,
                                      cc_isempty(nic->network->gateway) ? "-"
                                                                        : nic->network->gateway);
                else if (!cc_isempty(nic->mac))
                        cc_buf_printf(out, " cocoon.net=%zu,%s,dhcp", i, nic->mac);
        }
}

bool vm_cmdline_carries(const char *path)
{
        return !path[strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "/._-+@%,:=")];
}

static void add_data(const struct hv_driver *drv, const struct vm_record *vm, struct cc_buf *out)
{
        for (size_t i = 0; i < vm->storage_configs.len; i++) {
                const struct vm_disk *d = vm_disk_at(vm, i);

                if (cc_streq(d->role, "data") && !cc_isempty(d->mount_point) &&
                    vm_cmdline_carries(d->mount_point)) {
                        cc_buf_str(out, " cocoon.data=");
                        disk_name(drv, vm, i, out);
                        cc_buf_printf(out, ":%s", d->mount_point);
                }
        }
}

char *vm_cmdline(const struct config *c, const struct hv_driver *drv, const struct vm_record *vm)
{
        CC_BUF struct cc_buf out = { 0 };

        cc_buf_str(&out, drv->console_prefix);
        add_disks(drv, vm, &out);
        /* A kernel that sees no KVM tries its timer's interrupt at boot and panics when that is
         * late, as it is under emulation on a busy host. */
        cc_buf_str(&out, has_kvm_clock(c, drv) ? " clocksource=kvm-clock" : " no_timer_check");
        cc_buf_str(&out, " rw");
        add_network(c, vm, &out);
        cc_buf_printf(&out, " cocoon.instance=%s", vm->id);
        add_data(drv, vm, &out);
        return cc_buf_take(&out);
}

int vm_rebuild_cmdline(const struct config *c, const struct hv_driver *drv, struct vm_record *vm,
                       struct cc_err *err)
{
        char *line;

        if (cc_isempty(vm->boot_config.kernel_path))
                return 0;
        line = vm_cmdline(c, drv, vm);
        if (strlen(line) >= VM_CMDLINE_MAX) {
                size_t n = strlen(line);

                free(line);
                return cc_fail(err, CC_INVALID,
                               "kernel command line has %zu bytes, the limit is %d (layers, NICs "
                               "and data disks add to it)",
                               n, VM_CMDLINE_MAX - 1);
        }
        free(vm->boot_config.cmdline);
        vm->boot_config.cmdline = line;
        return 0;
}
