/* Publishing, bounded reads, removal, sparse copies. Locks are in lock.c. See fs.h. */
#include "base/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/interrupt.h"
#include "base/sys.h"

char *cc_path_join(const char *dir, const char *name)
{
        return xasprintf("%s/%s", dir, name);
}

const char *cc_basename(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

static char *dir_of(const char *path)
{
        const char *slash = strrchr(path, '/');

        if (!slash)
                return xstrdup(".");
        if (slash == path)
                return xstrdup("/");
        return xstrndup(path, (size_t)(slash - path));
}

int cc_mkdir_p(const char *path, mode_t mode, struct cc_err *err)
{
        CC_FREE char *copy = xstrdup(path);
        struct stat st;

        if (!*path)
                return cc_fail_errno(err, ENOENT, "create directory \"\"");
        if (stat(path, &st) == 0) {
                if (S_ISDIR(st.st_mode))
                        return 0;
                return cc_fail_errno(err, ENOTDIR, "create directory %s", path);
        }
        for (char *p = copy + 1;; p++) {
                char c = *p;

                if (c != '/' && c != '\0')
                        continue;
                *p = '\0';
                if (mkdir(copy, mode) < 0 && errno != EEXIST)
                        return cc_fail_errno(err, errno, "create directory %s", copy);
                *p = c;
                if (c == '\0')
                        break;
        }
        if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
                return cc_fail_errno(err, ENOTDIR, "create directory %s", path);
        return 0;
}

int cc_read_file(const char *path, size_t max, char **ret, size_t *ret_len, struct cc_err *err)
{
        CC_CLOSE int fd = cc_sys.openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
        CC_FREE char *buf = NULL;
        size_t len = 0;
        size_t cap = 4096;

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        buf = xmalloc(cap + 1);
        for (;;) {
                ssize_t n;

                if (len == cap) {
                        cap *= 2;
                        buf = xreallocarray(buf, cap + 1, 1);
                }
                n = read(fd, buf + len, cap - len);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return cc_fail_errno(err, errno, "read %s", path);
                }
                if (n == 0)
                        break;
                len += (size_t)n;
                if (len > max)
                        return cc_fail(err, CC_INVALID, "%s is larger than %zu bytes", path, max);
        }
        buf[len] = '\0';
        *ret = TAKE_PTR(buf);
        if (ret_len)
                *ret_len = len;
        return 0;
}

int cc_write_all(int fd, const void *buf, size_t n, struct cc_err *err)
{
        const char *p = buf;

        while (n) {
                ssize_t w = cc_sys.write(fd, p, n);

                if (w < 0) {
                        if (errno == EINTR)
                                continue;
                        return cc_fail_errno(err, errno, "write");
                }
                if (w == 0)
                        return cc_fail_errno(err, EIO, "write");
                p += w;
                n -= (size_t)w;
        }
        return 0;
}

int cc_pread_all(int fd, void *buf, size_t n, off_t off, struct cc_err *err)
{
        char *p = buf;

        while (n) {
                ssize_t r = pread(fd, p, n, off);

                if (r < 0) {
                        if (errno == EINTR)
                                continue;
                        return cc_fail_errno(err, errno, "read");
                }
                if (r == 0)
                        return cc_fail(err, CC_CORRUPT, "file ends early");
                p += r;
                n -= (size_t)r;
                off += r;
        }
        return 0;
}

int cc_fsync_dir(const char *path, struct cc_err *err)
{
        CC_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return cc_fail_errno(err, errno, "open directory %s", path);
        if (cc_sys.fsync(fd) < 0 && errno != EINVAL && errno != ENOTSUP && errno != EBADF)
                return cc_fail_errno(err, errno, "sync directory %s", path);
        return 0;
}

static int fsync_parent(const char *path, struct cc_err *err)
{
        CC_FREE char *dir = dir_of(path);

        return cc_fsync_dir(dir, err);
}

static int put_file(const char *path, const void *data, size_t n, mode_t mode, bool sync,
                    struct cc_err *err)
{
        CC_FREE char *dir = dir_of(path);
        CC_FREE char *tmp = NULL;
        CC_CLOSE int fd = -1;
        char id[CC_ID_LEN + 1];
        int r;

        cc_id_new(id);
        tmp = xasprintf("%s/.tmp-%s", dir, id);
        fd = cc_sys.openat(AT_FDCWD, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                           0600);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", tmp);
        r = cc_write_all(fd, data, n, err);
        if (r < 0)
                (void)cc_wrap(err, "write %s", path);
        else if (fchmod(fd, mode) < 0 || (sync && cc_sys.fsync(fd) < 0))
                r = cc_fail_errno(err, errno, "write %s", path);
        else if (cc_sys.renameat2(AT_FDCWD, tmp, AT_FDCWD, path, 0) < 0)
                r = cc_fail_errno(err, errno, "rename to %s", path);
        else
                return sync ? cc_fsync_dir(dir, err) : 0;
        (void)unlink(tmp);
        return r;
}

int cc_publish(const char *path, const void *data, size_t n, mode_t mode, struct cc_err *err)
{
        return put_file(path, data, n, mode, true, err);
}

int cc_replace(const char *path, const void *data, size_t n, mode_t mode, struct cc_err *err)
{
        return put_file(path, data, n, mode, false, err);
}

int cc_publish_file(const char *from, const char *to, bool noreplace, struct cc_err *err)
{
        CC_CLOSE int fd = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", from);
        if (cc_sys.fsync(fd) < 0)
                return cc_fail_errno(err, errno, "sync %s", from);
        if (cc_sys.renameat2(AT_FDCWD, from, AT_FDCWD, to, noreplace ? RENAME_NOREPLACE : 0) < 0) {
                if (errno == EEXIST)
                        return cc_fail(err, CC_CONFLICT, "%s exists already", to);
                return cc_fail_errno(err, errno, "rename %s to %s", from, to);
        }
        return fsync_parent(to, err);
}

/*
 * Open a directory below `dir` without entering another mount: EXDEV if one is there. The kernel
 * check also sees a bind mount of the same file system, which st_dev cannot tell; where openat2(2)
 * is missing or filtered, st_dev is what is left.
 */
static int open_same_mount(int dir, const char *name)
{
        struct open_how how = {
                .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
                .resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS,
        };
        int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof(how));
        struct stat above;
        struct stat st;

        if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
                return fd;
        fd = openat(dir, name, (int)how.flags);
        if (fd < 0)
                return -1;
        if (fstat(fd, &st) == 0 && fstat(dir, &above) == 0 && st.st_dev == above.st_dev)
                return fd;
        close(fd);
        errno = EXDEV;
        return -1;
}

/* Depth is bounded by what the tree really holds; each level costs one descriptor. */
static int rm_at(int dir, const char *name, const char *shown, struct cc_err *err)
{
        CC_DIR DIR *d = NULL;
        int why;
        int fd;

        if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
                return 0;
        why = errno;
        if (why == EBUSY)
                return cc_fail(err, CC_BUSY, "remove %s: something is mounted there", shown);
        if (why != EISDIR && why != EPERM) /* EPERM: POSIX's word for a directory */
                return cc_fail_errno(err, why, "remove %s", shown);
        fd = dir == AT_FDCWD ? open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                             : open_same_mount(dir, name);
        if (fd < 0 && errno == EXDEV)
                return cc_fail(err, CC_BUSY, "remove %s: something is mounted there", shown);
        if (fd < 0)
                return cc_fail_errno(err, errno == ENOTDIR ? why : errno, "remove %s", shown);
        d = fdopendir(fd);
        if (!d) {
                why = errno;
                close(fd);
                return cc_fail_errno(err, why, "remove %s", shown);
        }
        for (struct dirent *e; (e = readdir(d));) {
                CC_FREE char *path = NULL;
                int r;

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                path = cc_path_join(shown, e->d_name);
                r = rm_at(fd, e->d_name, path, err);
                if (r < 0)
                        return r;
        }
        if (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                return cc_fail_errno(err, errno, "remove %s", shown);
        return 0;
}

int cc_rm_rf(const char *path, struct cc_err *err)
{
        return rm_at(AT_FDCWD, path, path, err);
}

int cc_unlink(const char *path, struct cc_err *err)
{
        if (unlink(path) < 0 && errno != ENOENT)
                return cc_fail_errno(err, errno, "remove %s", path);
        return 0;
}

bool cc_exists(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0;
}

bool cc_is_valid_file(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
}

static bool is_program(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *cc_find_program(const char *name)
{
        const char *path = getenv("PATH");

        if (!*name)
                return NULL;
        if (strchr(name, '/'))
                return is_program(name) ? xstrdup(name) : NULL;
        /* sudo and systemd units may start us with a PATH that lacks sbin, where mkfs.ext4 lives.
         */
        for (int pass = 0; pass < 2; pass++) {
                const char *p =
                        pass ? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                             : path;

                while (p && *p) {
                        size_t n = strcspn(p, ":");
                        CC_FREE char *file = xasprintf("%.*s/%s", (int)n, p, name);

                        if (n && is_program(file))
                                return TAKE_PTR(file);
                        p += n;
                        if (*p)
                                p++;
                }
        }
        return NULL;
}

static int copy_extent(int from, int to, off_t off, off_t end, struct cc_err *err)
{
        CC_FREE char *buf = NULL;
        const size_t chunk = 1 << 20;

        while (off < end) {
                off_t in = off;
                off_t out = off;
                ssize_t n = 0;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "copy interrupted");
                if (!buf) {
                        size_t want =
                                end - off > (off_t)(64 * chunk) ? 64 * chunk : (size_t)(end - off);

                        n = copy_file_range(from, &in, to, &out, want, 0);
                        if (n > 0) {
                                off += n;
                                continue;
                        }
                        /* Not supported between these files: fall back for the rest of the extent.
                         */
                        buf = xmalloc(chunk);
                }
                n = pread(from, buf, end - off > (off_t)chunk ? chunk : (size_t)(end - off), off);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return cc_fail_errno(err, errno, "read");
                }
                if (n == 0)
                        return cc_fail(err, CC_CORRUPT, "file shrank while it was copied");
                for (ssize_t done = 0; done < n;) {
                        ssize_t w = cc_sys.pwrite(to, buf + done, (size_t)(n - done), off + done);

                        if (w < 0) {
                                if (errno == EINTR)
                                        continue;
                                return cc_fail_errno(err, errno, "write");
                        }
                        done += w;
                }
                off += n;
        }
        return 0;
}

int cc_copy_sparse(int from, int to, struct cc_err *err)
{
        struct stat st;
        off_t off = 0;

        if (fstat(from, &st) < 0)
                return cc_fail_errno(err, errno, "stat");
        /* What the target held before must show neither in the holes nor behind the end. */
        if (cc_sys.ftruncate(to, 0) < 0)
                return cc_fail_errno(err, errno, "set size");
        if (ioctl(to, FICLONE, from) == 0)
                return 0;
        if (cc_sys.ftruncate(to, st.st_size) < 0)
                return cc_fail_errno(err, errno, "set size");
        while (off < st.st_size) {
                off_t data = lseek(from, off, SEEK_DATA);
                off_t hole;
                int r;

                if (data < 0) {
                        if (errno == ENXIO)
                                break; /* only a hole is left */
                        if (errno != EINVAL)
                                return cc_fail_errno(err, errno, "seek");
                        data = off;
                        hole = st.st_size;
                } else {
                        hole = lseek(from, data, SEEK_HOLE);
                        if (hole < 0)
                                hole = st.st_size;
                }
                r = copy_extent(from, to, data, hole, err);
                if (r < 0)
                        return r;
                off = hole;
        }
        return 0;
}

static int64_t below(int parent, const char *name, int depth)
{
        struct stat st;
        CC_DIR DIR *d = NULL;
        const struct dirent *entry;
        int64_t bytes;
        int fd;

        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        bytes = (int64_t)st.st_blocks * 512;
        if (!S_ISDIR(st.st_mode) || depth == 0)
                return bytes;
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return bytes;
        d = fdopendir(fd);
        if (!d) {
                close(fd);
                return bytes;
        }
        while ((entry = readdir(d)))
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        bytes += below(fd, entry->d_name, depth - 1);
        return bytes;
}

int64_t cc_tree_bytes(const char *path)
{
        /* Our own trees are flat; the limit is for what somebody else put there. */
        return below(AT_FDCWD, path, 16);
}
