/* The operations of the Cloud Hypervisor driver, one group a file; ch.c binds them into the driver
 * struct. */
#pragma once

#include "base/json.h"
#include "hv/ch/config.h"
#include "hv/driver.h"

/* File names in the run dir (cloud-hypervisor.md §1.1). */
#define CH_API_SOCK    "api.sock"
#define CH_API_LOCK    "api.sock.lock" /* the VMM's own, held for life since v53; never removed */
#define CH_SERIAL_SOCK "serial.sock"   /* UEFI machines: the relay holds it */
#define CH_VSOCK_SOCK  "vsock.uds"     /* the way to the guest's agent */
#define CH_PID         "ch.pid"
#define CH_LOG         "cloud-hypervisor.log"

extern const char *const ch_runtime_files[];

/* identity.c: is a process ours (§1.4)? */
int ch_find(const char *run_dir, const char *log_dir, uint64_t starttime, struct vm_proc *ret);

/* host.c: what a machine's configuration takes from the host. */
struct ch_host_facts {
        char *firmware, *api_socket, *serial_socket, *vsock_socket;
        int *cpus;
        size_t n_cpus;
};
void ch_host_facts(const struct hv_env *env, const struct vm_spec *spec,
                   struct ch_host_facts *facts, struct ch_host *ret);
void ch_host_facts_clear(struct ch_host_facts *f); /* also the cleanup function */
#define CH_HOST_FACTS CC_CLEANUP(ch_host_facts_clear)
/* The firmware of machines without a kernel is there; UNAVAILABLE names the fix. */
int ch_check_firmware(const struct hv_env *env, struct cc_err *err);

/* process.c: start `argv` in the spec's directories and namespace and wait until its guest runs,
 * or, with `bare`, until its API answers. On failure nothing started is left and the runtime files
 * are gone. failpoint as in struct hv_launch. */
int ch_process_start(const struct hv_env *env, const struct vm_spec *spec,
                     const struct cc_strv *argv, bool bare, const char *failpoint,
                     struct vm_proc *ret, struct cc_err *err);

/* start.c: from a spec to a running process. */
int ch_check_files(const struct ch_config *c, struct cc_err *err); /* all files can be read */
int ch_check_taps(const struct vm_spec *spec, struct cc_err *err); /* all TAPs exist */
int ch_launch(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
              struct cc_err *err);
int ch_debug(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret_argv,
             struct cc_strv *ret_copies, struct cc_err *err);

/* hotplug.c: devices of a running machine. */
int ch_nic_add(const struct hv_env *env, const struct vm_spec *spec, size_t index,
               struct cc_err *err);
int ch_nic_remove(const struct hv_env *env, const char *run_dir, size_t index, const char *mac,
                  struct cc_err *err);
int ch_nic_list(const struct hv_env *env, const char *run_dir, struct cc_strv *ret,
                struct cc_err *err);
int ch_attach(const struct hv_env *env, const char *run_dir, const struct hv_attachment *what,
              char **ret_id, struct cc_err *err);
int ch_detach(const struct hv_env *env, const char *run_dir, enum hv_attach_kind kind,
              const char *key, struct cc_err *err);
int ch_attachments(const struct hv_env *env, const char *run_dir, struct hv_attachments *ret,
                   struct cc_err *err);

/* stop.c: from a running process to none. */
int ch_stop(const struct hv_env *env, const char *run_dir, struct vm_proc *proc, int grace_ms,
            struct cc_err *err);

#define CH_SIDECAR_VERSION "ch_version" /* member of the sidecar: which VMM wrote the files */

/* capture.c: from a running machine to files. */
enum hv_file ch_classify(const char *name);
int ch_can_capture(const struct hv_env *env, const char *run_dir, struct cc_err *err);
int ch_capture(const struct hv_env *env, const char *run_dir, const struct vm_proc *proc,
               const char *dir, struct cc_strv *ret_disks, struct cc_err *err);
int ch_sidecar(const struct hv_env *env, const char *run_dir, json_t *sidecar, struct cc_err *err);

/* judge.c: is a directory a snapshot that we would load? */
#define CH_CONFIG_JSON "config.json"
#define CH_STATE_JSON  "state.json"
#define CH_MEMORY      "memory-range" /* prefix */
int ch_preflight(const struct hv_env *env, const struct hv_snapshot *snap, const json_t *sidecar,
                 struct cc_strv *ret_macs, struct cc_err *err);
/* config.json of a directory: an object; *ret is owned. */
int ch_read_config(const char *dir, json_t **ret, struct cc_err *err);

/* load.c: from files to a machine, paused; and what a clone changes about it. */
int ch_load(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
            struct vm_proc *ret, struct cc_err *err);
int ch_rewire(const struct hv_env *env, const struct vm_spec *spec, const struct hv_load *how,
              const struct vm_proc *proc, struct cc_err *err);
