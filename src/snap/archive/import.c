/*
 * Reading an archive. Everything in it is hostile: names are single components, files are new and
 * never follow a link, modes and owners are ours, sizes are bounded by what was announced, and the
 * stream is read to its end so that a cut or flipped one cannot pass.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "snap/archive/digest.h"
#include "snap/archive/module.h"
#include "snap/archive/tar.h"

#define MAX_MEMBERS 4096
#define BUFFER      ((size_t)1 << 20)
#define ZERO_BLOCK  ((size_t)4096)
#define MAX_SIZE    (INT64_C(1) << 50)

struct snap_reader {
        struct source source;
        struct snap_envelope envelope;
        bool have_envelope;
        struct tar_member ahead; /* the first member, when it was not the envelope */
        bool have_ahead;
        struct cc_strv names; /* of every member so far */
        size_t members;
        snap_progress_fn progress;
        void *ctx;
        int64_t done;
        char *buf;
};

void archive_close(struct snap_reader *r)
{
        if (!r)
                return;
        source_close(&r->source);
        snap_envelope_clear(&r->envelope);
        tar_member_clear(&r->ahead);
        cc_strv_free(&r->names);
        free(r->buf);
        free(r);
}

const struct snap_envelope *archive_envelope(const struct snap_reader *r)
{
        return r->have_envelope ? &r->envelope : NULL;
}

static int check_member(struct snap_reader *r, const struct tar_member *m, struct cc_err *err)
{
        if (++r->members > MAX_MEMBERS)
                return cc_fail(err, CC_INVALID, "archive has more than %d members", MAX_MEMBERS);
        if (m->kind == TAR_DIR)
                return 0;
        if (!snap_file_name_valid(m->name))
                return cc_fail(err, CC_INVALID, "archive member with the name \"%.100s\" refused",
                               m->name);
        if (cc_strv_has(&r->names, m->name))
                return cc_fail(err, CC_INVALID, "archive member %s occurs twice", m->name);
        cc_strv_add(&r->names, m->name);
        return 0;
}

static int next(struct snap_reader *r, struct tar_member *ret, struct cc_err *err)
{
        int e = tar_next(&r->source, ret, err);

        return e < 0 || ret->kind == TAR_END ? e : check_member(r, ret, err);
}

static int read_envelope(struct snap_reader *r, const struct tar_member *m, struct cc_err *err)
{
        CC_FREE char *text = NULL;
        int e;

        if (m->sparse || m->size > (int64_t)SNAP_ENVELOPE_MAX)
                return cc_fail(err, CC_INVALID, "%s is too large", SNAP_ENVELOPE);
        text = xcalloc((size_t)m->size + 1, 1);
        e = tar_read(&r->source, text, (size_t)m->size, err);
        if (e == 0)
                e = tar_skip_padding(&r->source, m->size, err);
        if (e == 0)
                e = snap_envelope_parse(text, (size_t)m->size, &r->envelope, err);
        if (e == 0)
                r->have_envelope = true;
        return e;
}

int archive_open(int fd, snap_progress_fn progress, void *ctx, struct snap_reader **ret,
                 struct cc_err *err)
{
        struct snap_reader *r = xcalloc(1, sizeof(*r));
        int e;

        r->progress = progress;
        r->ctx = ctx;
        r->buf = xmalloc(BUFFER);
        e = source_open(&r->source, fd, err);
        do {
                tar_member_clear(&r->ahead);
                if (e == 0)
                        e = next(r, &r->ahead, err);
        } while (e == 0 && r->ahead.kind == TAR_DIR);
        if (e == 0 && r->ahead.kind == TAR_FILE && strcmp(r->ahead.name, SNAP_ENVELOPE) == 0)
                e = read_envelope(r, &r->ahead, err);
        else if (e == 0)
                r->have_ahead = true;
        if (e < 0) {
                archive_close(r);
                return e;
        }
        *ret = r;
        return 0;
}

/* ---- content ---- */

static int put(int fd, const char *p, size_t n, off_t off, struct cc_err *err)
{
        while (n) {
                ssize_t w = pwrite(fd, p, n, off);

                if (w < 0 && errno == EINTR)
                        continue;
                if (w <= 0)
                        return cc_fail_errno(err, w < 0 ? errno : EIO, "write");
                p += w;
                off += w;
                n -= (size_t)w;
        }
        return 0;
}

static bool is_zero(const char *p, size_t n)
{
        return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* All but blocks of zeroes, which stay holes. */
static int put_data(int fd, const char *p, size_t n, off_t off, struct cc_err *err)
{
        size_t start = 0;
        bool run = false;
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i += ZERO_BLOCK) {
                size_t len = n - i < ZERO_BLOCK ? n - i : ZERO_BLOCK;
                bool zero = is_zero(p + i, len);

                if (run && zero)
                        r = put(fd, p + start, i - start, off + (off_t)start, err);
                else if (!run && !zero)
                        start = i;
                run = !zero;
        }
        return r == 0 && run ? put(fd, p + start, n - start, off + (off_t)start, err) : r;
}

static void count(struct snap_reader *r, size_t n)
{
        r->done += (int64_t)n;
        if (r->progress)
                r->progress(r->ctx, r->done, 0);
}

/* `length` bytes of the stream to `off`; full buffers, so that blocks of zeroes are aligned. */
static int copy_range(struct snap_reader *r, int fd, struct tar_range range, bool look,
                      struct digest *digest, struct cc_err *err)
{
        while (range.length > 0) {
                size_t n = range.length < (int64_t)BUFFER ? (size_t)range.length : BUFFER;
                int e = tar_read(&r->source, r->buf, n, err);

                if (e == 0)
                        e = look ? put_data(fd, r->buf, n, range.offset, err)
                                 : put(fd, r->buf, n, range.offset, err);
                if (e < 0)
                        return e;
                digest_add(digest, r->buf, n);
                count(r, n);
                range.offset += (int64_t)n;
                range.length -= (int64_t)n;
        }
        return 0;
}

static const struct snap_file *listed(const struct snap_reader *r, const char *name)
{
        const struct snap_file *files = r->envelope.files.v;

        for (size_t i = 0; r->have_envelope && i < r->envelope.files.len; i++)
                if (cc_streq(files[i].name, name))
                        return &files[i];
        return NULL;
}

static int check_digest(const char *name, const char *want, const char *have, struct cc_err *err)
{
        if (strcmp(want, have) == 0)
                return 0;
        return cc_fail(err, CC_CORRUPT, "archive damaged: digest of %s does not match", name);
}

static int fill_file(struct snap_reader *r, const struct tar_member *m, int fd, struct cc_err *err)
{
        const struct snap_file *f = listed(r, m->name);
        bool known = f && !cc_isempty(f->sha256);
        struct digest *digest = known && !m->sparse ? digest_new() : NULL;
        int64_t size = m->sparse ? m->logical : m->size;
        char hex[65];
        int e = 0;

        if (size > MAX_SIZE)
                e = cc_fail(err, CC_INVALID, "archive member %s is absurdly large", m->name);
        else if (f && f->size != size)
                e = cc_fail(err, CC_CORRUPT, "archive damaged: %s has %lld bytes, should have %lld",
                            m->name, (long long)size, (long long)f->size);
        if (e == 0 && ftruncate(fd, size) < 0)
                e = cc_fail_errno(err, errno, "size %s", m->name);
        if (e == 0 && !m->sparse)
                e = copy_range(r, fd, (struct tar_range){ 0, m->size }, true, digest, err);
        for (size_t i = 0; i < m->n_ranges && e == 0; i++)
                e = copy_range(r, fd, m->ranges[i], false, NULL, err);
        if (e == 0 && digest)
                digest_hex(digest, hex);
        else if (e == 0 && known)
                e = digest_file(fd, hex, err);
        if (e == 0 && known)
                e = check_digest(m->name, f->sha256, hex, err);
        digest_free(digest);
        return e < 0 ? e : tar_skip_padding(&r->source, m->size, err);
}

static int skip_content(struct snap_reader *r, int64_t size, struct cc_err *err)
{
        int64_t left = size;

        while (left > 0) {
                size_t n = left < (int64_t)BUFFER ? (size_t)left : BUFFER;
                int e = tar_read(&r->source, r->buf, n, err);

                if (e < 0)
                        return e;
                left -= (int64_t)n;
        }
        return tar_skip_padding(&r->source, size, err);
}

static int extract_one(struct snap_reader *r, const struct tar_member *m,
                       const struct hv_driver *drv, int dir, struct cc_err *err)
{
        CC_CLOSE int fd = -1;

        if (m->kind == TAR_DIR)
                return 0;
        if (strcmp(m->name, SNAP_ENVELOPE) == 0)
                return read_envelope(r, m, err);
        if (drv && !snap_file_belongs(drv, m->name)) {
                cc_warn("snapshot.import", "archive member %s does not belong here: skipped",
                        m->name);
                return skip_content(r, m->size, err);
        }
        fd = openat(dir, m->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, SNAP_MODE);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", m->name);
        return fill_file(r, m, fd, err);
}

/* To the end of the stream: only then gzip has verified its trailer. */
static int drain(struct snap_reader *r, struct cc_err *err)
{
        bool garbage = false;

        for (;;) {
                size_t n = 0;
                int e = source_read(&r->source, r->buf, BUFFER, &n, err);

                if (e < 0)
                        return e;
                if (n == 0)
                        break;
                garbage = garbage || !is_zero(r->buf, n);
        }
        if (garbage || r->source.garbage)
                cc_warn("snapshot.import", "the archive is followed by other data: ignored");
        return 0;
}

int archive_extract(struct snap_reader *r, const struct hv_driver *drv, const char *path,
                    struct cc_err *err)
{
        CC_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int e = 0;

        if (dir < 0)
                return cc_fail_errno(err, errno, "open directory %s", path);
        for (;;) {
                CC_CLEANUP(tar_member_clear) struct tar_member m = { .kind = TAR_END };

                if (r->have_ahead) {
                        m = r->ahead;
                        r->ahead = (struct tar_member){ .kind = TAR_END };
                        r->have_ahead = false;
                } else {
                        e = next(r, &m, err);
                }
                if (e < 0 || m.kind == TAR_END)
                        break;
                e = extract_one(r, &m, drv, dir, err);
                if (e < 0)
                        return e;
        }
        if (e == 0)
                e = drain(r, err);
        if (e == 0 && !r->have_envelope)
                e = cc_fail(err, CC_INVALID, "invalid snapshot archive: %s not found",
                            SNAP_ENVELOPE);
        return e;
}
