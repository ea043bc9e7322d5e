/*
 * Garbage collection (state.md §7): what no record needs any more, and what killed commands left
 * behind. One cycle: finish recorded removals, see that every module can be read, then collect
 * module by module. It never waits for a lock: what is in use is somebody's.
 */
#pragma once

#include "vm/vm.h"

/* One thing that was removed, or in a dry run would be. */
struct gc_item {
        const char *module; /* "qemu", "oci", ... */
        const char *reason; /* "orphan-runDir", "unreferenced", ... */
        char *id;
        char *detail;  /* "key=value ..." for the log line */
        int64_t bytes; /* allocated on disk, 0 for what has no size */
};

/* One candidate that could not be removed; it stays for the next cycle. */
struct gc_failure {
        const char *module;
        char *id, *error;
};

struct gc_report {
        bool busy; /* another cycle is running; nothing was done */
        struct gc_item *items;
        size_t n_items;
        struct gc_failure *failures;
        size_t n_failures;
        int64_t duration; /* ns */
};
void gc_report_clear(struct gc_report *r); /* also the cleanup function */
#define GC_REPORT CC_CLEANUP(gc_report_clear)

/*
 * Run one cycle; logs one INFO line per collected item. `dry_run` changes nothing and reports what
 * a cycle would start with (what its own removals would unpin is not foreseen). A module that
 * cannot be read fails the whole before anything is removed: `gc aborted: <module>: ...`. Failures
 * of single items are in the report only.
 */
int gc_run(struct engine *e, bool dry_run, struct gc_report *ret, struct cc_err *err);
