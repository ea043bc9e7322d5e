/* Scratch files of the cloud image store. See cloud.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/size.h"
#include "base/sys.h"
#include "config/layout.h"
#include "image/pull/cloud.h"

enum { CHUNK = 1 << 18, HOLE = 4096, MAX_TRIES = 10, STALE_S = 3600 };

/* 1: locked, and still the file of that name. */
static int try_own(const char *path, int *ret)
{
        CC_CLOSE int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        struct stat mine;
        struct stat named;

        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
                return 0;
        if (fstat(fd, &mine) < 0 || lstat(path, &named) < 0 || mine.st_ino != named.st_ino ||
            mine.st_dev != named.st_dev)
                return 0;
        *ret = TAKE_FD(fd);
        return 1;
}

/* Everything in here is locked while it is in use, but for the instant in which it is made, and for
 * downloads that shall be resumed: those stay for an hour. */
void cloud_temp_sweep(const struct config *config)
{
        CC_FREE char *temp = layout_cloudimg_temp(config);
        CC_DIR DIR *d = opendir(temp);

        if (!d)
                return;
        for (struct dirent *e; (e = readdir(d));) {
                CC_FREE char *path = cc_path_join(temp, e->d_name);
                CC_CLOSE int fd = -1;
                struct stat st;

                if (!cc_startswith(e->d_name, "pull-") && !cc_startswith(e->d_name, "import-") &&
                    !cc_startswith(e->d_name, ".tmp-"))
                        continue;
                if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) ||
                    time(NULL) - st.st_mtime < STALE_S)
                        continue;
                if (try_own(path, &fd) && unlink(path) == 0)
                        cc_debug("image", "removed the leftover %s", path);
        }
}

void cloud_temp_free(struct cloud_temp *t)
{
        if (t->path)
                (void)cc_unlink(t->path, NULL);
        free(t->path);
        if (t->fd >= 0)
                close(t->fd);
        *t = (struct cloud_temp)CLOUD_TEMP_INIT;
}

int cloud_temp_create(const struct config *config, const char *verb, struct cloud_temp *ret,
                      struct cc_err *err)
{
        CC_FREE char *temp = layout_cloudimg_temp(config);
        int r = cc_mkdir_p(temp, 0750, err);

        if (r < 0)
                return r;
        for (int i = 0; i < MAX_TRIES; i++) {
                CC_FREE char *path = NULL;
                CC_CLOSE int fd = -1;
                int owned = -1;
                char id[CC_ID_LEN + 1];

                cc_id_new(id);
                path = xasprintf("%s/%s-%s.img", temp, verb, id);
                fd = cc_sys.openat(AT_FDCWD, path,
                                   O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
                if (fd < 0)
                        return cc_fail_errno(err, errno, "create %s", path);
                if (try_own(path, &owned)) {
                        *ret = (struct cloud_temp){ .path = TAKE_PTR(path), .fd = owned };
                        return 0;
                }
                (void)cc_unlink(path, NULL);
        }
        return cc_fail(err, CC_IO, "cannot lock a file in %s", temp);
}

static bool all_zero(const char *p, size_t n)
{
        return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static int write_at(const struct cloud_temp *t, const char *p, size_t n, int64_t at,
                    struct cc_err *err)
{
        while (n) {
                ssize_t w = cc_sys.pwrite(t->fd, p, n, at);

                if (w < 0 && errno == EINTR)
                        continue;
                if (w < 0)
                        return cc_fail_errno(err, errno, "write %s", t->path);
                p += w;
                n -= (size_t)w;
                at += w;
        }
        return 0;
}

int cloud_temp_append(const struct config *config, struct cloud_temp *t, int64_t *at,
                      const void *data, size_t n, struct cc_err *err)
{
        const char *p = data;
        int r = 0;

        if ((int64_t)n > config->cloudimg_max_size - *at) {
                char limit[24];

                cc_size_format(config->cloudimg_max_size, limit);
                (void)cc_fail(err, CC_INVALID, "the disk image has more than %s", limit);
                cc_hint(err, "cloudimg_max_size in the configuration raises the limit");
                return -CC_INVALID;
        }
        while (n && r == 0) {
                size_t step = HOLE - (size_t)(*at % HOLE);

                step = n < step ? n : step;
                /* As much as there is of one kind in one write. */
                if (!all_zero(p, step)) {
                        while (step < n && !all_zero(p + step, n - step < HOLE ? n - step : HOLE))
                                step += n - step < HOLE ? n - step : HOLE;
                        r = write_at(t, p, step, *at, err);
                }
                p += step;
                n -= step;
                *at += (int64_t)step;
        }
        return r;
}

int cloud_temp_end(struct cloud_temp *t, int64_t at, struct cc_err *err)
{
        if (cc_sys.ftruncate(t->fd, at) < 0)
                return cc_fail_errno(err, errno, "size %s", t->path);
        return 0;
}

int cloud_temp_inflate(const struct config *config, struct cloud_temp *t, int64_t at,
                       struct inflate *s, struct reporter *reporter, struct cc_err *err)
{
        CC_FREE char *buf = xmalloc(CHUNK);

        for (;;) {
                size_t n = 0;
                int r = inflate_read(s, buf, CHUNK, &n, err);

                if (r == 0 && n == 0)
                        return cloud_temp_end(t, at, err);
                if (r == 0 && cc_interrupted())
                        r = cc_fail(err, CC_CANCELED, "canceled");
                if (r == 0)
                        r = cloud_temp_append(config, t, &at, buf, n, err);
                if (r < 0)
                        return r;
                reporter_transfer(reporter, IMAGE_CONVERT, at, 0);
        }
}
