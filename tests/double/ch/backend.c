#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cursor.h"
#include "base/fs.h"
#include "base/json.h"

#ifndef F_OFD_SETLK
#define F_OFD_SETLK 37
#endif

static const char *str(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* ---- disks -------------------------------------------------------------------------------- */

static int detect(int fd, const char **ret_type, char **ret_backing, struct ch_error *e)
{
        unsigned char head[512] = { 0 };
        struct cc_cursor c = cc_cursor_init(head, sizeof(head));
        uint64_t at;
        uint32_t n;

        *ret_type = "Raw";
        if (pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head)) {
                ch_fail(e, CH_OTHER, "failed to fill whole buffer");
                return ch_wrap(e, "I/O error (op=detect_image_type)");
        }
        if (memcmp(head, "vhdxfile", 8) == 0)
                *ret_type = "Vhdx";
        if (cc_cursor_be(&c, 4) != 0x514649fb)
                return 0;
        *ret_type = "Qcow2";
        cc_cursor_get(&c, 4);
        at = cc_cursor_be(&c, 8);
        n = (uint32_t)cc_cursor_be(&c, 4);
        if (at && n && n < 1024) {
                char *name = xcalloc(1, n + 1);

                if (pread(fd, name, n, (off_t)at) == (ssize_t)n)
                        *ret_backing = name;
                else
                        free(name);
        }
        return 0;
}

static int check_backing(const char *path, const char *backing, bool allowed, struct ch_error *e)
{
        CC_FREE char *dir = xstrndup(path, (size_t)(cc_basename(path) - path));
        CC_FREE char *beside = xasprintf("%s%s", dir, backing);
        CC_FREE char *real = NULL;

        if (!allowed) {
                ch_fail(e, CH_OTHER, "Maximum disk nesting depth exceeded");
                return ch_wrap(e, "Unsupported feature (path=%s op=open)", path);
        }
        if (*backing != '/')
                backing = beside;
        if (access(backing, R_OK) == 0)
                return 0;
        ch_fail_errno(e, errno);
        real = realpath(*dir ? dir : ".", NULL);
        if (*backing == '/')
                ch_wrap(e, "Backing file I/O error: %s", backing);
        else
                ch_wrap(e, "Backing file I/O error: %s/%s", real ? real : "", backing);
        return ch_wrap(e, "I/O error (path=%s op=open)", path);
}

static const char *lower_type(const char *type)
{
        static const char *const names[][2] = {
                { "Raw", "raw" }, { "Qcow2", "qcow2" }, { "FixedVhd", "vhd" }, { "Vhdx", "vhdx" }
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(names); i++)
                if (cc_streq(names[i][0], type))
                        return names[i][1];
        return "unknown";
}

static int open_image(const char *path, bool readonly, bool direct, int *ret, struct ch_error *e)
{
        int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | (direct ? O_DIRECT : 0));
        struct stat st;

        /* Buffered where the file system cannot do better, as a tmpfs of older kernels. */
        if (fd < 0 && errno == EINVAL)
                fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
                close(fd);
                fd = -1;
                errno = EISDIR;
        }
        if (fd < 0) {
                ch_fail_errno(e, errno);
                return ch_wrap(e, "I/O error (path=%s op=open)", path);
        }
        *ret = fd;
        return 0;
}

int ch_disk_open(json_t *disk, int *ret_fd, struct ch_error *e)
{
        const char *path = str(disk, "path"), *want = str(disk, "image_type"), *type;
        bool readonly = json_is_true(json_object_get(disk, "readonly"));
        bool backed = json_is_true(json_object_get(disk, "backing_files"));
        CC_FREE char *backing = NULL;
        CC_CLOSE int fd = -1;
        CC_CLOSE int probe = -1;

        if (!path)
                return ch_fail(e, CH_OTHER, "No disk path was specified when one was expected");
        /* The type is read through an own descriptor: O_DIRECT wants aligned buffers. */
        if (open_image(path, readonly, json_is_true(json_object_get(disk, "direct")), &fd, e) < 0 ||
            open_image(path, true, false, &probe, e) < 0 || detect(probe, &type, &backing, e) < 0 ||
            (backing && check_backing(path, backing, backed, e) < 0))
                return ch_wrap(e, "Cannot open disk path");
        if (cc_streq(want, "Unknown")) {
                json_object_set_new(disk, "image_type", json_string(type));
                if (cc_streq(type, "Qcow2"))
                        json_object_set_new(disk, "backing_files", json_false());
        } else if (!cc_streq(want, type)) {
                return ch_fail(e, CH_OTHER,
                               "Disk image type does not match expected type: specified = %s, "
                               "detected = %s",
                               lower_type(want), lower_type(type));
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int ch_disk_lock(const json_t *disk, int fd, int release, struct ch_error *e)
{
        bool readonly = json_is_true(json_object_get(disk, "readonly"));
        struct flock lock = { .l_type = readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
        struct stat st;

        if (release >= 52 && !cc_streq(str(disk, "lock_granularity"), "Full") &&
            fstat(fd, &st) == 0)
                lock.l_len = st.st_size > st.st_blocks * 512 ? st.st_size : st.st_blocks * 512;
        if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
                return 0;
        if (errno == EAGAIN || errno == EACCES)
                ch_fail(e, CH_OTHER, "The file is already locked");
        else
                ch_fail_errno(e, errno);
        ch_wrap(e, "Failed to get %s lock for disk image: %s", readonly ? "Read" : "Write",
                str(disk, "path"));
        return ch_wrap(e, "Cannot lock images of all block devices");
}

/* ---- network ------------------------------------------------------------------------------ */

static int tap_failed(struct ch_error *e, const char *step)
{
        ch_wrap(e, "%s", step);
        ch_wrap(e, "Failed to open taps");
        return ch_wrap(e, "Cannot create virtio-net device");
}

static int tap_errno(struct ch_error *e, int errnum, const char *inner, const char *step)
{
        ch_fail_errno(e, errnum);
        ch_wrap(e, "%s", inner);
        return tap_failed(e, step);
}

/* An existing TAP must have been made for as many queues as it gets. */
static int check_queues(const char *name, bool many, bool *ret_exists, struct ch_error *e)
{
        CC_FREE char *path = xasprintf("/sys/class/net/%s/tun_flags", name);
        CC_FREE char *text = NULL;
        size_t len;
        long flags;

        *ret_exists = cc_read_file(path, 64, &text, &len, NULL) == 0;
        if (!*ret_exists)
                return 0;
        flags = strtol(text, NULL, 16);
        if (flags & IFF_MULTI_QUEUE && !many)
                return tap_failed((ch_fail(e, CH_OTHER,
                                           "Error related to the multiqueue support (no support "
                                           "device side)"),
                                   e),
                                  "Open tap device failed");
        if (!(flags & IFF_MULTI_QUEUE) && many)
                return tap_failed((ch_fail(e, CH_OTHER,
                                           "Error related to the multiqueue support (no support "
                                           "TAP side)"),
                                   e),
                                  "Open tap device failed");
        return 0;
}

/* `name` may be a pattern; it becomes the name. */
static int attach(char name[IFNAMSIZ], bool many, int *ret, struct ch_error *e)
{
        CC_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

        if (fd < 0)
                return tap_errno(e, errno, "Couldn't open /dev/net/tun", "Open tap device failed");
        if (many)
                ifr.ifr_flags |= IFF_MULTI_QUEUE;
        memcpy(ifr.ifr_name, name, strlen(name));
        if (ioctl(fd, TUNSETIFF, &ifr) < 0)
                return tap_errno(e, errno, "Unable to configure tap interface",
                                 "Open tap device failed");
        memcpy(name, ifr.ifr_name, IFNAMSIZ);
        *ret = TAKE_FD(fd);
        return 0;
}

/* Address and state of the interface behind the TAP. */
static int configure(const char *name, json_t *net, struct ch_error *e)
{
        CC_CLOSE int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq ifr = { 0 };
        const char *mac = str(net, "host_mac");
        unsigned char *b = (unsigned char *)ifr.ifr_hwaddr.sa_data;
        char text[18];

        memcpy(ifr.ifr_name, name, strlen(name));
        if (ioctl(s, SIOCGIFHWADDR, &ifr) < 0)
                return tap_errno(e, errno, "Ioctl failed", "Getting MAC address failed");
        if (mac) {
                for (size_t i = 0; i < 6; i++)
                        b[i] = (unsigned char)strtoul(mac + 3 * i, NULL, 16);
                if (ioctl(s, SIOCSIFHWADDR, &ifr) < 0)
                        return tap_errno(e, errno, "Ioctl failed", "Setting MAC address failed");
        } else {
                (void)!snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1],
                                b[2], b[3], b[4], b[5]);
                json_object_set_new(net, "host_mac", json_string(text));
        }
        if (json_object_get(net, "mtu")) {
                ifr.ifr_mtu = (int)json_integer_value(json_object_get(net, "mtu"));
                if (ioctl(s, SIOCSIFMTU, &ifr) < 0)
                        return tap_errno(e, errno, "Ioctl failed", "Setting MTU failed");
        }
        if (ioctl(s, SIOCGIFFLAGS, &ifr) < 0)
                return tap_errno(e, errno, "Ioctl failed", "Enabling tap interface failed");
        ifr.ifr_flags |= IFF_UP | IFF_RUNNING;
        if (ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
                return tap_errno(e, errno, "Ioctl failed", "Enabling tap interface failed");
        return 0;
}

static void close_queues(int *fds, size_t n)
{
        while (n-- > 0)
                close(fds[n]);
        free(fds);
}

int ch_tap_open(json_t *net, enum ch_tap_mode mode, int **ret_fds, size_t *ret_n,
                struct ch_error *e)
{
        size_t n = (size_t)json_integer_value(json_object_get(net, "num_queues")) / 2;
        const char *wanted = str(net, "tap");
        char name[IFNAMSIZ] = "vmtap%d";
        bool exists;
        int *fds;

        if (mode == CH_TAP_OFF)
                return 0;
        if (wanted && strlen(wanted) >= IFNAMSIZ) {
                ch_fail(e, CH_OTHER, "Interface name too long (max length is 15): %s", wanted);
                return tap_failed(e, "Open tap device failed");
        }
        if (wanted)
                memcpy(name, wanted, strlen(wanted) + 1);
        if (check_queues(name, n > 1, &exists, e) < 0)
                return -1;
        if (!exists && mode == CH_TAP_REQUIRE) {
                ch_fail(e, CH_OTHER, "double: no TAP %s in this network namespace", name);
                return tap_failed(e, "Open tap device failed");
        }
        fds = xcalloc(n, sizeof(*fds));
        for (size_t i = 0; i < n; i++) {
                if (attach(name, n > 1, &fds[i], e) < 0) {
                        close_queues(fds, i);
                        return -1;
                }
                if (i == 0 && configure(name, net, e) < 0) {
                        close_queues(fds, 1);
                        return -1;
                }
        }
        *ret_fds = fds;
        *ret_n = n;
        return 0;
}

/* ---- sockets and files -------------------------------------------------------------------- */

static int unix_address(const char *path, struct sockaddr_un *addr)
{
        *addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
        if (strlen(path) >= sizeof(addr->sun_path)) {
                errno = ENAMETOOLONG;
                return -1;
        }
        memcpy(addr->sun_path, path, strlen(path));
        return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

int ch_vsock_bind(const char *path, int *ret_fd, struct ch_error *e)
{
        struct sockaddr_un addr;
        CC_CLOSE int fd = unix_address(path, &addr);

        if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 128) < 0) {
                ch_fail_errno(e, errno);
                ch_wrap(e, "Error binding to the host-side Unix socket");
                return ch_wrap(e, "Cannot create virtio-vsock backend");
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int ch_vhost_connect(const char *path, int *ret_fd, struct ch_error *e)
{
        struct sockaddr_un addr;
        CC_CLOSE int fd = unix_address(path, &addr);

        if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
                ch_fail_errno(e, errno);
                ch_wrap(e, "Failed to open vhost-user device");
                return ch_wrap(e, "Cannot create virtio-fs device");
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int check_readable(const char *path, const char *what, struct ch_error *e)
{
        CC_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd >= 0)
                return 0;
        ch_fail_errno(e, errno);
        return ch_wrap(e, "%s", what);
}

int ch_check_initramfs(const json_t *payload, struct ch_error *e)
{
        const char *path = str(payload, "initramfs");

        return path ? check_readable(path, "Cannot open initramfs file", e) : 0;
}

/* An ELF image or a bzImage. */
static bool is_kernel(const char *path)
{
        CC_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
        unsigned char head[0x206] = { 0 };

        return pread(fd, head, sizeof(head), 0) > 4 &&
               (memcmp(head, "\177ELF", 4) == 0 || memcmp(head + 0x202, "HdrS", 4) == 0);
}

int ch_check_kernel(const json_t *payload, struct ch_error *e)
{
        const char *firmware = str(payload, "firmware"), *kernel = str(payload, "kernel");

        if (firmware)
                return check_readable(firmware, "Error manipulating firmware file", e);
        if (check_readable(kernel, "Cannot open kernel file", e) < 0)
                return -1;
        if (is_kernel(kernel))
                return 0;
        ch_fail(e, CH_OTHER, "Kernel Loader: Invalid bzImage");
        ch_wrap(e, "Kernel Loader: failed to load bzImage kernel image: Kernel Loader: Invalid "
                   "bzImage");
        return ch_wrap(e, "Cannot load the kernel into memory");
}
