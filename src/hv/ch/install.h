/*
 * What is installed: the Cloud Hypervisor binary and its version. Asking costs a process, so the
 * answer is cached by the binary's identity.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* The oldest version with image_type, backing_files and sparse. */
#define CH_MIN_MAJOR 51
#define CH_MIN_MINOR 0

struct ch_install {
        char *binary;  /* absolute path, or as configured */
        char *version; /* "53.0", "53.0.1-4-gabc"; "unknown" */
        int64_t major, minor;
};

void ch_install_clear(struct ch_install *i); /* also the cleanup function */
#define CH_INSTALL CC_CLEANUP(ch_install_clear)

/* Find and ask `binary` (a name or path; "": the default name). cache_dir NULL or "": nothing is
 * cached. UNAVAILABLE when it is missing or too old, naming the fix. */
int ch_install_find(const char *binary, const char *cache_dir, struct ch_install *ret,
                    struct cc_err *err);

/*
 * The first line of `--version`: "cloud-hypervisor v53.0", "v53.0.1", "v53.0-4-gabc-dirty". Text
 * without a number is taken for the oldest version we know (development builds say anything).
 * CC_INVALID without text when this is another program.
 */
int ch_version_parse(const char *text, struct ch_install *ret);
