/* SHA-256 of a file or a stream. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct digest; /* opaque */
struct digest *digest_new(void);
void digest_add(struct digest *d, const void *data, size_t n); /* NULL d: no-op */
void digest_hex(struct digest *d, char ret[65]);               /* ends it; still to be freed */
void digest_free(struct digest *d);                            /* NULL is fine */

/* Of a whole file, holes as zeroes. */
int digest_file(int fd, char ret[65], struct cc_err *err);
