/*
 * Scratch directories of pulls and imports: <root>/oci/temp/{pull,import}-<id>/. The maker holds a
 * flock on the directory itself, so that everyone can tell a live one from a crashed one's at once,
 * whatever its age.
 */
#pragma once

#include "base/err.h"
#include "config/config.h"

struct scratch {
        char *dir; /* absolute, 0700 */
        int fd;    /* of the directory, locked */
};

/* `verb` is "pull" or "import". Removes the leftovers of crashed ones on the way. */
int scratch_create(const struct config *config, const char *verb, struct scratch *ret,
                   struct cc_err *err);

/* Remove the directory and all in it; also the cleanup function. Safe on a zeroed struct. */
void scratch_remove(struct scratch *s);
#define SCRATCH CC_CLEANUP(scratch_remove)
