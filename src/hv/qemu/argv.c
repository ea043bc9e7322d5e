/*
 * Building QEMU's argv. See argv.h.
 *
 * Rules that hold throughout: every -device, -blockdev and -object is JSON made by jansson, because
 * QEMU creates JSON devices after all key=value ones and because JSON needs no comma escaping; a
 * string of the user's in a key=value option has its commas doubled. Every device has a fixed
 * address: migration state is keyed by PCI address (§9). A device on a root port needs "addr":"0".
 */
#include "hv/qemu/argv.h"

#include <stdarg.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "hv/qemu/qemu.h"

#define MIB           (INT64_C(1) << 20)
#define TB_SIZE_MIB   128 /* bound of TCG's translated code; grows the process, not the guest */
#define DISK_SLOT     0x08
#define PORT_SLOT     0x18
#define FUNCTIONS     8
#define TX_QUEUE_SIZE 256 /* the most a TAP backend takes */

struct builder {
        struct cc_strv *argv;
        bool bad; /* a string was not UTF-8 */
};

static void opt(struct builder *b, const char *option, const char *value)
{
        cc_strv_add(b->argv, option);
        cc_strv_add(b->argv, value);
}

static void CC_PRINTF(3, 4) optf(struct builder *b, const char *option, const char *fmt, ...)
{
        char *value;
        va_list ap;

        va_start(ap, fmt);
        if (vasprintf(&value, fmt, ap) < 0)
                abort();
        va_end(ap);
        cc_strv_add(b->argv, option);
        cc_strv_take(b->argv, value);
}

/* Consumes obj; NULL is what json_pack() makes of a string that is not UTF-8. */
static void opt_json(struct builder *b, const char *option, json_t *obj)
{
        if (!obj) {
                b->bad = true;
                return;
        }
        cc_strv_add(b->argv, option);
        cc_strv_take(b->argv, cc_json_compact(obj));
        json_decref(obj);
}

/* A value inside a key=value option: QEMU reads ",," as one comma. Caller frees. */
static char *escape(const char *s)
{
        struct cc_buf out = { 0 };

        for (; *s; s++) {
                if (*s == ',')
                        cc_buf_char(&out, ',');
                cc_buf_char(&out, *s);
        }
        return cc_buf_take(&out);
}

char *qemu_argv_needle(const char *log_dir)
{
        CC_FREE char *dir = escape(log_dir);

        return xasprintf("logfile=%s/" QEMU_CONSOLE_LOG ",logappend=on", dir);
}

static void add_memory(struct builder *b, const struct qemu_recipe *r,
                       const struct qemu_bindings *bind)
{
        CC_FREE char *path = xasprintf("/proc/self/fd/%d", QEMU_FD_MEMORY);
        bool standalone = bind->standalone;
        json_t *o = json_pack("{s:s, s:s, s:I}", "qom-type",
                              standalone ? "memory-backend-memfd" : "memory-backend-file", "id",
                              "mem0", "size", (json_int_t)r->memory);

        if (bind->memory_file) {
                json_t *file = json_string(bind->memory_file);

                if (!file)
                        b->bad = true;
                else
                        json_object_set_new(o, "mem-path", file);
        } else if (!standalone)
                json_object_set_new(o, "mem-path", json_string(path));
        else if (r->hugepages)
                json_object_set_new(o, "hugetlb", json_true());
        json_object_set_new(o, "share", json_boolean(!bind->memory_file));
        if (bind->memory_file && bind->memory_read_only) {
                json_object_set_new(o, "readonly", json_true());
                json_object_set_new(o, "rom", json_string("off"));
        }
        json_object_set_new(o, "dump", json_false());
        json_object_set_new(o, "merge", json_false());
        opt_json(b, "-object", o);
}

static void add_machine(struct builder *b, const struct qemu_recipe *r,
                        const struct qemu_bindings *bind)
{
        /* No saved field may depend on what is not in the recipe: no state description, no
         * configuration section (§8). */
        optf(b, "-M",
             "%s,usb=off,smm=off,vmport=off,sata=off,smbus=off,dump-guest-core=off,mem-merge=off,"
             "memory-backend=mem0,suppress-vmdesc=on,pflash0=fw0%s",
             r->machine, bind->fw_vars ? ",pflash1=fw1" : "");
        opt(b, "-global", "migration.send-configuration=off");
        if (qemu_recipe_kvm(r))
                opt(b, "-accel", "kvm");
        else
                optf(b, "-accel", "tcg,tb-size=%d", TB_SIZE_MIB);
        opt(b, "-cpu", r->cpu);
        optf(b, "-smp", "%lld,sockets=1,cores=%lld,threads=1", (long long)r->vcpus,
             (long long)r->vcpus);
        optf(b, "-m", "%lldM", (long long)(r->memory / MIB));
        add_memory(b, r, bind);
}

static json_t *raw_node(const char *name, bool ro, const char *file)
{
        return json_pack("{s:s, s:s, s:b, s:{s:s, s:s}}", "driver", "raw", "node-name", name,
                         "read-only", ro, "file", "driver", "file", "filename", file);
}

static void add_firmware(struct builder *b, const struct qemu_bindings *bind)
{
        opt_json(b, "-blockdev", raw_node("fw0", true, bind->fw_code));
        if (bind->fw_vars)
                opt_json(b, "-blockdev", raw_node("fw1", false, bind->fw_vars));
}

static void add_socket(struct builder *b, const struct qemu_bindings *bind, const char *id, int fd,
                       const char *name, const char *more)
{
        CC_FREE char *dir = escape(bind->spec->run_dir);

        if (bind->standalone)
                optf(b, "-chardev", "socket,id=%s,path=%s/%s,server=on,wait=off%s", id, dir, name,
                     more);
        else
                optf(b, "-chardev", "socket,id=%s,fd=%d,server=on,wait=off%s", id, fd, more);
}

static void add_sockets(struct builder *b, const struct qemu_bindings *bind)
{
        CC_FREE char *needle = qemu_argv_needle(bind->spec->log_dir);
        CC_FREE char *log = xasprintf(",%s", needle);

        add_socket(b, bind, "mon0", QEMU_FD_API, QEMU_API_SOCK, "");
        opt(b, "-mon", "chardev=mon0,mode=control");
        add_socket(b, bind, "mon1", QEMU_FD_EVENTS, QEMU_EVENTS_SOCK, "");
        opt(b, "-mon", "chardev=mon1,mode=control");
        if (bind->standalone)
                optf(b, "-chardev", "stdio,id=ser0,mux=on,signal=off%s", log);
        else
                add_socket(b, bind, "ser0", QEMU_FD_SERIAL, QEMU_SERIAL_SOCK, log);
        opt(b, "-serial", "chardev:ser0");
}

static void add_agent_ports(struct builder *b, const struct qemu_bindings *bind, int64_t n)
{
        if (n == 0)
                return;
        opt_json(b, "-device",
                 json_pack("{s:s, s:s, s:s, s:s, s:i}", "driver", "virtio-serial-pci", "id", "vser",
                           "bus", "pcie.0", "addr", "3", "max_ports", QEMU_AGENTS + 1));
        for (int i = 0; i < n; i++) {
                CC_FREE char *chardev = xasprintf("ag%d", i);
                CC_FREE char *id = xasprintf("agent%d", i);
                CC_FREE char *name = xasprintf("org.cocoon.agent.%d", i);
                CC_FREE char *file = xasprintf(QEMU_AGENT_SOCK_FORMAT, i);

                add_socket(b, bind, chardev, QEMU_FD_AGENT + i, file, "");
                /* Port 0 is the console port of the bus. */
                opt_json(b, "-device",
                         json_pack("{s:s, s:s, s:s, s:i, s:s, s:s}", "driver", "virtserialport",
                                   "id", id, "bus", "vser.0", "nr", i + 1, "chardev", chardev,
                                   "name", name));
        }
}

static void add_fixed_devices(struct builder *b, const struct qemu_recipe *r,
                              const struct qemu_bindings *bind)
{
        if (r->vmgenid)
                opt_json(b, "-device",
                         json_pack("{s:s, s:s}", "driver", "vmgenid", "guid", bind->generation));
        if (r->rng)
                opt_json(b, "-device",
                         json_pack("{s:s, s:s, s:s, s:s}", "driver", "virtio-rng-pci", "id", "rng0",
                                   "bus", "pcie.0", "addr", "2"));
        add_agent_ports(b, bind, r->agent_ports);
        if (r->balloon)
                opt_json(b, "-device",
                         json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "driver", "virtio-balloon-pci",
                                   "id", "balloon0", "bus", "pcie.0", "addr", "4", "deflate-on-oom",
                                   1, "free-page-reporting", 1));
        if (r->vsock)
                opt_json(b, "-device",
                         json_pack("{s:s, s:s, s:I, s:s, s:s}", "driver", "vhost-vsock-pci", "id",
                                   "vsock0", "guest-cid", (json_int_t)bind->guest_cid, "bus",
                                   "pcie.0", "addr", "5"));
        if (r->watchdog) {
                opt_json(b, "-device",
                         json_pack("{s:s, s:s, s:s, s:s}", "driver", "i6300esb", "id", "watchdog0",
                                   "bus", "pcie.0", "addr", "6"));
                opt(b, "-action", "watchdog=reset");
        }
}

/* "8.0": slot in hex, function. */
static char *address(size_t first_slot, size_t i)
{
        return xasprintf("%zx.%zu", first_slot + i / FUNCTIONS, i % FUNCTIONS);
}

static void add_ports(struct builder *b, int64_t n)
{
        for (size_t i = 0; i < (size_t)n; i++) {
                CC_FREE char *id = xasprintf("rp%zu", i);
                CC_FREE char *addr = address(PORT_SLOT, i);
                json_t *d = json_pack("{s:s, s:s, s:s, s:s}", "driver", "pcie-root-port", "id", id,
                                      "bus", "pcie.0", "addr", addr);

                if (i % FUNCTIONS == 0)
                        json_object_set_new(d, "multifunction", json_true());
                json_object_set_new(d, "chassis", json_integer((json_int_t)i + 1));
                json_object_set_new(d, "slot", json_integer((json_int_t)i + 1));
                /* No legacy I/O window: 16 ports would exhaust the 64 KiB space. */
                json_object_set_new(d, "io-reserve", json_integer(0));
                opt_json(b, "-device", d);
        }
}

int qemu_disk_options(const struct qemu_disk *d, const struct hv_disk *disk, size_t i, bool uefi,
                      bool io_uring, json_t **ret_blockdev, json_t **ret_device)
{
        CC_FREE char *node = xasprintf("blk%zu", i);
        CC_FREE char *id = xasprintf("disk%zu", i);
        CC_FREE char *port = xasprintf("rp%lld", (long long)d->port);
        CC_FREE char *addr = d->port ? xstrdup("0") : address(DISK_SLOT, i);
        json_t *serial = d->serial ? json_string(d->serial) : NULL;
        json_t *file;
        json_t *blk;
        json_t *dev;

        file = json_pack("{s:s, s:s, s:s}", "driver", "file", "filename", disk->path, "aio",
                         io_uring ? "io_uring" : "threads");
        blk = json_pack("{s:s, s:s}", "driver", d->format, "node-name", node);
        dev = json_pack("{s:s, s:s, s:s}", "driver", "virtio-blk-pci", "id", id, "drive", node);
        if (!file || !blk || !dev || (d->serial && !serial)) {
                json_decref(serial);
                json_decref(file);
                json_decref(blk);
                json_decref(dev);
                return -CC_INVALID;
        }
        if (serial)
                json_object_set_new(dev, "serial", serial);
        if (d->ro) {
                json_object_set_new(blk, "read-only", json_true());
                /* A layer is every driver's, and nobody writes it. QEMU would take the read lock
                 * that another VMM puts on all of such a file for a writer, and refuse to start. */
                json_object_set_new(file, "locking", json_string("off"));
        } else {
                json_object_set_new(blk, "discard", json_string("unmap"));
                json_object_set_new(file, "discard", json_string("unmap"));
        }
        /* qcow2 keeps its metadata in the page cache's care: buffered. */
        if (disk->direct && !d->ro && cc_streq(d->format, "raw"))
                json_object_set_new(file, "cache", json_pack("{s:b}", "direct", 1));
        json_object_set_new(blk, "file", file);
        json_object_set_new(dev, "bus", json_string(d->port ? port : "pcie.0"));
        json_object_set_new(dev, "addr", json_string(addr));
        if (!d->port && i % FUNCTIONS == 0)
                json_object_set_new(dev, "multifunction", json_true());
        json_object_set_new(dev, "num-queues", json_integer(d->queues));
        json_object_set_new(dev, "queue-size", json_integer(d->queue_size));
        if (disk->boot && uefi)
                json_object_set_new(dev, "bootindex", json_integer(0));
        *ret_blockdev = blk;
        *ret_device = dev;
        return 0;
}

static void add_disk(struct builder *b, const struct qemu_recipe *r,
                     const struct qemu_bindings *bind, size_t i)
{
        json_t *blockdev = NULL;
        json_t *device = NULL;

        if (qemu_disk_options(qemu_recipe_disk(r, i), &bind->spec->disks[i], i, qemu_recipe_uefi(r),
                              bind->io_uring, &blockdev, &device) < 0) {
                b->bad = true;
                return;
        }
        opt_json(b, "-blockdev", blockdev);
        opt_json(b, "-device", device);
}

static void add_netdev(struct builder *b, const struct qemu_recipe *r,
                       const struct qemu_bindings *bind, size_t i, int *fd)
{
        const struct qemu_nic *n = qemu_recipe_nic(r, i);
        const struct vm_spec *spec = bind->spec;
        CC_BUF struct cc_buf v = { 0 };

        if (cc_streq(n->kind, "user")) {
                cc_buf_printf(&v, "user,id=net%zu,ipv6=off", i);
                if (bind->isolated && bind->isolated[i]) {
                        cc_buf_str(&v, ",restrict=on");
                        opt(b, "-netdev", v.data);
                        return;
                }
                for (size_t k = 0; i == 0 && k < spec->n_forwards; k++)
                        cc_buf_printf(&v, ",hostfwd=tcp:127.0.0.1:%u-:%u", spec->forwards[k].host,
                                      spec->forwards[k].guest);
                opt(b, "-netdev", v.data);
                return;
        }
        if (bind->standalone) {
                CC_FREE char *tap = escape(spec->nics[i].tap);

                cc_buf_printf(&v, "tap,id=net%zu,ifname=%s,script=no,downscript=no,vhost=%s", i,
                              tap, bind->vhost_net ? "on" : "off");
                if (n->pairs > 1)
                        cc_buf_printf(&v, ",queues=%lld", (long long)n->pairs);
                opt(b, "-netdev", v.data);
                return;
        }
        cc_buf_printf(&v, "tap,id=net%zu,%s=", i, n->pairs > 1 ? "fds" : "fd");
        for (int64_t p = 0; p < n->pairs; p++)
                cc_buf_printf(&v, "%s%d", p ? ":" : "", (*fd)++);
        if (bind->vhost_net) {
                cc_buf_printf(&v, ",vhost=on,%s=", n->pairs > 1 ? "vhostfds" : "vhostfd");
                for (int64_t p = 0; p < n->pairs; p++)
                        cc_buf_printf(&v, "%s%d", p ? ":" : "", (*fd)++);
        } else {
                cc_buf_str(&v, ",vhost=off");
        }
        opt(b, "-netdev", v.data);
}

json_t *qemu_nic_device(const struct qemu_nic *n, size_t i, const char *mac)
{
        CC_FREE char *id = xasprintf("nic%zu", i);
        CC_FREE char *netdev = xasprintf("net%zu", i);
        CC_FREE char *port = xasprintf("rp%zu", i);
        json_t *d = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "driver", "virtio-net-pci", "id",
                              id, "netdev", netdev, "bus", port, "addr", "0", "mac", mac);

        if (!d)
                return NULL;
        if (n->pairs > 1) {
                json_object_set_new(d, "mq", json_true());
                json_object_set_new(d, "vectors", json_integer(2 * n->pairs + 2));
        }
        json_object_set_new(d, "rx_queue_size", json_integer(n->queue_size));
        json_object_set_new(d, "tx_queue_size", json_integer(TX_QUEUE_SIZE));
        if (n->mtu > 0)
                json_object_set_new(d, "host_mtu", json_integer(n->mtu));
        json_object_set_new(d, "romfile", json_string(""));
        return d;
}

/* The spec is the record's idea of the machine, the recipe the guest's: they must fit together. */
static int check_fit(const struct qemu_recipe *r, const struct qemu_bindings *b, struct cc_err *err)
{
        const struct vm_spec *spec = b->spec;

        if (r->disks.len != spec->n_disks || r->nics.len != spec->n_nics)
                return cc_fail(err, CC_INVALID,
                               "qemu: the recipe has %zu disks and %zu NICs, the VM %zu and %zu",
                               r->disks.len, r->nics.len, spec->n_disks, spec->n_nics);
        for (size_t i = 0; i < spec->n_nics; i++)
                if (cc_streq(qemu_recipe_nic(r, i)->kind, "user") != cc_isempty(spec->nics[i].tap))
                        return cc_fail(err, CC_INVALID,
                                       "qemu: NIC %zu is of another kind than the recipe's", i);
        return 0;
}

int qemu_argv(const struct qemu_recipe *r, const struct qemu_bindings *bind, struct cc_strv *ret,
              struct cc_err *err)
{
        CC_STRV struct cc_strv argv = { 0 };
        CC_FREE char *name = escape(bind->spec->name);
        struct builder b = { .argv = &argv };
        const struct vm_spec *spec = bind->spec;
        int fd = QEMU_FD_TAP;
        int e = check_fit(r, bind, err);

        if (e < 0)
                return e;
        cc_strv_add(&argv, bind->binary);
        cc_strv_add(&argv, "-nodefaults");
        cc_strv_add(&argv, "-no-user-config");
        opt(&b, "-display", "none");
        optf(&b, "-name", "guest=%s,debug-threads=on", name);
        opt(&b, "-uuid", bind->uuid);
        opt(&b, "-msg", "timestamp=on");
        opt(&b, "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        add_machine(&b, r, bind);
        add_firmware(&b, bind);
        if (!qemu_recipe_uefi(r)) {
                opt(&b, "-kernel", spec->kernel);
                if (!cc_isempty(spec->initrd))
                        opt(&b, "-initrd", spec->initrd);
                opt(&b, "-append", spec->cmdline ? spec->cmdline : "");
        }
        add_sockets(&b, bind);
        add_fixed_devices(&b, r, bind);
        add_ports(&b, r->ports);
        for (size_t i = 0; i < r->disks.len; i++)
                add_disk(&b, r, bind, i);
        for (size_t i = 0; i < r->nics.len; i++) {
                add_netdev(&b, r, bind, i, &fd);
                opt_json(&b, "-device",
                         qemu_nic_device(qemu_recipe_nic(r, i), i, bind->spec->nics[i].mac));
        }
        if (bind->incoming) {
                cc_strv_add(&argv, "-S");
                opt(&b, "-incoming", "defer");
        }
        if (b.bad)
                return cc_fail(err, CC_INVALID, "qemu: a path or name is not valid UTF-8");
        *ret = argv;
        argv = (struct cc_strv){ 0 };
        return 0;
}
