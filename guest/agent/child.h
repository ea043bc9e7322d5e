/*
 * The process behind a session: a command, or one of our own that copies a file (transfer.h). Both
 * run in a process group of their own with the session's pipes or terminal as standard streams, and
 * say how they fare on a report pipe, in lines:
 *
 *     E <text>              failed, why
 *     S <mode> <size>       the file is open (copies only)
 *     R <sha256> <size>     copied (copies only)
 *
 * The report of a command ends without a line when the kernel has replaced the program.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "frame.h"

/* Descriptors are non-blocking, -1 where there is none: a terminal has no `err`. */
struct child {
        pid_t pid;
        int in;
        int out;
        int err;
        int report;
        bool tty;
        bool copies; /* ends its work at SIGTERM and leaves nothing behind */
};

/* Lets the agent have as many descriptors as it may: SESSION_MAX sessions need more than the
 * customary limit. Children get that one back. */
void child_raise_limits(void);

/* Starts what an exec, put or get frame asks for. Returns -errno; `ret` is set only on success. */
int child_start(const struct frame *frame, struct child *ret);

/* Signals the group. Only before the child is reaped: later its number may be another's. */
void child_signal(const struct child *child, int signo);

/* Makes an end of it, at once. */
void child_kill(const struct child *child);

/* "INT" → SIGINT; 0 for what is no signal. And back: NULL for what has no name. */
int signal_by_name(const char *name);
const char *signal_name(int signo);

/* In the child: reports the failure and exits. */
void child_fail(int report, const char *format, ...)
        __attribute__((format(printf, 2, 3), noreturn));
