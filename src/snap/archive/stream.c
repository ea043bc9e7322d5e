/* Plain and gzip streams. See stream.h. */
#include "snap/archive/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"

#define GZIP_WINDOW (15 + 16) /* zlib: the largest window, gzip framing */
#define CHUNK       ((off_t)8 << 20)

/* ---- reading ---- */

/* More bytes behind what is unread. */
static int fill(struct source *s, struct cc_err *err)
{
        if (s->pos > 0) {
                memmove(s->in, s->in + s->pos, s->len - s->pos);
                s->len -= s->pos;
                s->pos = 0;
        }
        while (!s->file_end && s->len < STREAM_BUFFER) {
                ssize_t n = read(s->fd, s->in + s->len, STREAM_BUFFER - s->len);

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return cc_fail_errno(err, errno, "read archive");
                if (n == 0)
                        s->file_end = true;
                s->len += (size_t)n;
                break;
        }
        return 0;
}

/* At least two unread bytes, if there are that many. */
static int peek(struct source *s, struct cc_err *err)
{
        while (s->len - s->pos < 2 && !s->file_end) {
                int r = fill(s, err);

                if (r < 0)
                        return r;
        }
        return 0;
}

static bool at_gzip(const struct source *s)
{
        return s->len - s->pos >= 2 && s->in[s->pos] == 0x1f && s->in[s->pos + 1] == 0x8b;
}

int source_open(struct source *s, int fd, struct cc_err *err)
{
        int r;

        *s = (struct source){ .fd = fd, .in = xmalloc(STREAM_BUFFER) };
        r = peek(s, err);
        if (r < 0 || !at_gzip(s))
                return r;
        if (inflateInit2(&s->z, GZIP_WINDOW) != Z_OK)
                return cc_fail(err, CC_INTERNAL, "zlib: cannot start");
        s->gzip = true;
        return 0;
}

void source_close(struct source *s)
{
        if (s->gzip)
                (void)inflateEnd(&s->z);
        free(s->in);
        *s = (struct source){ .fd = -1 };
}

/* Behind a gzip member: another one, padding, or the end. */
static int next_member(struct source *s, struct cc_err *err)
{
        int r = peek(s, err);

        if (r < 0)
                return r;
        if (at_gzip(s)) {
                (void)inflateReset(&s->z);
                return 0;
        }
        s->stream_end = true;
        while (r == 0 && (s->pos < s->len || !s->file_end)) {
                for (; s->pos < s->len; s->pos++)
                        if (s->in[s->pos])
                                s->garbage = true;
                r = fill(s, err);
        }
        return r;
}

static int read_gzip(struct source *s, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        s->z.next_out = buf;
        s->z.avail_out = (uInt)(n > STREAM_BUFFER ? STREAM_BUFFER : n);
        while (!s->stream_end && s->z.next_out == buf) {
                int r;
                int z;

                if (s->pos == s->len) {
                        if (s->file_end)
                                return cc_fail(err, CC_CORRUPT, "archive truncated");
                        r = fill(s, err);
                        if (r < 0)
                                return r;
                        continue;
                }
                s->z.next_in = s->in + s->pos;
                s->z.avail_in = (uInt)(s->len - s->pos);
                z = inflate(&s->z, Z_NO_FLUSH);
                s->pos = s->len - s->z.avail_in;
                if (z == Z_STREAM_END)
                        r = next_member(s, err);
                else if (z != Z_OK && z != Z_BUF_ERROR)
                        r = cc_fail(err, CC_CORRUPT, "archive damaged: %s",
                                    s->z.msg ? s->z.msg : "bad gzip data");
                else
                        r = 0;
                if (r < 0)
                        return r;
        }
        *ret = (size_t)(s->z.next_out - (unsigned char *)buf);
        return 0;
}

static int read_plain(struct source *s, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        size_t have = s->len - s->pos;

        if (have) {
                if (have > n)
                        have = n;
                memcpy(buf, s->in + s->pos, have);
                s->pos += have;
                *ret = have;
                return 0;
        }
        /* Small reads go through the buffer, large ones straight to where they are wanted. */
        if (n < STREAM_BUFFER / 4) {
                int r = fill(s, err);

                if (r < 0)
                        return r;
                *ret = 0;
                return s->len > s->pos ? read_plain(s, buf, n, ret, err) : 0;
        }
        for (;;) {
                ssize_t got = read(s->fd, buf, n);

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return cc_fail_errno(err, errno, "read archive");
                if (got == 0)
                        s->file_end = true;
                *ret = (size_t)got;
                return 0;
        }
}

int source_read(struct source *s, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        return s->gzip ? read_gzip(s, buf, n, ret, err) : read_plain(s, buf, n, ret, err);
}

/* ---- writing ---- */

int sink_open(struct sink *s, int fd, bool gzip, struct cc_err *err)
{
        *s = (struct sink){ .fd = fd, .out = xmalloc(STREAM_BUFFER) };
        if (!gzip)
                return 0;
        if (deflateInit2(&s->z, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) !=
            Z_OK)
                return cc_fail(err, CC_INTERNAL, "zlib: cannot start");
        s->gzip = true;
        s->z.next_out = s->out;
        s->z.avail_out = (uInt)STREAM_BUFFER;
        return 0;
}

void sink_close(struct sink *s)
{
        if (s->gzip)
                (void)deflateEnd(&s->z);
        free(s->out);
        *s = (struct sink){ .fd = -1 };
}

static int flush_plain(struct sink *s, struct cc_err *err)
{
        size_t n = s->len;

        s->len = 0;
        return n ? cc_write_all(s->fd, s->out, n, err) : 0;
}

static int deflate_all(struct sink *s, int mode, struct cc_err *err)
{
        for (;;) {
                int z = deflate(&s->z, mode);
                size_t have = STREAM_BUFFER - s->z.avail_out;

                if (z == Z_STREAM_ERROR)
                        return cc_fail(err, CC_INTERNAL, "zlib: deflate");
                if (s->z.avail_out == 0 || (mode == Z_FINISH && have)) {
                        int r = cc_write_all(s->fd, s->out, have, err);

                        if (r < 0)
                                return r;
                        s->z.next_out = s->out;
                        s->z.avail_out = (uInt)STREAM_BUFFER;
                }
                if (z == Z_STREAM_END || (mode == Z_NO_FLUSH && s->z.avail_in == 0))
                        return 0;
        }
}

int sink_write(struct sink *s, const void *buf, size_t n, struct cc_err *err)
{
        const unsigned char *p = buf;

        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "interrupted");
        if (s->gzip) {
                s->z.next_in = (unsigned char *)(uintptr_t)p;
                s->z.avail_in = (uInt)n;
                return deflate_all(s, Z_NO_FLUSH, err);
        }
        while (n) {
                size_t room = STREAM_BUFFER - s->len;
                size_t take = n < room ? n : room;

                memcpy(s->out + s->len, p, take);
                s->len += take;
                p += take;
                n -= take;
                if (s->len == STREAM_BUFFER) {
                        int r = flush_plain(s, err);

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

/* In the kernel, as far as it can between these two files. 1: all done; 0: the rest by hand. */
static int copy_in_kernel(struct sink *s, int from, off_t *off, off_t end, struct cc_err *err)
{
        bool ranges = true;

        while (*off < end) {
                size_t want = end - *off > CHUNK ? (size_t)CHUNK : (size_t)(end - *off);
                ssize_t n = -1;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                if (ranges)
                        n = copy_file_range(from, off, s->fd, NULL, want, 0);
                if (n <= 0 && ranges && !(n < 0 && errno == EINTR)) {
                        ranges = false;
                        continue;
                }
                if (!ranges)
                        n = sendfile(s->fd, from, off, want);
                if (n > 0 || (n < 0 && errno == EINTR))
                        continue;
                if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EPIPE || errno == EIO))
                        return cc_fail_errno(err, errno, "write");
                return 0;
        }
        return 1;
}

int sink_copy(struct sink *s, int from, off_t off, off_t n, struct cc_err *err)
{
        CC_FREE unsigned char *buf = NULL;
        off_t end = off + n;
        int r;

        if (!s->gzip) {
                r = flush_plain(s, err);
                if (r == 0)
                        r = copy_in_kernel(s, from, &off, end, err);
                if (r != 0)
                        return r < 0 ? r : 0;
        }
        buf = xmalloc(STREAM_BUFFER);
        while (off < end) {
                size_t want =
                        end - off > (off_t)STREAM_BUFFER ? STREAM_BUFFER : (size_t)(end - off);

                r = cc_pread_all(from, buf, want, off, err);
                if (r == 0)
                        r = sink_write(s, buf, want, err);
                if (r < 0)
                        return r;
                off += (off_t)want;
        }
        return 0;
}

int sink_finish(struct sink *s, struct cc_err *err)
{
        if (!s->gzip)
                return flush_plain(s, err);
        s->z.next_in = NULL;
        s->z.avail_in = 0;
        return deflate_all(s, Z_FINISH, err);
}
