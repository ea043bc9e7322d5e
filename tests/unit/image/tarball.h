/* Tar archives built in memory, byte by byte, and their conversion; for tests of the EROFS writer.
 */
#pragma once

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "../../tools/erofs_check.h"
#include "../unit.h"
#include "base/str.h"
#include "image/erofs/tar.h"

struct member {
        const char *name, *link;
        char type; /* '0' file, '1' hard link, '2' symbolic link, '3' chr, '4' blk, '5' dir, '6'
                      fifo */
        unsigned mode;
        unsigned uid, gid;
        unsigned long mtime;
        unsigned major, minor;
        const void *data;
        size_t size;
        /* Raw fields instead, when set. */
        const char *raw_size, *raw_uid, *raw_mtime, *raw_major;
        size_t raw_len;
};

static inline void tar_pad(struct cc_buf *tar)
{
        static const char zeros[512];

        if (tar->len % 512)
                cc_buf_add(tar, zeros, 512 - tar->len % 512);
}

static inline void tar_header(struct cc_buf *tar, const struct member *m)
{
        char h[513] = { 0 };
        unsigned sum = 0;

        (void)strncpy(h, m->name, 100);
        (void)snprintf(h + 100, 8, "%07o", m->mode);
        (void)snprintf(h + 108, 8, "%07o", m->uid);
        (void)snprintf(h + 116, 8, "%07o", m->gid);
        (void)snprintf(h + 124, 12, "%011lo", (unsigned long)m->size);
        (void)snprintf(h + 136, 12, "%011lo", m->mtime);
        h[156] = m->type;
        if (m->link)
                (void)strncpy(h + 157, m->link, 100);
        memcpy(h + 257, "ustar\00000", 8);
        (void)snprintf(h + 329, 8, "%07o", m->major);
        (void)snprintf(h + 337, 8, "%07o", m->minor);
        if (m->raw_size)
                memcpy(h + 124, m->raw_size, 12);
        if (m->raw_uid)
                memcpy(h + 108, m->raw_uid, 8);
        if (m->raw_mtime)
                memcpy(h + 136, m->raw_mtime, 12);
        if (m->raw_major)
                memcpy(h + 329, m->raw_major, 8);
        memset(h + 148, ' ', 8);
        for (size_t i = 0; i < 512; i++)
                sum += (unsigned char)h[i];
        (void)snprintf(h + 148, 8, "%06o", sum);
        cc_buf_add(tar, h, 512);
}

static inline void tar_member(struct cc_buf *tar, const struct member *m)
{
        struct member fixed = *m;

        if (!fixed.type)
                fixed.type = '0';
        if (!fixed.mode)
                fixed.mode = fixed.type == '5' ? 0755 : 0644;
        tar_header(tar, &fixed);
        if (m->data && m->size) {
                cc_buf_add(tar, m->data, m->size);
                tar_pad(tar);
        }
}

#define TAR(tar, ...) tar_member(tar, &(struct member){ __VA_ARGS__ })

static inline void tar_file(struct cc_buf *tar, const char *name, const char *text)
{
        TAR(tar, .name = name, .data = text, .size = strlen(text));
}

static inline void tar_dir(struct cc_buf *tar, const char *name)
{
        TAR(tar, .name = name, .type = '5');
}

static inline void tar_link(struct cc_buf *tar, char type, const char *name, const char *to)
{
        TAR(tar, .name = name, .link = to, .type = type, .mode = 0777);
}

/* A GNU long name ('L') or link ('K') for the next member. */
static inline void tar_long(struct cc_buf *tar, char type, const char *text)
{
        TAR(tar, .name = "././@LongLink", .type = type, .data = text, .size = strlen(text) + 1);
}

/* One pax record; the caller wraps them with tar_pax(). */
static inline void pax_add(struct cc_buf *records, const char *key, const void *value, size_t n)
{
        size_t len = strlen(key) + n + 3;
        size_t digits = 1;
        char head[32];

        for (size_t p = 10; p <= len + digits; p *= 10)
                digits++;
        (void)snprintf(head, sizeof(head), "%zu ", len + digits);
        cc_buf_str(records, head);
        cc_buf_str(records, key);
        cc_buf_str(records, "=");
        cc_buf_add(records, value, n);
        cc_buf_str(records, "\n");
}

static inline void tar_pax_type(struct cc_buf *tar, char type, struct cc_buf *records)
{
        TAR(tar, .name = "PaxHeaders/x", .type = type, .data = records->data, .size = records->len);
        records->len = 0;
}

static inline void tar_pax(struct cc_buf *tar, struct cc_buf *records)
{
        tar_pax_type(tar, 'x', records);
}

static inline void tar_pax1(struct cc_buf *tar, const char *key, const char *value)
{
        CC_BUF struct cc_buf records = { 0 };

        pax_add(&records, key, value, strlen(value));
        tar_pax(tar, &records);
}

/* A global header of one record. */
static inline void tar_global(struct cc_buf *tar, const char *key, const char *value)
{
        CC_BUF struct cc_buf records = { 0 };

        pax_add(&records, key, value, strlen(value));
        tar_pax_type(tar, 'g', &records);
}

static inline void tar_end(struct cc_buf *tar)
{
        static const char zeros[1024];

        cc_buf_add(tar, zeros, sizeof(zeros));
}

struct reader {
        const struct cc_buf *tar;
        size_t pos, step; /* step: most bytes given at once; 0: all */
        void *lent;
};

static inline void reader_free(struct reader *r)
{
        free(r->lent);
}
#define READER CC_CLEANUP(reader_free)

static inline int tar_read(void *ctx, const void **ret, size_t *ret_n, struct cc_err *err)
{
        struct reader *r = ctx;
        size_t n = r->tar->len - r->pos;

        (void)err;
        if (r->step && n > r->step)
                n = r->step;
        /* Of exactly that size, so that the sanitizers see who reads what was lent before. */
        free(r->lent);
        r->lent = n ? xmemdup(r->tar->data + r->pos, n) : NULL;
        r->pos += n;
        *ret = r->lent;
        *ret_n = n;
        return 0;
}

struct convert_options {
        uint64_t max_bytes, max_entries;
        size_t step;
        const char *temp_dir;
};

/* Convert into a memory file and map it: *ret is valid after success, for the caller to
 * image_free(). */
static inline int convert_tar(const struct cc_buf *tar, const struct convert_options *o,
                              struct erofs_image *ret, struct cc_err *err)
{
        static const uint8_t uuid[16] = "0123456789abcdef";
        EROFS_WRITER struct erofs_writer *w = NULL;
        CC_CLOSE int fd = memfd_create("image", MFD_CLOEXEC);
        READER struct reader reader = { .tar = tar, .step = o->step };
        struct erofs_stats stats = { 0 };
        const char *tmp = getenv("TMPDIR");
        struct erofs_writer_args args = {
                .fd = fd,
                .temp_dir = o->temp_dir ? o->temp_dir
                            : tmp       ? tmp
                                        : "/tmp",
                .max_bytes = o->max_bytes,
                .max_entries = o->max_entries,
        };
        void *p;
        int r;

        assert_true(fd >= 0);
        r = erofs_writer_open(&args, &w, err);
        if (r == 0)
                r = erofs_add_tar(w, tar_read, &reader, err);
        if (r == 0)
                r = erofs_writer_finish(w, uuid, &stats, err);
        if (r < 0)
                return r;
        p = mmap(NULL, stats.bytes, PROT_READ, MAP_SHARED, fd, 0);
        assert_true(p != MAP_FAILED);
        *ret = (struct erofs_image){ p, stats.bytes };
        return 0;
}

static inline void image_free(struct erofs_image *m)
{
        if (m->bytes)
                (void)munmap((void *)m->bytes, m->len);
        m->bytes = NULL;
}
#define IMAGE CC_CLEANUP(image_free)

/* Ends the archive, converts, and checks the whole image. */
static inline void convert_good(struct cc_buf *tar, struct erofs_image *ret)
{
        struct cc_err err = CC_ERR_INIT;
        const char *wrong;

        tar_end(tar);
        assert_ok(convert_tar(tar, &(struct convert_options){ 0 }, ret, &err));
        wrong = erofs_check(ret);
        if (wrong)
                fail_msg("image: %s", wrong);
}

/* The archive is refused as INVALID, with this text in the message. */
static inline void convert_refused(struct cc_buf *tar, const struct convert_options *o,
                                   const char *text)
{
        struct convert_options none = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct erofs_image m = { 0 };
        int r = convert_tar(tar, o ? o : &none, &m, &err);

        if (r != -CC_INVALID)
                fail_msg("%d instead of INVALID (%s)", r, err.msg);
        if (!strstr(err.msg, text))
                fail_msg("\"%s\" without \"%s\"", err.msg, text);
}

static inline struct erofs_node node_at(const struct erofs_image *m, const char *path)
{
        struct erofs_node n;

        if (!erofs_find(m, path, &n))
                fail_msg("%s is missing", path);
        return n;
}

static inline bool absent(const struct erofs_image *m, const char *path)
{
        struct erofs_node n;

        return !erofs_find(m, path, &n);
}

static inline void assert_content(const struct erofs_image *m, const char *path, const char *text)
{
        struct erofs_node n = node_at(m, path);
        CC_FREE uint8_t *bytes = NULL;

        assert_true(erofs_content(m, &n, &bytes));
        assert_string_equal((char *)bytes, text);
}

static inline void assert_whiteout(const struct erofs_image *m, const char *path)
{
        struct erofs_node n = node_at(m, path);

        assert_int_equal(n.mode, S_IFCHR);
        assert_int_equal(n.rdev, 0);
}

static inline bool is_opaque(const struct erofs_image *m, const char *path)
{
        struct erofs_node n = node_at(m, path);
        const uint8_t *v;

        return erofs_xattr_get(m, &n, "trusted.overlay.opaque", &v) == 1 && *v == 'y';
}

static inline bool has_origin(const struct erofs_image *m, const char *path)
{
        struct erofs_node n = node_at(m, path);

        return erofs_xattr_get(m, &n, "trusted.overlay.origin", NULL) == 0;
}
