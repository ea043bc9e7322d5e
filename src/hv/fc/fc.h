/* The operations of the Firecracker driver, one group a file; fc.c binds them into the driver
 * struct. */
#pragma once

#include "hv/driver.h"

/* File names in the run dir. */
#define FC_API_SOCK   "api.sock"
#define FC_VSOCK_SOCK "vsock.uds"
#define FC_PID        "fc.pid"

/* In the log dir: Firecracker's own log, the one before it, and what it says before it has one. */
#define FC_LOG     "firecracker.log"
#define FC_LOG_OLD FC_LOG ".1"
#define FC_STDERR  "stderr.log"

/* In a snapshot. Guest memory is mapped from its file for as long as a machine lives that was
 * loaded from it. */
#define FC_VMSTATE "vmstate"
#define FC_MEMORY  "mem"
#define FC_SIDECAR "cocoon.json" /* core's, with our keys */

/* Descriptor of the console's PTY master inside Firecracker (process.c says why it is there). */
#define FC_CONSOLE_FD 3

/* process.c */
int fc_console_open(const char *run_dir, int vmm_pidfd, int *ret, struct cc_err *err);
extern const char *const fc_runtime_files[];

/* start.c: from a spec to a running guest. */
int fc_launch(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
              struct cc_err *err);
int fc_debug(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret_argv,
             struct cc_strv *ret_copies, struct cc_err *err);
int fc_debug_requests(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret,
                      struct cc_err *err);

/* stop.c: from a running guest to none. */
int fc_stop(const struct hv_env *env, const char *run_dir, struct vm_proc *proc, int grace_ms,
            struct cc_err *err);

/* save.c: from a running guest to files. */
enum hv_file fc_classify(const char *name);
int fc_pause(const struct hv_env *env, const char *run_dir, struct cc_err *err);
int fc_capture(const struct hv_env *env, const char *run_dir, const struct vm_proc *proc,
               const char *dir, struct cc_strv *ret_disks, struct cc_err *err);
int fc_sidecar(const struct hv_env *env, const char *run_dir, json_t *sidecar, struct cc_err *err);

/* Runs of zeroes in a file that was just written become holes before they reach the disk: it is
 * still in the page cache, and reading it costs less than writing it would. Where that cannot be
 * done the file is only larger. */
void fc_make_sparse(const char *path);

/* load.c: from files to a guest that is paused. */
int fc_preflight(const struct hv_env *env, const struct hv_snapshot *snap, const json_t *sidecar,
                 struct cc_strv *ret_macs, struct cc_err *err);
int fc_load(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
            struct vm_proc *ret, struct cc_err *err);
int fc_rewire(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
              const struct vm_proc *proc, struct cc_err *err);

/* hotplug.c: devices of a running machine on a PCI bus. */
char *fc_guest_hint(enum hv_plug_event event, size_t index);
int fc_nic_add(const struct hv_env *env, const struct vm_spec *spec, size_t index,
               struct cc_err *err);
int fc_nic_remove(const struct hv_env *env, const char *run_dir, size_t index, const char *mac,
                  struct cc_err *err);
int fc_nic_list(const struct hv_env *env, const char *run_dir, struct cc_strv *ret,
                struct cc_err *err);
int fc_attach(const struct hv_env *env, const char *run_dir, const struct hv_attachment *what,
              char **ret_id, struct cc_err *err);
int fc_detach(const struct hv_env *env, const char *run_dir, enum hv_attach_kind kind,
              const char *key, struct cc_err *err);
int fc_attachments(const struct hv_env *env, const char *run_dir, struct hv_attachments *ret,
                   struct cc_err *err);
