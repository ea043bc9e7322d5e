/*
 * One switch that stops every worker of a pull: a flag for loops and a descriptor for poll sets.
 * SIGINT and SIGTERM (base/interrupt.h) count as pulled.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

struct cancel {
        atomic_bool flag;
        int fd; /* eventfd, readable once cancelled; never read */
};

/* Descriptor limits make this fail like any open: on -1 fd waits fall back to their timeouts. */
void cancel_init(struct cancel *c);
void cancel_free(struct cancel *c);

/* Stop everything that watches `c`; callable from any thread, any number of times. */
void cancel_fire(struct cancel *c);

/* True after cancel_fire() or a signal. */
bool cancel_pending(const struct cancel *c);

/* Sleep `ms`, or less when cancelled. Returns false when cancelled. */
bool cancel_sleep(const struct cancel *c, int ms);
