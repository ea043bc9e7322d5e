/* What a removal would remove: collected, then printed instead of doing it (cli.md §11.10). */
#pragma once

#include "cli/output.h"

struct dry_run {
        struct cc_buf lines;
        json_t *items;
};
void dry_run_clear(struct dry_run *d); /* also the cleanup function */
#define DRY_RUN CC_CLEANUP(dry_run_clear)

/* One object: `what` it is ("VM"), its ID, its name (NULL or "" none), its bytes on disk. */
void dry_run_add(struct dry_run *d, const char *what, const char *id, const char *name,
                 int64_t bytes);

/* To stdout: lines, bare IDs with --quiet, or
 * {"dry_run":true,"would_delete":[{"id","name","bytes"}]}. */
void dry_run_print(const struct dry_run *d, const struct output_flags *out);

/* The row of the flag; `offset` of the bool it sets. */
#define DRY_RUN_ROW(at)                                                                            \
        {                                                                                          \
                .name = "dry-run", .type = OPT_BOOL, .offset = (at),                               \
                .help = "say what would be deleted, with sizes; change nothing"                    \
        }
