/*
 * The log: lines on stderr (`<time> <LVL> <message> func=<tag>`) or JSON lines in a rotated file
 * (cli.md §1). The logger is the program's only global mutable state. Errors that a command returns
 * are not logged: main prints them once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/err.h"

enum cc_log_level {
        CC_LOG_TRACE,
        CC_LOG_DEBUG,
        CC_LOG_INFO,
        CC_LOG_WARN,
        CC_LOG_ERROR,
        CC_LOG_FATAL,
        CC_LOG_PANIC,
        CC_LOG_DISABLED,
};

struct cc_log_config {
        enum cc_log_level level;
        bool use_json;        /* JSON lines on stderr; a file is always JSON */
        const char *filename; /* NULL or "": stderr */
        int64_t max_size;     /* megabytes before rotation; 0: never */
        int64_t max_age;      /* days a rotated file is kept; 0: forever */
        int64_t max_backups;  /* rotated files kept; 0: all */
};

/* Apply the configuration; opens the log file. Errors: CC_IO and its kin when it cannot be opened.
 */
int cc_log_setup(const struct cc_log_config *config, struct cc_err *err);

/* "info" → CC_LOG_INFO, ASCII case-insensitive; -CC_INVALID for an unknown name (no text). */
int cc_log_level_parse(const char *name, enum cc_log_level *ret);

bool cc_log_enabled(enum cc_log_level level);

/* One line. `tag` names the operation ("vm.start"), the message is one sentence without newline. */
void cc_log(enum cc_log_level level, const char *tag, const char *fmt, ...) CC_PRINTF(3, 4);

#define cc_debug(tag, ...) cc_log(CC_LOG_DEBUG, tag, __VA_ARGS__)
#define cc_info(tag, ...)  cc_log(CC_LOG_INFO, tag, __VA_ARGS__)
#define cc_warn(tag, ...)  cc_log(CC_LOG_WARN, tag, __VA_ARGS__)

/* Called before and after each line on stderr, so that a progress display can step aside. NULL:
 * none. */
void cc_log_set_hook(void (*hook)(bool before));
