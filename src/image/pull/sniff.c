/* Magic numbers and the tar header checksum. See sniff.h. */
#include "image/pull/sniff.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { TAR_BLOCK = 512, CHECKSUM_OFF = 148, CHECKSUM_LEN = 8 };

/* The checksum field counts as blanks; old writers summed signed bytes. */
static bool tar_header_valid(const uint8_t *p)
{
        long want = 0;
        long sum = 0;
        long signed_sum = 0;
        int i = CHECKSUM_OFF;

        while (i < CHECKSUM_OFF + CHECKSUM_LEN && (p[i] == ' ' || p[i] == '\0'))
                i++;
        if (i == CHECKSUM_OFF + CHECKSUM_LEN)
                return false;
        for (; i < CHECKSUM_OFF + CHECKSUM_LEN && p[i] >= '0' && p[i] <= '7'; i++)
                want = want * 8 + (p[i] - '0');
        if (i < CHECKSUM_OFF + CHECKSUM_LEN && p[i] != ' ' && p[i] != '\0')
                return false;
        for (i = 0; i < TAR_BLOCK; i++) {
                bool blank = i >= CHECKSUM_OFF && i < CHECKSUM_OFF + CHECKSUM_LEN;

                sum += blank ? ' ' : p[i];
                signed_sum += blank ? ' ' : (int8_t)p[i];
        }
        return want == sum || want == signed_sum;
}

enum sniff sniff_bytes(const void *data, size_t n)
{
        const uint8_t *p = data;

        if (n >= 2 && memcmp(p, "\x1f\x8b", 2) == 0)
                return SNIFF_GZIP;
        if (n >= 4 && memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0)
                return SNIFF_ZSTD;
        if (n >= 4 && memcmp(p, "QFI\xfb", 4) == 0)
                return SNIFF_QCOW2;
        if (n >= TAR_BLOCK && tar_header_valid(p))
                return SNIFF_TAR;
        return SNIFF_UNKNOWN;
}
