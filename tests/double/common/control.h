/*
 * The control socket of a double, named by the knob CONTROL: a test's hand inside the machine. A
 * connection sends one command a line and gets one line back, "ok" or "error: …". The commands are
 * the double's own.
 */
#pragma once

#include "journal.h"
#include "loop.h"
#include "base/err.h"

struct dbl_control;

/* Execute "name argument"; argument is "" without one. */
typedef int dbl_control_fn(void *ctx, const char *name, const char *argument, struct cc_err *err);

/* NULL when path is NULL. A stale socket is replaced; failing to bind ends the process. */
struct dbl_control *dbl_control_new(struct dbl_loop *loop, struct dbl_journal *journal,
                                    const char *path, dbl_control_fn *fn, void *ctx);
void dbl_control_free(struct dbl_control *c);
