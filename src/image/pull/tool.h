/* Files that are no images: a program or firmware by URL, and members of an archive of such.
 * Nothing is looked at before its digest was found to be the expected one. */
#pragma once

#include <stdint.h>

#include "base/err.h"

/* Fetch `url` into the new file `dest` (0600). CORRUPT, with the file gone, when its SHA-256 is
 * another one than `sha256` (64 lower-case hex digits) or it is longer than `max` bytes. */
int tool_download(const char *url, const char *sha256, int64_t max, const char *dest,
                  struct cc_err *err);

/* Write the regular member whose last name is `name` of a (compressed) tar to the new file `dest`
 * (0600). NOT_FOUND without one; INVALID above `max` bytes. */
int tool_unpack(const char *archive, const char *name, int64_t max, const char *dest,
                struct cc_err *err);
