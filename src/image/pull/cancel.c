/* A flag and a descriptor that stop all workers. See cancel.h. */
#include "image/pull/cancel.h"

#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/interrupt.h"
#include "base/timeutil.h"

void cancel_init(struct cancel *c)
{
        atomic_init(&c->flag, false);
        c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void cancel_free(struct cancel *c)
{
        if (c->fd >= 0)
                close(c->fd);
        c->fd = -1;
}

void cancel_fire(struct cancel *c)
{
        uint64_t one = 1;
        ssize_t n;

        atomic_store(&c->flag, true);
        n = write(c->fd, &one, sizeof(one));
        (void)n;
}

bool cancel_pending(const struct cancel *c)
{
        return atomic_load(&c->flag) || cc_interrupted();
}

bool cancel_sleep(const struct cancel *c, int ms)
{
        int64_t end = cc_monotonic() + ms * CC_NSEC_PER_MSEC;

        while (!cancel_pending(c)) {
                struct pollfd fds[2] = { { .fd = c->fd, .events = POLLIN },
                                         { .fd = cc_interrupt_fd(), .events = POLLIN } };
                int64_t left = end - cc_monotonic();

                if (left <= 0)
                        return true;
                (void)poll(fds, 2, (int)(left / CC_NSEC_PER_MSEC) + 1);
        }
        return false;
}
