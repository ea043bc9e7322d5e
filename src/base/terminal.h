/* The terminal on standard input in raw mode, for sessions that pass every key on. */
#pragma once

#include <signal.h>
#include <stdbool.h>

#include "base/err.h"

#define CC_TERMINAL_SIGNALS 7

/* One at a time in a process. Zero-initialise. */
struct cc_terminal {
        struct sigaction old[CC_TERMINAL_SIGNALS];
        bool raw;
};

/* Raw mode until cc_terminal_restore(), also when a signal that ends a process by default comes. */
int cc_terminal_raw(struct cc_terminal *t, struct cc_err *err);
void cc_terminal_restore(struct cc_terminal *t); /* harmless when it is not raw */
