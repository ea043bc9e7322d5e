/* What kind of bytes a file starts with (images.md §4). */
#pragma once

#include <stddef.h>

enum sniff {
        SNIFF_UNKNOWN,
        SNIFF_GZIP,
        SNIFF_ZSTD,
        SNIFF_XZ,
        SNIFF_QCOW2,
        SNIFF_TAR,
        SNIFF_DISK, /* ends its first sector like a boot sector does */
};

enum { SNIFF_LEN = 512, SNIFF_MAGIC_LEN = 8 };

/* Judge the first n bytes (SNIFF_LEN, fewer only at the end of the file; SNIFF_MAGIC_LEN are enough
 * for everything but tar and raw disks). */
enum sniff sniff_bytes(const void *data, size_t n);

/* What these bytes are if they are certainly no disk image that cocoon takes: "an HTML or XML
 * page", "a zip archive", "a VMDK disk"… NULL: nothing is known against them. */
const char *sniff_no_disk(const void *data, size_t n);
