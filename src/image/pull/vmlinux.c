/* bzImage → ELF, by the boot protocol's header. See vmlinux.h. */
#include "image/pull/vmlinux.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cursor.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/str.h"
#include "base/sys.h"
#include "image/pull/inflate.h"

enum {
        KERNEL_MAX = 256 << 20,  /* bytes of the file */
        VMLINUX_MAX = 512 << 20, /* bytes of the ELF */
        SECTOR = 512,
        CHUNK = 1 << 18,
        /* Offsets of the setup header, Documentation/arch/x86/boot.rst. */
        OFF_SETUP_SECTS = 0x1f1,
        OFF_BOOT_FLAG = 0x1fe,
        OFF_HEADER = 0x202,
        OFF_VERSION = 0x206,
        OFF_PAYLOAD_OFFSET = 0x248,
        OFF_PAYLOAD_LENGTH = 0x24c,
        VERSION_WITH_PAYLOAD = 0x0208,
};

static const char elf_magic[4] = { 0x7f, 'E', 'L', 'F' };

struct payload {
        const uint8_t *data;
        size_t len;       /* without the size word that the kernel build appends */
        size_t plain_len; /* what it must inflate to */
        size_t pos;
};

static int find_payload(const uint8_t *file, size_t n, struct payload *ret, struct cc_err *err)
{
        struct cc_cursor c = cc_cursor_init(file, n);
        uint64_t sects;
        uint64_t flag;
        uint64_t version;
        uint64_t offset;
        uint64_t length;
        uint64_t start;
        const uint8_t *magic;
        const uint8_t *data;

        (void)cc_cursor_seek(&c, OFF_SETUP_SECTS);
        sects = cc_cursor_le(&c, 1);
        (void)cc_cursor_seek(&c, OFF_BOOT_FLAG);
        flag = cc_cursor_le(&c, 2);
        (void)cc_cursor_seek(&c, OFF_HEADER);
        magic = cc_cursor_get(&c, 4);
        version = cc_cursor_le(&c, 2);
        if (c.bad || flag != 0xaa55 || memcmp(magic, "HdrS", 4) != 0)
                return cc_fail(err, CC_INVALID, "neither a bzImage nor an ELF kernel");
        if (version < VERSION_WITH_PAYLOAD)
                return cc_fail(err, CC_UNSUPPORTED, "boot protocol %u.%02u is too old",
                               (unsigned)version >> 8, (unsigned)version & 0xff);
        (void)cc_cursor_seek(&c, OFF_PAYLOAD_OFFSET);
        offset = cc_cursor_le(&c, 4);
        length = cc_cursor_le(&c, 4);
        start = (sects ? sects + 1 : 5) * SECTOR + offset;
        (void)cc_cursor_seek(&c, start);
        data = cc_cursor_get(&c, length);
        if (c.bad || length < 8)
                return cc_fail(err, CC_INVALID, "truncated kernel: its payload lies outside");
        *ret = (struct payload){ .data = data, .len = length };
        (void)cc_cursor_seek(&c, start + length - 4);
        ret->plain_len = cc_cursor_le(&c, 4);
        return 0;
}

static int read_payload(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct payload *p = ctx;

        if (n > p->len - p->pos)
                n = p->len - p->pos;
        memcpy(buf, p->data + p->pos, n);
        p->pos += n;
        *ret = n;
        return 0;
}

static bool has_magic(const struct payload *p, const char *magic, size_t n)
{
        return p->len >= n && memcmp(p->data, magic, n) == 0;
}

/* Known compression? The gzip trailer is its own size word; all others have one appended. */
static int check_compression(struct payload *p, struct cc_err *err)
{
        if (has_magic(p, "\x1f\x8b", 2))
                return 0;
        if (has_magic(p,
                      "\xfd"
                      "7zXZ\0",
                      6) ||
            has_magic(p, "\x28\xb5\x2f\xfd", 4) || has_magic(p, "\x02\x21\x4c\x18", 4) ||
            has_magic(p, "BZh", 3) || has_magic(p, "\x5d\0\0", 3)) {
                p->len -= 4;
                return 0;
        }
        if (has_magic(p, "\x89LZO", 4))
                return cc_fail(err, CC_UNSUPPORTED, "the kernel is LZO-compressed");
        return cc_fail(err, CC_UNSUPPORTED, "the kernel's payload has an unknown compression");
}

static int inflate_to(struct payload *p, int fd, struct cc_err *err)
{
        INFLATE struct inflate *s = NULL;
        CC_FREE char *buf = xmalloc(CHUNK);
        size_t total = 0;
        int r = check_compression(p, err);

        if (r < 0)
                return r;
        if (p->plain_len > VMLINUX_MAX)
                return cc_fail(err, CC_INVALID, "the kernel claims to be %zu bytes uncompressed",
                               p->plain_len);
        r = inflate_open(INFLATE_KERNEL, read_payload, p, "kernel payload", &s, err);
        while (r == 0) {
                size_t n;

                r = inflate_read(s, buf, CHUNK, &n, err);
                if (r < 0 || n == 0)
                        break;
                if (total == 0 &&
                    (n < sizeof(elf_magic) || memcmp(buf, elf_magic, sizeof(elf_magic)) != 0))
                        return cc_fail(err, CC_INVALID, "the kernel's payload is not an ELF file");
                total += n;
                if (total > p->plain_len)
                        break;
                r = cc_write_all(fd, buf, n, err);
        }
        if (r < 0)
                return r;
        if (total != p->plain_len)
                return cc_fail(err, CC_INVALID,
                               "the kernel's payload does not have the announced %zu bytes",
                               p->plain_len);
        return 0;
}

static int extract(const uint8_t *file, size_t n, int fd, struct cc_err *err)
{
        struct payload p;
        int r;

        if (n >= sizeof(elf_magic) && memcmp(file, elf_magic, sizeof(elf_magic)) == 0)
                return cc_write_all(fd, file, n, err);
        r = find_payload(file, n, &p, err);
        if (r < 0)
                return r;
        if (has_magic(&p, elf_magic, sizeof(elf_magic)))
                return cc_write_all(fd, p.data, p.len, err);
        return inflate_to(&p, fd, err);
}

int vmlinux_extract(const char *kernel, const char *dest, struct cc_err *err)
{
        CC_FREE char *file = NULL;
        CC_FREE char *tmp = NULL;
        CC_CLOSE int fd = -1;
        char id[CC_ID_LEN + 1];
        size_t n;
        int r = cc_read_file(kernel, KERNEL_MAX, &file, &n, err);

        if (r < 0)
                return r;
        cc_id_new(id);
        tmp = xasprintf("%.*s.tmp-%s", (int)(cc_basename(dest) - dest), dest, id);
        fd = cc_sys.openat(AT_FDCWD, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                           0640);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", tmp);
        r = extract((const uint8_t *)file, n, fd, err);
        if (r == 0)
                r = cc_publish_file(tmp, dest, false, err);
        if (r < 0) {
                (void)unlink(tmp);
                return cc_wrap(err, "extract vmlinux from %s", kernel);
        }
        return 0;
}
