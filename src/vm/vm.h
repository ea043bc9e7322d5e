/*
 * The VM state machine (state.md §3): create, start, stop, rm and what they share. A verb takes the
 * VM's lock here, runs its labelled steps, and commits; image, net, hv and disk do one thing each.
 */
#pragma once

#include "config/config.h"
#include "hv/driver.h"
#include "meta/meta.h"
#include "net/provider.h"

/* One command's context. Not shared between threads: workers open their own with engine_open(). */
struct engine {
        const struct config *config;
        struct meta *meta;
        int64_t lock_timeout_ms; /* 0: wait for ever */
};
int engine_open(const struct config *config, struct engine *ret, struct cc_err *err);
void engine_close(struct engine *e); /* also the cleanup function */
#define ENGINE CC_CLEANUP(engine_close)

/* What one data disk was asked to be (cli.md §4.2). */
struct vm_data_disk {
        char *name, *fstype, *mount;
        int64_t size;
        int direct_io; /* -1 inherit */
};

/* A create request, already parsed: flags only, nothing resolved. */
struct vm_request {
        const char *image;
        const char *driver; /* "", or a driver name forced by a flag */
        const char *name;   /* "" default */
        int64_t cpu, memory, storage, nics, queue_size, disk_queue_size;
        const char *network, *bridge; /* "" none */
        const char *user, *password;
        bool no_direct_io, windows, shared_memory, hugepages, mergeable, no_watchdog, no_balloon,
                pci, flat;
        int64_t cpu_weight, cpu_quota_us, cpu_period_us, cpu_burst_us;
        const char *cpuset_cpus;
        const struct cc_strv *publish, *labels; /* labels: "k=v" */
        struct vm_data_disk *data_disks;
        size_t n_data_disks;
};

/* What can be refused from the request alone: ranges, names, exclusions. Touches nothing. */
int vm_request_check(const struct vm_request *req, struct cc_err *err);

/* Create (C1-C5); with `start` also T1-T5 under the same lock. On success *ret is the final record,
 * public fields (pid, socket_path) filled. On failure everything is rolled back, except that a
 * failed start leaves the created VM in state error. */
int vm_create(struct engine *e, const struct vm_request *req, bool start, struct vm_record *ret,
              struct cc_err *err);

/* How to launch a VM by hand: what `vm debug` prints. */
struct vm_debug {
        struct cc_strv *steps; /* commands to run first, each as its words */
        size_t n_steps;
        struct cc_strv argv;
        bool no_seed; /* create would attach a cloud-init disk, which is left out: it is secret */
        struct cc_strv requests; /* to `socket` once it is there: method, target, body each */
        char *socket;
        const char *hint; /* about the terminal of the launch; static */
};
void vm_debug_clear(struct vm_debug *d); /* also the cleanup function */
#define VM_DEBUG CC_CLEANUP(vm_debug_clear)

/* What only `vm debug` can ask for. */
struct vm_debug_request {
        const char *cow;          /* "" cow-<name>.raw, or .qcow2 */
        const char *ch_binary;    /* "" as configured */
        int64_t max_cpu, balloon; /* 0: as at a start; balloon in MiB */
};

/* Validate as vm_create would and return the launch; creates nothing. Files and sockets are below
 * the directory the commands will run in: debug-<name>/, and the copy-on-write disk. */
int vm_debug(struct engine *e, const struct vm_request *req, const struct vm_debug_request *how,
             struct vm_debug *ret, struct cc_err *err);

/* By ID, each under its VM lock. Already running / already stopped is success. */
int vm_start(struct engine *e, const char *id, struct cc_err *err);
int vm_stop(struct engine *e, const char *id, bool force, int64_t timeout_s /* 0: config */,
            struct cc_err *err);
int vm_rm(struct engine *e, const char *id, bool force, struct cc_err *err);

/* Remove an ownerless creating VM. Outcome: "collected", "busy", "not-creating", "not-found". */
int vm_reconcile_stale_create(struct engine *e, const char *ref, const char **ret_outcome,
                              char ret_id[27], struct cc_err *err);

/* Finish the removal that a tombstone of this VM records, if no verb is at it. *ret_done false: its
 * lock is held, or there is nothing to finish. */
int vm_finish_removal(struct engine *e, const char *id, bool *ret_done, struct cc_err *err);

/* Fill the shown fields of a stored record: state text (stale), pid, socket_path. Reads only. */
void vm_present(const struct config *c, struct vm_record *vm);

/* The same, and the handle of the live VMM; *ret is left alone when there is none. */
void vm_present_proc(struct vm_record *vm, struct vm_proc *ret);

/* The live VMM of a record, or -CC_NOT_FOUND without text. A recorded process identity must match;
 * without one the command line decides. */
int vm_find_live(const struct hv_driver *drv, const struct vm_record *vm, struct vm_proc *ret);

/* Name of the console socket in every VM's run dir. */
#define VM_CONSOLE_SOCKET "console.sock"

/* Make sure that a console relay serves a running VM; one that was killed is replaced. STATE `vm
 * not running`. No lock is needed. */
int vm_relay_ensure(const struct config *c, const struct vm_record *vm, struct cc_err *err);

/* Batch over resolved IDs, pool_size wide, best effort. fn runs on worker engines. Results in
 * order. */
struct vm_batch_item {
        char id[27];
        struct cc_err err; /* class CC_OK: succeeded */
};
typedef int (*vm_batch_fn)(struct engine *e, const char *id, void *ctx, struct cc_err *err);
int vm_batch(const struct config *c, struct vm_batch_item *items, size_t n, vm_batch_fn fn,
             void *ctx, struct cc_err *err);

/* Resolve all refs in one read, duplicates once; any miss fails the whole. Caller frees *ret. */
int vm_resolve_all(struct engine *e, const char *const *refs, size_t n, struct vm_batch_item **ret,
                   size_t *ret_n, struct cc_err *err);

/* Driver choice of DESIGN §3; logs the one INFO line. `forced` "" = config. */
int vm_choose_driver(const struct config *c, const char *forced, const struct hv_driver **ret,
                     struct cc_err *err);

/* The driver's environment out of the configuration. Strings borrowed from c; cache_dir owned by
 * caller. */
void vm_hv_env(const struct config *c, const struct hv_driver *drv, struct hv_env *ret);

/* Kernel command line of images.md §6 for a record with its disks and NICs in place. Caller frees.
 */
char *vm_cmdline(const struct config *c, const struct hv_driver *drv, const struct vm_record *vm);

/* What a killed hibernate or restore left of this VM is finished or undone (state.md §8), at the
 * entry of every verb that takes the VM's lock. `vm` is updated to what was committed. */
int vm_recover_locked(struct engine *e, const struct hv_driver *drv, struct vm_record *vm,
                      struct cc_err *err);
