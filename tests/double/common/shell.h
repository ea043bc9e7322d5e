/*
 * The fake guest's root shell: the few commands tests type on a console, and the files they leave.
 * Files below /dev, /run and /tmp are memory; all others are the guest's disk.
 *
 *   echo WORDS   cat FILE...   hostname [NAME]   sync   true   nproc   uptime   rm FILE...
 *   counter      counts up in guest memory and prints: a snapshot takes it along
 *   poweroff     reboot
 *
 * with `;`, `&&`, quotes, `>` and `>>`. Not a shell: no variables, no pipes, no globs.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum dbl_power { DBL_POWER_NONE, DBL_POWER_OFF, DBL_POWER_REBOOT };

struct dbl_shell {
        char *hostname;
        char *cmdline;
        int cpus;
        int64_t counter;
        json_t *memory; /* path: text */
        json_t *disk;   /* path: text */
        bool disk_changed;
};

void dbl_shell_init(struct dbl_shell *sh);
void dbl_shell_free(struct dbl_shell *sh);

/* Run one line; output with "\n" line ends is added to out. `uptime` in ns. */
enum dbl_power dbl_shell_run(struct dbl_shell *sh, const char *line, int64_t uptime,
                             struct cc_buf *out);
