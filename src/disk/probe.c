/* What a disk image is: raw, or qcow2 with which header. Foreign bytes, read through a cursor. */
#include "disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cursor.h"
#include "base/fs.h"

#define QCOW2_MAGIC      0x514649fbu /* "QFI\xfb" */
#define QCOW2_V2_HEADER  72
#define QCOW2_V3_HEADER  104
#define QCOW2_MIN_BITS   9
#define QCOW2_MAX_BITS   21
#define QCOW2_HEADER_MAX 4096 /* known fields and room for more; extensions follow */
#define QCOW2_MIN_SIZE   512
#define QCOW2_MAX_SIZE   (UINT64_C(1) << 46)

/* Incompatible features: a reader that does not know one must refuse the image. */
#define QCOW2_CORRUPT   (UINT64_C(1) << 1)
#define QCOW2_DATA_FILE (UINT64_C(1) << 2)
/* Dirty, compression type, extended L2 entries: fine for qemu-img, not for every VMM. */
#define QCOW2_CONVERT   (UINT64_C(1) << 0 | UINT64_C(1) << 3 | UINT64_C(1) << 4)
#define QCOW2_KNOWN     (QCOW2_CORRUPT | QCOW2_DATA_FILE | QCOW2_CONVERT)

/* The first bytes of a regular file, as many as there are up to n. */
static int read_head(const char *path, uint8_t *buf, size_t n, size_t *ret, struct cc_err *err)
{
        CC_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;
        int r;

        if (fd < 0)
                return cc_fail_errno(err, errno, "open %s", path);
        if (fstat(fd, &st) < 0)
                return cc_fail_errno(err, errno, "stat %s", path);
        if (!S_ISREG(st.st_mode))
                return cc_fail(err, CC_INVALID, "%s is not a regular file", path);
        if ((uint64_t)st.st_size < n)
                n = (size_t)st.st_size;
        r = cc_pread_all(fd, buf, n, 0, err);
        if (r < 0)
                return cc_wrap(err, "read %s", path);
        *ret = n;
        return 0;
}

int disk_probe(const char *path, enum disk_format *ret, struct cc_err *err)
{
        uint8_t buf[4];
        struct cc_cursor c;
        size_t n = 0;
        int r = read_head(path, buf, sizeof(buf), &n, err);

        if (r < 0)
                return r;
        c = cc_cursor_init(buf, n);
        *ret = cc_cursor_be(&c, 4) == QCOW2_MAGIC ? DISK_QCOW2 : DISK_RAW;
        return 0;
}

static int bad(const char *what, const char *why, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "%s: not a usable qcow2 image: %s", what, why);
}

int qcow2_parse(const void *data, size_t n, const char *what, struct qcow2_info *ret,
                struct cc_err *err)
{
        struct qcow2_info i = { .header_length = QCOW2_V2_HEADER };
        struct cc_cursor c = cc_cursor_init(data, n);

        if (cc_cursor_be(&c, 4) != QCOW2_MAGIC)
                return bad(what, "no magic", err);
        i.version = (uint32_t)cc_cursor_be(&c, 4);
        i.backing_offset = cc_cursor_be(&c, 8);
        (void)cc_cursor_be(&c, 4); /* length of the backing file's name */
        i.cluster_bits = (uint32_t)cc_cursor_be(&c, 4);
        i.virtual_size = cc_cursor_be(&c, 8);
        i.crypt_method = (uint32_t)cc_cursor_be(&c, 4);
        (void)cc_cursor_get(&c, QCOW2_V2_HEADER - 36);
        if (i.version >= 3) {
                i.incompatible = cc_cursor_be(&c, 8);
                (void)cc_cursor_get(&c, 8 + 8 + 4); /* compatible, autoclear, refcount order */
                i.header_length = (uint32_t)cc_cursor_be(&c, 4);
        }
        if (c.bad)
                return bad(what, "header is cut short", err);
        if (i.version != 2 && i.version != 3)
                return bad(what, "unknown version", err);
        if (i.cluster_bits < QCOW2_MIN_BITS || i.cluster_bits > QCOW2_MAX_BITS)
                return bad(what, "bad cluster size", err);
        if (i.version == 3 && (i.header_length < QCOW2_V3_HEADER ||
                               i.header_length > QCOW2_HEADER_MAX || i.header_length % 8 != 0))
                return bad(what, "bad header length", err);
        if (i.virtual_size > INT64_MAX)
                return bad(what, "bad size", err);
        *ret = i;
        return 0;
}

int qcow2_read_info(const char *path, struct qcow2_info *ret, struct cc_err *err)
{
        uint8_t buf[QCOW2_V3_HEADER];
        size_t n = 0;
        int r = read_head(path, buf, sizeof(buf), &n, err);

        return r < 0 ? r : qcow2_parse(buf, n, path, ret, err);
}

int qcow2_check_foreign(const struct qcow2_info *i, const char *what, bool *ret_convert,
                        struct cc_err *err)
{
        const char *why = NULL;

        if (i->backing_offset)
                why = "it has a backing file, which would be read from this host";
        else if (i->incompatible & QCOW2_DATA_FILE)
                why = "its data is in an external file, which would be read from this host";
        else if (i->crypt_method)
                why = "it is encrypted";
        else if (i->incompatible & QCOW2_CORRUPT)
                why = "it is marked corrupt";
        else if (i->incompatible & ~QCOW2_KNOWN)
                why = "it needs features this version does not know";
        else if (i->virtual_size < QCOW2_MIN_SIZE)
                why = "the disk in it is empty";
        else if (i->virtual_size > QCOW2_MAX_SIZE)
                why = "the disk in it is larger than 64 TiB";
        if (why)
                return cc_fail(err, CC_INVALID, "%s: qcow2 image refused: %s", what, why);
        *ret_convert = i->version != 3 || (i->incompatible & QCOW2_CONVERT);
        return 0;
}
