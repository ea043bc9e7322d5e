/*
 * Cloud images (images.md §3): from a complete file to a committed record, whatever it came from.
 *
 * A source is judged by its header before qemu-img sees it, and qemu-img is always told the format:
 * an image must never make it read another file of this host. The blob is named by the digest of
 * the disk's bytes as sent (without compression around them), and is a qcow2 of version 3.
 */
#pragma once

#include "image/module.h"
#include "image/pull/cancel.h"
#include "image/pull/digest.h"
#include "image/pull/inflate.h"
#include "image/pull/reporter.h"

/* A file in cloudimg/temp that goes away with the variable; a held flock tells it from one that a
 * crashed process left. */
struct cloud_temp {
        char *path;
        int fd; /* read and write */
};
void cloud_temp_free(struct cloud_temp *t); /* also the cleanup function */
#define CLOUD_TEMP CC_CLEANUP(cloud_temp_free)
#define CLOUD_TEMP_INIT                                                                            \
        {                                                                                          \
                .fd = -1                                                                           \
        }

/* `verb` is "pull" or "import". */
int cloud_temp_create(const struct config *config, const char *verb, struct cloud_temp *ret,
                      struct cc_err *err);

/* Remove what crashed processes left an hour ago or earlier. */
void cloud_temp_sweep(const struct config *config);

/* Append to a temp, leaving holes for zeros; *at is the size so far. INVALID above
 * cloudimg_max_size. cloud_temp_end() gives the file its size. */
int cloud_temp_append(const struct config *config, struct cloud_temp *t, int64_t *at,
                      const void *data, size_t n, struct cc_err *err);
int cloud_temp_end(struct cloud_temp *t, int64_t at, struct cc_err *err);

/* All that is left of a stream, appended; then ended. */
int cloud_temp_inflate(const struct config *config, struct cloud_temp *t, int64_t at,
                       struct inflate *s, struct reporter *reporter, struct cc_err *err);

/* The record of `ref` if its blob is valid. *ret_same false, and *ret untouched, if there is none.
 */
int cloud_current(const struct image_env *env, const char *ref, struct image_record *ret,
                  bool *ret_same, struct cc_err *err);

/*
 * Judge, convert and commit `file` (in cloudimg/temp, ours; it may be renamed away) under `ref`.
 * `verify`: a blob that is there already must show the same disk, else it is replaced.
 */
int cloud_commit(const struct image_env *env, struct reporter *reporter, const char *ref,
                 const struct cloud_temp *file, bool verify, struct image_record *ret,
                 struct cc_err *err);

/* image pull URL. */
int cloud_pull(const struct image_env *env, const char *url, bool force, struct image_record *ret,
               bool *ret_unchanged, struct cc_err *err);
