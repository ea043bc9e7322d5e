/*
 * tail -f for VMM logs. An inotify watch on the directory wakes us, because the file may be
 * truncated, replaced or removed; what is at its beginning tells whether it is still the same log.
 */
#include "cli/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/str.h"
#include "base/timeutil.h"

#define HEAD        64
#define CHUNK       65536
#define DEBOUNCE_MS 100

struct log {
        const char *path;
        off_t offset;    /* printed so far */
        char head[HEAD]; /* beginning of what was printed; never read again from the file */
        size_t head_len;
};

enum { GONE = 1 }; /* stdout has no reader any more */

static int put(const char *data, size_t n, struct cc_err *err)
{
        struct cc_err lost = CC_ERR_INIT;
        int r = cc_write_all(STDOUT_FILENO, data, n, &lost);

        if (r < 0 && lost.sys == EPIPE)
                return GONE;
        if (r < 0 && cc_interrupted())
                return GONE;
        return r < 0 ? cc_err_copy(err, &lost) : 0;
}

/* Where the last n lines start; a final newline does not start another line. */
static int tail_offset(int fd, off_t size, int64_t n, off_t *ret, struct cc_err *err)
{
        CC_FREE char *chunk = xmalloc(CHUNK);
        off_t end = size;
        int64_t seen = 0;

        while (end > 0) {
                size_t len = end < CHUNK ? (size_t)end : CHUNK;
                int r = cc_pread_all(fd, chunk, len, end - (off_t)len, err);

                if (r < 0)
                        return r;
                for (size_t i = len; i-- > 0;) {
                        off_t at = end - (off_t)len + (off_t)i;

                        if (chunk[i] == '\n' && at != size - 1 && ++seen == n) {
                                *ret = at + 1;
                                return 0;
                        }
                }
                end -= (off_t)len;
        }
        *ret = 0;
        return 0;
}

/* Remember the first bytes as they are printed: reading them again later would race with a
 * truncation and take the new log for the old one. */
static void remember(struct log *log, const char *data, size_t n)
{
        if (log->offset != (off_t)log->head_len || log->head_len == HEAD)
                return;
        if (n > HEAD - log->head_len)
                n = HEAD - log->head_len;
        memcpy(log->head + log->head_len, data, n);
        log->head_len += n;
}

/* Print up to the size seen before the identity was checked: what comes behind it may already
 * belong to another log. */
static int copy_until(struct log *log, int fd, off_t size, struct cc_err *err)
{
        CC_FREE char *chunk = xmalloc(CHUNK);
        ssize_t n = 0;

        while (log->offset < size) {
                off_t left = size - log->offset;
                int r;

                n = pread(fd, chunk, left < CHUNK ? (size_t)left : CHUNK, log->offset);
                if (n <= 0)
                        break;
                r = put(chunk, (size_t)n, err);

                if (r)
                        return r;
                remember(log, chunk, (size_t)n);
                log->offset += n;
                if (cc_interrupted())
                        return GONE;
        }
        if (n < 0 && errno != EINTR)
                return cc_fail_errno(err, errno, "read %s", log->path);
        return 0;
}

/* Skip to the last lines; the skipped beginning still identifies the log. */
static int skip_to_tail(struct log *log, int fd, off_t size, int64_t lines, struct cc_err *err)
{
        ssize_t n;
        int r = tail_offset(fd, size, lines, &log->offset, err);

        if (r < 0 || log->offset == 0)
                return r;
        n = pread(fd, log->head, log->offset < HEAD ? (size_t)log->offset : HEAD, 0);
        if (n > 0)
                log->head_len = (size_t)n;
        else
                log->offset = 0;
        return 0;
}

/* After a change: start over if it is another log, then print what is new. */
static int catch_up(struct log *log, struct cc_err *err)
{
        CC_CLOSE int fd = open(log->path, O_RDONLY | O_CLOEXEC);
        char head[HEAD];
        struct stat st;

        if (fd < 0)
                return 0; /* between two starts, or the VM is gone: only a signal ends us */
        if (fstat(fd, &st) < 0)
                return cc_fail_errno(err, errno, "stat %s", log->path);
        if (st.st_size < log->offset ||
            (log->head_len && (pread(fd, head, log->head_len, 0) != (ssize_t)log->head_len ||
                               memcmp(head, log->head, log->head_len) != 0))) {
                log->offset = 0;
                log->head_len = 0;
        }
        return copy_until(log, fd, st.st_size, err);
}

/*
 * Sleep until the directory changes (pause_ms < 0), or for pause_ms whatever changes. Returns 0, or
 * GONE on a signal or a closed stdout.
 */
static int wait_change(int watch, int pause_ms, struct cc_err *err)
{
        char events[4096] __attribute__((aligned(8)));
        int64_t until = cc_monotonic() + pause_ms * CC_NSEC_PER_MSEC;
        struct pollfd fds[3] = {
                { .fd = pause_ms < 0 ? watch : -1, .events = POLLIN },
                { .fd = cc_interrupt_fd(), .events = POLLIN },
                { .fd = STDOUT_FILENO },
        };

        while (!cc_interrupted()) {
                int64_t left = until - cc_monotonic();
                int n;

                if (pause_ms >= 0 && left <= 0)
                        return 0;
                n = poll(fds, CC_ARRAY_LEN(fds),
                         pause_ms < 0 ? -1 : (int)(left / CC_NSEC_PER_MSEC) + 1);
                if (n < 0 && errno != EINTR)
                        return cc_fail_errno(err, errno, "wait for the log");
                if (n <= 0)
                        continue;
                if (fds[1].revents || fds[2].revents & (POLLERR | POLLHUP | POLLNVAL))
                        return GONE;
                if (fds[0].revents & POLLIN) {
                        while (read(watch, events, sizeof(events)) > 0)
                                ;
                        return 0;
                }
        }
        return GONE;
}

static int follow_loop(struct log *log, int watch, struct cc_err *err)
{
        int r = catch_up(log, err);

        while (r == 0) {
                r = wait_change(watch, -1, err);
                if (r == 0)
                        r = catch_up(log, err);
                /* A chatty VMM wakes us at most ten times a second: events of the pause stay queued
                 * and end the next wait at once. */
                if (r == 0)
                        r = wait_change(watch, DEBOUNCE_MS, err);
        }
        return r;
}

int follow_file(const char *path, int64_t tail, bool follow, struct cc_err *err)
{
        CC_CLOSE int watch = -1;
        CC_CLOSE int fd = -1;
        CC_FREE char *dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));
        struct log log = { .path = path };
        struct stat st;
        int r = 0;

        if (follow) {
                watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
                /* Watched before the first read, so that nothing falls in between. */
                if (watch < 0 ||
                    (inotify_add_watch(watch, dir, IN_MODIFY | IN_CREATE | IN_MOVED_TO) < 0 &&
                     errno != ENOENT))
                        return cc_fail_errno(err, errno, "watch %s", dir);
        }
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return cc_fail(err, CC_NOT_FOUND,
                               "logs: no log file at %s; the VM may not have been started", path);
        if (fd < 0 || fstat(fd, &st) < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        if (tail > 0)
                r = skip_to_tail(&log, fd, st.st_size, tail, err);
        if (r == 0)
                r = copy_until(&log, fd, st.st_size, err);
        if (r == 0 && follow)
                r = follow_loop(&log, watch, err);
        return r == GONE ? 0 : r;
}
