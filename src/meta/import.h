/*
 * Import of the root of the project that we stay compatible with (state.md §2): its JSON indexes or
 * its SQLite store become ours, once. Paths, IDs and times stay as they are, so running VMs are
 * found again by their pid files.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

struct meta_import_args {
        const char *root_dir, *run_dir;
        /* Two drivers may have had VMs of one name: give the later one "-<first 8 of its ID>".
         * Without it that is CONFLICT. */
        bool rename_conflicts;
        /* SHA-256 of a file as lower-case hex. */
        int (*digest)(const char *path, char ret[65], struct cc_err *err);
};

struct meta_import_report {
        size_t vms, snapshots, networks, images; /* images: references */
        struct cc_strv sources;                  /* files that were read, absolute */
        struct cc_strv renamed;                  /* "ID: OLD -> NEW" */
        struct cc_strv notes;                    /* what else the user should know */
        bool resumed; /* an import that was interrupted is finished now; counts are 0 */
};
void meta_import_report_clear(struct meta_import_report *r); /* also the cleanup function */
#define META_IMPORT_REPORT CC_CLEANUP(meta_import_report_clear)

/*
 * Import and put the sources aside as `<name>.converted-<UTC>`. All or nothing: killed at any
 * point, calling it again starts over or finishes. Errors: NOT_FOUND (nothing to import), CONFLICT
 * (our store already has records; a name twice; names that differ from the records), BUSY (the
 * older program holds a lock, or has its store open), STATE (a removal is unfinished there),
 * INVALID or CORRUPT (a source cannot be read; the text names it).
 */
int meta_import(const struct meta_import_args *args, struct meta_import_report *ret,
                struct cc_err *err);
