/* New randomness for a guest that has been copied or set back in time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Feeds `n` bytes (wiped afterwards) to the kernel, has it reseed, forgets the stored seed and, if
 * asked, draws a new machine id, in this order. Every step is attempted. Returns 0, or -1 with the
 * reasons, joined, in `why`. `root` is the directory that holds the guest's files, "" in earnest.
 */
int reseed(const char *root, void *data, size_t n, bool regen_machine_id, char *why, size_t size);
