/* Where a machine comes back from, and how: flags and arguments that clone and restore share. */
#pragma once

#include "cli/cli.h"
#include "vm/snapshot.h"

struct source_flags {
        const char *from_dir;
        const char *mode; /* "" auto */
        bool on_demand;
};
extern const struct opt source_opts[];

/* `snapshot` is the positional argument, or NULL. USAGE when neither or both are given. */
int source_flags_parse(const struct source_flags *f, const char *snapshot, struct vm_source *ret,
                       enum hv_restore_mode *ret_mode, struct cc_err *err);
