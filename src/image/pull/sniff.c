/* Magic numbers and the tar header checksum. See sniff.h. */
#include "image/pull/sniff.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"

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
        if (n >= 6 && memcmp(p,
                             "\xfd"
                             "7zXZ\0",
                             6) == 0)
                return SNIFF_XZ;
        if (n >= 4 && memcmp(p, "QFI\xfb", 4) == 0)
                return SNIFF_QCOW2;
        if (n >= TAR_BLOCK && tar_header_valid(p))
                return SNIFF_TAR;
        if (n >= TAR_BLOCK && p[TAR_BLOCK - 2] == 0x55 && p[TAR_BLOCK - 1] == 0xaa)
                return SNIFF_DISK;
        return SNIFF_UNKNOWN;
}

static bool is_text(const uint8_t *p, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if ((p[i] < ' ' || p[i] > '~') && p[i] != '\t' && p[i] != '\n' && p[i] != '\r')
                        return false;
        return true;
}

const char *sniff_no_disk(const void *data, size_t n)
{
        static const struct {
                const char *magic;
                size_t len;
                const char *what;
        } rows[] = {
                { "<!", 2, "an HTML or XML page" },
                { "<?", 2, "an HTML or XML page" },
                { "<h", 2, "an HTML or XML page" },
                { "<H", 2, "an HTML or XML page" },
                { "BZh", 3, "a bzip2 file" },
                { "PK", 2, "a zip archive" },
                { "7z\xbc\xaf\x27\x1c", 6, "a 7z archive" },
                { "KDMV", 4, "a VMDK disk" },
                { "COWD", 4, "a VMDK disk" },
                { "# Disk D", 8, "a VMDK disk" },
                { "vhdxfile", 8, "a VHDX disk" },
                { "conectix", 8, "a VHD disk" },
                { "<<< ", 4, "a VDI disk" },
                { "QED\0", 4, "a QED disk" },
                { "LUKS\xba\xbe", 6, "an encrypted disk" },
                { "Without", 7, "a Parallels disk" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(rows); i++)
                if (n >= rows[i].len && memcmp(data, rows[i].magic, rows[i].len) == 0)
                        return rows[i].what;
        /* An error page, a checksum list, a script: no disk starts with a sector of text. */
        return n >= SNIFF_MAGIC_LEN && is_text(data, n) ? "a text file" : NULL;
}
