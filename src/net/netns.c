/* Named network namespaces. See netns.h. */
#include "net/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/str.h"
#include "base/timeutil.h"

#define DELETE_TRIES    10
#define DELETE_PAUSE_NS (100 * CC_NSEC_PER_MSEC)

char *netns_path(const char *vm_id)
{
        return xasprintf("%s/cocoon-%s", NETNS_DIR, vm_id);
}

bool netns_exists(const char *path)
{
        struct statfs fs;

        return statfs(path, &fs) == 0 && (unsigned long)fs.f_type == NSFS_MAGIC;
}

/* A bind mount made below a private mount would be invisible to every other mount namespace. */
static int share_directory(struct cc_err *err)
{
        int r = cc_mkdir_p(NETNS_DIR, 0755, err);

        if (r < 0)
                return r;
        if (mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0)
                return 0;
        if (errno == EINVAL && mount(NETNS_DIR, NETNS_DIR, "none", MS_BIND | MS_REC, NULL) == 0 &&
            mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0)
                return 0;
        return cc_fail_errno(err, errno, "make %s a shared mount", NETNS_DIR);
}

/* In a child of its own, because unshare() changes the caller. Only system calls: we may be one
 * thread of several. */
static int bind_new(const char *path, struct cc_err *err)
{
        int status = 0;
        pid_t pid = fork();

        if (pid < 0)
                return cc_fail_errno(err, errno, "fork");
        if (pid == 0) {
                if (unshare(CLONE_NEWNET) < 0 ||
                    mount("/proc/self/ns/net", path, "none", MS_BIND, NULL) < 0)
                        _exit(errno > 0 && errno < 255 ? errno : 255);
                _exit(0);
        }
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return cc_fail_errno(err, errno, "wait for child");
        if (!WIFEXITED(status))
                return cc_fail(err, CC_IO, "create network namespace %s: killed by signal %d", path,
                               WTERMSIG(status));
        if (WEXITSTATUS(status) != 0)
                return cc_fail_errno(err, WEXITSTATUS(status), "create network namespace %s", path);
        return 0;
}

static int create_name(const char *path, struct cc_err *err)
{
        CC_CLOSE int fd = -1;
        int r = share_directory(err);

        if (r < 0)
                return r;
        fd = open(path, O_CREAT | O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0444);
        return fd < 0 ? cc_fail_errno(err, errno, "create %s", path) : 0;
}

int netns_create(const char *path, bool *ret_created, struct cc_err *err)
{
        int r;

        if (netns_exists(path)) {
                if (ret_created)
                        *ret_created = false;
                return 0;
        }
        r = create_name(path, err);
        if (r < 0)
                return r;
        r = bind_new(path, err);
        if (r < 0) {
                /* A child that was killed may have got as far as the mount. */
                (void)umount2(path, MNT_DETACH);
                (void)unlink(path);
                return r;
        }
        if (ret_created)
                *ret_created = true;
        return 0;
}

int netns_rebind(const char *path, pid_t pid, struct cc_err *err)
{
        CC_FREE char *from = xasprintf("/proc/%d/ns/net", (int)pid);
        struct stat theirs;
        struct stat ours;
        int r;

        if (stat(from, &theirs) < 0 || stat("/proc/thread-self/ns/net", &ours) < 0)
                return cc_fail_errno(err, errno, "look at %s", from);
        if (theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino)
                return cc_fail(err, CC_STATE, "process %d lives in the host's network namespace",
                               (int)pid);
        r = create_name(path, err);
        if (r < 0)
                return r;
        if (mount(from, path, "none", MS_BIND, NULL) < 0) {
                r = cc_fail_errno(err, errno, "name network namespace %s", path);
                (void)unlink(path);
        }
        return r;
}

int netns_list(struct cc_strv *ret, struct cc_err *err)
{
        CC_DIR DIR *d = opendir(NETNS_DIR);
        struct dirent *e;

        if (!d && errno == ENOENT)
                return 0;
        if (!d)
                return cc_fail_errno(err, errno, "open %s", NETNS_DIR);
        while ((e = readdir(d)))
                if (e->d_name[0] != '.')
                        cc_strv_add(ret, e->d_name);
        cc_strv_sort(ret);
        return 0;
}

int netns_inhabited(const char *path, bool *ret, struct cc_err *err)
{
        CC_DIR DIR *d = opendir("/proc");
        struct dirent *e;
        struct stat want;

        if (!d || stat(path, &want) < 0)
                return cc_fail_errno(err, errno, "look for processes in %s", path);
        *ret = false;
        while (!*ret && (e = readdir(d))) {
                char name[300];
                struct stat st;

                if (e->d_name[0] < '1' || e->d_name[0] > '9')
                        continue;
                (void)snprintf(name, sizeof(name), "/proc/%s/ns/net", e->d_name);
                *ret = stat(name, &st) == 0 && st.st_dev == want.st_dev && st.st_ino == want.st_ino;
        }
        return 0;
}

int netns_delete(const char *path, struct cc_err *err)
{
        struct stat st;

        /* Who may not unmount is not asked to where there is nothing. */
        if (lstat(path, &st) < 0 && errno == ENOENT)
                return 0;
        for (int i = 0;; i++) {
                struct timespec pause = { .tv_nsec = DELETE_PAUSE_NS };

                /* EINVAL: a plain file. */
                if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL &&
                    errno != ENOENT)
                        return cc_fail_errno(err, errno, "unmount %s", path);
                if (unlink(path) == 0 || errno == ENOENT)
                        return 0;
                /* EBUSY: still mounted in another mount namespace that is being left. */
                if (errno != EBUSY || i == DELETE_TRIES)
                        return cc_fail_errno(err, errno, "remove %s", path);
                (void)nanosleep(&pause, NULL);
        }
}

static int open_inside(bool tun, struct netns_fds *f, struct cc_err *err)
{
        int r = rtnl_open(&f->sk, err);

        if (r == 0 && tun) {
                f->tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
                if (f->tun < 0)
                        r = cc_fail_errno(err, errno, "open /dev/net/tun");
        }
        return r;
}

int netns_open(const char *path, bool tun, struct netns_fds *ret, struct cc_err *err)
{
        NETNS_FDS struct netns_fds f = NETNS_FDS_INIT;
        CC_CLOSE int home = -1;
        int r;

        if (!cc_isempty(path)) {
                home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
                if (home < 0)
                        return cc_fail_errno(err, errno, "open own network namespace");
                if (!netns_exists(path))
                        return cc_fail(err, CC_NOT_FOUND, "network namespace %s does not exist",
                                       path);
                f.ns = open(path, O_RDONLY | O_CLOEXEC);
                if (f.ns < 0)
                        return cc_fail_errno(err, errno, "open network namespace %s", path);
                if (setns(f.ns, CLONE_NEWNET) < 0)
                        return cc_fail_errno(err, errno, "enter network namespace %s", path);
        }
        r = open_inside(tun, &f, err);
        /* Going on in a guest's namespace would act on the wrong network. */
        if (home >= 0 && setns(home, CLONE_NEWNET) < 0)
                abort();
        if (r < 0)
                return r;
        *ret = f;
        f = (struct netns_fds)NETNS_FDS_INIT;
        return 0;
}

void netns_close(struct netns_fds *f)
{
        if (f->ns >= 0)
                close(f->ns);
        if (f->tun >= 0)
                close(f->tun);
        if (f->sk)
                nl_socket_free(f->sk);
        *f = (struct netns_fds)NETNS_FDS_INIT;
}
