/*
 * What is installed: the Firecracker binary and its version. Asking costs a process, so the answer
 * is cached by the binary's identity.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* The oldest version whose balloon reports free pages and that makes its log file itself. */
#define FC_MIN_MAJOR 1
#define FC_MIN_MINOR 14

struct fc_install {
        char *binary;  /* path */
        char *version; /* "1.16.1" */
        int major, minor, patch;
};
void fc_install_clear(struct fc_install *i); /* also the cleanup function */
#define FC_INSTALL CC_CLEANUP(fc_install_clear)

/* Find and ask `binary` (a name or path). cache_dir NULL or "": nothing is cached. UNAVAILABLE when
 * it is missing, too old or something else, naming the fix. */
int fc_install_find(const char *binary, const char *cache_dir, struct fc_install *ret,
                    struct cc_err *err);

/* Output of --version ("Firecracker v1.16.1\n…") into version and numbers; CC_INVALID without text
 * for anything else. */
int fc_version_parse(const char *text, struct fc_install *ret);

bool fc_version_at_least(const struct fc_install *i, int major, int minor, int patch);

/* The format of snapshots that `binary` writes (path NULL), or that the file `path` has:
 * "v10.0.0". Major and minor number. CC_INVALID for a file that is no snapshot. */
int fc_snapshot_format(const char *binary, const char *path, int ret[2], struct cc_err *err);

/* Does the kernel let Firecracker use io_uring for disks (>= 5.10.51, not forbidden)? Else a
 * configuration that asks for it would be refused. */
bool fc_io_uring_usable(void);

/* "5.10.51-…" or newer. */
bool fc_kernel_has_io_uring(const char *release);
