/* Standard base64 with padding (RFC 4648 §4). */
#pragma once

#include <stddef.h>

/* Characters that `n` bytes become. */
#define BASE64_LEN(n) (((n) + 2) / 3 * 4)

/* Writes BASE64_LEN(n) characters, no NUL. `out` and `data` must not overlap. */
void base64_encode(char *out, const void *data, size_t n);

/* Decodes `n` characters; `out` may be `text` itself. Returns the number of bytes, or -1 for
 * anything but whole groups of the alphabet with padding at the end only. Up to n / 4 * 3 bytes are
 * written either way. */
long base64_decode(void *out, const char *text, size_t n);
