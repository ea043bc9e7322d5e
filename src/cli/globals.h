/*
 * The flags that every command takes: those of the configuration's key table and a few of the
 * program itself.
 */
#pragma once

#include "cli/opt.h"
#include "config/config.h"

#define GLOBALS_CONFIG_MAX 16

struct globals {
        const char *config_file;
        const char *config_values[GLOBALS_CONFIG_MAX]; /* by order of the flags in config_keys */
        const char *error_format;                      /* text | json */
        const char *progress;                          /* auto | plain | none */
        int64_t lock_timeout;                          /* ns; 0: wait for ever */
        bool help;
};

/* The rows; built from config_keys at the first call. */
const struct opt_group *globals_opts(void);

/* The configuration flags that were given, for config_load(). At most GLOBALS_CONFIG_MAX. */
size_t globals_config_flags(const struct opt_set *set, struct config_flag *ret);
