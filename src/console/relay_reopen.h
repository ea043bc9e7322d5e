/* Opening a VMM's console again while the relay goes on serving its clients. See relay.c. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "console/console.h"

struct relay_reopen {
        console_open_fn open; /* NULL: this relay does not */
        const char *driver, *run_dir;
        int fd;         /* where the child sends the descriptor; -1: no child */
        int64_t next;   /* when to try (again), ns of cc_monotonic(); 0: not wanted */
        int64_t pause;  /* before the attempt after that */
        int64_t opened; /* when the last attempt succeeded */
};

void relay_reopen_init(struct relay_reopen *ro, console_open_fn open, const char *driver,
                       const char *run_dir);

/* The console has ended. */
void relay_reopen_begin(struct relay_reopen *ro);

/* How long a poll may wait at most; -1: for ever. */
int relay_reopen_wait_ms(const struct relay_reopen *ro);

/* One step, after a poll: `readable` says that ro->fd is. Returns the new console, or -1. */
int relay_reopen_step(struct relay_reopen *ro, bool readable);
