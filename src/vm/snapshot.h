/*
 * Verbs on VMs that make or use snapshots: save, hibernate, clone, restore. Snapshots at rest are
 * src/snap's; which order things happen in, and what a killed verb leaves, is here (state.md §4,
 * §6, §8).
 */
#pragma once

#include "snap/snap.h"
#include "vm/vm.h"

struct snap_env vm_snap_env(const struct engine *e);

/* Save a running VM; it runs on, also after a failure. `name` and `description` may be "". *ret:
 * the committed record. */
int vm_save(struct engine *e, const char *id, const char *name, const char *description,
            struct snapshot_record *ret, struct cc_err *err);

/* Save a running VM and end it in the same pause. On failure it runs on and no snapshot is left. */
int vm_hibernate(struct engine *e, const char *id, const char *name, const char *description,
                 struct snapshot_record *ret, struct cc_err *err);

/* Remove a snapshot, finished or abandoned. A source VM that its maker left paused is resumed
 * first, if nobody works on it. */
int vm_snapshot_rm(struct engine *e, const char *id, struct cc_err *err);

/* Where a machine comes back from: exactly one of both is not "". */
struct vm_source {
        const char *snapshot; /* reference */
        const char *from_dir;
};

struct vm_restore_request {
        struct vm_source source;
        bool force; /* from_dir: another VM's snapshot too */
        enum hv_restore_mode mode;
};
/* `ref`: the VM as the user called it, for messages. */
int vm_restore(struct engine *e, const char *id, const char *ref,
               const struct vm_restore_request *req, struct vm_record *ret, struct cc_err *err);

struct vm_clone_request {
        struct vm_source source;
        const char *name;                    /* "" default */
        const char *network, *bridge;        /* "" the snapshot's */
        int64_t nics;                        /* -1: the snapshot's */
        int64_t queue_size, disk_queue_size; /* 0: the snapshot's */
        int no_direct_io;                    /* -1: the snapshot's */
        bool no_guest_setup;                 /* the guest is left as it is */
        enum hv_restore_mode mode;
};
/* *ret_settled: the guest's agent has given it the new identity, so that no hints are needed. */
int vm_clone(struct engine *e, const struct vm_clone_request *req, struct vm_record *ret,
             bool *ret_settled, struct cc_err *err);

/* Commands that make a clone's guest take over its new identity (cli.md §5.6), one a line, to be
 * pasted as a block. Caller frees. */
char *vm_clone_hints(const struct vm_record *vm);
