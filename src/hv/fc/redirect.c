/*
 * Redirections of a clone's disks. See redirect.h.
 *
 * Stand-ins. The directory of a source VM that is gone is made again with empty files, and locked
 * (shared) while somebody's load depends on it; whoever is last removes it. A directory that holds
 * anything else is a VM's, and its missing disk is not ours to make up.
 */
#include "hv/fc/redirect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"

/* Only empty regular files in there? */
static bool only_stand_ins(int dir)
{
        CC_CLOSE int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CC_DIR DIR *d = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *e;

        if (!d)
                return false;
        (void)TAKE_FD(fd);
        while ((e = readdir(d))) {
                struct stat st;

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode) ||
                    st.st_size > 0)
                        return false;
        }
        return true;
}

/* We are alone: the files that are still empty go, and the directory if that was all. */
static void remove_stands(const char *path, int dir)
{
        CC_CLOSE int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CC_DIR DIR *d = fd < 0 ? NULL : fdopendir(fd);
        const struct dirent *e;

        if (!d)
                return;
        (void)TAKE_FD(fd);
        while ((e = readdir(d)))
                if (e->d_name[0] != '.')
                        (void)unlinkat(dir, e->d_name, 0);
        (void)rmdir(path);
}

void fc_redirect_clear(struct fc_redirect *r)
{
        for (size_t i = 0; i < r->n_stands; i++) {
                if (flock(r->locks[i], LOCK_EX | LOCK_NB) == 0 && only_stand_ins(r->locks[i]))
                        remove_stands(r->stands[i], r->locks[i]);
                close(r->locks[i]);
                free(r->stands[i]);
        }
        free(r->stands);
        free(r->locks);
        free(r->binds);
        *r = (struct fc_redirect){ 0 };
}

/* Make (if need be), open and lock the directory; somebody may be removing it right now. */
static int hold_dir(struct fc_redirect *r, const char *path, int *ret, struct cc_err *err)
{
        for (;;) {
                CC_CLOSE int fd = -1;
                struct stat mine;
                struct stat named;

                if (mkdir(path, 0750) < 0 && errno != EEXIST)
                        return cc_fail_errno(err, errno, "create directory %s", path);
                fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd < 0 && errno == ENOENT)
                        continue;
                if (fd < 0 || flock(fd, LOCK_SH) < 0 || fstat(fd, &mine) < 0)
                        return cc_fail_errno(err, errno, "open directory %s", path);
                if (stat(path, &named) < 0 || named.st_ino != mine.st_ino ||
                    named.st_dev != mine.st_dev)
                        continue;
                r->stands = xreallocarray(r->stands, r->n_stands + 1, sizeof(*r->stands));
                r->locks = xreallocarray(r->locks, r->n_stands + 1, sizeof(*r->locks));
                r->stands[r->n_stands] = xstrdup(path);
                *ret = fd;
                r->locks[r->n_stands++] = TAKE_FD(fd);
                return 0;
        }
}

/* vms_dir/<one component>/<one component>? */
static bool in_vm_dir(const char *vms_dir, const char *path)
{
        size_t n = vms_dir ? strlen(vms_dir) : 0;
        const char *vm;
        const char *file;

        while (n > 0 && vms_dir[n - 1] == '/')
                n--;
        if (n == 0 || strncmp(path, vms_dir, n) != 0 || path[n] != '/')
                return false;
        vm = path + n + 1;
        file = strchr(vm, '/');
        return file && file > vm && vm[0] != '.' && file[1] && file[1] != '.' &&
               !strchr(file + 1, '/');
}

static int stand_in(struct fc_redirect *r, const char *vms_dir, const char *path,
                    struct cc_err *err)
{
        CC_FREE char *dir_path = NULL;
        CC_CLOSE int fd = -1;
        int dir = -1;
        int e;

        if (!in_vm_dir(vms_dir, path))
                return cc_fail(err, CC_INVALID,
                               "unusable source %s: it is outside the managed run root %s", path,
                               vms_dir ? vms_dir : "");
        dir_path = xstrndup(path, (size_t)(cc_basename(path) - path) - 1);
        for (size_t i = 0; dir < 0 && i < r->n_stands; i++)
                if (cc_streq(r->stands[i], dir_path))
                        dir = r->locks[i];
        e = dir < 0 ? hold_dir(r, dir_path, &dir, err) : 0;
        if (e < 0)
                return e;
        if (!only_stand_ins(dir))
                return cc_fail(err, CC_CORRUPT, "the source VM in %s has no %s", dir_path,
                               cc_basename(path));
        fd = openat(dir, cc_basename(path), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    0600);
        if (fd < 0 && errno != EEXIST)
                return cc_fail_errno(err, errno, "create %s", path);
        return 0;
}

/* Something regular to mount over. A stand-in of another load needs our hold, too. */
static int make_coverable(struct fc_redirect *r, const char *vms_dir, const char *path,
                          struct cc_err *err)
{
        struct stat st;

        if (lstat(path, &st) < 0) {
                if (errno != ENOENT)
                        return cc_fail_errno(err, errno, "source disk %s", path);
                return stand_in(r, vms_dir, path, err);
        }
        if (!S_ISREG(st.st_mode))
                return cc_fail(err, CC_INVALID, "unusable source %s: not a regular file", path);
        return st.st_size == 0 ? stand_in(r, vms_dir, path, err) : 0;
}

int fc_redirect_make(const char *vms_dir, const struct hv_disk *from, const struct hv_disk *to,
                     size_t n, struct fc_redirect *ret, struct cc_err *err)
{
        FC_REDIRECT struct fc_redirect r = { .binds = xcalloc(n + 1, sizeof(*r.binds)) };

        for (size_t i = 0; i < n; i++) {
                int e;

                if (cc_streq(from[i].path, to[i].path))
                        continue;
                if (from[i].ro || to[i].ro)
                        return cc_fail(err, CC_UNSUPPORTED,
                                       "the snapshot has its disk %zu at %s; here it would be at "
                                       "%s, and shared disks cannot be redirected",
                                       i, from[i].path, to[i].path);
                for (size_t k = 0; k < r.n; k++)
                        if (cc_streq(r.binds[k].to, from[i].path) ||
                            cc_streq(r.binds[k].from, to[i].path))
                                return cc_fail(err, CC_INVALID,
                                               "disk %s of the snapshot is there twice",
                                               from[i].path);
                e = make_coverable(&r, vms_dir, from[i].path, err);
                if (e < 0)
                        return e;
                r.binds[r.n++] = (struct cc_bind){ .from = to[i].path, .to = from[i].path };
        }
        *ret = r;
        r = (struct fc_redirect){ 0 };
        return 0;
}

static bool has_open(pid_t pid, const struct stat *file)
{
        char path[64];
        CC_DIR DIR *d = NULL;
        const struct dirent *e;

        (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
        d = opendir(path);
        while (d && (e = readdir(d))) {
                struct stat st;

                if (fstatat(dirfd(d), e->d_name, &st, 0) == 0 && st.st_ino == file->st_ino &&
                    st.st_dev == file->st_dev)
                        return true;
        }
        return false;
}

int fc_redirect_verify(const struct fc_redirect *r, pid_t pid, struct cc_err *err)
{
        for (size_t i = 0; i < r->n; i++) {
                struct stat st;

                if (stat(r->binds[i].from, &st) < 0)
                        return cc_fail_errno(err, errno, "disk %s", r->binds[i].from);
                if (!has_open(pid, &st))
                        return cc_fail(err, CC_CONFLICT,
                                       "bind redirect lost during load: %s was opened instead of "
                                       "%s",
                                       r->binds[i].to, r->binds[i].from);
        }
        return 0;
}
