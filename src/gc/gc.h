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
        bool would;    /* only looked at */
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

/* What to evict among finished snapshots: those that fail any of the criteria given. */
struct gc_options {
        bool dry_run;
        bool quiet;             /* no log line per item */
        bool snapshots;         /* evict at all; with no criterion: every one */
        bool snapshots_dry_run; /* dry run of the eviction alone */
        int64_t keep;           /* this many of the last used stay; -1: no criterion */
        int64_t age;            /* ns since the last use; -1: no criterion */
        int64_t size;           /* bytes that the last used may take together; -1: no criterion */
};

/*
 * Run one cycle; logs one INFO line per collected item. A dry run changes nothing and reports what
 * a cycle would start with (what its own removals would unpin is not foreseen). A module that
 * cannot be read fails the whole before anything is removed: `gc aborted: <module>: ...`. Failures
 * of single items are in the report only.
 */
int gc_run(struct engine *e, const struct gc_options *options, struct gc_report *ret,
           struct cc_err *err);
