/*
 * Judging a create request before anything is looked up: limits, names and exclusions with the
 * exact texts of cli.md §4.2. What depends on the image is in plan.c, what depends on a driver's
 * limits in the driver's own check.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/size.h"
#include "vm/internal.h"

#define MIN_MEMORY     (INT64_C(512) << 20)
#define MIN_STORAGE    (INT64_C(10) << 30)
#define MIN_DATA_DISK  (INT64_C(16) << 20)
/* More never fits a machine; bounds what is allocated per request. */
#define MAX_DATA_DISKS 128
#define MAX_NICS       128

static int check_size(const char *what, int64_t size, int64_t min, struct cc_err *err)
{
        char have[24];
        char want[24];

        if (size >= min)
                return 0;
        cc_size_format(size, have);
        cc_size_format(min, want);
        if (cc_streq(have, want)) /* rounding must not hide what is missing */
                (void)snprintf(have, sizeof(have), "%lldB", (long long)size);
        return cc_fail(err, CC_INVALID, "%s %s below %s minimum", what, have, want);
}

static int check_numbers(const struct vm_request *req, struct cc_err *err)
{
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        int r;

        if (req->cpu < 1)
                return cc_fail(err, CC_INVALID, "cpu must be at least 1, got %lld",
                               (long long)req->cpu);
        if (req->cpu > cores)
                return cc_fail(err, CC_INVALID, "requested %lld vCPUs exceeds host cores (%ld)",
                               (long long)req->cpu, cores);
        r = check_size("--memory", req->memory, MIN_MEMORY, err);
        if (r == 0)
                r = check_size("--storage", req->storage, MIN_STORAGE, err);
        if (r < 0)
                return r;
        if (req->nics < 0 || req->nics > MAX_NICS)
                return cc_fail(err, CC_INVALID, "nics must be between 0 and %d, got %lld", MAX_NICS,
                               (long long)req->nics);
        if (req->queue_size < 0)
                return cc_fail(err, CC_INVALID, "queue size must not be negative, got %lld",
                               (long long)req->queue_size);
        if (req->disk_queue_size < 0)
                return cc_fail(err, CC_INVALID, "disk queue size must not be negative, got %lld",
                               (long long)req->disk_queue_size);
        return 0;
}

static int check_credentials(const struct vm_request *req, struct cc_err *err)
{
        if (!cc_isempty(req->user) && !cc_user_name_valid(req->user))
                return cc_fail(err, CC_INVALID,
                               "invalid user \"%s\": want ^[a-z_][a-z0-9_-]{0,31}$", req->user);
        /* The text must not show the password. */
        for (const char *p = req->password ? req->password : ""; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f || strchr("`$;|&(){}\\<>!'\"", *p))
                        return cc_fail(err, CC_INVALID,
                                       "password contains a character that is not allowed");
        return 0;
}

static int check_labels(const struct cc_strv *labels, struct cc_err *err)
{
        for (size_t i = 0; labels && i < labels->len; i++) {
                const char *item = labels->v[i];

                if (!strchr(item, '=') || item[0] == '=' || !cc_utf8_valid(item, strlen(item)))
                        return cc_fail(err, CC_INVALID, "label \"%s\" is not key=value", item);
        }
        return 0;
}

static int check_publish(const struct cc_strv *publish, struct cc_err *err)
{
        uint16_t host;
        uint16_t guest;
        uint16_t other;
        int r;

        for (size_t i = 0; publish && i < publish->len; i++) {
                r = net_publish_parse(publish->v[i], &host, &guest, err);
                if (r < 0)
                        return r;
                for (size_t k = 0; k < i; k++)
                        if (net_publish_parse(publish->v[k], &other, &guest, NULL) == 0 &&
                            other == host)
                                return cc_fail(err, CC_INVALID, "host port %u is published twice",
                                               host);
        }
        return 0;
}

/* "--fc" for a driver that was named by a flag, NULL otherwise. */
static const char *driver_flag(const struct vm_request *req)
{
        static const char *const flags[][2] = { { "firecracker", "--fc" }, { "qemu", "--qemu" } };

        for (size_t i = 0; i < CC_ARRAY_LEN(flags); i++)
                if (cc_streq(req->driver, flags[i][0]))
                        return flags[i][1];
        return NULL;
}

static int require(const struct vm_request *req, const struct hv_driver *drv, unsigned cap,
                   const char *flag, struct cc_err *err)
{
        const char *named = driver_flag(req);
        int r = hv_require(drv, cap, flag, err);

        if (r < 0 && named)
                return cc_fail(err, CC_UNSUPPORTED,
                               "%s and %s are mutually exclusive: backend %s does not support it",
                               named, flag, drv->name);
        return r;
}

static int check_caps(const struct vm_request *req, const struct hv_driver *drv, struct cc_err *err)
{
        const struct {
                bool wanted;
                unsigned cap;
                const char *flag;
        } rows[] = {
                { req->windows, HV_CAP_WINDOWS, "--windows" },
                { req->shared_memory, HV_CAP_SHARED_MEMORY, "--shared-memory" },
                { req->hugepages, HV_CAP_HUGEPAGES, "--hugepages" },
                { req->no_watchdog, HV_CAP_NO_WATCHDOG, "--no-watchdog" },
        };
        int r = 0;

        for (size_t i = 0; i < CC_ARRAY_LEN(rows) && r == 0; i++)
                if (rows[i].wanted)
                        r = require(req, drv, rows[i].cap, rows[i].flag, err);
        return r;
}

int vm_request_check(const struct vm_request *req, struct cc_err *err)
{
        int r;

        if (!cc_isempty(req->bridge) && !cc_isempty(req->network))
                return cc_fail(err, CC_USAGE, "--bridge and --network are mutually exclusive");
        r = check_numbers(req, err);
        if (r < 0)
                return r;
        if (!cc_isempty(req->name) && !cc_vm_name_valid(req->name))
                return cc_fail(err, CC_INVALID,
                               "invalid VM name \"%s\": want ^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$",
                               req->name);
        if (req->cpu_weight || req->cpu_quota_us || req->cpu_period_us || req->cpu_burst_us ||
            !cc_isempty(req->cpuset_cpus))
                return cc_fail(err, CC_UNSUPPORTED,
                               "CPU control flags (--cpu-weight, --cpu-quota-us, --cpu-period-us, "
                               "--cpu-burst-us, --cpuset-cpus) are not supported by this version");
        r = check_credentials(req, err);
        if (r == 0)
                r = check_labels(req->labels, err);
        if (r == 0)
                r = check_publish(req->publish, err);
        return r;
}

int vm_validate(const struct vm_request *req, const struct hv_driver *drv, struct cc_err *err)
{
        int r = vm_request_check(req, err);

        return r < 0 ? r : check_caps(req, drv, err);
}

/* ---- data disks ---- */

static bool name_used(const struct vm_request *req, const char *name, size_t except)
{
        for (size_t i = 0; i < req->n_data_disks; i++)
                if (i != except && cc_streq(req->data_disks[i].name, name))
                        return true;
        return false;
}

static int check_data_disk(const struct vm_request *req, size_t i, struct cc_err *err)
{
        const struct vm_data_disk *d = &req->data_disks[i];
        char have[24];

        if (d->size <= 0)
                return cc_fail(err, CC_INVALID, "--data-disk: size= required");
        cc_size_format(d->size, have);
        if (d->size < MIN_DATA_DISK)
                return cc_fail(err, CC_INVALID, "--data-disk: size %s below 16MiB minimum", have);
        if (!cc_isempty(d->name) && !cc_data_disk_name_valid(d->name))
                return cc_fail(
                        err, CC_INVALID,
                        "--data-disk: invalid name \"%s\": want ^[a-z][a-z0-9_-]{0,19}$, not "
                        "cocoon-*",
                        d->name);
        if (!cc_isempty(d->name) && name_used(req, d->name, i))
                return cc_fail(err, CC_INVALID, "--data-disk: name \"%s\" duplicated", d->name);
        if (!cc_isempty(d->fstype) && !cc_streq(d->fstype, "ext4") && !cc_streq(d->fstype, "none"))
                return cc_fail(err, CC_INVALID, "--data-disk: unsupported fstype \"%s\"",
                               d->fstype);
        if (cc_streq(d->fstype, "none") && !cc_isempty(d->mount))
                return cc_fail(err, CC_INVALID, "--data-disk: fstype=none requires empty mount");
        if (!cc_isempty(d->mount) && (d->mount[0] != '/' || strpbrk(d->mount, "\n\r")))
                return cc_fail(err, CC_INVALID, "--data-disk: mount \"%s\" is not absolute",
                               d->mount);
        return 0;
}

int vm_data_disks(const struct vm_request *req, struct record_array *ret, int64_t **ret_sizes,
                  struct cc_err *err)
{
        struct record_array disks = { 0 };
        int64_t *sizes;
        unsigned next = 1;
        int r = 0;

        if (req->n_data_disks > MAX_DATA_DISKS)
                return cc_fail(err, CC_INVALID, "--data-disk: at most %d disks, got %zu",
                               MAX_DATA_DISKS, req->n_data_disks);
        for (size_t i = 0; i < req->n_data_disks && r == 0; i++)
                r = check_data_disk(req, i, err);
        if (r < 0)
                return r;
        sizes = xcalloc(req->n_data_disks + 1, sizeof(*sizes));
        for (size_t i = 0; i < req->n_data_disks; i++) {
                const struct vm_data_disk *d = &req->data_disks[i];
                struct vm_disk *out = record_array_add(&vm_disk_type, &disks);
                bool none = cc_streq(d->fstype, "none");
                char name[32];

                if (cc_isempty(d->name)) {
                        do
                                (void)snprintf(name, sizeof(name), "data%u", next++);
                        while (name_used(req, name, i));
                } else {
                        (void)snprintf(name, sizeof(name), "%s", d->name);
                }
                out->serial = xstrdup(name);
                out->role = xstrdup("data");
                out->fstype = xstrdup(none ? "none" : "ext4");
                out->direct_io = d->direct_io;
                if (!none)
                        out->mount_point =
                                d->mount ? xstrdup(d->mount) : xasprintf("/mnt/%s", name);
                sizes[i] = d->size;
        }
        *ret = disks;
        *ret_sizes = sizes;
        return 0;
}
