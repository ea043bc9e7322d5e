/*
 * The files of a snapshot directory: which they are, copying, staging, making them last. Everything
 * in one is a regular file with a plain name; the directory may come from anywhere, so each file is
 * opened without following links and judged by its descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/sys.h"
#include "snap/snap.h"

#define MAX_NAME 255

bool snap_file_name_valid(const char *name)
{
        size_t n = strlen(name);

        if (n == 0 || n > MAX_NAME || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return false;
        for (const char *p = name; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f || *p == '/')
                        return false;
        return true;
}

static bool is_data_disk(const char *name)
{
        CC_FREE char *serial = NULL;
        size_t n = strlen(name);

        if (!cc_startswith(name, "data-") || !cc_endswith(name, ".raw") || n <= 9)
                return false;
        serial = xstrndup(name + 5, n - 9);
        return cc_data_disk_name_valid(serial);
}

bool snap_file_belongs(const struct hv_driver *drv, const char *name)
{
        static const char *const core[] = { "cow.raw", "overlay.qcow2", SNAP_CIDATA, SNAP_SIDECAR };

        for (size_t i = 0; i < CC_ARRAY_LEN(core); i++)
                if (strcmp(name, core[i]) == 0)
                        return true;
        return is_data_disk(name) || drv->classify(name) != HV_FILE_FOREIGN;
}

static int check_regular(int dir, const char *name, struct cc_err *err)
{
        struct stat st;

        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return cc_fail_errno(err, errno, "stat %s", name);
        if (!S_ISREG(st.st_mode))
                return cc_fail(err, CC_INVALID, "snapshot file %s is not a regular file", name);
        return 0;
}

/* Names in a directory that pass `drv` (NULL: all but dot and dot-dot), sorted. */
static int list(const struct hv_driver *drv, const char *path, struct cc_strv *ret,
                struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        CC_DIR DIR *d = opendir(path);
        struct dirent *e;

        if (!d)
                return cc_fail_errno(err, errno, "open directory %s", path);
        while ((errno = 0, e = readdir(d))) {
                int r;

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                    (drv && !snap_file_belongs(drv, e->d_name)))
                        continue;
                r = check_regular(dirfd(d), e->d_name, err);
                if (r < 0)
                        return r;
                cc_strv_add(&names, e->d_name);
        }
        if (errno)
                return cc_fail_errno(err, errno, "read directory %s", path);
        cc_strv_sort(&names);
        *ret = names;
        names = (struct cc_strv){ 0 };
        return 0;
}

int snap_list(const struct hv_driver *drv, const char *dir, struct cc_strv *ret, struct cc_err *err)
{
        return list(drv, dir, ret, err);
}

/* A regular file for reading; never blocks on a fifo, never follows a link. */
static int open_regular(const char *path, struct stat *ret_st, int *ret, struct cc_err *err)
{
        CC_CLOSE int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        if (fstat(fd, ret_st) < 0)
                return cc_fail_errno(err, errno, "stat %s", path);
        if (!S_ISREG(ret_st->st_mode))
                return cc_fail(err, CC_INVALID, "%s is not a regular file", path);
        *ret = TAKE_FD(fd);
        return 0;
}

static int copy_fd(int from, const char *to, struct cc_err *err)
{
        CC_CLOSE int fd = cc_sys.openat(
                AT_FDCWD, to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, SNAP_MODE);
        int r;

        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", to);
        r = cc_copy_sparse(from, fd, err);
        if (r < 0)
                (void)unlink(to);
        return r < 0 ? cc_wrap(err, "copy to %s", to) : 0;
}

int snap_copy(const char *from, const char *to, struct cc_err *err)
{
        CC_CLOSE int fd = -1;
        struct stat st;
        int r = open_regular(from, &st, &fd, err);

        return r < 0 ? r : copy_fd(fd, to, err);
}

/* The VM maps this very file for as long as it runs: nobody but us and root may be able to write
 * it. */
static bool linkable(const struct stat *st)
{
        return (st->st_uid == geteuid() || st->st_uid == 0) &&
               (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static int link_or_copy(const char *from, const char *to, struct cc_err *err)
{
        CC_FREE char *self = NULL;
        CC_CLOSE int fd = -1;
        struct stat st;
        int r = open_regular(from, &st, &fd, err);

        if (r < 0)
                return r;
        self = xasprintf("/proc/self/fd/%d", fd);
        /* By descriptor: what was judged is what gets linked. Another file system, a full link
         * count, a policy against foreign files: copy. */
        if (linkable(&st) && linkat(AT_FDCWD, self, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0)
                return 0;
        return copy_fd(fd, to, err);
}

int snap_stage(const struct hv_driver *drv, const char *from, const char *to, bool link_memory,
               struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *name;
        int r = snap_list(drv, from, &names, err);

        cc_strv_foreach (&names, i, name) {
                CC_FREE char *src = cc_path_join(from, name);
                CC_FREE char *dst = cc_path_join(to, name);

                if (r < 0)
                        break;
                if (link_memory && drv->classify(name) == HV_FILE_MEMORY)
                        r = link_or_copy(src, dst, err);
                else
                        r = snap_copy(src, dst, err);
        }
        return r;
}

int snap_sync(const char *dir, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *name;
        int r = list(NULL, dir, &names, err);

        cc_strv_foreach (&names, i, name) {
                CC_FREE char *path = cc_path_join(dir, name);
                CC_CLOSE int fd = -1;
                struct stat st;

                if (r == 0)
                        r = open_regular(path, &st, &fd, err);
                if (r == 0 && cc_sys.fsync(fd) < 0)
                        r = cc_fail_errno(err, errno, "sync %s", path);
        }
        return r < 0 ? r : cc_fsync_dir(dir, err);
}

int snap_allocated(const char *dir, int64_t *ret, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *name;
        int64_t sum = 0;
        int r = list(NULL, dir, &names, err);

        if (r < 0)
                return r;
        cc_strv_foreach (&names, i, name) {
                CC_FREE char *path = cc_path_join(dir, name);
                struct stat st;

                if (lstat(path, &st) < 0)
                        return cc_fail_errno(err, errno, "stat %s", path);
                sum += (int64_t)st.st_blocks * 512;
        }
        *ret = sum;
        return 0;
}
