/*
 * Files in place of others while a snapshot is loaded (firecracker.md §6.3). A snapshot names its
 * disks by the paths they had; a clone's lie elsewhere. In a mount namespace of Firecracker's own
 * the clone's files are mounted over those paths. Where the source is gone, empty files stand in
 * for the time of the load, because a mount needs something to cover.
 */
#pragma once

#include <sys/types.h>

#include "base/proc.h"
#include "hv/driver.h"

struct fc_redirect {
        struct cc_bind *binds; /* strings borrowed from the disks */
        size_t n;
        char **stands; /* directories of stand-ins that we hold, with their locks */
        int *locks;
        size_t n_stands;
};
void fc_redirect_clear(struct fc_redirect *r); /* removes stand-ins that nobody else uses; also the
                                                  cleanup function */
#define FC_REDIRECT CC_CLEANUP(fc_redirect_clear)

/*
 * The writable disks of `from` (the snapshot's) become those of `to`, of which there are at least
 * as many; read-only ones must be the same files. CC_INVALID for paths that cannot be covered: not
 * regular, twice the same, or outside of a VM's directory below vms_dir; CC_CORRUPT when a VM that
 * exists lacks the file.
 */
int fc_redirect_make(const char *vms_dir, const struct hv_disk *from, const struct hv_disk *to,
                     size_t n, struct fc_redirect *ret, struct cc_err *err);

/* Does the process have every redirected file open? Another process may have unlinked a covered
 * path, which takes the mount away without a word. CC_CONFLICT naming the file. */
int fc_redirect_verify(const struct fc_redirect *r, pid_t pid, struct cc_err *err);
