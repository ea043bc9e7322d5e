/* Starting the Firecracker process and judging its failures. See process.c. */
#pragma once

#include "base/proc.h"
#include "hv/driver.h"

/* A process about to be started. All borrowed. */
struct fc_process {
        const struct hv_env *env;
        const struct vm_spec *spec;
        const char *doing; /* "launch", "load": in front of messages */
        const char *const *argv;
        const struct cc_bind *binds; /* none: the caller's mount namespace */
        size_t n_binds;
        const char *failpoint; /* as in hv_launch */
};

/* --api-sock, --log-path, --level, --id: in the order that is fixed; then --enable-pci. */
void fc_process_argv(const struct vm_spec *spec, const char *binary, struct cc_strv *argv);

/* Firecracker would make a TAP that is missing, and nothing would be connected to it. */
int fc_check_taps(const struct vm_spec *spec, struct cc_err *err);

/* Start it and wait for its API. ret->console is the master of its console. On failure the process
 * is gone; runtime files may be left. */
int fc_process_start(const struct fc_process *p, struct vm_proc *ret, struct cc_err *err);

/* The error of a request to `target` that failed with `why`: the last words of the process if that
 * is what happened, else `why`. */
int fc_process_failed(const struct fc_process *p, int pidfd, const char *target,
                      const struct cc_err *why, struct cc_err *err);
