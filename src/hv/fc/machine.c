/* Requests and limits of a Firecracker machine. See machine.h. */
#include "hv/fc/machine.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "hv/fc/fc.h"

/* What the guest may be told about its network's MTU. */
#define MTU_MIN 68
#define MTU_MAX 65535

/* The guest's address on the host's side of vsock; each machine has a socket of its own. */
#define GUEST_CID 3

void fc_drive_id(size_t i, char out[32])
{
        (void)snprintf(out, 32, "drive_%zu", i);
}

void fc_nic_id(size_t i, char out[32])
{
        (void)snprintf(out, 32, "eth%zu", i);
}

void fc_requests_clear(struct fc_requests *r)
{
        for (size_t i = 0; i < r->n; i++) {
                free(r->v[i].target);
                free(r->v[i].body);
        }
        free(r->v);
        *r = (struct fc_requests){ 0 };
}

/* Takes the body; NULL (json_pack met something that is no UTF-8) is reported. */
static int add_put(struct fc_requests *r, const char *target, json_t *body, struct cc_err *err)
{
        if (!body)
                return cc_fail(err, CC_INVALID, "PUT %s: a path or name is not valid UTF-8",
                               target);
        r->v = xreallocarray(r->v, r->n + 1, sizeof(*r->v));
        r->v[r->n++] = (struct fc_request){
                .method = "PUT",
                .target = xstrdup(target),
                .body = cc_json_compact(body),
        };
        json_decref(body);
        return 0;
}

static bool has_balloon(const struct vm_spec *spec)
{
        return !spec->no_balloon && spec->memory >= FC_BALLOON_MIN;
}

static int add_boot_source(const struct vm_spec *spec, struct fc_requests *r, struct cc_err *err)
{
        json_t *body = json_pack("{s:s}", "kernel_image_path", spec->kernel);
        bool bad = false;

        if (body && !cc_isempty(spec->initrd))
                bad |= json_object_set_new(body, "initrd_path", json_string(spec->initrd)) < 0;
        if (body && !cc_isempty(spec->cmdline))
                bad |= json_object_set_new(body, "boot_args", json_string(spec->cmdline)) < 0;
        if (bad) {
                json_decref(body);
                body = NULL;
        }
        return add_put(r, "/boot-source", body, err);
}

int fc_drive_request(const struct hv_disk *d, const struct fc_host *host, const char *id,
                     struct fc_requests *r, struct cc_err *err)
{
        CC_FREE char *target = xasprintf("/drives/%s", id);
        json_t *body;

        /* Never a root device: that one would move to the front and get a root= of its own. */
        body = json_pack("{s:s, s:s, s:b, s:b}", "drive_id", id, "path_on_host", d->path,
                         "is_root_device", 0, "is_read_only", d->ro);
        if (body && !d->ro) {
                /* The default offers no flush: what a guest has synced would not be on disk. */
                json_object_set_new(body, "cache_type", json_string("Writeback"));
                if (host->io_uring)
                        json_object_set_new(body, "io_engine", json_string("Async"));
        }
        return add_put(r, target, body, err);
}

static int add_drive(const struct vm_spec *spec, const struct fc_host *host, size_t i,
                     struct fc_requests *r, struct cc_err *err)
{
        char id[32];

        fc_drive_id(i, id);
        return fc_drive_request(&spec->disks[i], host, id, r, err);
}

int fc_nic_request(const struct vm_spec *spec, const struct fc_host *host, size_t i,
                   struct fc_requests *r, struct cc_err *err)
{
        const struct hv_nic *n = &spec->nics[i];
        CC_FREE char *target = NULL;
        char id[32];
        json_t *body;

        fc_nic_id(i, id);
        target = xasprintf("/network-interfaces/%s", id);
        body = json_pack("{s:s, s:s, s:s}", "iface_id", id, "host_dev_name", n->tap, "guest_mac",
                         n->mac);
        if (body && host->nic_mtu && n->mtu >= MTU_MIN && n->mtu <= MTU_MAX)
                json_object_set_new(body, "mtu", json_integer(n->mtu));
        return add_put(r, target, body, err);
}

static int add_balloon(const struct vm_spec *spec, struct fc_requests *r, struct cc_err *err)
{
        return add_put(r, "/balloon",
                       json_pack("{s:I, s:b, s:b}", "amount_mib", (json_int_t)(spec->memory >> 22),
                                 "deflate_on_oom", 1, "free_page_reporting", 1),
                       err);
}

static int add_vsock(const struct vm_spec *spec, struct fc_requests *r, struct cc_err *err)
{
        CC_FREE char *path = cc_path_join(spec->run_dir, FC_VSOCK_SOCK);

        return add_put(r, "/vsock",
                       json_pack("{s:i, s:s}", "guest_cid", GUEST_CID, "uds_path", path), err);
}

int fc_machine_requests(const struct vm_spec *spec, const struct fc_host *host,
                        struct fc_requests *ret, struct cc_err *err)
{
        FC_REQUESTS struct fc_requests all = { 0 };
        /* Memory first: the balloon is checked against it. */
        int r = add_put(&all, "/machine-config",
                        json_pack("{s:I, s:I}", "vcpu_count", (json_int_t)spec->cpu, "mem_size_mib",
                                  (json_int_t)(spec->memory >> 20)),
                        err);

        if (r == 0)
                r = add_boot_source(spec, &all, err);
        for (size_t i = 0; r == 0 && i < spec->n_disks; i++)
                r = add_drive(spec, host, i, &all, err);
        for (size_t i = 0; r == 0 && i < spec->n_nics; i++)
                r = fc_nic_request(spec, host, i, &all, err);
        if (r == 0 && has_balloon(spec))
                r = add_balloon(spec, &all, err);
        if (r == 0)
                r = add_put(&all, "/entropy", json_object(), err);
        if (r == 0)
                r = add_vsock(spec, &all, err);
        if (r < 0)
                return r;
        *ret = all;
        all = (struct fc_requests){ 0 };
        return 0;
}

static int check_features(const struct vm_spec *spec, struct cc_err *err)
{
        const struct {
                bool wanted;
                const char *flag, *why;
        } rows[] = {
                { spec->windows, "--windows", "Firecracker does not boot Windows" },
                { spec->shared_memory, "--shared-memory", "guest memory cannot be shared" },
                { spec->hugepages, "--hugepages", "snapshots of such guests cannot be loaded" },
                { spec->mergeable, "--mergeable", "guest memory cannot be marked mergeable" },
                { spec->no_watchdog, "--no-watchdog", "there is no watchdog device" },
                { spec->n_forwards > 0, "--publish", "there is no user-mode network stack" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++)
                if (rows[i].wanted)
                        return cc_fail(err, CC_UNSUPPORTED, "firecracker: %s: %s", rows[i].flag,
                                       rows[i].why);
        if (cc_isempty(spec->kernel))
                return cc_fail(err, CC_UNSUPPORTED,
                               "firecracker requires OCI images (direct kernel boot)");
        if (spec->cpu > FC_MAX_CPUS)
                return cc_fail(err, CC_UNSUPPORTED, "firecracker: at most %d vCPUs, got %lld",
                               FC_MAX_CPUS, (long long)spec->cpu);
        return 0;
}

static int check_disks(const struct vm_spec *spec, struct cc_err *err)
{
        for (size_t i = 0; i < spec->n_disks; i++)
                if (!cc_streq(spec->disks[i].format, "raw"))
                        return cc_fail(err, CC_UNSUPPORTED,
                                       "firecracker: disk %s: only raw disks can be attached, this "
                                       "one is %s",
                                       spec->disks[i].path,
                                       spec->disks[i].format ? spec->disks[i].format : "unknown");
        return 0;
}

static int check_nics(const struct vm_spec *spec, struct cc_err *err)
{
        for (size_t i = 0; i < spec->n_nics; i++)
                if (cc_isempty(spec->nics[i].tap))
                        return cc_fail(err, CC_UNSUPPORTED,
                                       "firecracker: NIC %zu: there is no user-mode network stack",
                                       i);
        return 0;
}

int fc_machine_check(const struct vm_spec *spec, struct cc_err *err)
{
        size_t own = has_balloon(spec) ? FC_OWN_DEVICES : FC_OWN_DEVICES - 1;
        size_t devices = spec->n_disks + spec->n_nics + own;
        size_t most = spec->pci ? FC_MAX_PCI_DEVICES : FC_MAX_DEVICES;
        /* On a PCI bus the kernel finds them by itself. */
        size_t each = spec->pci ? 0 : FC_CMDLINE_DEVICE;
        size_t cmdline = (spec->cmdline ? strlen(spec->cmdline) : 0) +
                         (spec->pci ? 0 : FC_CMDLINE_FIXED) + devices * each;
        int r = check_features(spec, err);

        if (r == 0)
                r = check_disks(spec, err);
        if (r == 0)
                r = check_nics(spec, err);
        if (r < 0)
                return r;
        if (devices > most) {
                (void)cc_fail(err, CC_UNSUPPORTED,
                              "firecracker: %zu disks + %zu NICs + %zu (%sentropy, vsock) = %zu "
                              "devices, at most %zu fit",
                              spec->n_disks, spec->n_nics, own,
                              has_balloon(spec) ? "balloon, " : "", devices, most);
                cc_hint(err, "--flat boots from one merged layer disk");
                return -CC_UNSUPPORTED;
        }
        if (cmdline > FC_CMDLINE_MAX)
                return cc_fail(err, CC_INVALID,
                               "firecracker: the kernel command line would be %zu bytes long (%zu "
                               "+ %zu for each of %zu devices), at most %d fit",
                               cmdline, cmdline - devices * each, each, devices, FC_CMDLINE_MAX);
        return 0;
}
