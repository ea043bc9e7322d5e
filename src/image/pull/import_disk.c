/* Disks into the cloud image store. See import_disk.h. */
#include "image/pull/import_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/size.h"
#include "image/pull/cloud.h"

enum { CHUNK = 1 << 18 };

static int too_large(const struct image_env *env, struct cc_err *err)
{
        char limit[24];

        cc_size_format(env->config->cloudimg_max_size, limit);
        (void)cc_fail(err, CC_INVALID, "the disk image has more than %s", limit);
        cc_hint(err, "cloudimg_max_size in the configuration raises the limit");
        return -CC_INVALID;
}

/* A single file may be shared (reflink) or have holes worth keeping. */
static int copy_whole(const struct image_env *env, int fd, const struct stat *st,
                      struct cloud_temp *t, struct cc_err *err)
{
        if (st->st_size > env->config->cloudimg_max_size)
                return too_large(env, err);
        return cc_copy_sparse(fd, t->fd, err);
}

static int append_file(const struct image_env *env, int fd, struct cloud_temp *t, int64_t *at,
                       struct cc_err *err)
{
        CC_FREE char *buf = xmalloc(CHUNK);

        for (;;) {
                ssize_t n = read(fd, buf, CHUNK);
                int r;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "canceled");
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return cc_fail_errno(err, errno, "read");
                if (n == 0)
                        return 0;
                r = cloud_temp_append(env->config, t, at, buf, (size_t)n, err);
                if (r < 0)
                        return r;
        }
}

static int add_file(const struct image_env *env, const char *path, bool only, struct cloud_temp *t,
                    int64_t *at, struct cc_err *err)
{
        /* A FIFO among the parts must not make us wait before it can be refused. */
        CC_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;
        int r;

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        if (fstat(fd, &st) < 0)
                return cc_fail_errno(err, errno, "stat %s", path);
        if (!S_ISREG(st.st_mode))
                return cc_fail(err, CC_INVALID, "%s is not a regular file", path);
        r = only ? copy_whole(env, fd, &st, t, err) : append_file(env, fd, t, at, err);
        return r < 0 ? cc_wrap(err, "%s", path) : 0;
}

int import_disk_files(const struct image_env *env, struct reporter *reporter, const char *name,
                      const char *const *files, size_t n, struct image_record *ret,
                      struct cc_err *err)
{
        CLOUD_TEMP struct cloud_temp t = CLOUD_TEMP_INIT;
        int64_t at = 0;
        int r = cloud_temp_create(env->config, "import", &t, err);

        for (size_t i = 0; i < n && r == 0; i++)
                r = add_file(env, files[i], n == 1, &t, &at, err);
        if (r == 0 && n > 1)
                r = cloud_temp_end(&t, at, err);
        return r < 0 ? r : cloud_commit(env, reporter, name, &t, false, ret, err);
}

int import_disk_stream(const struct image_env *env, struct reporter *reporter, const char *name,
                       const void *head, size_t head_len, struct inflate *stream,
                       struct image_record *ret, struct cc_err *err)
{
        CLOUD_TEMP struct cloud_temp t = CLOUD_TEMP_INIT;
        int64_t at = 0;
        int r = cloud_temp_create(env->config, "import", &t, err);

        if (r == 0)
                r = cloud_temp_append(env->config, &t, &at, head, head_len, err);
        if (r == 0)
                r = cloud_temp_inflate(env->config, &t, at, stream, reporter, err);
        return r < 0 ? r : cloud_commit(env, reporter, name, &t, false, ret, err);
}
