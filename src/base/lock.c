/* flock(2) on lock files: identity re-check, holder text, waiting with a notice. See fs.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/timeutil.h"

/* "pid op start" of the last exclusive holder, for messages only; it may be stale. */
static void holder_text(int fd, char *out, size_t n)
{
        ssize_t r = pread(fd, out, n - 1, 0);

        out[r > 0 ? r : 0] = '\0';
        out[strcspn(out, "\n")] = '\0';
        if (!*out) /* shared holders leave no text */
                (void)snprintf(out, n, "another process");
        for (char *p = out; *p; p++)
                if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
                        *p = '?';
}

static void write_holder(int fd, const char *op)
{
        char when[CC_RFC3339_MAX];
        char text[160];
        int n;

        cc_time_rfc3339(cc_now(), when);
        n = snprintf(text, sizeof(text), "%d %.80s %s\n", (int)getpid(), op, when);
        /* Only a message: failing to write it must not fail the lock. */
        if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) < 0)
                cc_debug("lock", "cannot write lock holder");
}

/* Returns 1 when locked, 0 when busy (holder filled), negative on error. */
static int attempt(const char *path, enum cc_lock_mode mode, const char *op, char *holder, size_t n,
                   int *ret, struct cc_err *err)
{
        for (;;) {
                struct stat mine;
                struct stat named;
                CC_CLOSE int fd = cc_sys.openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

                if (fd < 0)
                        return cc_fail_errno(err, errno, "open lock %s", path);
                if (flock(fd, (mode == CC_LOCK_SHARED ? LOCK_SH : LOCK_EX) | LOCK_NB) < 0) {
                        if (errno == EINTR)
                                continue;
                        if (errno != EWOULDBLOCK)
                                return cc_fail_errno(err, errno, "lock %s", path);
                        holder_text(fd, holder, n);
                        return 0;
                }
                if (fstat(fd, &mine) < 0)
                        return cc_fail_errno(err, errno, "stat lock %s", path);
                if (stat(path, &named) < 0 || named.st_ino != mine.st_ino ||
                    named.st_dev != mine.st_dev)
                        continue; /* gc unlinked it between open and flock */
                if (mode == CC_LOCK_EXCLUSIVE)
                        write_holder(fd, op);
                *ret = TAKE_FD(fd);
                return 1;
        }
}

int cc_lock_try(const char *path, enum cc_lock_mode mode, const char *op, int *ret,
                struct cc_err *err)
{
        char holder[160];
        int r = attempt(path, mode, op, holder, sizeof(holder), ret, err);

        if (r < 0)
                return r;
        if (r == 0)
                return cc_fail(err, CC_BUSY, "lock %s is held by: %s", cc_basename(path), holder);
        return 0;
}

int cc_lock(const char *path, enum cc_lock_mode mode, const char *op, int64_t deadline, int *ret,
            struct cc_err *err)
{
        char holder[160];
        int64_t start = cc_monotonic();
        int delay = 10;
        bool told = false;

        for (;;) {
                struct pollfd stop = { .events = POLLIN };
                int64_t now;
                int r = attempt(path, mode, op, holder, sizeof(holder), ret, err);

                if (r != 0)
                        return r < 0 ? r : 0;
                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted while waiting for lock %s",
                                       cc_basename(path));
                now = cc_monotonic();
                if (deadline && now >= deadline)
                        return cc_fail(err, CC_BUSY, "lock %s is held by: %s", cc_basename(path),
                                       holder);
                if (!told && now - start >= CC_NSEC_PER_SEC) {
                        cc_info(op, "waiting for lock %s, held by: %s", cc_basename(path), holder);
                        told = true;
                }
                /* flock has no descriptor to wait on; a blocking flock could not be cancelled. */
                if (deadline && delay > (deadline - now) / CC_NSEC_PER_MSEC + 1)
                        delay = (int)((deadline - now) / CC_NSEC_PER_MSEC) + 1;
                stop.fd = cc_interrupt_wait_fd();
                (void)poll(&stop, 1, delay);
                delay = delay * 2 > 100 ? 100 : delay * 2;
        }
}
