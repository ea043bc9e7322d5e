/*
 * Drives, network interfaces and the vsock: opened when they are configured, with the real flags,
 * and kept open, because that is what decides which file a guest really writes to.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/json.h"
#include "common/vsock.h"
#include "vm.h"

static const char *text_of(const json_t *config, const char *key)
{
        return json_string_value(json_object_get(config, key));
}

static bool is_set(const json_t *config, const char *key)
{
        return json_is_true(json_object_get(config, key));
}

/* ---- drives ------------------------------------------------------------------------------- */

/* The asynchronous engine needs io_uring, which hosts and containers may ban. 0 or an errno. */
static int async_engine(const struct fcd_vm *vm)
{
        struct io_uring_params params = { 0 };
        int fd;

        if (cc_streq(dbl_setting(vm->settings, "IO_URING"), "deny"))
                return EPERM;
        fd = (int)syscall(SYS_io_uring_setup, 128, &params);
        if (fd < 0)
                return errno;
        close(fd);
        return 0;
}

static int open_file(const char *path, bool ro, int *ret_fd, struct cc_buf *fault)
{
        CC_CLOSE int fd = open(path, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC);

        if (fd < 0 || lseek(fd, 0, SEEK_END) < 0) {
                cc_buf_printf(fault,
                              "Virtio backend error: Error manipulating the backing file: %s %s",
                              fcd_os_error(errno), path);
                return -1;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int fcd_drive_open(struct fcd_vm *vm, const json_t *config, int *ret_fd, struct cc_buf *fault)
{
        const char *path = text_of(config, "path_on_host");
        CC_CLOSE int fd = -1;
        struct stat st;
        int errnum;

        if (!path || text_of(config, "socket")) {
                if (text_of(config, "socket"))
                        fcd_violation(vm, "vhost-user drives are not for cocoon");
                cc_buf_str(fault, "Invalid block config.");
                return -1;
        }
        if (open_file(path, is_set(config, "is_read_only"), &fd, fault) < 0)
                return -1;
        if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
                fcd_violation(vm, "drive %s is neither a file nor a block device", path);
        if (cc_streq(text_of(config, "io_engine"), "Async")) {
                errnum = async_engine(vm);
                if (errnum) {
                        cc_buf_printf(fault,
                                      "Virtio backend error: Error coming from the IO engine: "
                                      "Async error: IoUring: Error calling io_uring_setup: %s",
                                      fcd_os_error(errnum));
                        return -1;
                }
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* Who writes a file must be alone with it. Nothing enforces that, the real one locks no drives; a
 * lock that is only held here finds two machines, or two drives, with one writable file. */
void fcd_drive_claim(struct fcd_vm *vm, const struct fcd_device *drive)
{
        bool ro = is_set(drive->config, "is_read_only");
        struct flock lock = { .l_type = ro ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

        if (fcntl(drive->fd, F_OFD_SETLK, &lock) < 0 && (errno == EAGAIN || errno == EACCES))
                fcd_violation(vm, "drive %s is in use by another one",
                              text_of(drive->config, "path_on_host"));
}

/* The answer of GET shows the defaults of an ordinary drive. */
static void fill_drive(json_t *config)
{
        if (json_is_null(json_object_get(config, "is_read_only")))
                (void)json_object_set_new(config, "is_read_only", json_false());
        if (json_is_null(json_object_get(config, "io_engine")))
                (void)json_object_set_new(config, "io_engine", json_string("Sync"));
        fcd_settle_limiter(config, "rate_limiter");
}

/* Put a device at position `at`; takes over the reference and the descriptor. */
static void insert(struct fcd_devices *d, size_t at, json_t *config, int fd)
{
        d->v = xreallocarray(d->v, d->n + 1, sizeof(*d->v));
        memmove(&d->v[at + 1], &d->v[at], (d->n - at) * sizeof(*d->v));
        d->v[at] = (struct fcd_device){ .config = config, .fd = fd };
        d->n++;
}

/* Room for one more device on a live machine's bus. */
static bool bus_full(const struct fcd_vm *vm, struct dbl_reply *reply)
{
        if (fcd_device_total(vm) < FCD_PCI_DEVICES)
                return false;
        fcd_fault(reply, "PCI manager error: PCI root error: Could not find an available device "
                         "slot on the PCI bus.");
        return true;
}

/* A root drive comes first, whatever its place before. */
static void place_drive(struct fcd_vm *vm, json_t *config, int fd)
{
        struct fcd_devices *d = &vm->drives;
        struct fcd_device *old = fcd_device_find(d, "drive_id", text_of(config, "drive_id"));
        bool root = is_set(config, "is_root_device");
        struct fcd_device swap;

        if (!old) {
                insert(d, root ? 0 : d->n, config, fd);
                fcd_drive_claim(vm, root ? d->v : &d->v[d->n - 1]);
                return;
        }
        json_decref(old->config);
        if (old->fd >= 0)
                close(old->fd);
        *old = (struct fcd_device){ .config = config, .fd = fd };
        fcd_drive_claim(vm, old);
        if (root && old != d->v) {
                swap = d->v[0];
                d->v[0] = *old;
                *old = swap;
        }
}

void fcd_put_drive(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        const char *id = text_of(body, "drive_id");
        bool root = is_set(body, "is_root_device");
        bool live = vm->state != FCD_NOT_STARTED;
        struct fcd_devices *d = &vm->drives;
        struct fcd_device *old = fcd_device_find(d, "drive_id", id);
        CC_BUF struct cc_buf fault = { 0 };
        int fd = -1;

        if (root)
                fcd_violation(vm, "drive %s is the root device", id);
        if (live && old) {
                fcd_fault(reply, "Device ID in use");
                return;
        }
        if (root && (live || (d->n && is_set(d->v[0].config, "is_root_device") && old != d->v))) {
                fcd_fault(reply, "Drive config error: A root block device already exists!");
                return;
        }
        if (fcd_drive_open(vm, body, &fd, &fault) < 0) {
                fcd_fault(reply, "Drive config error: Unable to create the virtio block device: %s",
                          fault.data);
                return;
        }
        if (live && bus_full(vm, reply)) {
                close(fd);
                return;
        }
        fill_drive(body);
        place_drive(vm, json_incref(body), fd);
        fcd_ok(reply);
}

void fcd_patch_drive(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        static const char unable[] = "Drive config error: Unable to patch the block device: ";
        static const char verify[] = "Please verify the request arguments.";
        struct fcd_device *drive =
                fcd_device_find(&vm->drives, "drive_id", text_of(body, "drive_id"));
        const char *path = text_of(body, "path_on_host");
        json_t *limiter = json_object_get(body, "rate_limiter");
        CC_BUF struct cc_buf fault = { 0 };
        int fd = -1;

        if (!drive) {
                fcd_fault(reply, "%sFailed perform action on device: Device not found %s", unable,
                          verify);
                return;
        }
        if (!path && json_is_null(limiter)) {
                fcd_fault(reply, "%sBlock: Running method expected different backend. %s", unable,
                          verify);
                return;
        }
        if (path) {
                if (open_file(path, is_set(drive->config, "is_read_only"), &fd, &fault) < 0) {
                        fcd_fault(reply, "%sBlock: %s %s", unable, fault.data, verify);
                        return;
                }
                close(drive->fd);
                drive->fd = fd;
                (void)json_object_set_new(drive->config, "path_on_host", json_string(path));
                fcd_drive_claim(vm, drive);
        }
        if (!json_is_null(limiter)) {
                (void)json_object_set(drive->config, "rate_limiter", limiter);
                fcd_settle_limiter(drive->config, "rate_limiter");
        }
        fcd_ok(reply);
}

/* ---- network interfaces ------------------------------------------------------------------- */

/* Attach to a TAP as a single queue. 0 or an errno. */
static int attach_tap(const char *name, int *ret_fd)
{
        int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        struct ifreq ifr = { .ifr_flags = (short)flags };
        CC_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        int header = 12; /* of struct virtio_net_hdr_v1 */

        if (fd < 0)
                return errno;
        memcpy(ifr.ifr_name, name, strlen(name));
        if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
                return errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int fcd_nic_open(struct fcd_vm *vm, const json_t *config, int *ret_fd, struct cc_buf *fault)
{
        const char *name = text_of(config, "host_dev_name");
        bool record = cc_streq(dbl_setting(vm->settings, "TAP"), "record");
        const json_t *mtu = json_object_get(config, "mtu");
        CC_CLOSE int fd = -1;
        int errnum = 0;

        if (strlen(name) >= IFNAMSIZ) {
                cc_buf_str(fault, "Open tap device failed: Invalid interface name");
                return -1;
        }
        if (!record && if_nametoindex(name) == 0)
                fcd_violation(vm, "TAP %s does not exist: it would be created", name);
        if (!record)
                errnum = attach_tap(name, &fd);
        if (errnum == EPERM && geteuid() != 0)
                errnum = 0; /* without privilege the name is all there is */
        if (errnum) {
                cc_buf_printf(fault,
                              "Open tap device failed: Error while creating ifreq structure: %s. "
                              "Invalid TUN/TAP Backend provided by %s. Check our documentation on "
                              "setting up the network devices.",
                              fcd_os_error(errnum), name);
                return -1;
        }
        if (json_is_integer(mtu) && json_integer_value(mtu) < 68) {
                cc_buf_printf(fault, "MTU %lld is out of range [68, 65535]",
                              json_integer_value(mtu));
                return -1;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* Another interface with this address? */
static bool mac_taken(const struct fcd_vm *vm, const json_t *body, bool live)
{
        const char *mac = text_of(body, "guest_mac");

        for (size_t i = 0; mac && i < vm->nics.n; i++) {
                const json_t *other = vm->nics.v[i].config;

                if (cc_streq(text_of(other, "guest_mac"), mac) &&
                    (live || !cc_streq(text_of(other, "iface_id"), text_of(body, "iface_id"))))
                        return true;
        }
        return false;
}

void fcd_put_nic(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        const char *id = text_of(body, "iface_id");
        bool live = vm->state != FCD_NOT_STARTED;
        struct fcd_devices *d = &vm->nics;
        struct fcd_device *old = fcd_device_find(d, "iface_id", id);
        CC_BUF struct cc_buf fault = { 0 };
        struct fcd_device last;
        int fd = -1;

        if (live && old) {
                fcd_fault(reply, "Device ID in use");
                return;
        }
        if (mac_taken(vm, body, live)) {
                fcd_fault(reply, "Network config error: The MAC address is already in use: %s",
                          text_of(body, "guest_mac"));
                return;
        }
        if (old) {
                /* It is gone also when its successor fails, and the last one takes its place. */
                last = d->v[d->n - 1];
                d->v[d->n - 1] = *old;
                *old = last;
                fcd_device_remove(d, d->n - 1);
        }
        if (fcd_nic_open(vm, body, &fd, &fault) < 0) {
                fcd_fault(reply, "Network config error: Could not create the network device: %s",
                          fault.data);
                return;
        }
        if (live && bus_full(vm, reply)) {
                if (fd >= 0)
                        close(fd);
                return;
        }
        fcd_settle_limiter(body, "rx_rate_limiter");
        fcd_settle_limiter(body, "tx_rate_limiter");
        insert(d, d->n, json_incref(body), fd);
        fcd_ok(reply);
}

/* ---- vsock -------------------------------------------------------------------------------- */

int fcd_vsock_bind(const char *path, int *ret_fd, struct cc_buf *fault)
{
        struct cc_err err = CC_ERR_INIT;

        if (dbl_listen(path, ret_fd, &err) == 0)
                return 0;
        cc_buf_str(fault, err.sys ? fcd_os_error(err.sys) : err.msg);
        return -1;
}

void fcd_put_vsock(struct fcd_vm *vm, json_t *body, struct dbl_reply *reply)
{
        static const char cannot[] =
                "Vsock config error: Cannot create backend for vsock device: Error binding to the "
                "host-side Unix socket: ";
        CC_JSON json_t *old = TAKE_PTR(vm->vsock);
        CC_BUF struct cc_buf fault = { 0 };

        if (json_integer_value(json_object_get(body, "guest_cid")) < 3)
                fcd_violation(vm, "guest CID below 3");
        (void)json_object_del(body, "vsock_id");
        /* A second one replaces the first, whose socket goes first. */
        if (old) {
                dbl_loop_unwatch(vm->loop, vm->vsock_listener);
                close(vm->vsock_listener);
                vm->vsock_listener = -1;
                if (unlink(text_of(old, "uds_path")) < 0) {
                        fcd_fault(reply, "%s%s", cannot, fcd_os_error(errno));
                        return;
                }
        }
        if (fcd_vsock_bind(text_of(body, "uds_path"), &vm->vsock_listener, &fault) < 0) {
                fcd_fault(reply, "%s%s", cannot, fault.data);
                return;
        }
        dbl_vsock_serve(vm->loop, vm->settings, vm->vsock_listener);
        vm->vsock = json_incref(body);
        fcd_ok(reply);
}

/* ---- hot-unplug --------------------------------------------------------------------------- */

void fcd_unplug(struct fcd_vm *vm, struct fcd_devices *d, const char *key, const char *id,
                struct dbl_reply *reply)
{
        struct fcd_device *dev = fcd_device_find(d, key, id);

        if (!vm->pci) {
                fcd_fault(reply, "PCI is not enabled");
        } else if (!dev) {
                fcd_fault(reply, "Device not found");
        } else if (is_set(dev->config, "is_root_device")) {
                fcd_fault(reply, "Cannot unplug root device");
        } else {
                fcd_device_remove(d, (size_t)(dev - d->v));
                fcd_ok(reply);
        }
}
