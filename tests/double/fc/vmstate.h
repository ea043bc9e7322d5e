/*
 * The double's vmstate file: magic, format version, one JSON value with the devices, checksum. Not
 * the real format, which nobody outside Firecracker reads either, but with the same properties: it
 * pins paths and names, has a version of its own per Firecracker version, and is checked.
 */
#pragma once

#include <jansson.h>

#include "base/str.h"

/* "10.0.0" for version 1.16. */
const char *fcd_format_version(unsigned minor);

/* Write the file anew. Returns 0, or -1 with the text behind "Create snapshot error: ". */
int fcd_vmstate_write(const char *path, unsigned minor, const json_t *state, struct cc_buf *fault);

/* Read it back, whatever its version: *ret_version like "10.0.0", to be freed. Returns 0, or -1
 * with the text behind "Failed to get snapshot state from file: ". */
int fcd_vmstate_read(const char *path, json_t **ret, char **ret_version, struct cc_buf *fault);

/* Whether version 1.`minor` can load that format: major equal, minor not newer. */
bool fcd_format_loadable(const char *version, unsigned minor);
