/* SHA-256 as images use it: streaming, "sha256:<hex>", and of whole files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define DIGEST_HEX_LEN  64
#define DIGEST_TEXT_LEN 71 /* "sha256:" and the digits */

struct digest;

struct digest *digest_new(void);
void digest_free(struct digest *d);
void digest_freep(struct digest **d); /* cleanup function */
#define DIGEST CC_CLEANUP(digest_freep)
void digest_add(struct digest *d, const void *data, size_t n);
/* Ends the computation: digest_new() for the next one. */
void digest_hex(struct digest *d, char out[DIGEST_HEX_LEN + 1]);

/* Of n bytes in memory. */
void digest_of(const void *data, size_t n, char out[DIGEST_HEX_LEN + 1]);

/* Of an open file from its start to its end (pread; the position is not moved). *ret_size may be
 * NULL. Errors: IO, CANCELED on a signal. */
int digest_of_fd(int fd, char out[DIGEST_HEX_LEN + 1], int64_t *ret_size, struct cc_err *err);

/* The same by name. */
int digest_of_file(const char *path, char out[DIGEST_HEX_LEN + 1], struct cc_err *err);

/* "sha256:" + 64 lower-case hex digits, the only form accepted anywhere. */
bool digest_valid(const char *text);

/* The hex part of a valid digest. */
static inline const char *digest_digits(const char *text)
{
        return text + 7;
}
