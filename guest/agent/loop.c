/* The event loop; loop.h. */
#include "loop.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64

struct garbage {
        struct garbage *next;
        void *memory;
};

static int epoll_fd = -1;
static bool quit;
static struct timer *timers; /* few: one or two a session */
static struct garbage *garbage;

int loop_init(void)
{
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        return epoll_fd < 0 ? -errno : 0;
}

int loop_watch(struct source *source)
{
        struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                     .data.ptr = source };

        return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, source->fd, &event) < 0 ? -errno : 0;
}

void loop_close(struct source *source)
{
        if (source->fd < 0)
                return;
        /* By name: a copy of the descriptor in a child would keep it watched. */
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
        close(source->fd);
        source->fd = -1;
}

void loop_disarm(struct timer *timer)
{
        if (!timer->armed)
                return;
        *timer->link = timer->next;
        if (timer->next)
                timer->next->link = timer->link;
        timer->armed = false;
}

void loop_arm(struct timer *timer, int64_t delay)
{
        loop_disarm(timer);
        timer->at = loop_now() + delay;
        timer->next = timers;
        timer->link = &timers;
        if (timers)
                timers->link = &timer->next;
        timers = timer;
        timer->armed = true;
}

int64_t loop_now(void)
{
        struct timespec now;

        clock_gettime(CLOCK_BOOTTIME, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void loop_free_later(void *memory)
{
        struct garbage *g = malloc(sizeof(*g));

        if (!g)
                abort();
        *g = (struct garbage){ garbage, memory };
        garbage = g;
}

static void collect(void)
{
        while (garbage) {
                struct garbage *g = garbage;

                garbage = g->next;
                free(g->memory);
                free(g);
        }
}

static int wait_time(void)
{
        int64_t first = INT64_MAX;
        int64_t left;

        for (const struct timer *t = timers; t; t = t->next)
                if (t->at < first)
                        first = t->at;
        if (first == INT64_MAX)
                return -1;
        left = first - loop_now();
        return left <= 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

/* Those due now; what they arm waits for the next round. */
static void fire_timers(void)
{
        int64_t now = timers ? loop_now() : 0;
        struct timer *due = NULL;

        for (struct timer *t = timers, *next; t; t = next) {
                next = t->next;
                if (t->at > now)
                        continue;
                loop_disarm(t);
                t->next = due;
                t->link = &due;
                if (due)
                        due->link = &t->next;
                due = t;
                t->armed = true;
        }
        while (due) {
                struct timer *t = due;

                loop_disarm(t);
                t->fire(t);
        }
}

void loop_quit(void)
{
        quit = true;
}

void loop_run(void)
{
        struct epoll_event events[BATCH];

        while (!quit) {
                int n = epoll_wait(epoll_fd, events, BATCH, wait_time());

                for (int i = 0; i < n && !quit; i++) {
                        struct source *source = events[i].data.ptr;

                        /* Closed by the handler of an earlier one. */
                        if (source->fd >= 0)
                                source->ready(source, events[i].events);
                }
                fire_timers();
                collect();
        }
        collect();
}
