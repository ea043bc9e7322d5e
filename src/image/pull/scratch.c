/* Locked temporary directories. See scratch.h. */
#include "image/pull/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"
#include "config/layout.h"

enum { MAX_TRIES = 10 };

/* 1: locked and still that directory; 0: someone else's, or gone. */
static int try_own(const char *dir, int *ret)
{
        CC_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        struct stat mine;
        struct stat named;

        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
                return 0;
        if (fstat(fd, &mine) < 0 || lstat(dir, &named) < 0 || mine.st_ino != named.st_ino ||
            mine.st_dev != named.st_dev)
                return 0;
        *ret = TAKE_FD(fd);
        return 1;
}

/* Best effort: whatever cannot be removed now is gc's. */
static void sweep(const char *temp)
{
        CC_DIR DIR *d = opendir(temp);

        if (!d)
                return;
        for (struct dirent *e; (e = readdir(d));) {
                CC_FREE char *path = NULL;
                CC_CLOSE int fd = -1;

                if (!cc_startswith(e->d_name, "pull-") && !cc_startswith(e->d_name, "import-"))
                        continue;
                path = cc_path_join(temp, e->d_name);
                if (try_own(path, &fd) && cc_rm_rf(path, NULL) == 0)
                        cc_debug("image", "removed the leftover %s", path);
        }
}

int scratch_create(const struct config *config, const char *verb, struct scratch *ret,
                   struct cc_err *err)
{
        CC_FREE char *temp = layout_oci_temp(config);
        int r = cc_mkdir_p(temp, 0750, err);

        if (r < 0)
                return r;
        sweep(temp);
        for (int i = 0; i < MAX_TRIES; i++) {
                CC_FREE char *dir = NULL;
                CC_CLOSE int fd = -1;
                char id[CC_ID_LEN + 1];

                cc_id_new(id);
                dir = xasprintf("%s/%s-%s", temp, verb, id);
                if (mkdir(dir, 0700) < 0)
                        return cc_fail_errno(err, errno, "create %s", dir);
                /* A sweep of another process may hit the instant before our lock: then make another
                 * one. */
                if (try_own(dir, &fd)) {
                        *ret = (struct scratch){ .dir = TAKE_PTR(dir), .fd = TAKE_FD(fd) };
                        return 0;
                }
                (void)cc_rm_rf(dir, NULL);
        }
        return cc_fail(err, CC_IO, "cannot lock a directory in %s", temp);
}

void scratch_remove(struct scratch *s)
{
        struct cc_err err = CC_ERR_INIT;

        if (!s->dir)
                return;
        if (cc_rm_rf(s->dir, &err) < 0)
                cc_warn("image", "%s", err.msg);
        close(s->fd);
        free(s->dir);
        *s = (struct scratch){ 0 };
}
