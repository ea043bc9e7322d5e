#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend.h"
#include "base/alloc.h"
#include "base/json.h"
#include "base/timeutil.h"
#include "common/vsock.h"
#include "vmm.h"

enum { SLOTS = 32 };

/* Names of the devices that the configuration has at most once, and of the others their prefix. */
static const char *const names[] = {
        [CH_DEV_CONSOLE] = "__console",
        [CH_DEV_DISK] = "_disk",
        [CH_DEV_NET] = "_net",
        [CH_DEV_RNG] = "__rng",
        [CH_DEV_FS] = "_fs",
        [CH_DEV_VSOCK] = "_vsock",
        [CH_DEV_BALLOON] = "__balloon",
        [CH_DEV_WATCHDOG] = "__watchdog",
        [CH_DEV_RTC] = "__rtc",
        [CH_DEV_VFIO] = "_vfio",
};

/* Their place in the configuration: the lists are taken out of it while they are made, and lost
 * when that fails. */
static const struct {
        enum ch_device_kind kind;
        const char *member;
        bool list, lost;
} order[] = {
        { CH_DEV_DISK, "disks", true, true },          { CH_DEV_NET, "net", true, true },
        { CH_DEV_RNG, "rng", false, false },           { CH_DEV_FS, "fs", true, true },
        { CH_DEV_VSOCK, "vsock", false, true },        { CH_DEV_BALLOON, "balloon", false, false },
        { CH_DEV_WATCHDOG, "watchdog", false, false }, { CH_DEV_RTC, "rtc", false, false },
        { CH_DEV_VFIO, "devices", true, true },
};

static const char *str(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

struct ch_device *ch_device_find(const struct ch_vmm *vmm, const char *id)
{
        for (size_t i = 0; i < vmm->devices.n; i++)
                if (cc_streq(vmm->devices.v[i]->id, id))
                        return vmm->devices.v[i];
        return NULL;
}

static void close_all(struct ch_device *dev)
{
        if (dev->fd >= 0)
                close(dev->fd);
        dev->fd = -1;
        if (dev->socket)
                (void)unlink(dev->socket);
        for (size_t i = 0; i < dev->n_taps; i++)
                close(dev->tap_fds[i]);
        dev->n_taps = 0;
}

static void device_free(struct ch_device *dev)
{
        dbl_loop_cancel(dev->vmm->loop, dev->timer);
        if (dev->kind == CH_DEV_VSOCK && dev->fd >= 0)
                dbl_loop_unwatch(dev->vmm->loop, dev->fd);
        close_all(dev);
        free(dev->id);
        free(dev->socket);
        free(dev->tap_fds);
        json_decref(dev->config);
        free(dev);
}

static void unlist(struct ch_vmm *vmm, const struct ch_device *dev)
{
        struct ch_devices *d = &vmm->devices;
        size_t i = 0;

        while (d->v[i] != dev)
                i++;
        for (d->n--; i < d->n; i++)
                d->v[i] = d->v[i + 1];
}

/* True if a device of the configuration has been given this id, made or not. */
static bool configured(const struct ch_vmm *vmm, const char *id)
{
        json_t *item;
        size_t k;

        for (size_t i = 0; i < CC_ARRAY_LEN(order); i++) {
                json_t *member = json_object_get(vmm->config, order[i].member);

                if (order[i].list)
                        json_array_foreach (member, k, item) {
                                if (cc_streq(str(item, "id"), id))
                                        return true;
                        }
                else if (cc_streq(str(member, "id"), id))
                        return true;
        }
        return false;
}

static void name_device(struct ch_vmm *vmm, enum ch_device_kind kind, json_t *config)
{
        if (str(config, "id"))
                return;
        for (;;) {
                CC_FREE char *id = xasprintf("%s%u", names[kind], vmm->devices.next_id++);

                if (configured(vmm, id) || ch_device_find(vmm, id))
                        continue;
                json_object_set_new(config, "id", json_string(id));
                return;
        }
}

/* ---- what a device holds ------------------------------------------------------------------ */

static enum ch_tap_mode tap_mode(const struct ch_vmm *vmm)
{
        const char *mode = dbl_setting(vmm->settings, "TAP");

        return cc_streq(mode, "off")       ? CH_TAP_OFF
               : cc_streq(mode, "require") ? CH_TAP_REQUIRE
                                           : CH_TAP_OPEN;
}

static int open_rng(const json_t *config, int *ret, struct ch_error *e)
{
        *ret = open(str(config, "src"), O_RDONLY | O_CLOEXEC);
        if (*ret >= 0)
                return 0;
        ch_fail_errno(e, errno);
        return ch_wrap(e, "Cannot create virtio-rng device");
}

static int open_vfio(const json_t *config, struct ch_error *e)
{
        struct stat st;

        if (stat(str(config, "path"), &st) == 0 && S_ISDIR(st.st_mode))
                return 0;
        ch_fail(e, CH_OTHER, "No such file or directory (os error 2)");
        ch_wrap(e, "failed to open /dev/vfio/vfio container: No such file or directory (os error "
                   "2)");
        return ch_wrap(e, "Cannot create a VFIO device");
}

static int open_backend(struct ch_device *dev, json_t *config, struct ch_error *e)
{
        switch (dev->kind) {
        case CH_DEV_DISK:
                return ch_disk_open(config, &dev->fd, e);
        case CH_DEV_NET:
                return ch_tap_open(config, tap_mode(dev->vmm), &dev->tap_fds, &dev->n_taps, e);
        case CH_DEV_RNG:
                return open_rng(config, &dev->fd, e);
        case CH_DEV_FS:
                return ch_vhost_connect(str(config, "socket"), &dev->fd, e);
        case CH_DEV_VSOCK:
                if (ch_vsock_bind(str(config, "socket"), &dev->fd, e) < 0)
                        return -1;
                dev->socket = xstrdup(str(config, "socket"));
                dbl_vsock_serve(dev->vmm->loop, dev->vmm->settings, dev->fd);
                return 0;
        case CH_DEV_VFIO:
                return open_vfio(config, e);
        default:
                return 0;
        }
}

/* A device of `config` without a slot yet. */
static int make(struct ch_vmm *vmm, enum ch_device_kind kind, json_t *config,
                struct ch_device **ret, struct ch_error *e)
{
        struct ch_device *dev;
        bool named = names[kind][1] != '_';

        if (named)
                name_device(vmm, kind, config);
        dev = xcalloc(1, sizeof(*dev));
        *dev = (struct ch_device){
                .kind = kind, .fd = -1, .vmm = vmm, .config = json_incref(config)
        };
        dev->id = xstrdup(str(config, "id") ? str(config, "id") : names[kind]);
        if (open_backend(dev, config, e) < 0) {
                device_free(dev);
                return -1;
        }
        vmm->devices.v = xreallocarray(vmm->devices.v, vmm->devices.n + 1, sizeof(void *));
        vmm->devices.v[vmm->devices.n++] = dev;
        *ret = dev;
        return 0;
}

/* ---- slots -------------------------------------------------------------------------------- */

static bool slot_taken(const struct ch_vmm *vmm, unsigned slot)
{
        for (size_t i = 0; i < vmm->devices.n; i++)
                if (vmm->devices.v[i]->slot == slot)
                        return true;
        return false;
}

static int place(struct ch_device *dev, unsigned saved, struct ch_error *e)
{
        json_t *wish = json_object_get(dev->config, "pci_device_id");
        unsigned slot = saved ? saved : (unsigned)json_integer_value(wish);

        if (slot && slot_taken(dev->vmm, slot)) {
                ch_fail(e, CH_OTHER, "Valid PCI device identifier but already used: %u", slot);
                return ch_wrap(e, "Failed to find an available PCI device ID");
        }
        for (unsigned s = 1; s < SLOTS && !slot; s++)
                if (!slot_taken(dev->vmm, s))
                        slot = s;
        if (!slot) {
                ch_fail(e, CH_OTHER, "Could not find an available device slot on the PCI bus");
                return ch_wrap(e, "Failed to find an available PCI device ID");
        }
        dev->slot = slot;
        return 0;
}

/* ---- all devices -------------------------------------------------------------------------- */

static int make_member(struct ch_vmm *vmm, size_t i, struct ch_error *e)
{
        json_t *member = json_object_get(vmm->config, order[i].member);
        struct ch_device *dev;
        json_t *item;
        size_t k;

        if (!member || json_is_false(member))
                return 0;
        if (!order[i].list)
                return make(vmm, order[i].kind, member, &dev, e);
        json_array_foreach (member, k, item) {
                if (make(vmm, order[i].kind, item, &dev, e) < 0)
                        return -1;
        }
        return 0;
}

static int make_all(struct ch_vmm *vmm, struct ch_error *e)
{
        json_t *console = json_object_get(vmm->config, "console");
        struct ch_device *dev;

        if (vmm->has_console && make(vmm, CH_DEV_CONSOLE, console, &dev, e) < 0)
                return -1;
        for (size_t i = 0; i < CC_ARRAY_LEN(order); i++) {
                if (make_member(vmm, i, e) == 0)
                        continue;
                if (order[i].lost)
                        json_object_del(vmm->config, order[i].member);
                return -1;
        }
        return 0;
}

/* What config.json says of a device must be what its saved state is for. */
static int check_saved(const struct ch_device *dev, const json_t *saved, struct ch_error *e)
{
        static const char *const keys[] = { "kind", "num_queues", "mac", "serial" };
        CC_JSON json_t *now = json_pack("{s:i}", "kind", (int)dev->kind);

        for (size_t i = 1; i < CC_ARRAY_LEN(keys); i++)
                if (json_object_get(dev->config, keys[i]))
                        json_object_set(now, keys[i], json_object_get(dev->config, keys[i]));
        for (size_t i = 0; i < CC_ARRAY_LEN(keys); i++) {
                const json_t *then = json_object_get(saved, keys[i]);

                if (then && !json_equal(then, json_object_get(now, keys[i])))
                        return ch_fail(e, CH_OTHER, "double: device %s was saved with another %s",
                                       dev->id, keys[i]);
        }
        return 0;
}

/* The saved state of the nth device of a kind. */
static const json_t *nth_of_kind(const json_t *saved, enum ch_device_kind kind, size_t n)
{
        json_t *state;
        size_t i;

        json_array_foreach (saved, i, state) {
                if (json_integer_value(json_object_get(state, "kind")) == (json_int_t)kind &&
                    n-- == 0)
                        return state;
        }
        return NULL;
}

static int place_saved(struct ch_vmm *vmm, const json_t *saved, struct ch_error *e)
{
        size_t seen[CC_ARRAY_LEN(names)] = { 0 };

        if (json_array_size(saved) != vmm->devices.n)
                return ch_fail(e, CH_OTHER,
                               "double: saved state of %zu devices, configured are %zu",
                               json_array_size(saved), vmm->devices.n);
        for (size_t i = 0; i < vmm->devices.n; i++) {
                struct ch_device *dev = vmm->devices.v[i];
                const json_t *state = nth_of_kind(saved, dev->kind, seen[dev->kind]++);

                if (!cc_streq(str(state, "id"), dev->id))
                        return ch_fail(e, CH_OTHER, "double: device %s has the saved state of %s",
                                       dev->id, str(state, "id") ? str(state, "id") : "none");
                if (check_saved(dev, state, e) < 0 ||
                    place(dev, (unsigned)json_integer_value(json_object_get(state, "slot")), e) < 0)
                        return -1;
        }
        return 0;
}

int ch_devices_make(struct ch_vmm *vmm, const json_t *saved, struct ch_error *e)
{
        int r;

        vmm->devices.next_id = 0;
        r = make_all(vmm, e);
        if (r == 0 && saved)
                r = place_saved(vmm, saved, e);
        for (size_t i = 0; r == 0 && !saved && i < vmm->devices.n; i++)
                r = place(vmm->devices.v[i], 0, e);
        if (r == 0)
                return 0;
        ch_devices_drop(vmm);
        return ch_wrap(e, "Error from device manager");
}

void ch_devices_drop(struct ch_vmm *vmm)
{
        while (vmm->devices.n)
                device_free(vmm->devices.v[--vmm->devices.n]);
        free(vmm->devices.v);
        vmm->devices.v = NULL;
}

int ch_devices_lock(struct ch_vmm *vmm, struct ch_error *e)
{
        for (size_t i = 0; i < vmm->devices.n; i++) {
                const struct ch_device *dev = vmm->devices.v[i];

                if (dev->kind == CH_DEV_DISK &&
                    ch_disk_lock(dev->config, dev->fd, vmm->dialect.release, e) < 0)
                        return ch_wrap(e, "Error locking disk images: Another instance likely "
                                          "holds a lock");
        }
        return 0;
}

int ch_device_plug(struct ch_vmm *vmm, enum ch_device_kind kind, json_t *config,
                   struct ch_device **ret, struct ch_error *e)
{
        const char *id = str(config, "id");
        struct ch_device *dev;

        if (id && ch_device_find(vmm, id)) {
                ch_fail(e, CH_OTHER, "Invalid identifier as it is not unique: %s", id);
                return ch_wrap(e, "Error from device manager");
        }
        if (make(vmm, kind, config, &dev, e) < 0)
                return ch_wrap(e, "Error from device manager");
        if (kind == CH_DEV_DISK && ch_disk_lock(config, dev->fd, vmm->dialect.release, e) < 0) {
                unlist(vmm, dev);
                device_free(dev);
                return ch_wrap(e, "Error from device manager");
        }
        /* Without a slot the node stays, with what it holds: so it does in the real one. */
        dev->plugged = true;
        if (place(dev, 0, e) < 0)
                return ch_wrap(e, "Error from device manager");
        *ret = dev;
        return 0;
}

/* ---- eject -------------------------------------------------------------------------------- */

/* Of a network device: is its TAP still there, as it must be until the guest has let go? */
static bool tap_exists(const struct ch_device *dev)
{
        const char *tap = str(dev->config, "tap");

        return tap && if_nametoindex(tap) != 0;
}

void ch_device_eject(struct ch_device *dev)
{
        dbl_journal_add(dev->vmm->journal, "guest",
                        json_pack("{s:s, s:s, s:b}", "what", "eject", "id", dev->id, "tap",
                                  tap_exists(dev)));
        unlist(dev->vmm, dev);
        device_free(dev);
}

static void on_ack(void *arg)
{
        struct ch_device *dev = arg;

        dev->timer = 0;
        ch_device_eject(dev);
}

static void start_ack(struct ch_device *dev)
{
        if (!dev->pending || dev->ack_ns < 0 || dev->timer)
                return;
        dev->ack_ns += cc_monotonic();
        dev->timer = dbl_loop_at(dev->vmm->loop, dev->ack_ns, on_ack, dev);
}

void ch_device_unplug(struct ch_device *dev)
{
        const char *policy = dbl_setting(dev->vmm->settings, "ACK");
        long long ms = 0;

        dev->pending = true;
        if (policy && cc_startswith(policy, "ms:"))
                (void)cc_parse_i64(policy + strlen("ms:"), &ms);
        dev->ack_ns = policy && !cc_startswith(policy, "ms:") ? -1 : ms * CC_NSEC_PER_MSEC;
        if (dev->vmm->state == CH_RUNNING)
                start_ack(dev);
}

bool ch_devices_pending(const struct ch_vmm *vmm)
{
        for (size_t i = 0; i < vmm->devices.n; i++)
                if (vmm->devices.v[i]->pending)
                        return true;
        return false;
}

void ch_devices_pause(struct ch_vmm *vmm)
{
        for (size_t i = 0; i < vmm->devices.n; i++) {
                struct ch_device *dev = vmm->devices.v[i];

                if (!dev->timer)
                        continue;
                dbl_loop_cancel(vmm->loop, dev->timer);
                dev->timer = 0;
                dev->ack_ns -= cc_monotonic();
                if (dev->ack_ns < 0)
                        dev->ack_ns = 0;
        }
}

void ch_devices_resume(struct ch_vmm *vmm)
{
        for (size_t i = 0; i < vmm->devices.n; i++)
                start_ack(vmm->devices.v[i]);
}

/* ---- the tree ----------------------------------------------------------------------------- */

char *ch_device_bdf(const struct ch_device *dev)
{
        return xasprintf("0000:00:%02x.0", dev->slot);
}

static json_t *node(const char *id)
{
        return json_pack("{s:s, s:[]}", "id", id, "resources");
}

/* Addresses as a host with 46 bits of them gives: nobody may depend on them. */
static json_t *bar(const struct ch_device *dev)
{
        bool disk = dev->kind == CH_DEV_DISK && !dev->plugged;
        json_int_t base = disk ? 3891789824 - (json_int_t)524288 * dev->slot
                               : 70368735789056 - (json_int_t)8388608 * dev->slot;

        return json_pack("{s:{s:i, s:I, s:i, s:s, s:b}}", "PciBar", "index", 0, "base", base,
                         "size", 524288, "type_", disk ? "Mmio32" : "Mmio64", "prefetchable", 0);
}

static void add_nodes(json_t *tree, const struct ch_device *dev)
{
        CC_FREE char *pci = xasprintf("_virtio-pci-%s", dev->id);
        CC_FREE char *bdf = ch_device_bdf(dev);
        json_t *own = node(dev->id), *bus;

        json_object_set_new(tree, dev->id, own);
        if (dev->kind == CH_DEV_VFIO) {
                json_object_set_new(own, "children", json_array());
                json_object_set_new(own, "pci_bdf", json_string(bdf));
                return;
        }
        if (dev->slot) {
                json_object_set_new(own, "parent", json_string(pci));
                bus = node(pci);
                json_array_append_new(json_object_get(bus, "resources"), bar(dev));
                json_object_set_new(bus, "children", json_pack("[s]", dev->id));
                json_object_set_new(bus, "pci_bdf", json_string(bdf));
                json_object_set_new(tree, pci, bus);
        }
        json_object_set_new(own, "children", json_array());
}

json_t *ch_devices_tree(const struct ch_vmm *vmm)
{
        json_t *tree = json_object();
        const char *serial = str(json_object_get(vmm->config, "serial"), "mode");

        json_object_set_new(
                tree, "__ioapic",
                json_pack("{s:s, s:[], s:[]}", "id", "__ioapic", "resources", "children"));
        if (!cc_streq(serial, "Off"))
                json_object_set_new(
                        tree, "__serial",
                        json_pack("{s:s, s:[], s:[]}", "id", "__serial", "resources", "children"));
        for (size_t i = 0; i < vmm->devices.n; i++)
                add_nodes(tree, vmm->devices.v[i]);
        return tree;
}

json_t *ch_devices_save(const struct ch_vmm *vmm)
{
        static const char *const keys[] = { "num_queues", "mac", "serial" };
        json_t *list = json_array();

        for (size_t i = 0; i < vmm->devices.n; i++) {
                const struct ch_device *dev = vmm->devices.v[i];
                json_t *state = json_pack("{s:s, s:i, s:i}", "id", dev->id, "kind", (int)dev->kind,
                                          "slot", (int)dev->slot);

                for (size_t k = 0; k < CC_ARRAY_LEN(keys); k++)
                        if (json_object_get(dev->config, keys[k]))
                                json_object_set(state, keys[k],
                                                json_object_get(dev->config, keys[k]));
                json_array_append_new(list, state);
        }
        return list;
}
