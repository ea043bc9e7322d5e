/* Buffered sequential output. See output.h. */
#include "image/erofs/output.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "base/sys.h"

#define BUFFER ((size_t)1 << 20)
/* What is copied into the buffer costs less than a call of its own; more than this does not. */
#define DIRECT ((size_t)64 << 10)

void output_init(struct output *o, int fd)
{
        *o = (struct output){ .fd = fd, .buf = xmalloc(BUFFER) };
}

void output_free(struct output *o)
{
        free(o->buf);
        o->buf = NULL;
}

int output_write_at(int fd, const uint8_t *data, size_t n, uint64_t at, struct cc_err *err)
{
        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "interrupted");
        while (n) {
                ssize_t w = cc_sys.pwrite(fd, data, n, (off_t)at);

                if (w < 0 && errno == EINTR)
                        continue;
                if (w <= 0)
                        return cc_fail_errno(err, w < 0 ? errno : EIO, "write image");
                data += w;
                n -= (size_t)w;
                at += (uint64_t)w;
        }
        return 0;
}

static int put(struct output *o, const uint8_t *data, size_t n, struct cc_err *err)
{
        uint64_t at = o->base;
        int r;

        o->base += n;
        r = output_write_at(o->fd, data, n, at, err);
        if (r == 0 && o->written)
                o->written(o->written_ctx, o->base);
        return r;
}

int output_flush(struct output *o, struct cc_err *err)
{
        size_t n = o->len;

        o->len = 0;
        return n ? put(o, o->buf, n, err) : 0;
}

int output_write(struct output *o, const void *data, size_t n, struct cc_err *err)
{
        const uint8_t *p = data;
        int r = 0;

        if (o->len + n > BUFFER || n >= DIRECT)
                r = output_flush(o, err);
        if (r == 0 && n >= DIRECT)
                return put(o, p, n, err);
        if (r == 0) {
                memcpy(o->buf + o->len, p, n);
                o->len += n;
        }
        return r;
}

int output_zero(struct output *o, uint64_t n, struct cc_err *err)
{
        if (n > BUFFER - o->len) {
                int r = output_flush(o, err);

                if (r < 0)
                        return r;
                /* The file is new: what is never written reads as zeros. */
                o->base += n;
                return 0;
        }
        memset(o->buf + o->len, 0, (size_t)n);
        o->len += (size_t)n;
        return 0;
}
