/*
 * What the files of this folder share: the steps behind the verbs. "Locked" functions expect the
 * VM's ops lock to be held by the caller (flock is not reentrant).
 */
#pragma once

#include <stddef.h>

#include "image/image.h"
#include "vm/vm.h"

/* ---- engine.c ---- */

/* The VM's ops lock, exclusive; waits as long as the engine allows. Closing *ret releases it. */
int vm_lock(struct engine *e, const char *id, const char *op, int *ret, struct cc_err *err);

/* The record as it is now, and its driver. A tombstone found here is rolled forward first and then
 * reported as CONFLICT (state.md §3). `vm <id>: vm not found` when the row is gone. */
int vm_load_locked(struct engine *e, const char *id, struct vm_record *ret,
                   const struct hv_driver **ret_drv, struct cc_err *err);

/* Durable update of one record. */
int vm_commit(struct engine *e, struct vm_record *vm, const char *reason, struct cc_err *err);

void vm_set_state(struct vm_record *vm, enum vm_state state);
bool vm_in_state(const struct vm_record *vm, enum vm_state state);

struct net_env vm_net_env(const struct engine *e);

/* Idle the network of a VM without VMM; a failure is a warning. */
void vm_quiesce(struct engine *e, const struct vm_record *vm);

/* Plumbing above the recorded NICs, of which the machine has none: removed, a failure is a warning
 * (network.md §11). */
void vm_reclaim_nics(struct engine *e, const struct net_provider *net, const struct vm_record *vm);

/* Take out of the running machine the NICs that its record does not have: of a resize that was
 * killed, or of one whose guest had not answered yet and whose record went on. Their plumbing stays
 * for vm_reclaim_nics(). TIMEOUT: the guest does not release one. */
int vm_drop_stray_nics(const struct hv_driver *drv, const struct hv_env *env,
                       const struct vm_record *vm, struct cc_err *err);

/* Best-effort removal of the driver's runtime files and console.sock. */
void vm_remove_runtime(const struct hv_driver *drv, const struct vm_record *vm, const char *tag);

/* ---- present.c ---- */

/* vm_find_live() for verbs that act on the answer: 1 live, 0 not live, negative when nobody can
 * tell. */
int vm_is_live(const struct hv_driver *drv, const struct vm_record *vm, struct vm_proc *ret,
               struct cc_err *err);

/* ---- cmdline.c ---- */

/* Longest kernel command line, the terminating NUL included. */
#define VM_CMDLINE_MAX 2048

/* vm_cmdline() into the record; CC_INVALID when it is too long. No-op for firmware boot. */
int vm_rebuild_cmdline(const struct config *c, const struct hv_driver *drv, struct vm_record *vm,
                       struct cc_err *err);

/* Whether a mount point survives the guest's word splitting; another is left to the user. */
bool vm_cmdline_carries(const char *path);

/* ---- kernel.c ---- */

/* Put into the record the kernel file that this driver boots, extracting it from the image's if
 * need be (HV_CAP_ELF_KERNEL): again when what is there is older or damaged. Nothing is left behind
 * by a failure. */
int vm_kernel_ready(const struct hv_driver *drv, struct vm_record *vm, struct cc_err *err);

/* ---- spec.c ---- */

/* Queues of a new NIC (2 per pair), 0: as many as the provider chooses. */
int64_t vm_nic_queues(const struct hv_driver *drv);

/* A vm_spec with the arrays that it points to; strings borrowed from the record. */
struct vm_spec_buf {
        struct vm_spec spec;
        struct hv_disk *disks;
        struct hv_nic *nics;
        struct hv_forward *forwards;
};
int vm_spec_build(const struct vm_record *vm, struct vm_spec_buf *ret, struct cc_err *err);
void vm_spec_clear(struct vm_spec_buf *b);
#define VM_SPEC_BUF CC_CLEANUP(vm_spec_clear)

/* ---- validate.c ---- */

/* Everything about a request that needs neither image nor host services. */
int vm_validate(const struct vm_request *req, const struct hv_driver *drv, struct cc_err *err);

/* The data disks of a request with names and mount points filled in, as records without paths.
 * `ret_sizes` parallel to them. */
int vm_data_disks(const struct vm_request *req, struct record_array *ret, int64_t **ret_sizes,
                  struct cc_err *err);

/* ---- plan.c ---- */

/* A request resolved against image, driver and network, before anything exists. */
struct vm_plan {
        const struct vm_request *req;
        const struct hv_driver *drv;
        struct hv_env env;
        const struct net_provider *net; /* NULL: no network */
        struct image_locks blob_locks;  /* SH; held until the pins are committed */
        bool name_defaulted;
        bool cloudimg;
        char *base_image; /* cloudimg: the overlay's backing file */
        int64_t *data_sizes;
        size_t n_data;
        struct vm_record vm;
};
int vm_plan_make(struct engine *e, const struct vm_request *req, struct vm_plan *ret,
                 struct cc_err *err);
/* Give the plan an identity: ID, directories, disk paths. May be repeated with another ID. */
int vm_plan_identify(struct engine *e, struct vm_plan *plan, const char *id, struct cc_err *err);
/* The driver's own check, with the NICs that the VM will get. */
int vm_plan_check(const struct vm_plan *plan, struct cc_err *err);
void vm_plan_clear(struct vm_plan *plan);
#define VM_PLAN CC_CLEANUP(vm_plan_clear)

/* ---- disks.c ---- */

/* Make the writable disks of a planned VM, several at a time. On failure the caller removes the run
 * directory. */
int vm_make_disks(const struct vm_plan *plan, struct cc_err *err);

/* ---- seed.c ---- */

/* The cloud-init volume in a VM's run dir: a read-only disk of the role cidata, attached until the
 * first successful start. */
#define VM_SEED_NAME "cidata.img"

/* What the seed of this record would say: identity, NICs, mounts of data disks, name servers.
 * `password` NULL or "": no credentials (a clone keeps those of its snapshot). CC_INVALID before
 * anything is made; a record without a cidata disk has no seed and passes. */
int vm_seed_check(const struct config *c, const struct vm_record *vm, const char *user,
                  const char *password, struct cc_err *err);

/* The same, written to the path of the record's cidata disk, replacing a seed that is there. */
int vm_seed_write(const struct config *c, const struct vm_record *vm, const char *user,
                  const char *password, struct cc_err *err);

/* Once no VMM has it any more and no start will attach it, the seed needs no credentials: it is
 * written anew without them. Best effort, logged. */
void vm_seed_forget(const struct config *c, const struct vm_record *vm, const char *tag);

/* ---- start.c ---- */

/* The identity of the VMM in the record. */
void vm_set_proc(struct vm_record *vm, const struct vm_proc *proc);
void vm_forget_proc(struct vm_record *vm);

/* Serve the console; without it the guest runs all the same. */
void vm_start_relay(struct engine *e, const struct hv_driver *drv, const struct vm_record *vm,
                    const struct vm_proc *proc);

/* The network of a VM without VMM, verified or rebuilt. */
int vm_ready_network(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                     struct cc_err *err);

/* T1-T5. `vm` is updated to what was committed. */
int vm_start_locked(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                    struct cc_err *err);

/* ---- stop.c ---- */

/* P1-P4; grace_ms 0: no graceful window. */
int vm_stop_locked(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                   int grace_ms, struct cc_err *err);

/* ---- live.c ---- */

/* Is the VMM there, and does it run its guest? One that a killed verb left paused is resumed, with
 * a warning. *proc is set for a live one. STATE `vm is not running: …`, code "vm_not_running". */
int vm_check_running(const struct hv_driver *drv, const struct hv_env *env,
                     const struct vm_record *vm, struct vm_proc *proc, struct cc_err *err);

/* The VM under its lock, its driver and its live, running VMM, for verbs that act on one. */
struct vm_live {
        int lock;
        struct vm_record vm;
        const struct hv_driver *drv;
        struct hv_env env;
        struct vm_proc proc;
};
#define VM_LIVE_INIT                                                                               \
        {                                                                                          \
                .lock = -1, .proc = VM_PROC_INIT                                                   \
        }
/* Lock and load; the VMM is not asked yet, so that a refusal by capability comes first. */
int vm_live_open(struct engine *e, const char *id, const char *op, struct vm_live *ret,
                 struct cc_err *err);
int vm_live_check(struct vm_live *l, struct cc_err *err); /* vm_check_running */
void vm_live_close(struct vm_live *l);                    /* also the cleanup function */
#define VM_LIVE CC_CLEANUP(vm_live_close)

/* ---- recover.c ---- */

/* H9-H11: end the VMM of a VM whose snapshot is complete. */
int vm_finish_hibernate(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                        struct cc_err *err);

void vm_drop_restore_marker(struct vm_record *vm);

/* Where a restore gathers its files: beside the run dir. Caller frees. */
char *vm_staging_dir(const struct vm_record *vm);

/* ---- rm.c ---- */

/* D2-D5 for a VM without a live VMM. */
int vm_rm_locked(struct engine *e, const struct vm_record *vm, struct cc_err *err);

/* Finish a removal that a tombstone records. 1: there was one, it is done; 0: none. */
int vm_rm_roll_forward(struct engine *e, const char *id, struct cc_err *err);
