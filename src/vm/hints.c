/* What the user of a clone types into its guest when no agent does it (cli.md §5.6). */
#include <string.h>

#include "base/alloc.h"
#include "image/image.h"
#include "vm/snapshot.h"

#define MIN_BALLOON (INT64_C(256) << 20) /* smaller machines get none */

static void strip(const char *mac, char out[13])
{
        size_t n = 0;

        for (; *mac && n < 12; mac++)
                if (*mac != ':')
                        out[n++] = *mac;
        out[n] = '\0';
}

/* The guest still has the source's addresses: before any file names the new ones. */
static void set_macs(const struct vm_record *vm, struct cc_buf *out)
{
        for (size_t i = 0; i < vm->network_configs.len; i++) {
                const char *mac = vm_nic(vm, i)->mac;

                if (cc_isempty(mac))
                        continue;
                cc_buf_printf(out,
                              "ip link set dev eth%zu down\nip link set dev eth%zu address %s\n"
                              "ip link set dev eth%zu up\n",
                              i, i, mac, i);
        }
}

static void network_file(const struct nic *nic, struct cc_buf *out)
{
        char id[13];

        strip(nic->mac, id);
        cc_buf_printf(out, "cat >/etc/systemd/network/10-%s.network <<EOF\n", id);
        cc_buf_printf(out, "[Match]\nMACAddress=%s\n\n[Network]\n", nic->mac);
        if (nic->network && !cc_isempty(nic->network->ip)) {
                cc_buf_printf(out, "Address=%s/%lld\n", nic->network->ip,
                              (long long)nic->network->prefix);
                if (!cc_isempty(nic->network->gateway))
                        cc_buf_printf(out, "Gateway=%s\n", nic->network->gateway);
        } else {
                cc_buf_str(out, "DHCP=ipv4\n");
        }
        cc_buf_str(out, "EOF\n");
}

static void linux_hints(const struct vm_record *vm, unsigned caps, struct cc_buf *out)
{
        if ((caps & HV_CAP_BALLOON) && !vm->config.no_balloon && vm->config.memory >= MIN_BALLOON)
                cc_buf_str(out, "echo 3 > /proc/sys/vm/drop_caches\n");
        if (!(caps & HV_CAP_NIC_SWAP))
                set_macs(vm, out);
        cc_buf_str(out, "rm -f /etc/systemd/network/10-*.network\n");
        if (cc_streq(vm->config.image_type, IMAGE_CLOUDIMG)) {
                cc_buf_str(out, "cloud-init clean --logs --seed --configs network && "
                                "cloud-init init --local && cloud-init init\n"
                                "cloud-init modules --mode=config && "
                                "systemctl restart systemd-networkd\n");
                return;
        }
        cc_buf_printf(out, "hostnamectl set-hostname %s\n", vm->config.name);
        for (size_t i = 0; i < vm->network_configs.len; i++)
                if (!cc_isempty(vm_nic(vm, i)->mac))
                        network_file(vm_nic(vm, i), out);
        cc_buf_str(out, "systemctl restart systemd-networkd\n");
}

static void windows_hints(const struct vm_record *vm, struct cc_buf *out)
{
        for (size_t i = 0; i < vm->network_configs.len; i++) {
                const struct nic *nic = vm_nic(vm, i);

                if (!nic->network || cc_isempty(nic->network->ip))
                        continue;
                /* Windows counts "Ethernet", "Ethernet 2", "Ethernet 3". */
                cc_buf_str(out, "netsh interface ip set address \"Ethernet");
                if (i)
                        cc_buf_printf(out, " %zu", i + 1);
                cc_buf_printf(out, "\" static %s/%lld", nic->network->ip,
                              (long long)nic->network->prefix);
                if (!cc_isempty(nic->network->gateway))
                        cc_buf_printf(out, " %s", nic->network->gateway);
                cc_buf_char(out, '\n');
        }
}

char *vm_clone_hints(const struct vm_record *vm)
{
        struct cc_buf out = { 0 };
        const struct hv_driver *drv = NULL;
        unsigned caps = hv_driver_find(vm->hypervisor, &drv, NULL) == 0 ? drv->caps : 0;

        if (vm->config.windows)
                windows_hints(vm, &out);
        else
                linux_hints(vm, caps, &out);
        return cc_buf_take(&out);
}
