/* From a spec to a Cloud Hypervisor machine: the rules of §2.1. The two forms are in render.c. */
#include "hv/ch/config.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void ch_config_clear(struct ch_config *c)
{
        free(c->disks);
        free(c->nets);
        cc_strv_free(&c->own);
        memset(c, 0, sizeof(*c));
}

char *ch_net_id(const char *mac)
{
        CC_BUF struct cc_buf b = { 0 };

        cc_buf_str(&b, CH_NET_ID_PREFIX);
        for (; *mac; mac++)
                if (*mac != ':')
                        cc_buf_char(&b, (char)tolower((unsigned char)*mac));
        return cc_buf_take(&b);
}

static int check_queue_size(const char *what, int64_t size, struct cc_err *err)
{
        if (size > 2 && size <= CH_QUEUE_MAX && (size & (size - 1)) == 0)
                return 0;
        return cc_fail(err, CC_INVALID,
                       "cloud-hypervisor: %s queue size %lld is not a power of two from 4 to %d",
                       what, (long long)size, CH_QUEUE_MAX);
}

static int make_disk(const struct vm_spec *spec, const struct hv_disk *d, struct ch_disk *out,
                     struct cc_err *err)
{
        if (!cc_streq(d->format, "raw") && !cc_streq(d->format, "qcow2"))
                return cc_fail(err, CC_INVALID,
                               "cloud-hypervisor: disk %s: format \"%s\" is not known", d->path,
                               d->format ? d->format : "");
        if (d->serial && strlen(d->serial) > CH_SERIAL_LEN)
                return cc_fail(err, CC_INVALID,
                               "cloud-hypervisor: disk serial \"%s\" is longer than %d bytes",
                               d->serial, CH_SERIAL_LEN);
        *out = (struct ch_disk){
                .path = d->path,
                .serial = cc_isempty(d->serial) ? NULL : d->serial,
                .ro = d->ro,
                .qcow2 = cc_streq(d->format, "qcow2"),
                .queues = spec->cpu,
                .queue_size = spec->disk_queue_size ? spec->disk_queue_size : CH_QUEUE_SIZE,
                .pinned = spec->cpu > 1 && !d->ro,
        };
        /* O_DIRECT would reach the base image that all overlays share, too. */
        out->direct = d->direct && !d->ro && !out->qcow2;
        return check_queue_size("disk", out->queue_size, err);
}

static int make_net(const struct vm_spec *spec, const struct hv_nic *nic, struct ch_config *c,
                    struct ch_net *out, struct cc_err *err)
{
        if (cc_isempty(nic->tap))
                return cc_fail(err, CC_UNSUPPORTED,
                               "cloud-hypervisor: there is no user-mode network");
        *out = (struct ch_net){
                .tap = nic->tap,
                .mac = nic->mac,
                .queues = nic->num_queues > 2 ? nic->num_queues : 2,
                .queue_size = nic->queue_size ? nic->queue_size : CH_QUEUE_SIZE,
        };
        if (out->queues % 2 || out->queues / 2 > spec->cpu)
                return cc_fail(err, CC_INVALID,
                               "cloud-hypervisor: NIC %s has %lld queues: at most a pair for each "
                               "of %lld vCPUs",
                               nic->mac, (long long)out->queues, (long long)spec->cpu);
        cc_strv_take(&c->own, ch_net_id(nic->mac));
        out->id = c->own.v[c->own.len - 1];
        return check_queue_size("network", out->queue_size, err);
}

static int make_memory(const struct vm_spec *spec, struct ch_config *c, struct cc_err *err)
{
        if (spec->mergeable && (spec->shared_memory || spec->hugepages))
                return cc_fail(err, CC_INVALID,
                               "--mergeable and %s are mutually exclusive: the kernel merges "
                               "private small pages only",
                               spec->shared_memory ? "--shared-memory" : "--hugepages");
        c->memory = spec->memory;
        c->hugepages = spec->hugepages;
        c->shared = spec->shared_memory;
        c->mergeable = spec->mergeable;
        /* Windows' balloon driver spins at shutdown. */
        if (spec->memory >= CH_BALLOON_MIN && !spec->windows && !spec->no_balloon)
                c->balloon = spec->balloon ? spec->balloon : spec->memory / 4;
        if (c->balloon >= spec->memory)
                return cc_fail(err, CC_INVALID,
                               "cloud-hypervisor: a balloon of %lld bytes takes all of %lld",
                               (long long)c->balloon, (long long)spec->memory);
        return 0;
}

/* Every virtio device takes a slot; a console that is off is none, rng always is one. */
static int check_slots(const struct ch_config *c, struct cc_err *err)
{
        size_t fixed = 1u + (c->console != CH_TTY_OFF) + (c->balloon > 0) + c->watchdog +
                       (c->vsock_socket != NULL);

        if (c->n_disks + c->n_nets + fixed <= CH_SLOTS)
                return 0;
        (void)cc_fail(err, CC_UNSUPPORTED,
                      "cloud-hypervisor: %zu disks, %zu NICs and %zu other devices need more than "
                      "the %d PCI slots",
                      c->n_disks, c->n_nets, fixed, CH_SLOTS);
        cc_hint(err, "--flat makes one disk of all layers");
        return -CC_UNSUPPORTED;
}

int ch_config_make(const struct vm_spec *spec, const struct ch_host *host, struct ch_config *ret,
                   struct cc_err *err)
{
        bool direct = !cc_isempty(spec->kernel);
        CH_CONFIG struct ch_config c = {
                .api_socket = host->api_socket,
                .boot_vcpus = spec->cpu,
                .max_vcpus = host->online_cpus < CH_VCPUS_MAX ? host->online_cpus : CH_VCPUS_MAX,
                .kvm_hyperv = spec->windows,
                .watchdog = !spec->no_watchdog,
                .serial = direct ? CH_TTY_OFF : CH_TTY_SOCKET,
                .serial_socket = direct ? NULL : host->serial_socket,
                .console = direct ? CH_TTY_PTY : CH_TTY_OFF,
                .vsock_socket = host->vsock_socket,
                .cpus = host->cpus,
                .n_cpus = host->n_cpus,
        };
        int r = make_memory(spec, &c, err);

        if (r < 0)
                return r;
        if (spec->max_cpu)
                c.max_vcpus = spec->max_cpu;
        if (c.max_vcpus < c.boot_vcpus)
                c.max_vcpus = c.boot_vcpus;
        if (direct) {
                c.kernel = spec->kernel;
                c.initramfs = cc_isempty(spec->initrd) ? NULL : spec->initrd;
                c.cmdline = spec->cmdline ? spec->cmdline : "";
        } else {
                c.firmware = host->firmware;
        }
        c.disks = xcalloc(spec->n_disks + 1, sizeof(*c.disks));
        c.nets = xcalloc(spec->n_nics + 1, sizeof(*c.nets));
        for (; c.n_disks < spec->n_disks && r == 0; c.n_disks++)
                r = make_disk(spec, &spec->disks[c.n_disks], &c.disks[c.n_disks], err);
        for (; c.n_nets < spec->n_nics && r == 0; c.n_nets++)
                r = make_net(spec, &spec->nics[c.n_nets], &c, &c.nets[c.n_nets], err);
        if (r == 0)
                r = check_slots(&c, err);
        if (r < 0)
                return r;
        *ret = c;
        memset(&c, 0, sizeof(c));
        return 0;
}

void ch_config_on_terminal(struct ch_config *c)
{
        bool direct = c->kernel;

        c->api_socket = NULL;
        c->serial_socket = NULL;
        c->vsock_socket = NULL;
        c->serial = direct ? CH_TTY_OFF : CH_TTY_TTY;
        c->console = direct ? CH_TTY_TTY : CH_TTY_OFF;
}
