/* libarchive's raw format as a decompressor. See inflate.h. */
#include "image/pull/inflate.h"

#include <archive.h>
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"

enum { CHUNK = 1 << 18 };

struct inflate {
        struct archive *archive;
        inflate_source_fn source;
        void *ctx;
        const char *what;
        int64_t consumed;
        bool empty;
        bool source_failed;
        struct cc_err source_err;
        char buf[CHUNK];
};

static la_ssize_t on_read(struct archive *a, void *ctx, const void **ret)
{
        struct inflate *s = ctx;
        size_t n = 0;

        if (s->source(s->ctx, s->buf, sizeof(s->buf), &n, &s->source_err) < 0) {
                s->source_failed = true;
                archive_set_error(a, EIO, "source failed");
                return ARCHIVE_FATAL;
        }
        s->consumed += (int64_t)n;
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

int inflate_open(enum inflate_set set, inflate_source_fn source, void *ctx, const char *what,
                 struct inflate **ret, struct cc_err *err)
{
        INFLATE struct inflate *s = xcalloc(1, sizeof(*s));
        struct archive *a = archive_read_new();
        struct archive_entry *entry;
        int r;

        if (!a)
                return cc_fail(err, CC_INTERNAL, "start libarchive");
        *s = (struct inflate){ .archive = a, .source = source, .ctx = ctx, .what = what };
        (void)archive_read_support_filter_gzip(a);
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
        *ret = TAKE_PTR(s);
        return 0;
}

int inflate_read(struct inflate *s, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        la_ssize_t r = s->empty ? 0 : archive_read_data(s->archive, buf, n);

        if (r < 0)
                return fail(s, err);
        *ret = (size_t)r;
        return 0;
}

bool inflate_is_gzip(const struct inflate *s)
{
        return archive_filter_code(s->archive, 0) == ARCHIVE_FILTER_GZIP;
}

int64_t inflate_consumed(const struct inflate *s)
{
        return s->consumed;
}

void inflate_close(struct inflate *s)
{
        if (!s)
                return;
        (void)archive_read_free(s->archive);
        free(s);
}

void inflate_closep(struct inflate **s)
{
        inflate_close(*s);
}
