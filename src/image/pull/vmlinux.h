/* The uncompressed ELF kernel inside a bzImage, for drivers that load nothing else. */
#pragma once

#include "base/err.h"

/*
 * Extract `kernel` (bzImage or already ELF) to `dest`, atomically; an existing `dest` is replaced.
 * The payload is found through the setup header, never by searching for magic numbers: kernels hold
 * other compressed data (images.md §6). INVALID for anything that is not such a kernel, UNSUPPORTED
 * for a payload compression we cannot read.
 */
int vmlinux_extract(const char *kernel, const char *dest, struct cc_err *err);
