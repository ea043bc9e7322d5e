/*
 * The double's log, in the form of Firecracker's: one line a message with time, id and thread, into
 * a file that is written from its start and neither truncated nor appended to, or without one to
 * standard output, where it mixes with the guest's console.
 */
#pragma once

#include <stdbool.h>

#include "base/cleanup.h"

enum fcd_level { FCD_LOG_OFF, FCD_LOG_ERROR, FCD_LOG_WARN, FCD_LOG_INFO, FCD_LOG_DEBUG };

struct fcd_log {
        int fd; /* -1: standard output */
        enum fcd_level level;
        const char *id; /* of the machine */
        bool show_level;
};

/* "Off", "Error", "Warn", "Warning", "Info", "Debug", "Trace" in any case; -1 for anything else. */
int fcd_log_level(const char *name);

/* Open the target; `create` when it need not exist. Returns 0 or the errno. */
int fcd_log_open(struct fcd_log *log, const char *path, bool create);

void fcd_log_write(const struct fcd_log *log, enum fcd_level level, const char *thread,
                   const char *fmt, ...) CC_PRINTF(4, 5);
