/* image import of disks (images.md §4): files, their parts in order, or a stream. */
#pragma once

#include "image/module.h"
#include "image/pull/inflate.h"
#include "image/pull/reporter.h"

/* The regular files, one behind the other, are one disk image. Works on a copy of its own, so that
 * nobody can change the image while it is judged. */
int import_disk_files(const struct image_env *env, struct reporter *reporter, const char *name,
                      const char *const *files, size_t n, struct image_record *ret,
                      struct cc_err *err);

/* `head` was read from the stream already. */
int import_disk_stream(const struct image_env *env, struct reporter *reporter, const char *name,
                       const void *head, size_t head_len, struct inflate *stream,
                       struct image_record *ret, struct cc_err *err);
