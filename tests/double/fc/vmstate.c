#include "vmstate.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "vm.h"

enum { STATE_MAX = 10000000 };

static const uint64_t magic = 0x0710198486640000; /* of x86-64 */

/* What precedes the JSON; everything little-endian. */
struct header {
        uint64_t magic;
        uint32_t version[3];
        uint32_t len;
};

const char *fcd_format_version(unsigned minor)
{
        switch (minor) {
        case 12:
                return "6.0.0";
        case 13:
        case 14:
                return "8.0.0";
        case 15:
                return "9.0.0";
        default:
                return "10.0.0";
        }
}

static void split_version(const char *text, uint32_t out[3])
{
        unsigned a = 0;
        unsigned b = 0;
        unsigned c = 0;

        /* Our own table's texts. */
        (void)sscanf(text, "%u.%u.%u", &a, &b, &c); // NOLINT(cert-err34-c)
        out[0] = a;
        out[1] = b;
        out[2] = c;
}

bool fcd_format_loadable(const char *version, unsigned minor)
{
        uint32_t theirs[3];
        uint32_t ours[3];

        split_version(version, theirs);
        split_version(fcd_format_version(minor), ours);
        return theirs[0] == ours[0] && theirs[1] <= ours[1];
}

/* CRC-64 (ECMA-182, reflected), bit by bit: the file is small. */
static uint64_t crc64(const void *data, size_t n)
{
        const unsigned char *p = data;
        uint64_t crc = 0;

        while (n--) {
                crc ^= *p++;
                for (int i = 0; i < 8; i++)
                        crc = crc >> 1 ^ (crc & 1 ? UINT64_C(0xc96c5795d7870f42) : 0);
        }
        return crc;
}

int fcd_vmstate_write(const char *path, unsigned minor, const json_t *state, struct cc_buf *fault)
{
        CC_FREE char *json = json_dumps(state, JSON_COMPACT);
        CC_BUF struct cc_buf out = { 0 };
        struct header h = { .magic = htole64(magic), .len = htole32((uint32_t)strlen(json)) };
        struct cc_err err = CC_ERR_INIT;
        CC_CLOSE int fd = -1;
        uint64_t crc;

        split_version(fcd_format_version(minor), h.version);
        for (size_t i = 0; i < CC_ARRAY_LEN(h.version); i++)
                h.version[i] = htole32(h.version[i]);
        cc_buf_add(&out, &h, sizeof(h));
        cc_buf_str(&out, json);
        crc = htole64(crc64(out.data, out.len));
        cc_buf_add(&out, &crc, sizeof(crc));
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (fd < 0) {
                cc_buf_printf(fault, "Cannot perform open on the snapshot backing file: %s",
                              fcd_os_error(errno));
                return -1;
        }
        if (cc_write_all(fd, out.data, out.len, &err) < 0) {
                cc_buf_printf(fault, "Cannot serialize the microVM state: IO Error: %s",
                              fcd_os_error(err.sys));
                return -1;
        }
        return 0;
}

/* What the real one says of bytes that it cannot make sense of. */
static const char not_ours[] = "An error occurred during bitcode serialization: bitcode error";

static int damaged(struct cc_buf *fault, const char *text)
{
        cc_buf_printf(fault, "Failed to load snapshot state from file: %s", text);
        return -1;
}

int fcd_vmstate_read(const char *path, json_t **ret, char **ret_version, struct cc_buf *fault)
{
        CC_FREE char *data = NULL;
        struct cc_err err = CC_ERR_INIT;
        struct header h;
        size_t len = 0;
        uint64_t crc;
        int r = cc_read_file(path, STATE_MAX, &data, &len, &err);

        if (r == -CC_INVALID)
                return damaged(fault, "Snapshot size exceeds limit of 10000000 bytes");
        if (r < 0) {
                cc_buf_printf(fault, "Failed to open snapshot file: %s", fcd_os_error(err.sys));
                return -1;
        }
        if (len < sizeof(crc))
                return damaged(fault, "IO Error: File too short to contain CRC");
        if (len < sizeof(h) + sizeof(crc))
                return damaged(fault, not_ours);
        memcpy(&h, data, sizeof(h));
        if (h.magic != htole64(magic))
                return damaged(fault, not_ours);
        memcpy(&crc, data + len - sizeof(crc), sizeof(crc));
        if (le64toh(crc) != crc64(data, len - sizeof(crc)) ||
            le32toh(h.len) != len - sizeof(h) - sizeof(crc))
                return damaged(fault, "CRC64 validation failed");
        *ret = json_loadb(data + sizeof(h), le32toh(h.len), 0, NULL);
        if (!*ret)
                return damaged(fault, not_ours);
        *ret_version = xasprintf("%u.%u.%u", le32toh(h.version[0]), le32toh(h.version[1]),
                                 le32toh(h.version[2]));
        return 0;
}
