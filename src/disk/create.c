/*
 * Making disks: sparse raw files with ext4, qcow2 overlays. A failed call leaves no file: each
 * file is created O_EXCL (or refused when it exists), so what is removed is what this call made.
 */
#include "disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/sys.h"

#define TOOL_MS 120000

#define MKFS_EXTENDED "lazy_itable_init=1,lazy_journal_init=1,discard"
/* Features that newer e2fsprogs turn on by default and older guest kernels refuse to mount. */
#define MKFS_FEATURES "^orphan_file,^metadata_csum_seed"

/* "mke2fs 1.47.0 (5-Feb-2023)": at least 1.47? An unknown answer counts as old: mkfs.ext4 refuses a
 * feature name it does not know. */
static bool mke2fs_is_new(const char *text)
{
        static const char prefix[] = "mke2fs ";
        long major;
        long minor;
        char *end;

        if (!cc_startswith(text, prefix))
                return false;
        major = strtol(text + sizeof(prefix) - 1, &end, 10);
        if (*end != '.')
                return false;
        minor = strtol(end + 1, NULL, 10);
        return major > 1 || (major == 1 && minor >= 47);
}

static bool mkfs_knows_features(void)
{
        static const char *const argv[] = { "mkfs.ext4", "-V", NULL };
        CC_CLEANUP(cc_run_result_free) struct cc_run_result result = { 0 };

        /* The version is printed on stderr. */
        return cc_run(argv, NULL, 0, 4096, TOOL_MS, &result, NULL) == 0 && result.err.len &&
               mke2fs_is_new(result.err.data);
}

static void mkfs_argv(const char *path, bool features, struct cc_strv *ret)
{
        static const char *const fixed[] = {
                "mkfs.ext4", "-F", "-m", "0", "-q", "-E", MKFS_EXTENDED
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(fixed); i++)
                cc_strv_add(ret, fixed[i]);
        if (features) {
                cc_strv_add(ret, "-O");
                cc_strv_add(ret, MKFS_FEATURES);
        }
        cc_strv_add(ret, path);
}

void disk_mkfs_argv(const char *path, struct cc_strv *ret)
{
        mkfs_argv(path, mkfs_knows_features(), ret);
}

/* Asking for the version costs a process, and almost every mkfs.ext4 knows the features: it is
 * asked when it has failed. */
static int mkfs_ext4(const char *path, struct cc_err *err)
{
        struct cc_err why = CC_ERR_INIT;
        CC_STRV struct cc_strv with = { 0 };
        CC_STRV struct cc_strv without = { 0 };
        int r;

        mkfs_argv(path, true, &with);
        r = cc_run_ok((const char *const *)with.v, TOOL_MS, NULL, &why);
        if (r == 0)
                return 0;
        if (r == -CC_CANCELED || r == -CC_TIMEOUT || r == -CC_UNAVAILABLE || mkfs_knows_features())
                return cc_err_copy(err, &why);
        mkfs_argv(path, false, &without);
        return cc_run_ok((const char *const *)without.v, TOOL_MS, NULL, err);
}

static int make_raw(const char *path, int64_t size, const char *fstype, struct cc_err *err)
{
        CC_CLOSE int fd = cc_sys.openat(AT_FDCWD, path,
                                        O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        int r = 0;

        if (fd < 0)
                return cc_fail_errno(err, errno, "create disk %s", path);
        if (cc_sys.ftruncate(fd, size) < 0)
                r = cc_fail_errno(err, errno, "size disk %s", path);
        else if (!cc_streq(fstype, "none"))
                r = mkfs_ext4(path, err);
        if (r < 0)
                (void)unlink(path);
        return r;
}

int disk_create_raw(const char *path, int64_t size, const char *fstype, struct cc_err *err)
{
        if (size <= 0)
                return cc_fail(err, CC_INVALID, "disk size %lld is not positive", (long long)size);
        if (!cc_streq(fstype, "none") && !cc_streq(fstype, "ext4"))
                return cc_fail(err, CC_INVALID, "unsupported fstype \"%s\"", fstype ? fstype : "");
        return make_raw(path, size, fstype, err);
}

/* qemu-img opens the paths itself: one that starts with '-' or holds a protocol prefix would be
 * read as something else. */
static int check_path(const char *path, struct cc_err *err)
{
        if (path[0] == '/')
                return 0;
        return cc_fail(err, CC_INVALID, "disk path %s is not absolute", path);
}

static int make_overlay(const char *path, const char *backing, int64_t size, struct cc_err *err)
{
        CC_FREE char *bytes = xasprintf("%lld", (long long)size);
        const char *const create[] = { "qemu-img", "create", "-q",    "-f", "qcow2", "-F",
                                       "qcow2",    "-b",     backing, path, NULL };
        const char *const resize[] = {
                "qemu-img", "resize", "-q", "-f", "qcow2", path, bytes, NULL
        };
        struct qcow2_info base;
        int r = qcow2_read_info(backing, &base, err);

        if (r == 0)
                r = cc_run_ok(create, TOOL_MS, NULL, err);
        if (r == 0 && size > 0 && (uint64_t)size > base.virtual_size)
                r = cc_run_ok(resize, TOOL_MS, NULL, err);
        return r;
}

int disk_create_overlay(const char *path, const char *backing, int64_t size, struct cc_err *err)
{
        CC_CLOSE int fd = -1;
        int r = check_path(path, err);

        if (r == 0)
                r = check_path(backing, err);
        if (r < 0)
                return r;
        /* Claims the name and sets the mode; qemu-img writes into it. */
        fd = cc_sys.openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                           0600);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create disk %s", path);
        r = make_overlay(path, backing, size, err);
        if (r < 0)
                (void)unlink(path);
        return r;
}
