#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/timeutil.h"

struct watch {
        int fd; /* -1: removed, swept before the next poll */
        short events;
        dbl_fd_fn *fn;
        void *arg;
};

struct timer {
        unsigned id;
        int64_t at;
        dbl_timer_fn *fn;
        void *arg;
};

struct dbl_loop {
        struct watch *watches;
        size_t n_watches;
        struct timer *timers; /* by time, then by id */
        size_t n_timers;
        unsigned last_id;
        int signal_fd;
        dbl_signal_fn *signal_fn;
        void *signal_arg;
        bool done;
        int status;
};

struct dbl_loop *dbl_loop_new(void)
{
        struct dbl_loop *loop = xcalloc(1, sizeof(*loop));

        loop->signal_fd = -1;
        return loop;
}

void dbl_loop_free(struct dbl_loop *loop)
{
        if (!loop)
                return;
        if (loop->signal_fd >= 0)
                close(loop->signal_fd);
        free(loop->watches);
        free(loop->timers);
        free(loop);
}

static struct watch *find_watch(struct dbl_loop *loop, int fd)
{
        for (size_t i = 0; i < loop->n_watches; i++)
                if (loop->watches[i].fd == fd)
                        return &loop->watches[i];
        return NULL;
}

void dbl_loop_watch(struct dbl_loop *loop, int fd, short events, dbl_fd_fn *fn, void *arg)
{
        struct watch *w = find_watch(loop, fd);

        if (!w) {
                loop->watches =
                        xreallocarray(loop->watches, loop->n_watches + 1, sizeof(*loop->watches));
                w = &loop->watches[loop->n_watches++];
        }
        *w = (struct watch){ .fd = fd, .events = events, .fn = fn, .arg = arg };
}

void dbl_loop_unwatch(struct dbl_loop *loop, int fd)
{
        struct watch *w = fd < 0 ? NULL : find_watch(loop, fd);

        if (w)
                w->fd = -1;
}

unsigned dbl_loop_at(struct dbl_loop *loop, int64_t at, dbl_timer_fn *fn, void *arg)
{
        size_t i;

        loop->timers = xreallocarray(loop->timers, loop->n_timers + 1, sizeof(*loop->timers));
        for (i = loop->n_timers; i > 0 && loop->timers[i - 1].at > at; i--)
                loop->timers[i] = loop->timers[i - 1];
        loop->timers[i] = (struct timer){ .id = ++loop->last_id, .at = at, .fn = fn, .arg = arg };
        loop->n_timers++;
        return loop->last_id;
}

static void drop_timer(struct dbl_loop *loop, size_t i)
{
        loop->n_timers--;
        memmove(&loop->timers[i], &loop->timers[i + 1],
                (loop->n_timers - i) * sizeof(*loop->timers));
}

void dbl_loop_cancel(struct dbl_loop *loop, unsigned id)
{
        for (size_t i = 0; id && i < loop->n_timers; i++) {
                if (loop->timers[i].id == id) {
                        drop_timer(loop, i);
                        return;
                }
        }
}

static void on_signal(void *arg, int fd, short revents)
{
        struct dbl_loop *loop = arg;
        struct signalfd_siginfo info;

        if (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
                loop->signal_fn(loop->signal_arg, (int)info.ssi_signo);
}

int dbl_loop_signals(struct dbl_loop *loop, const sigset_t *set, dbl_signal_fn *fn, void *arg,
                     struct cc_err *err)
{
        if (sigprocmask(SIG_BLOCK, set, NULL) < 0)
                return cc_fail_errno(err, errno, "block signals");
        loop->signal_fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (loop->signal_fd < 0)
                return cc_fail_errno(err, errno, "signalfd");
        loop->signal_fn = fn;
        loop->signal_arg = arg;
        dbl_loop_watch(loop, loop->signal_fd, POLLIN, on_signal, loop);
        return 0;
}

static int run_timers(struct dbl_loop *loop)
{
        int64_t left;

        while (!loop->done && loop->n_timers) {
                struct timer t = loop->timers[0];

                left = t.at - cc_monotonic();
                if (left > 0)
                        return left > INT32_MAX * CC_NSEC_PER_MSEC
                                       ? INT32_MAX
                                       : (int)((left + CC_NSEC_PER_MSEC - 1) / CC_NSEC_PER_MSEC);
                drop_timer(loop, 0);
                t.fn(t.arg);
        }
        return -1;
}

static size_t gather(struct dbl_loop *loop, struct pollfd **fds)
{
        size_t n = 0;

        for (size_t i = 0; i < loop->n_watches; i++)
                if (loop->watches[i].fd >= 0)
                        loop->watches[n++] = loop->watches[i];
        loop->n_watches = n;
        *fds = xreallocarray(*fds, n + 1, sizeof(**fds));
        for (size_t i = 0; i < n; i++)
                (*fds)[i] = (struct pollfd){ .fd = loop->watches[i].fd,
                                             .events = loop->watches[i].events };
        return n;
}

int dbl_loop_run(struct dbl_loop *loop)
{
        CC_CLEANUP(cc_cleanup_free) struct pollfd *fds = NULL;

        while (!loop->done) {
                int timeout = run_timers(loop);
                size_t n;

                if (loop->done)
                        break;
                n = gather(loop, &fds);
                if (poll(fds, n, timeout) <= 0)
                        continue;
                for (size_t i = 0; i < n && !loop->done; i++) {
                        struct watch *w = fds[i].revents ? find_watch(loop, fds[i].fd) : NULL;

                        /* A callback before this one may have changed what is wanted. */
                        if (w && fds[i].revents & (w->events | POLLERR | POLLHUP | POLLNVAL))
                                w->fn(w->arg, fds[i].fd, fds[i].revents);
                }
        }
        return loop->status;
}

void dbl_loop_exit(struct dbl_loop *loop, int status)
{
        loop->done = true;
        loop->status = status;
}
