/* A growing file with one writer and one reader. See stage.h. */
#include "image/pull/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"

static void init(struct stage *s, int fd)
{
        memset(s, 0, sizeof(*s));
        s->fd = fd;
        (void)pthread_mutex_init(&s->lock, NULL);
        (void)pthread_cond_init(&s->grown, NULL);
}

int stage_create(struct stage *s, const char *path, struct cc_err *err)
{
        int fd = cc_sys.openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                               0600);

        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", path);
        init(s, fd);
        return 0;
}

int stage_open(struct stage *s, const char *path, struct cc_err *err)
{
        CC_CLOSE int fd = cc_sys.openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC, 0);
        struct stat st;

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        if (fstat(fd, &st) < 0)
                return cc_fail_errno(err, errno, "stat %s", path);
        if (!S_ISREG(st.st_mode))
                return cc_fail(err, CC_INVALID, "%s is not a regular file", path);
        init(s, TAKE_FD(fd));
        s->len = st.st_size;
        s->ended = true;
        return 0;
}

void stage_close(struct stage *s)
{
        close(s->fd);
        s->fd = -1;
        (void)pthread_cond_destroy(&s->grown);
        (void)pthread_mutex_destroy(&s->lock);
}

int stage_append(struct stage *s, const void *data, size_t n, struct cc_err *err)
{
        bool abandoned;
        int r = cc_write_all(s->fd, data, n, err);

        if (r < 0)
                return cc_wrap(err, "stage the layer");
        (void)pthread_mutex_lock(&s->lock);
        s->len += (int64_t)n;
        abandoned = s->abandoned;
        (void)pthread_cond_signal(&s->grown);
        (void)pthread_mutex_unlock(&s->lock);
        return abandoned ? cc_fail(err, CC_CANCELED, "canceled") : 0;
}

void stage_end(struct stage *s, bool ok)
{
        (void)pthread_mutex_lock(&s->lock);
        s->ended = true;
        s->failed = !ok;
        (void)pthread_cond_signal(&s->grown);
        (void)pthread_mutex_unlock(&s->lock);
}

void stage_abandon(struct stage *s)
{
        (void)pthread_mutex_lock(&s->lock);
        s->abandoned = true;
        (void)pthread_mutex_unlock(&s->lock);
}

int stage_read(struct stage *s, int64_t off, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        int64_t len;
        bool failed;

        (void)pthread_mutex_lock(&s->lock);
        /* The writer always ends the stage, also when it is cancelled: no other wake-up is needed.
         */
        while (s->len <= off && !s->ended)
                (void)pthread_cond_wait(&s->grown, &s->lock);
        len = s->len;
        failed = s->failed;
        (void)pthread_mutex_unlock(&s->lock);
        if (len <= off) {
                if (failed)
                        return cc_fail(err, CC_CANCELED, "the download failed");
                *ret = 0;
                return 0;
        }
        if ((int64_t)n > len - off)
                n = (size_t)(len - off);
        for (;;) {
                ssize_t r = pread(s->fd, buf, n, off);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return cc_fail_errno(err, errno, "read the staged layer");
                if (r == 0)
                        return cc_fail(err, CC_IO, "the staged layer shrank");
                *ret = (size_t)r;
                return 0;
        }
}
