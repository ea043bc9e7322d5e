/*
 * Starting the console relay: everything that can fail happens here, in the command, where it can
 * be reported; the relay process (relay.c) gets open descriptors and serves at once.
 *
 * One relay per VM: an exclusive flock whose open file description passes to the relay. It is free
 * again the moment the relay is gone, however it ended.
 */
#include "console/console.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/proc.h"
#include "base/timeutil.h"
#include "console/relay.h"

/* A relay whose VMM has just died needs this long at most to notice and let go of the lock. */
#define RELAY_EXIT_NS (3 * CC_NSEC_PER_SEC)

static int unix_addr(const char *path, struct sockaddr_un *ret, struct cc_err *err)
{
        size_t n = strlen(path);

        memset(ret, 0, sizeof(*ret));
        ret->sun_family = AF_UNIX;
        if (n >= sizeof(ret->sun_path))
                return cc_fail(err, CC_INVALID, "socket path %s is longer than %zu bytes", path,
                               sizeof(ret->sun_path) - 1);
        memcpy(ret->sun_path, path, n);
        return 0;
}

static int connect_unix(const char *path, int *ret, struct cc_err *err)
{
        struct sockaddr_un addr;
        CC_CLOSE int fd = -1;
        int rc = unix_addr(path, &addr, err);

        if (rc < 0)
                return rc;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create socket");
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
                return cc_fail_errno(err, errno, "connect to %s", path);
        *ret = TAKE_FD(fd);
        return 0;
}

/* The caller's descriptor stays the caller's. */
static int open_source(const struct console_relay *relay, int *ret, struct cc_err *err)
{
        int flags;
        int fd;

        if (relay->source < 0)
                return relay->open(relay->driver, relay->run_dir, relay->vmm_pidfd, ret, err);
        fd = fcntl(relay->source, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return cc_fail_errno(err, errno, "duplicate console descriptor");
        flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
                int e = errno;

                close(fd);
                return cc_fail_errno(err, e, "make console descriptor nonblocking");
        }
        *ret = fd;
        return 0;
}

/* We hold the relay lock: a socket file left here belongs to nobody. */
static int listen_unix(const char *path, int *ret, struct cc_err *err)
{
        struct sockaddr_un addr;
        CC_CLOSE int fd = -1;
        int rc = unix_addr(path, &addr, err);

        if (rc == 0)
                rc = cc_unlink(path, err);
        if (rc < 0)
                return rc;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create socket");
        /* Nobody connects before listen(), so the moment between bind() and chmod() is harmless. */
        if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || chmod(path, 0600) < 0 ||
            listen(fd, 16) < 0)
                return cc_fail_errno(err, errno, "listen on %s", path);
        *ret = TAKE_FD(fd);
        return 0;
}

/* 1: locked; 0: another relay serves this VM. */
static int take_lock(const struct console_relay *relay, int *ret, struct cc_err *err)
{
        CC_CLOSE int probe = -1;
        int rc = cc_lock_try(relay->lock_path, CC_LOCK_EXCLUSIVE, "console-relay", ret, NULL);

        if (rc == 0)
                return 1;
        if (rc == -CC_BUSY && connect_unix(relay->listen_path, &probe, NULL) == 0)
                return 0;
        /* Held by the relay of the previous VMM, on its way out. */
        rc = cc_lock(relay->lock_path, CC_LOCK_EXCLUSIVE, "console-relay",
                     cc_monotonic() + RELAY_EXIT_NS, ret, err);
        return rc < 0 ? rc : 1;
}

/* The very binary that runs now, under its path where that still names it (ps shows it). */
static char *own_binary(void)
{
        char exe[PATH_MAX];
        struct stat named;
        struct stat mine;
        ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

        if (n > 0) {
                exe[n] = '\0';
                if (stat(exe, &named) == 0 && stat("/proc/self/exe", &mine) == 0 &&
                    named.st_ino == mine.st_ino && named.st_dev == mine.st_dev)
                        return xstrdup(exe);
        }
        return xstrdup("/proc/self/exe");
}

int console_relay_start(const struct console_relay *relay, struct cc_err *err)
{
        CC_FREE char *exe = own_binary();
        CC_CLOSE int lock = -1;
        CC_CLOSE int source = -1;
        CC_CLOSE int listener = -1;
        const char *argv[] = { exe,
                               CONSOLE_RELAY_VERB,
                               relay->listen_path,
                               relay->log_path ? relay->log_path : "",
                               relay->driver,
                               relay->run_dir,
                               NULL };
        struct cc_fd_map fds[4];
        struct cc_spawn spawn = {
                .argv = argv,
                .env = cc_lasting_env,
                .fd_in = -1,
                .fd_out = -1,
                .fd_err = -1,
                .fds = fds,
                .n_fds = CC_ARRAY_LEN(fds),
                .new_session = true,
                .detach = true,
        };
        int rc = take_lock(relay, &lock, err);

        if (rc <= 0)
                return rc < 0 ? cc_wrap(err, "console relay") : 0;
        rc = open_source(relay, &source, err);
        if (rc == 0)
                rc = listen_unix(relay->listen_path, &listener, err);
        if (rc < 0)
                return cc_wrap(err, "console relay");
        fds[0] = (struct cc_fd_map){ listener, RELAY_FD_LISTEN };
        fds[1] = (struct cc_fd_map){ source, RELAY_FD_SOURCE };
        fds[2] = (struct cc_fd_map){ relay->vmm_pidfd, RELAY_FD_VMM };
        fds[3] = (struct cc_fd_map){ lock, RELAY_FD_LOCK };
        rc = cc_spawn(&spawn, NULL, NULL, err);
        if (rc < 0) {
                (void)cc_unlink(relay->listen_path, NULL);
                return cc_wrap(err, "console relay");
        }
        return 0;
}
