/* Standard base64; base64.h. */
#include "base64.h"

#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(char *out, const void *data, size_t n)
{
        const uint8_t *in = data;

        for (; n >= 3; n -= 3, in += 3, out += 4) {
                uint32_t v = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];

                out[0] = alphabet[v >> 18];
                out[1] = alphabet[v >> 12 & 63];
                out[2] = alphabet[v >> 6 & 63];
                out[3] = alphabet[v & 63];
        }
        if (n) {
                uint32_t v = (uint32_t)in[0] << 16 | (n == 2 ? (uint32_t)in[1] << 8 : 0);

                out[0] = alphabet[v >> 18];
                out[1] = alphabet[v >> 12 & 63];
                out[2] = n == 2 ? alphabet[v >> 6 & 63] : '=';
                out[3] = '=';
        }
}

/* 1 + the value; 0 for what is not in the alphabet. */
static const uint8_t values[256] = {
        ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,
        ['H'] = 8,  ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14,
        ['O'] = 15, ['P'] = 16, ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21,
        ['V'] = 22, ['W'] = 23, ['X'] = 24, ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28,
        ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32, ['g'] = 33, ['h'] = 34, ['i'] = 35,
        ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40, ['o'] = 41, ['p'] = 42,
        ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48, ['w'] = 49,
        ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
        ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63,
        ['/'] = 64,
};

long base64_decode(void *out, const char *text, size_t n)
{
        const uint8_t *in = (const uint8_t *)text;
        uint8_t *to = out;
        size_t pad = 0;

        if (n % 4)
                return -1;
        if (n == 0)
                return 0;
        if (in[n - 1] == '=')
                pad = in[n - 2] == '=' ? 2 : 1;
        for (size_t left = n - (pad ? 4 : 0); left; left -= 4, in += 4, to += 3) {
                uint32_t a = values[in[0]];
                uint32_t b = values[in[1]];
                uint32_t c = values[in[2]];
                uint32_t d = values[in[3]];

                if (!a || !b || !c || !d)
                        return -1;
                a = (a - 1) << 18 | (b - 1) << 12 | (c - 1) << 6 | (d - 1);
                to[0] = (uint8_t)(a >> 16);
                to[1] = (uint8_t)(a >> 8);
                to[2] = (uint8_t)a;
        }
        if (pad) {
                uint32_t a = values[in[0]];
                uint32_t b = values[in[1]];
                uint32_t c = pad == 1 ? values[in[2]] : 1;

                if (!a || !b || !c)
                        return -1;
                a = (a - 1) << 18 | (b - 1) << 12 | (c - 1) << 6;
                *to++ = (uint8_t)(a >> 16);
                if (pad == 1)
                        *to++ = (uint8_t)(a >> 8);
        }
        return (long)(to - (uint8_t *)out);
}
