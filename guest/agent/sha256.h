/* SHA-256 (FIPS 180-4). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX 64

struct sha256 {
        uint32_t state[8];
        uint64_t length; /* bytes so far */
        uint8_t block[64];
};

void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *data, size_t n);

/* Ends it: the digest in lower-case hexadecimal, with a NUL. */
void sha256_hex(struct sha256 *hash, char out[SHA256_HEX + 1]);
