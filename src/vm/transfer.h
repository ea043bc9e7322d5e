/* Snapshots out of and into the store: export and import (state.md §5). */
#pragma once

#include "snap/archive.h"
#include "vm/vm.h"

struct vm_export_request {
        const char *snapshot; /* reference */
        const char *output;   /* file, "-" standard output, "" made from the name */
        const char *to_dir;   /* "" or a directory, absent or empty, instead of an archive */
        bool gzip;
        snap_progress_fn progress; /* may be NULL */
        void *ctx;
};
/* *ret_file: what was written, "-" for standard output; the caller frees. */
int vm_snapshot_export(struct engine *e, const struct vm_export_request *req, char **ret_file,
                       struct cc_err *err);

struct vm_import_request {
        int fd;                         /* the archive, read to its end */
        const char *name, *description; /* "" the archive's */
        snap_progress_fn progress;      /* may be NULL */
        void *ctx;
};
int vm_snapshot_import(struct engine *e, const struct vm_import_request *req,
                       struct snapshot_record *ret, struct cc_err *err);
