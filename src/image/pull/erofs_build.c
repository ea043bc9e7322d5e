/* TEMPORARY: mkfs.erofs in directory mode stands in. */
#include "image/pull/erofs_build.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/stat.h>
#include "base/alloc.h"
#include "base/fs.h"
#include "base/proc.h"
#include "image/pull/digest.h"
struct erofs_builder {
        char *out, *tar, *dir;
        int fd;
};
const char *erofs_builder(void)
{
        return "mkfs.erofs";
}
int erofs_build_start(const char *out, const struct config *config, struct erofs_builder **ret,
                      struct cc_err *err)
{
        struct erofs_builder *b = xcalloc(1, sizeof(*b));
        b->out = xstrdup(out);
        b->tar = xasprintf("%s.tar", out);
        b->dir = xasprintf("%s.dir", out);
        b->fd = open(b->tar, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (b->fd < 0)
                return cc_fail_errno(err, errno, "create %s", b->tar);
        *ret = b;
        return cc_mkdir_p(b->dir, 0755, err);
}
int erofs_build_read(struct erofs_builder *b, inflate_source_fn source, void *ctx,
                     struct cc_err *err)
{
        char buf[65536];
        for (;;) {
                size_t n;
                int r = source(ctx, buf, sizeof(buf), &n, err);
                if (r < 0 || n == 0)
                        return r;
                r = cc_write_all(b->fd, buf, n, err);
                if (r < 0)
                        return r;
        }
}
int erofs_build_finish(struct erofs_builder *b, const char *diff_hex, char *sha256,
                       struct cc_err *err)
{
        const char *tar[] = { "tar", "-xf", b->tar, "-C", b->dir, NULL };
        const char *mk[] = {
                "mkfs.erofs", "--quiet", "-T0", "-U", "00000000-0000-4000-8000-000000000000",
                b->out,       b->dir,    NULL
        };
        int r = cc_run_ok(tar, 0, NULL, err);
        int fd;
        if (r < 0) {
                err->class = CC_INVALID;
                return -CC_INVALID;
        }
        r = cc_run_ok(mk, 0, NULL, err);
        if (r < 0)
                return r;
        fd = open(b->out, O_RDONLY | O_CLOEXEC);
        r = digest_of_fd(fd, sha256, NULL, err);
        close(fd);
        return r;
}
void erofs_build_free(struct erofs_builder *b)
{
        if (!b)
                return;
        if (b->fd >= 0)
                close(b->fd);
        (void)cc_unlink(b->tar, NULL);
        (void)cc_rm_rf(b->dir, NULL);
        free(b->out);
        free(b->tar);
        free(b->dir);
        free(b);
}
