/*
 * The event loop of a double: descriptors, timers and signals in one thread, so that a fake guest
 * lives on while the API server is held up, and nothing needs a lock.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct dbl_loop;

/* What became of a descriptor: `revents` as poll(2) reports them. */
typedef void dbl_fd_fn(void *arg, int fd, short revents);
typedef void dbl_timer_fn(void *arg);
typedef void dbl_signal_fn(void *arg, int sig);

struct dbl_loop *dbl_loop_new(void);
void dbl_loop_free(struct dbl_loop *loop);
static inline void dbl_loop_freep(struct dbl_loop **loop)
{
        dbl_loop_free(*loop);
}

/* Watch fd for `events` (poll bits, may be 0); replaces an earlier watch. The descriptor stays the
 * caller's, who removes the watch before closing it. */
void dbl_loop_watch(struct dbl_loop *loop, int fd, short events, dbl_fd_fn *fn, void *arg);
void dbl_loop_unwatch(struct dbl_loop *loop, int fd);

/* Call fn once when cc_monotonic() reaches `at` (ns). Returns an id > 0 for dbl_loop_cancel(). */
unsigned dbl_loop_at(struct dbl_loop *loop, int64_t at, dbl_timer_fn *fn, void *arg);
void dbl_loop_cancel(struct dbl_loop *loop, unsigned id); /* 0 or a fired one: nothing happens */

/* Block the signals of `set` and deliver them through the loop instead. At most once. */
int dbl_loop_signals(struct dbl_loop *loop, const sigset_t *set, dbl_signal_fn *fn, void *arg,
                     struct cc_err *err);

/* Run until dbl_loop_exit(); returns its status. Due timers go first, in their order. */
int dbl_loop_run(struct dbl_loop *loop);
void dbl_loop_exit(struct dbl_loop *loop, int status);
