/* What the host offers: directories, space, devices, control groups. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/proc.h"
#include "base/size.h"
#include "config/layout.h"
#include "doctor/internal.h"

#define NETNS_DIR  "/var/run/netns"
#define SPACE_FAIL (INT64_C(1) << 30)
#define SPACE_WARN (INT64_C(10) << 30)

/* ---- directories ---- */

static void all_dirs(struct doctor *d, struct cc_strv *ret)
{
        layout_dirs(d->config, ret);
        for (size_t i = 0; hv_driver_at(i); i++) {
                cc_strv_take(ret, cc_path_join(d->config->run_dir, hv_driver_at(i)->dir));
                cc_strv_take(ret, cc_path_join(d->config->log_dir, hv_driver_at(i)->dir));
        }
        if (geteuid() == 0)
                cc_strv_add(ret, NETNS_DIR);
}

/* Others could replace what lies in a directory that they may write; and in meta nobody else may
 * even read: records name firmware, kernels and disks of all VMs. The directory of namespaces is
 * not cocoon's alone. */
static mode_t too_much(struct doctor *d, const char *dir)
{
        CC_FREE char *meta = layout_meta_dir(d->config);

        if (strcmp(dir, NETNS_DIR) == 0)
                return 0;
        return strcmp(dir, meta) == 0 ? 077 : 022;
}

/* True when nothing is wrong with a directory that is there. */
static bool say_dir(struct doctor *d, const char *dir, const struct stat *st)
{
        if (!S_ISDIR(st->st_mode))
                doctor_say(d, DOCTOR_FAIL, NULL, "%s is not a directory", dir);
        else if (access(dir, R_OK | W_OK | X_OK) < 0)
                doctor_say(d, DOCTOR_FAIL, "run as root", "%s: %s", dir, strerror(errno));
        else if (st->st_mode & too_much(d, dir))
                doctor_say(d, DOCTOR_FAIL, "\"cocoon doctor --fix\" closes it",
                           "%s is open to others (mode %04o)", dir, (unsigned)st->st_mode & 07777);
        else
                return true;
        return false;
}

void doctor_dirs(struct doctor *d)
{
        CC_STRV struct cc_strv dirs = { 0 };
        CC_STRV struct cc_strv absent = { 0 };
        const char *dir;
        size_t well = 0;

        all_dirs(d, &dirs);
        cc_strv_foreach (&dirs, i, dir) {
                struct stat st;

                if (stat(dir, &st) == 0)
                        well += say_dir(d, dir, &st);
                else if (errno == ENOENT)
                        cc_strv_add(&absent, dir);
                else
                        doctor_say(d, DOCTOR_FAIL, NULL, "%s: %s", dir, strerror(errno));
        }
        if (absent.len)
                doctor_say(d, DOCTOR_WARN, "made when first needed, or by \"cocoon doctor --fix\"",
                           "%zu of %zu directories do not exist yet: %s%s", absent.len, dirs.len,
                           absent.v[0], absent.len > 1 ? ", ..." : "");
        if (well == dirs.len)
                doctor_say(d, DOCTOR_PASS, NULL, "%zu directories below %s, %s and %s", well,
                           d->config->root_dir, d->config->run_dir, d->config->log_dir);
}

static int fix_dir(struct doctor *d, const char *dir, struct cc_err *err)
{
        struct stat st;
        int r = cc_mkdir_p(dir, layout_dir_mode(d->config, dir), err);

        if (r < 0)
                return r;
        if (stat(dir, &st) < 0)
                return cc_fail_errno(err, errno, "stat %s", dir);
        if (!S_ISDIR(st.st_mode) || !(st.st_mode & too_much(d, dir)))
                return 0;
        if (chmod(dir, st.st_mode & 07777 & ~too_much(d, dir)) < 0)
                return cc_fail_errno(err, errno, "chmod %s", dir);
        return 0;
}

int doctor_dirs_fix(struct doctor *d, struct cc_err *err)
{
        CC_STRV struct cc_strv dirs = { 0 };
        const char *dir;
        int r = 0;

        all_dirs(d, &dirs);
        cc_strv_foreach (&dirs, i, dir) {
                int one = fix_dir(d, dir, r == 0 ? err : NULL);

                if (r == 0)
                        r = one;
        }
        return r;
}

/* ---- space ---- */

/* The directory, or the nearest one above it that is there. */
static int space_of(const char *dir, struct statvfs *ret)
{
        char path[4096];
        size_t n = strlen(dir);

        if (n >= sizeof(path))
                return -1;
        memcpy(path, dir, n + 1);
        while (statvfs(path, ret) < 0) {
                char *slash = strrchr(path, '/');

                if (errno != ENOENT || !slash || slash == path)
                        return statvfs("/", ret);
                *slash = '\0';
        }
        return 0;
}

void doctor_space(struct doctor *d)
{
        const char *const dirs[] = { d->config->root_dir, d->config->run_dir, d->config->log_dir };
        unsigned long seen[CC_ARRAY_LEN(dirs)] = { 0 };
        size_t n = 0;

        for (size_t i = 0; i < CC_ARRAY_LEN(dirs); i++) {
                enum doctor_verdict v;
                struct statvfs fs;
                int64_t free_bytes;
                bool known = false;
                char size[24];

                if (space_of(dirs[i], &fs) < 0)
                        continue;
                for (size_t k = 0; k < n; k++)
                        known |= seen[k] == fs.f_fsid;
                if (known)
                        continue;
                seen[n++] = fs.f_fsid;
                free_bytes = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize;
                v = free_bytes < SPACE_FAIL   ? DOCTOR_FAIL
                    : free_bytes < SPACE_WARN ? DOCTOR_WARN
                                              : DOCTOR_PASS;
                cc_size_format(free_bytes, size);
                doctor_say(d, v, v == DOCTOR_PASS ? NULL : "\"cocoon gc\" removes what is not used",
                           "%s free in %s", size, dirs[i]);
        }
}

int doctor_reflink(const char *dir)
{
        CC_CLOSE int a = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        CC_CLOSE int b = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        char block[4096] = "cocoon";

        if (a < 0 || b < 0 || cc_write_all(a, block, sizeof(block), NULL) < 0)
                return -1;
        return ioctl(b, FICLONE, a) == 0;
}

void doctor_reflinks(struct doctor *d)
{
        const char *root = d->config->root_dir;
        int can = doctor_reflink(root);

        if (can > 0)
                doctor_say(d, DOCTOR_PASS, NULL, "%s: disks of snapshots and clones share blocks",
                           root);
        else if (can == 0)
                doctor_say(d, DOCTOR_WARN, "Btrfs and XFS share blocks",
                           "%s: the file system shares no blocks, snapshots and clones copy disks",
                           root);
        else
                doctor_say(d, DOCTOR_WARN, NULL, "%s: cannot be tried there", root);
}

/* ---- devices ---- */

static void say_device(struct doctor *d, const char *path, const char *without)
{
        if (access(path, R_OK | W_OK) == 0)
                doctor_say(d, DOCTOR_PASS, NULL, "%s", path);
        else
                doctor_say(d, DOCTOR_WARN, NULL, "%s: %s: %s", path, strerror(errno), without);
}

void doctor_tun(struct doctor *d)
{
        say_device(d, "/dev/net/tun", "only --network user works");
}

void doctor_vsock(struct doctor *d)
{
        say_device(d, "/dev/vhost-vsock", "QEMU guests have no agent");
}

int doctor_modprobe(const char *module, struct cc_err *err)
{
        const char *const argv[] = { "modprobe", module, NULL };

        return cc_run_ok(argv, 30000, NULL, err);
}

int doctor_modprobe_tun(struct doctor *d, struct cc_err *err)
{
        (void)d;
        return doctor_modprobe("tun", err);
}

int doctor_modprobe_vsock(struct doctor *d, struct cc_err *err)
{
        (void)d;
        return doctor_modprobe("vhost_vsock", err);
}

void doctor_cgroup(struct doctor *d)
{
        CC_FREE char *text = NULL;
        CC_STRV struct cc_strv names = { 0 };
        size_t n;

        if (cc_read_file("/sys/fs/cgroup/cgroup.controllers", 4096, &text, &n, NULL) == 0)
                cc_split(text, " \n", &names);
        if (cc_strv_has(&names, "cpu"))
                doctor_say(d, DOCTOR_PASS, NULL, "cgroup v2 with the cpu controller");
        else
                doctor_say(d, DOCTOR_WARN, NULL,
                           "no cpu controller of cgroup v2: no limits of CPU time");
}
