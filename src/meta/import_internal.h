/* What the parts of an import share: the records that were read, on their way into the store. */
#pragma once

#include <jansson.h>

#include "meta/import.h"
#include "meta/internal.h"

/* Longest source that is read. 100,000 records of 2 KiB are 200 MB. */
#define IMPORT_FILE_MAX   (INT64_C(1) << 30)
#define IMPORT_RECORD_MAX (16 << 20)

enum import_kind { IMPORT_VM, IMPORT_SNAPSHOT, IMPORT_NETWORK, IMPORT_OCI, IMPORT_CLOUDIMG };

struct import_row {
        enum import_kind kind;
        const char *driver; /* of a VM: what its record says, or shall say; static */
        char *key;          /* ID, or reference */
        json_t *data;       /* the record, an object; owned */
};

/* A file that was read. It is put aside when its records are safe. */
struct import_source {
        char *path;
        char sha256[65];
};

struct import {
        struct import_row *v;
        size_t n, cap;
        struct import_source *sources;
        size_t n_sources;
        int *locks; /* held until the sources are aside */
        size_t n_locks;
        const struct meta_import_args *args;
        struct meta_import_report *report;
};
void import_clear(struct import *im); /* also the cleanup function */

/* ---- import.c ---- */

/* Append a row; takes the reference to `data` also when it fails: INVALID, not an object. */
int import_add(struct import *im, enum import_kind kind, const char *driver, const char *key,
               json_t *data, struct cc_err *err);
/* Append a source, with its digest as it is now. */
int import_source(struct import *im, const char *path, struct cc_err *err);

/* ---- import_json.c, import_sqlite.c: everything below the root; appends nothing if there is
 * none. The JSON files' locks are held from then on. ---- */
int import_read_json(struct import *im, struct cc_err *err);
int import_read_sqlite(struct import *im, struct cc_err *err);

/* ---- import_rows.c ---- */

/* Names that two VMs have: renamed or refused, as the arguments say. */
int import_settle_names(struct import *im, struct cc_err *err);
/* Write all rows in the open write transaction, and `imported_from` = `id`. */
int import_write(struct import *im, struct meta *m, const char *id, struct cc_err *err);
