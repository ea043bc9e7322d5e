/* The seed volume's file system: FAT12 of exactly 1 MiB with long file names (images.md §8). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FAT12_IMAGE_SIZE 1048576

struct fat12_file {
        const char *name; /* ASCII, 1-64 printable characters without "*:<>?|/\ */
        const void *data;
        size_t len;
};

/*
 * Write a volume with these files in its root directory into `image` (FAT12_IMAGE_SIZE bytes,
 * overwritten). `label` has at most 11 characters. The same input gives the same bytes: there are
 * no timestamps, and `serial` is the volume's number. CC_INVALID for a bad name or label, or when
 * the files do not fit.
 */
int fat12_write(const struct fat12_file *files, size_t n, const char *label, uint32_t serial,
                uint8_t *image, struct cc_err *err);
