/* What kind of bytes a file starts with (images.md §4). */
#pragma once

#include <stddef.h>

enum sniff { SNIFF_UNKNOWN, SNIFF_GZIP, SNIFF_ZSTD, SNIFF_QCOW2, SNIFF_TAR };

enum { SNIFF_LEN = 512 };

/* Judge the first n bytes (SNIFF_LEN, fewer only at the end of the file). */
enum sniff sniff_bytes(const void *data, size_t n);
