/* The operations of the Cloud Hypervisor driver, one group a file; ch.c binds them into the driver
 * struct. */
#pragma once

#include "hv/ch/config.h"
#include "hv/driver.h"

/* File names in the run dir (cloud-hypervisor.md §1.1). */
#define CH_API_SOCK    "api.sock"
#define CH_API_LOCK    "api.sock.lock" /* the VMM's own, held for life since v53; never removed */
#define CH_SERIAL_SOCK "serial.sock"   /* UEFI machines: the relay holds it */
#define CH_PID         "ch.pid"
#define CH_LOG         "cloud-hypervisor.log"

extern const char *const ch_runtime_files[];

/* identity.c: is a process ours (§1.4)? */
int ch_find(const char *run_dir, const char *log_dir, uint64_t starttime, struct vm_proc *ret);

/* host.c: what a machine's configuration takes from the host. */
struct ch_host_facts {
        char *firmware, *api_socket, *serial_socket;
        int *cpus;
        size_t n_cpus;
};
void ch_host_facts(const struct hv_env *env, const struct vm_spec *spec,
                   struct ch_host_facts *facts, struct ch_host *ret);
void ch_host_facts_clear(struct ch_host_facts *f); /* also the cleanup function */
#define CH_HOST_FACTS CC_CLEANUP(ch_host_facts_clear)
/* The firmware of machines without a kernel is there; UNAVAILABLE names the fix. */
int ch_check_firmware(const struct hv_env *env, struct cc_err *err);

/* start.c: from a spec to a running process. */
int ch_launch(const struct hv_env *env, const struct vm_spec *spec, struct vm_proc *ret,
              struct cc_err *err);
int ch_debug(const struct hv_env *env, const struct vm_spec *spec, struct cc_strv *ret_argv,
             struct cc_strv *ret_copies, struct cc_err *err);

/* stop.c: from a running process to none. */
int ch_stop(const struct hv_env *env, const char *run_dir, struct vm_proc *proc, int grace_ms,
            struct cc_err *err);
