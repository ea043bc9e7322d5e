/* Disks: raw and qcow2 probing, copy-on-write and data disks, wrappers of mkfs.ext4 and qemu-img.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum disk_format { DISK_RAW, DISK_QCOW2 };

/* What a qcow2 header says; hostile input, bounds-checked (images.md §3). */
struct qcow2_info {
        uint32_t version;
        uint64_t virtual_size;
        uint64_t backing_offset;
        uint32_t crypt_method;
        uint64_t incompatible; /* v3 feature bits; 0 for v2 */
        uint32_t header_length;
        uint32_t cluster_bits;
};

/* Format by magic. */
int disk_probe(const char *path, enum disk_format *ret, struct cc_err *err);
int qcow2_read_info(const char *path, struct qcow2_info *ret, struct cc_err *err);

/* The same of the first n bytes of an image (104 hold all that is read); `what` names it in errors.
 */
int qcow2_parse(const void *data, size_t n, const char *what, struct qcow2_info *ret,
                struct cc_err *err);

/*
 * May an image from elsewhere be used (images.md §3)? Refused (CC_INVALID): whatever reads other
 * files of this host (backing file, external data file), encryption, unknown incompatible features,
 * sizes no disk has. *ret_convert: it is good, but must be rewritten to a plain version 3.
 */
int qcow2_check_foreign(const struct qcow2_info *info, const char *what, bool *ret_convert,
                        struct cc_err *err);

/* Sparse raw file of `size` bytes, 0600, O_EXCL, with ext4 unless fstype is "none". On failure no
 * file is left. The mkfs options are images.md §6's. */
int disk_create_raw(const char *path, int64_t size, const char *fstype, struct cc_err *err);

/* The words of the mkfs.ext4 command that disk_create_raw() runs, added to *ret. */
void disk_mkfs_argv(const char *path, struct cc_strv *ret);

/*
 * qemu-img over images from elsewhere, whose headers were checked first: it is always told the
 * format. Paths are absolute. UNAVAILABLE without qemu-img; the image's own faults are CC_INVALID.
 */

/* Every reference in a qcow2 stays within the file and its tables agree; lost clusters are fine. */
int disk_qcow2_intact(const char *path, struct cc_err *err);
/* Rewrite as qcow2 version 3 into `to`, which must not exist and is removed on failure. CC_INVALID
 * when the result would be larger than `max`. */
int disk_convert(const char *path, enum disk_format format, const char *to, int64_t max,
                 struct cc_err *err);
/* Whether a guest would see the same bytes in both. An unreadable qcow2 is not the same. */
int disk_same_content(const char *path, enum disk_format format, const char *qcow2, bool *ret,
                      struct cc_err *err);

/* qcow2 overlay over an absolute backing qcow2, grown to `size` if that is larger. */
int disk_create_overlay(const char *path, const char *backing, int64_t size, struct cc_err *err);
