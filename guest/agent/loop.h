/*
 * The one event loop: descriptors watched edge-triggered (a virtio-serial port without a host
 * reports a hangup for as long as that lasts), timers, and memory that must outlive the events in
 * flight.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Embed it; `ready` gets EPOLL* bits. A source is removed by loop_close. */
struct source {
        int fd;
        void (*ready)(struct source *source, uint32_t events);
};

struct timer {
        int64_t at; /* milliseconds of loop_now */
        void (*fire)(struct timer *timer);
        bool armed;
        struct timer *next;
        struct timer **link;
};

#define SOURCE_NONE                                                                                \
        {                                                                                          \
                .fd = -1                                                                           \
        }

/* Returns -errno when the kernel refuses. */
int loop_init(void);

/* Watches source->fd for everything. Returns -errno and leaves the descriptor to the caller. */
int loop_watch(struct source *source);

/* Stops watching and closes. Nothing happens to a closed one. */
void loop_close(struct source *source);

/* (Re)arms: fires once, in the loop, `delay` milliseconds from now; 0 is after the other events. */
void loop_arm(struct timer *timer, int64_t delay);
void loop_disarm(struct timer *timer);

/* Milliseconds since boot, sleep included. */
int64_t loop_now(void);

/* free(memory) once no event can refer to it any more. */
void loop_free_later(void *memory);

/* Until loop_quit. */
void loop_run(void);
void loop_quit(void);
