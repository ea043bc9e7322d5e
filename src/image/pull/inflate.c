/* gunzip.h for gzip, libarchive's raw format for the rest. See inflate.h. */
#include "image/pull/inflate.h"

#include <archive.h>
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "image/pull/gunzip.h"

enum { CHUNK = 1 << 18 };

struct inflate {
        struct gunzip *gunzip;   /* this one or */
        struct archive *archive; /* that one */
        inflate_source_fn source;
        void *ctx;
        const char *what;
        int64_t consumed;
        size_t head; /* bytes in buf that were looked at and nobody has taken yet */
        bool empty;
        bool source_failed;
        struct cc_err source_err;
        uint8_t buf[CHUNK];
};

/* The source, but what was looked at comes first. */
static int read_source(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct inflate *s = ctx;
        int r;

        if (s->head) {
                *ret = s->head < n ? s->head : n;
                memcpy(buf, s->buf, *ret);
                s->head -= *ret;
                memmove(s->buf, s->buf + *ret, s->head);
                return 0;
        }
        r = s->source(s->ctx, buf, n, ret, err);
        if (r == 0)
                s->consumed += (int64_t)*ret;
        return r;
}

static la_ssize_t on_read(struct archive *a, void *ctx, const void **ret)
{
        struct inflate *s = ctx;
        size_t n = s->head;

        s->head = 0;
        if (n == 0 && read_source(s, s->buf, sizeof(s->buf), &n, &s->source_err) < 0) {
                s->source_failed = true;
                archive_set_error(a, EIO, "source failed");
                return ARCHIVE_FATAL;
        }
        *ret = s->buf;
        return (la_ssize_t)n;
}

static int fail(const struct inflate *s, struct cc_err *err)
{
        const char *text = archive_error_string(s->archive);

        if (s->source_failed)
                return cc_err_copy(err, &s->source_err);
        return cc_fail(err, CC_INVALID, "%s: %s", s->what, text ? text : "damaged compressed data");
}

static int open_archive(struct inflate *s, enum inflate_set set, struct cc_err *err)
{
        struct archive *a = archive_read_new();
        struct archive_entry *entry;
        int r;

        if (!a)
                return cc_fail(err, CC_INTERNAL, "start libarchive");
        s->archive = a;
        (void)archive_read_support_filter_zstd(a);
        if (set != INFLATE_LAYER)
                (void)archive_read_support_filter_xz(a);
        if (set == INFLATE_KERNEL) {
                (void)archive_read_support_filter_lzma(a);
                (void)archive_read_support_filter_bzip2(a);
                (void)archive_read_support_filter_lz4(a);
        }
        (void)archive_read_support_format_raw(a);
        (void)archive_read_support_format_empty(a);
        if (archive_read_open(a, s, NULL, on_read, NULL) != ARCHIVE_OK)
                return fail(s, err);
        r = archive_read_next_header(a, &entry);
        if (r == ARCHIVE_EOF)
                s->empty = true;
        else if (r != ARCHIVE_OK)
                return fail(s, err);
        return 0;
}

int inflate_open(enum inflate_set set, inflate_source_fn source, void *ctx, const char *what,
                 struct inflate **ret, struct cc_err *err)
{
        INFLATE struct inflate *s = xcalloc(1, sizeof(*s));
        size_t n = 1;
        int r = 0;

        s->source = source;
        s->ctx = ctx;
        s->what = what;
        while (r == 0 && n && s->head < GUNZIP_HEADER) {
                r = source(ctx, s->buf + s->head, sizeof(s->buf) - s->head, &n, err);
                if (r == 0)
                        s->head += n;
        }
        if (r < 0)
                return r;
        s->consumed = (int64_t)s->head;
        if (gunzip_recognize(s->buf, s->head))
                s->gunzip = gunzip_open(read_source, s, what);
        else
                r = open_archive(s, set, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int inflate_read(struct inflate *s, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        la_ssize_t r;

        if (s->gunzip)
                return gunzip_read(s->gunzip, buf, n, ret, err);
        r = s->empty ? 0 : archive_read_data(s->archive, buf, n);
        if (r < 0)
                return fail(s, err);
        *ret = (size_t)r;
        return 0;
}

int64_t inflate_consumed(const struct inflate *s)
{
        return s->consumed;
}

void inflate_close(struct inflate *s)
{
        if (!s)
                return;
        gunzip_free(s->gunzip);
        if (s->archive)
                (void)archive_read_free(s->archive);
        free(s);
}

void inflate_closep(struct inflate **s)
{
        inflate_close(*s);
}
