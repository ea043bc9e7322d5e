/* What the parts of the reader share: reader.c, readxattr.c, check.c. */
#pragma once

#include "image/erofs/reader.h"

/* CORRUPT: "<name>: <what>". */
int reader_bad(const struct erofs_reader *r, const char *what, struct cc_err *err);

/* n bytes of the image file; CORRUPT outside of it. */
int reader_pread(const struct erofs_reader *r, uint64_t off, void *buf, size_t n,
                 struct cc_err *err);
