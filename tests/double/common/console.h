/*
 * The host side of a guest's console: a PTY, a listening unix socket with one client at a time, or
 * a pair of descriptors. Output that nobody takes yet is kept, up to a bound, and then dropped:
 * a guest never waits for its console.
 */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "loop.h"

struct dbl_console;

typedef void dbl_console_fn(void *ctx, const char *data, size_t n); /* what was typed */

/* A new raw PTY; dbl_console_path() is its slave. */
int dbl_console_pty(struct dbl_loop *loop, dbl_console_fn *input, void *ctx,
                    struct dbl_console **ret, struct cc_err *err);

/* Listen on a unix socket; fails if the path exists. With `keep`, output before the first client
 * is kept for it. */
int dbl_console_socket(struct dbl_loop *loop, const char *path, bool keep, dbl_console_fn *input,
                       void *ctx, struct dbl_console **ret, struct cc_err *err);

/* Descriptors of the process (its standard input and output), which stay the caller's. */
void dbl_console_fds(struct dbl_loop *loop, int in, int out, dbl_console_fn *input, void *ctx,
                     struct dbl_console **ret);

/* NULL-safe, all three. Freeing closes the PTY or unlinks the socket. */
void dbl_console_free(struct dbl_console *c);
const char *dbl_console_path(const struct dbl_console *c); /* "" without one */
void dbl_console_write(struct dbl_console *c, const char *data, size_t n);
