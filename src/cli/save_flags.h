/* What `snapshot save` and `vm hibernate` share: flags and the report. */
#pragma once

#include "cli/cli.h"
#include "cli/output.h"
#include "vm/snapshot.h"

struct save_flags {
        struct output_flags out;
        const char *name, *description;
};
extern const struct opt save_opts[];

typedef int (*save_fn)(struct engine *e, const char *id, const char *name, const char *description,
                       struct snapshot_record *ret, struct cc_err *err);

/* Resolve args[0], run, report. */
int save_run(struct cli *cli, const struct save_flags *f, const char *tag, save_fn fn,
             struct cc_err *err);
