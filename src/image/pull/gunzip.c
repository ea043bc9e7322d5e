/* gzip members over ISA-L's inflate. See gunzip.h. */
#include "image/pull/gunzip.h"

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>
#include <limits.h>
#include <string.h>

#include "base/alloc.h"

enum {
        CHUNK = 1 << 18,
        /* The decoder takes up to 8 bytes at once. At the end of a member it gives back what it
         * did not need, which may have come with the chunk before. */
        BACK = 8,
        TRAILER = 8,
};

/* FLG, RFC 1952 §2.3.1 */
enum {
        FLAG_HCRC = 0x02,
        FLAG_EXTRA = 0x04,
        FLAG_NAME = 0x08,
        FLAG_COMMENT = 0x10,
        FLAGS_RESERVED = 0xe0,
};

struct gunzip {
        inflate_source_fn source;
        void *ctx;
        const char *what;
        enum { AT_HEADER, AT_DATA, AT_END } at;
        bool any;                     /* a member was there */
        bool ended;                   /* the source has */
        uint32_t crc, size;           /* of the member's content, as its trailer has them */
        size_t len;                   /* of the chunk */
        struct inflate_state inflate; /* next_in and avail_in are the place in the chunk */
        uint8_t in[BACK + CHUNK];
};

bool gunzip_recognize(const uint8_t *head, size_t n)
{
        return n >= GUNZIP_HEADER && head[0] == 0x1f && head[1] == 0x8b && head[2] == 8 &&
               !(head[3] & FLAGS_RESERVED);
}

struct gunzip *gunzip_open(inflate_source_fn source, void *ctx, const char *what)
{
        struct gunzip *g = xcalloc(1, sizeof(*g));

        g->source = source;
        g->ctx = ctx;
        g->what = what;
        isal_inflate_init(&g->inflate);
        g->inflate.next_in = g->in + BACK;
        return g;
}

void gunzip_free(struct gunzip *g)
{
        free(g);
}

static int damaged(const struct gunzip *g, const char *why, struct cc_err *err)
{
        return cc_fail(err, CC_INVALID, "%s: gzip data %s", g->what, why);
}

/* More input, unless there is some or there is none. */
static int refill(struct gunzip *g, struct cc_err *err)
{
        size_t n = 0;
        int r;

        if (g->inflate.avail_in || g->ended)
                return 0;
        memmove(g->in, g->in + g->len, BACK);
        r = g->source(g->ctx, g->in + BACK, CHUNK, &n, err);
        if (r < 0)
                return r;
        g->len = n;
        g->ended = n == 0;
        g->inflate.next_in = g->in + BACK;
        g->inflate.avail_in = (uint32_t)n;
        return 0;
}

/* n bytes of the wrapper, into `out` unless that is NULL. *ret_all false: the stream ended. */
static int take(struct gunzip *g, uint8_t *out, size_t n, bool *ret_all, struct cc_err *err)
{
        while (n) {
                size_t some;
                int r = refill(g, err);

                if (r < 0)
                        return r;
                some = n < g->inflate.avail_in ? n : g->inflate.avail_in;
                if (some == 0)
                        break;
                if (out) {
                        memcpy(out, g->inflate.next_in, some);
                        out += some;
                }
                g->inflate.next_in += some;
                g->inflate.avail_in -= (uint32_t)some;
                n -= some;
        }
        *ret_all = n == 0;
        return 0;
}

/* To the zero byte that ends a name or a comment. */
static int skip_text(struct gunzip *g, bool *ret_all, struct cc_err *err)
{
        uint8_t byte = 0;
        int r;

        do
                r = take(g, &byte, 1, ret_all, err);
        while (r == 0 && *ret_all && byte);
        return r;
}

static int skip_optional(struct gunzip *g, unsigned flags, bool *ret_all, struct cc_err *err)
{
        uint8_t size[2] = { 0 };
        int r = 0;

        if (flags & FLAG_EXTRA) {
                r = take(g, size, sizeof(size), ret_all, err);
                if (r == 0 && *ret_all)
                        r = take(g, NULL, size[0] | (size_t)size[1] << 8, ret_all, err);
        }
        if (r == 0 && *ret_all && flags & FLAG_NAME)
                r = skip_text(g, ret_all, err);
        if (r == 0 && *ret_all && flags & FLAG_COMMENT)
                r = skip_text(g, ret_all, err);
        if (r == 0 && *ret_all && flags & FLAG_HCRC)
                r = take(g, NULL, sizeof(size), ret_all, err);
        return r;
}

static int begin_member(struct gunzip *g, struct cc_err *err)
{
        uint8_t header[GUNZIP_HEADER];
        bool all;
        int r = take(g, header, sizeof(header), &all, err);

        if (r == 0 && all) {
                all = gunzip_recognize(header, sizeof(header));
                if (all)
                        r = skip_optional(g, header[3], &all, err);
        }
        if (r < 0)
                return r;
        if (!all && !g->any)
                return damaged(g, "is truncated", err);
        if (!all) {
                g->at = AT_END;
                return 0;
        }
        isal_inflate_reset(&g->inflate);
        g->crc = g->size = 0;
        g->any = true;
        g->at = AT_DATA;
        return 0;
}

static uint32_t get32(const uint8_t *p)
{
        return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int end_member(struct gunzip *g, struct cc_err *err)
{
        struct inflate_state *s = &g->inflate;
        /* Newer versions of the library have done it themselves. */
        unsigned back = (unsigned)s->read_in_length / 8;
        uint8_t trailer[TRAILER];
        bool all;
        int r;

        if (back > BACK || s->next_in - back < g->in)
                return cc_fail(err, CC_INTERNAL, "lost track of the gzip stream");
        s->next_in -= back;
        s->avail_in += back;
        s->read_in_length = 0;
        r = take(g, trailer, sizeof(trailer), &all, err);
        if (r < 0)
                return r;
        if (!all)
                return damaged(g, "is truncated", err);
        if (get32(trailer) != g->crc || get32(trailer + 4) != g->size)
                return damaged(g, "has a wrong checksum", err);
        g->at = AT_HEADER;
        return 0;
}

static int decode(struct gunzip *g, uint8_t *out, size_t n, size_t *ret, struct cc_err *err)
{
        struct inflate_state *s = &g->inflate;
        uint32_t before;
        int r = refill(g, err);

        if (r < 0)
                return r;
        before = s->avail_in;
        s->next_out = out;
        s->avail_out = n < INT_MAX ? (uint32_t)n : INT_MAX;
        if (isal_inflate(s) != ISAL_DECOMP_OK)
                return damaged(g, "is damaged", err);
        *ret = (size_t)(s->next_out - out);
        g->crc = crc32_gzip_refl(g->crc, out, *ret);
        g->size += (uint32_t)*ret;
        if (s->block_state == ISAL_BLOCK_FINISH)
                return end_member(g, err);
        /* Damaged data can make the decoder stand still. */
        if (*ret == 0 && s->avail_in == before && (before || g->ended))
                return damaged(g, before ? "is damaged" : "is truncated", err);
        return 0;
}

int gunzip_read(struct gunzip *g, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        size_t done = 0;

        while (done < n && g->at != AT_END) {
                size_t some = 0;
                int r = g->at == AT_HEADER ? begin_member(g, err)
                                           : decode(g, (uint8_t *)buf + done, n - done, &some, err);

                if (r < 0)
                        return r;
                done += some;
        }
        *ret = done;
        return 0;
}
