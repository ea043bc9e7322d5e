/* start, stop and rm over several VMs: resolve all, run in parallel, report each (cli.md §5.5). */
#pragma once

#include "cli/cli.h"
#include "cli/output.h"

struct batch {
        const char *verb; /* "start": prefix of each item's error */
        const char *tag;  /* log tag, "vm.start" */
        const char *done; /* success line in front of ": <id>" */
        const char *none; /* INFO line when nothing succeeded */
        vm_batch_fn fn;
        void *ctx;
};

/* Runs over cli->args. CC_PARTIAL or the common class when items failed; the failed ones are in
 * cli->items. */
int batch_run(struct cli *cli, const struct batch *batch, const struct output_flags *out,
              struct cc_err *err);
