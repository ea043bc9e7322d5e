/* Guest memory to and from a file (qemu.md §8): raw, offset in the file = offset in RAM, sparse. */
#pragma once

#include "hv/driver.h"
#include "hv/qemu/qmp.h"

/*
 * Copy the memory of a paused machine into the new file `path`. A shared machine's is its memfd,
 * copied by several threads without its holes and zero blocks. A private mapping of a snapshot
 * (mmap clone) is the parent's file, `<run_dir>/memory.bin`, reflinked or copied, with the pages
 * that the guest wrote since laid over it.
 */
int qemu_memory_save(struct qmp *q, pid_t pid, const char *run_dir, const char *path, int64_t size,
                     struct cc_err *err);

/* Fill a fresh memfd of `size` bytes from such a file; `huge`: it is of huge pages, which can only
 * be written through a mapping. */
int qemu_memory_load(const char *path, int memfd, int64_t size, bool huge, struct cc_err *err);
