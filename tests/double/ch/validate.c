#include "validate.h"

#include <stdint.h>
#include <string.h>

#include "base/json.h"

enum { MAX_CPUS = 8192, SERIAL_MAX = 20, MIN_MTU = 1280 };

struct check {
        json_t *config;
        json_t *ids; /* seen so far */
        struct ch_error *e;
        int64_t boot_vcpus;
        bool shared; /* memory that a vhost-user backend can map */
};

static const char *str(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

static int64_t num(const json_t *obj, const char *key)
{
        return json_integer_value(json_object_get(obj, key));
}

static bool on(const json_t *obj, const char *key)
{
        return json_is_true(json_object_get(obj, key));
}

#define invalid(c, ...) ch_fail((c)->e, CH_BAD_CONFIG, __VA_ARGS__)

static int check_id(struct check *c, const json_t *device)
{
        const char *id = str(device, "id");

        if (!id)
                return 0;
        if (cc_startswith(id, "__"))
                return invalid(c, "Identifier %s is not invalid", id);
        if (json_object_get(c->ids, id))
                return ch_fail(c->e, CH_DUPLICATE, "Identifier %s is not unique", id);
        json_object_set_new(c->ids, id, json_true());
        return 0;
}

static int check_pci(struct check *c, const json_t *device)
{
        int64_t slot = num(device, "pci_device_id");

        if (num(device, "pci_segment") != 0)
                return invalid(c, "Invalid PCI segment id: %d", (int)num(device, "pci_segment"));
        if (slot >= 32)
                return invalid(c, "Given PCI device ID (%d) is out of the supported range of 0..32",
                               (int)slot);
        if (json_object_get(device, "pci_device_id") && slot == 0)
                return invalid(c, "Given PCI device ID (0) is reserved");
        return 0;
}

static int check_queue_size(struct check *c, const json_t *device)
{
        int64_t size = num(device, "queue_size");

        if (size == 0 || size & (size - 1))
                return invalid(c, "Queue size must be a power of 2 no greater than 32768: %d",
                               (int)size);
        return 0;
}

static int too_many_queues(struct check *c, const json_t *device, int64_t of)
{
        if (of > c->boot_vcpus)
                return invalid(c, "Queue count (%lld) must not exceed boot vCPUs (%lld)",
                               (long long)num(device, "num_queues"), (long long)c->boot_vcpus);
        return 0;
}

static int check_payload(struct check *c)
{
        json_t *payload = json_object_get(c->config, "payload");
        bool firmware = str(payload, "firmware"), kernel = str(payload, "kernel");

        if (firmware == kernel) {
                invalid(c,
                        firmware
                                ? "Specifying a kernel is not supported when a firmware is provided"
                                : "No bootitem provided: neither firmware nor kernel");
                return ch_wrap(c->e, "Payload configuration is not bootable");
        }
        if (firmware) {
                json_object_del(payload, "cmdline");
                json_object_del(payload, "initramfs");
        }
        return 0;
}

static int check_consoles(struct check *c)
{
        static const char *const names[] = { "console", "serial" };

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++) {
                const json_t *console = json_object_get(c->config, names[i]);

                if (cc_streq(str(console, "mode"), "File") && !str(console, "file"))
                        return invalid(c, "Path missing when using file console mode");
        }
        return 0;
}

static int check_cpus(struct check *c)
{
        const json_t *cpus = json_object_get(c->config, "cpus");
        int64_t max = num(cpus, "max_vcpus");

        c->boot_vcpus = num(cpus, "boot_vcpus");
        if (max < c->boot_vcpus)
                return invalid(c, "Max CPUs (%lld) lower than boot CPUs (%lld)", (long long)max,
                               (long long)c->boot_vcpus);
        if (max > MAX_CPUS)
                return invalid(c, "Too many CPUs: specified %lld but %d is the limit",
                               (long long)max, MAX_CPUS);
        return 0;
}

static int check_disk(struct check *c, const json_t *disk)
{
        const char *serial = str(disk, "serial");
        int r;

        if (str(disk, "vhost_socket") && str(disk, "path"))
                return invalid(c, "Disk path and vhost socket both provided");
        if (on(disk, "vhost_user") && !c->shared)
                return invalid(c, "Using vhost-user requires using shared memory or huge pages");
        if (on(disk, "vhost_user") && !str(disk, "vhost_socket"))
                return invalid(c, "No socket provided when using vhost-user");
        if ((r = check_pci(c, disk)) < 0 ||
            (r = too_many_queues(c, disk, num(disk, "num_queues"))) < 0 ||
            (r = check_queue_size(c, disk)) < 0)
                return r;
        if (num(disk, "queue_size") <= 2)
                return invalid(c, "Block queue size must be greater than 2: %d",
                               (int)num(disk, "queue_size"));
        if (serial && strlen(serial) > SERIAL_MAX)
                return invalid(
                        c, "Block device serial length (%zu) exceeds maximum allowed length (%d)",
                        strlen(serial), SERIAL_MAX);
        return check_id(c, disk);
}

static int check_net(struct check *c, const json_t *net)
{
        int64_t queues = num(net, "num_queues");
        int r;

        if (on(net, "vhost_user") && !c->shared)
                return invalid(c, "Using vhost-user requires using shared memory or huge pages");
        if (on(net, "vhost_user") && !str(net, "vhost_socket"))
                return invalid(c, "No socket provided when using vhost-user");
        if ((r = check_pci(c, net)) < 0)
                return r;
        if (queues < 2)
                return invalid(c, "Number of queues (%lld) to virtio_net should be higher than 2",
                               (long long)queues);
        if ((r = too_many_queues(c, net, queues / 2)) < 0 || (r = check_queue_size(c, net)) < 0)
                return r;
        if (json_object_get(net, "mtu") && num(net, "mtu") < MIN_MTU)
                return invalid(c,
                               "Provided MTU %d is lower than 1280 (expected by VIRTIO "
                               "specification)",
                               (int)num(net, "mtu"));
        if (!on(net, "offload_csum") && (on(net, "offload_tso") || on(net, "offload_ufo")))
                return invalid(c, "\"offload_tso\" and \"offload_ufo\" depend on \"offload_csum\"");
        if (str(net, "mask") && !str(net, "ip"))
                return invalid(c, "Mask provided without an IP");
        if (str(net, "ip") && !str(net, "mask"))
                return invalid(c, "IP provided without a mask");
        return check_id(c, net);
}

static int check_fs(struct check *c, const json_t *fs)
{
        int r;

        if (!c->shared)
                return invalid(c, "Using vhost-user requires using shared memory or huge pages");
        if ((r = too_many_queues(c, fs, num(fs, "num_queues"))) < 0 ||
            (r = check_queue_size(c, fs)) < 0)
                return r;
        if (on(fs, "iommu"))
                return invalid(c, "Device does not support being placed behind IOMMU");
        if ((r = check_pci(c, fs)) < 0)
                return r;
        return check_id(c, fs);
}

static int check_device(struct check *c, const json_t *device)
{
        bool path = str(device, "path"), fd = json_object_get(device, "fd");
        int r;

        if ((r = check_pci(c, device)) < 0)
                return r;
        if (!path && !fd)
                return invalid(c, "VFIO device config must specify `path=` or `fd=`");
        if (path && fd)
                return invalid(c,
                               "VFIO device config must specify at most one of `path=` or `fd=`");
        if (fd)
                return invalid(c, "VFIO device `fd=` requires platform `iommufd_fd=<fd>`");
        return check_id(c, device);
}

static int check_each(struct check *c, const char *list,
                      int (*fn)(struct check *c, const json_t *item))
{
        json_t *item;
        size_t i;

        json_array_foreach (json_object_get(c->config, list), i, item) {
                if (fn(c, item) < 0)
                        return -1;
        }
        return 0;
}

/* Built-in devices that have an id of the user's, if any. */
static int check_single(struct check *c, const char *name)
{
        const json_t *device = json_object_get(c->config, name);

        return !device || (check_pci(c, device) == 0 && check_id(c, device) == 0) ? 0 : -1;
}

static int check_memory(struct check *c)
{
        const json_t *memory = json_object_get(c->config, "memory");
        int64_t huge = num(memory, "hugepage_size");

        if (json_object_get(memory, "hugepage_size")) {
                if (!on(memory, "hugepages"))
                        return invalid(c, "Huge page size specified but huge pages not enabled");
                if (huge == 0 || huge & (huge - 1))
                        return invalid(c, "Huge page size is not power of 2: %lld",
                                       (long long)huge);
        }
        if (on(memory, "shared") && on(memory, "mergeable"))
                return invalid(c, "Invalid to set both 'mergeable' and 'shared' for memory");
        return 0;
}

static int check_vsock_cid(struct check *c)
{
        const json_t *vsock = json_object_get(c->config, "vsock");
        int64_t cid = num(vsock, "cid");

        if (vsock && (cid <= 2 || cid == UINT32_MAX))
                return invalid(c, "%lld is a special VSOCK CID", (long long)cid);
        return 0;
}

static int check_balloon(struct check *c)
{
        const json_t *balloon = json_object_get(c->config, "balloon");
        int64_t ram = num(json_object_get(c->config, "memory"), "size");

        if (!balloon)
                return 0;
        if (check_single(c, "balloon") < 0)
                return -1;
        if (num(balloon, "size") >= ram)
                return invalid(c, "Balloon size (%lld) greater than RAM (%lld)",
                               (long long)num(balloon, "size"), (long long)ram);
        return 0;
}

static int check_device_paths(struct check *c)
{
        CC_JSON json_t *seen = json_object();
        json_t *device;
        size_t i;

        json_array_foreach (json_object_get(c->config, "devices"), i, device) {
                const char *path = str(device, "path");

                if (path && json_object_get(seen, path))
                        return ch_fail(c->e, CH_DUPLICATE, "Duplicated device path: %s", path);
                if (path)
                        json_object_set_new(seen, path, json_true());
                if (check_device(c, device) < 0)
                        return -1;
        }
        return 0;
}

int ch_validate(json_t *config, struct ch_error *e)
{
        const json_t *memory = json_object_get(config, "memory");
        CC_JSON json_t *ids = json_object();
        struct check c = { .config = config,
                           .ids = ids,
                           .e = e,
                           .shared = on(memory, "shared") || on(memory, "hugepages") };

        if (check_payload(&c) < 0 || check_consoles(&c) < 0 || check_cpus(&c) < 0 ||
            check_each(&c, "disks", check_disk) < 0 || check_each(&c, "net", check_net) < 0 ||
            check_each(&c, "fs", check_fs) < 0 || check_single(&c, "rng") < 0 ||
            check_single(&c, "rtc") < 0 || check_single(&c, "console") < 0 ||
            check_memory(&c) < 0 || check_vsock_cid(&c) < 0 || check_balloon(&c) < 0 ||
            check_device_paths(&c) < 0 || check_single(&c, "vsock") < 0)
                return -1;
        return 0;
}
