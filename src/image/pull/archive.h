/* Image archives: recognising an OCI layout or a `docker save` file, and unpacking it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum archive_kind { ARCHIVE_NONE, ARCHIVE_OCI, ARCHIVE_DOCKER };

/* Look at the members of the plain tar `path`: an OCI layout has oci-layout and index.json at its
 * root, a docker archive manifest.json. Anything else is a layer. */
int archive_probe(const char *path, enum archive_kind *ret, struct cc_err *err);

/* The same of a directory. */
enum archive_kind archive_probe_dir(const char *dir);

/*
 * Unpack the regular files of an image archive below `dir` (which exists). Only plain relative
 * names of up to three components are taken, everything else is skipped. At most `max` bytes in
 * all.
 */
int archive_unpack(const char *path, const char *dir, int64_t max, struct cc_err *err);
