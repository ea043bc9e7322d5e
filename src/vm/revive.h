/*
 * What clone and restore share: finding a snapshot, judging it before anything is touched, and
 * bringing its machine back in a run directory that holds its files.
 */
#pragma once

#include "vm/internal.h"
#include "vm/snapshot.h"

/* A snapshot that may be used: its lease is held until revival_clear(). */
struct revival {
        const struct hv_driver *drv;
        struct hv_env env;
        struct snapshot_record rec; /* data_dir: the directory, also with --from-dir */
        struct snap_sidecar side;
        json_t *side_json;
        struct hv_disk *disks; /* of the sidecar, for the driver */
        struct hv_snapshot hv;
        struct cc_strv macs; /* of the guest's NICs, as far as known */
        bool from_dir;
        int lease; /* -1 with from_dir */
};
#define REVIVAL_INIT                                                                               \
        {                                                                                          \
                .lease = -1                                                                        \
        }
void revival_clear(struct revival *r); /* also the cleanup function */
#define REVIVAL CC_CLEANUP(revival_clear)

/* Find it and take the lease; its driver is chosen. */
int revival_open(struct engine *e, const struct vm_source *source, const char *op,
                 struct revival *ret, struct cc_err *err);

/* All checks that need only the snapshot and this host: configuration, sidecar, the driver's
 * preflight. No side effects. */
int revival_judge(struct engine *e, struct revival *r, struct cc_err *err);

/* The snapshot's part of a VM record: configuration, disks, boot files, pins. vm->run_dir is set.
 */
int revival_fill(struct engine *e, const struct revival *r, struct vm_record *vm,
                 struct cc_err *err);

/* Layers, boot files and the base of a cloud image are here; else NOT_FOUND naming the first. */
int revival_check_base(struct engine *e, const struct revival *r, const struct vm_record *vm,
                       struct cc_err *err);

/* Make an overlay disk that was staged into `dir` point to the base image of this installation, and
 * nowhere else. */
int revival_rebase(struct engine *e, const struct revival *r, const char *dir, struct cc_err *err);

/* What the snapshot tells about an agent in its guest: 1 it answered when it was taken, 0 it did
 * not, -1 nothing. */
int revival_agent(const struct revival *r);

/* Nothing of the snapshot is needed any more: others may remove it. */
void revival_release(struct revival *r);

/* Start the VMM on the staged files and load; paused, NICs and disks rewired. vm's first disks are
 * the snapshot's. `label`: passed once the process exists. On failure nothing runs. */
struct revive_how {
        enum hv_restore_mode mode;
        bool clone;
        const char *label;
};
int revive_load(struct engine *e, const struct revival *r, const struct revive_how *how,
                const struct vm_record *vm, struct vm_proc *ret, struct cc_err *err);

/* Let the guest run. The caller ends the VMM on failure. */
int revive_resume(struct engine *e, const struct revival *r, const struct revive_how *how,
                  const struct vm_record *vm, const struct vm_proc *proc, struct cc_err *err);
