/*
 * Watching VMs (cli.md §5.4): a view of the store that wakes up when a record changes or a VMM
 * dies, and says what is different. How that is printed is the command's.
 */
#pragma once

#include "cli/cli.h"
#include "cli/list.h"

struct vm_event {
        const char *type;           /* ADDED, MODIFIED, DELETED */
        const struct vm_record *vm; /* shown fields filled; for DELETED the last that was known */
};

struct vm_watch_args {
        char *const *refs; /* as for vm_list_run() */
        size_t n_refs;
        const struct list_flags *filter; /* what stops passing is DELETED from the view */
        int64_t interval_s;              /* longest time between two looks */
        int64_t timeout;                 /* ns; 0: none */
        bool detached;                   /* a stdout without reader does not end it */
        /* One call a change of the view, and one at the start even if there is nothing. Events are
         * in order of creation; `view` holds all VMs in the same order. False ends the watch. */
        bool (*changed)(void *ctx, const struct vm_event *events, size_t n_events,
                        const void **view, size_t n_view);
        void *ctx;
};

/* Run until `changed` says so, a signal, or until stdout has no reader: all are success. TIMEOUT
 * without text after `timeout`. A look that fails keeps the view and is a warning; only the first
 * one is an error. */
int vm_watch_run(struct cli *cli, const struct vm_watch_args *args, struct cc_err *err);
