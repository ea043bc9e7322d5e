/* Standard base64 with padding (RFC 4648 §4), fast enough for streams. */
#pragma once

#include <stddef.h>

/* Characters of n bytes, without a NUL. */
static inline size_t agent_base64_len(size_t n)
{
        return (n + 2) / 3 * 4;
}

/* Write exactly agent_base64_len(n) characters. */
void agent_base64_encode(const void *data, size_t n, char *out);

/* Decode n characters into `out` (room for n / 4 * 3 bytes). Strict: the length a multiple of 4,
 * padding only at the end, no bits set behind the data. Returns 0 with *ret_n, or -CC_INVALID
 * without text. */
int agent_base64_decode(const char *in, size_t n, void *out, size_t *ret_n);
