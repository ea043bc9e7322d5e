/* A kernel image of a hundred bytes that a real Firecracker boots: it says "ready", counts on its
 * serial line and restarts when told. And images that no Firecracker boots. */
#pragma once

#include "base/str.h"

/*
 * Append an ELF image. `fault`: "good", or what is wrong with it: "magic", "endian", "phentsize",
 * "phoff", "phoff-far", "phnum", "entry", "truncated", "high" (does not fit 128 MiB), "short",
 * "empty".
 *
 * The good one reads its serial line: 'c' (as in "counter") counts up and prints the digit, 'b' (as
 * in "reboot") restarts, and so does any key of the keyboard.
 */
void fc_kernel(const char *fault, struct cc_buf *ret);
