/* Reseeding; reseed.h. */
#include "reseed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel.h"
#include "log.h"

#define ENTROPY_MAX 512

struct reasons {
        char *text;
        size_t size;
        size_t len;
};

static void because(struct reasons *r, const char *what, int error)
{
        int n = snprintf(r->text + r->len, r->size - r->len, "%s%s: %s", r->len ? "; " : "", what,
                         strerror(error));

        r->len += n > 0 ? (size_t)n : 0;
        if (r->len >= r->size)
                r->len = r->size - 1;
}

static void feed_kernel(void *data, size_t n, struct reasons *r)
{
        /* struct rand_pool_info, whose array has no size. */
        struct {
                int bits;
                int bytes;
                unsigned char data[ENTROPY_MAX];
        } pool = { 0 };
        int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC);

        if (fd < 0) {
                because(r, "/dev/urandom", errno);
                explicit_bzero(data, n);
                return;
        }
        pool.bytes = n < ENTROPY_MAX ? (int)n : ENTROPY_MAX;
        pool.bits = 8 * pool.bytes;
        if (n)
                memcpy(pool.data, data, (size_t)pool.bytes);
        if (n && ioctl(fd, RANDOM_ADD_ENTROPY, &pool) < 0)
                because(r, "RNDADDENTROPY", errno);
        explicit_bzero(&pool, sizeof(pool));
        if (n)
                explicit_bzero(data, n);
        /* Kernels before 4.14 do not know it; ours and everybody's are later. */
        if (ioctl(fd, RANDOM_RESEED) < 0)
                because(r, "RNDRESEEDCRNG", errno);
        close(fd);
}

static void new_machine_id(const char *root, struct reasons *r)
{
        static const char hex[] = "0123456789abcdef";
        unsigned char raw[16];
        char text[33];
        char path[PATH_MAX];
        char dbus[PATH_MAX];
        struct stat st;
        struct stat other;
        bool ok;
        int error;
        int fd;

        snprintf(path, sizeof(path), "%s/etc/machine-id", root);
        /* An image without one does not want one. */
        if (stat(path, &st) < 0) {
                if (errno != ENOENT)
                        because(r, "/etc/machine-id", errno);
                return;
        }
        if (getrandom(raw, sizeof(raw), 0) != sizeof(raw)) {
                because(r, "getrandom", errno);
                return;
        }
        for (int i = 0; i < 16; i++) {
                text[2 * i] = hex[raw[i] >> 4];
                text[2 * i + 1] = hex[raw[i] & 15];
        }
        text[32] = '\n';
        /* In place: it may be a mount of its own. Cut off in between it is empty, which systemd
         * fills at the next boot. */
        fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        ok = fd >= 0 && write(fd, text, sizeof(text)) == (ssize_t)sizeof(text) &&
             fchmod(fd, 0444) == 0 && fsync(fd) == 0;
        error = errno;
        if (fd >= 0)
                close(fd);
        if (!ok) {
                because(r, "/etc/machine-id", error);
                return;
        }
        snprintf(dbus, sizeof(dbus), "%s/var/lib/dbus/machine-id", root);
        if (lstat(dbus, &other) < 0 || !S_ISREG(other.st_mode) ||
            (other.st_dev == st.st_dev && other.st_ino == st.st_ino))
                return;
        if (unlink(dbus) < 0)
                log_warn("%s: %s", dbus, strerror(errno));
}

int reseed(const char *root, void *data, size_t n, bool regen_machine_id, char *why, size_t size)
{
        struct reasons r = { .text = why, .size = size };
        char path[PATH_MAX];

        why[0] = '\0';
        feed_kernel(data, n, &r);
        snprintf(path, sizeof(path), "%s/var/lib/systemd/random-seed", root);
        if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR)
                because(&r, "/var/lib/systemd/random-seed", errno);
        if (regen_machine_id)
                new_machine_id(root, &r);
        return r.len ? -1 : 0;
}
