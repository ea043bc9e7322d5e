/* What the modules of a cycle share. A module is one row of the table in gc.c. */
#pragma once

#include "gc/gc.h"

struct gc {
        struct engine *e;
        const struct gc_options *options;
        bool dry_run;
        struct gc_report *report;
};

/* Something that may be garbage. What decides is asked again under its lock. */
struct gc_candidate {
        char *id;
        const char *reason;
        char *path; /* NULL: the module knows by id and reason */
};

struct gc_list {
        struct gc_candidate *v;
        size_t n;
};
void gc_list_add(struct gc_list *l, const char *id, const char *reason, char *path /* taken */);
void gc_list_clear(struct gc_list *l); /* also the cleanup function */
#define GC_LIST CC_CLEANUP(gc_list_clear)

enum { GC_DONE = 1, GC_WOULD = 2 };

struct gc_module;
struct gc_module {
        const char *name;
        const struct hv_driver *drv; /* a driver's own module */
        /* Append all candidates. Reads only. */
        int (*scan)(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                    struct cc_err *err);
        /* Remove one: GC_DONE, or GC_WOULD where nothing is to change (*ret_detail and *ret_bytes
         * describe it), 0 no garbage after all or in use. */
        int (*collect)(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                       char **ret_detail, int64_t *ret_bytes, struct cc_err *err);
};

/* ---- list.c ---- */

/* Is `key` in a set sorted bytewise. */
bool gc_has(const struct cc_strv *sorted, const char *key);

/* Names in a directory, "." and ".." left out, sorted; an absent directory has none. */
int gc_names(const char *dir, struct cc_strv *ret, struct cc_err *err);

/* Older than an hour, by modification. */
bool gc_old(const char *path);

/* The lock without waiting: 1 taken, 0 in use. */
int gc_lock(const char *path, int *ret, struct cc_err *err);

/* ---- modules ---- */
int gc_vms_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                struct cc_err *err);
int gc_vms_collect(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                   char **ret_detail, int64_t *ret_bytes, struct cc_err *err);
int gc_oci_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                struct cc_err *err);
int gc_cloudimg_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                     struct cc_err *err);
int gc_blob_collect(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                    char **ret_detail, int64_t *ret_bytes, struct cc_err *err);
int gc_snapshots_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                      struct cc_err *err);
int gc_snapshots_collect(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                         char **ret_detail, int64_t *ret_bytes, struct cc_err *err);
int gc_net_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                struct cc_err *err);
int gc_net_collect(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                   char **ret_detail, int64_t *ret_bytes, struct cc_err *err);
int gc_locks_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                  struct cc_err *err);
int gc_locks_collect(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                     char **ret_detail, int64_t *ret_bytes, struct cc_err *err);

/* Remove the files of a blob: its image, boot files, cloud image. Idempotent. */
int gc_blob_files_remove(struct engine *e, const char *hex, struct cc_err *err);

/* ---- recover.c ---- */

/* Finish or drop what tombstones record, each under its own lock. Failures go to the report. */
int gc_recover(struct gc *gc, struct cc_err *err);

/* ---- gc.c ---- */
void gc_collected(struct gc *gc, const char *module, const char *id, const char *reason,
                  char *detail /* taken, may be NULL */, int64_t bytes, bool would);
void gc_failed(struct gc *gc, const char *module, const char *id, const struct cc_err *why);
