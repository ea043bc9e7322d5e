/* Base64 by tables of pairs. See base64.h. */
#include "agent/base64.h"

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Set in a decoded value when the character is none of ours. */
#define BAD (UINT32_C(1) << 31)

static char pairs[4096][2];     /* 12 bits to two characters */
static uint32_t digits[4][256]; /* a character at its place in a group to its bits */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
        for (size_t i = 0; i < 4096; i++) {
                pairs[i][0] = alphabet[i >> 6];
                pairs[i][1] = alphabet[i & 63];
        }
        for (size_t place = 0; place < 4; place++) {
                for (size_t c = 0; c < 256; c++)
                        digits[place][c] = BAD;
                for (uint32_t v = 0; v < 64; v++)
                        digits[place][(unsigned char)alphabet[v]] = v << (18 - 6 * place);
        }
}

void agent_base64_encode(const void *data, size_t n, char *out)
{
        const unsigned char *p = data;

        (void)pthread_once(&once, fill);
        for (; n >= 3; n -= 3, p += 3, out += 4) {
                memcpy(out, pairs[p[0] << 4 | p[1] >> 4], 2);
                memcpy(out + 2, pairs[(p[1] & 15) << 8 | p[2]], 2);
        }
        if (n == 0)
                return;
        memcpy(out, pairs[p[0] << 4 | (n == 2 ? p[1] >> 4 : 0)], 2);
        out[2] = n == 2 ? alphabet[(p[1] & 15) << 2] : '=';
        out[3] = '=';
}

/* The last group, which may be padded; returns its bytes, 0 when it is malformed. */
static size_t decode_last(const unsigned char *in, unsigned char *out)
{
        size_t n = in[3] != '=' ? 3 : in[2] != '=' ? 2 : 1;
        uint32_t v = digits[0][in[0]] | digits[1][in[1]];

        if (n >= 2)
                v |= digits[2][in[2]];
        if (n == 3)
                v |= digits[3][in[3]];
        /* Bits behind the data would make two texts of one value. */
        if ((v & BAD) || (n < 3 && (v & ((UINT32_C(1) << (24 - 8 * n)) - 1))))
                return 0;
        for (size_t i = 0; i < n; i++)
                out[i] = (unsigned char)(v >> (16 - 8 * i));
        return n;
}

int agent_base64_decode(const char *in, size_t n, void *out, size_t *ret_n)
{
        const unsigned char *p = (const unsigned char *)in;
        unsigned char *o = out;
        uint32_t bad = 0;
        size_t last;

        (void)pthread_once(&once, fill);
        *ret_n = 0;
        if (n == 0)
                return 0;
        if (n % 4)
                return -CC_INVALID;
        for (; n > 4; n -= 4, p += 4, o += 3) {
                uint32_t v = digits[0][p[0]] | digits[1][p[1]] | digits[2][p[2]] | digits[3][p[3]];

                bad |= v;
                o[0] = (unsigned char)(v >> 16);
                o[1] = (unsigned char)(v >> 8);
                o[2] = (unsigned char)v;
        }
        last = decode_last(p, o);
        if ((bad & BAD) || last == 0)
                return -CC_INVALID;
        *ret_n = (size_t)(o - (unsigned char *)out) + last;
        return 0;
}
