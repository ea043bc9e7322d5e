/* SIGINT/SIGTERM as a flag and a descriptor. See interrupt.h. */
#include "base/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static volatile sig_atomic_t caught;
static int event_fd = -1;
static _Thread_local int shield;

static void on_signal(int sig)
{
        int saved = errno;
        uint64_t one = 1;
        ssize_t n;

        caught = sig;
        n = write(event_fd, &one, sizeof(one));
        (void)n;
        errno = saved;
}

void cc_interrupt_setup(void)
{
        struct sigaction sa;

        if (event_fd >= 0)
                return;
        event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        memset(&sa, 0, sizeof(sa));
        sa.sa_handler = on_signal;
        sigemptyset(&sa.sa_mask);
        /* No SA_RESTART: blocking calls return EINTR and the flag is seen. */
        (void)sigaction(SIGINT, &sa, NULL);
        (void)sigaction(SIGTERM, &sa, NULL);
}

bool cc_interrupted(void)
{
        return caught != 0 && shield == 0;
}

int cc_interrupt_signal(void)
{
        return caught;
}

int cc_interrupt_fd(void)
{
        return event_fd;
}

int cc_interrupt_wait_fd(void)
{
        return caught && !cc_interrupted() ? -1 : event_fd;
}

void cc_uninterruptible_begin(void)
{
        shield++;
}

void cc_uninterruptible_end(void)
{
        shield--;
}
