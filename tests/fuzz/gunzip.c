/* gzip: what our reader of the wrapper and ISA-L make of it, in pieces of any size, is what zlib
 * does. The first two bytes are the sizes. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/str.h"
#include "image/pull/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT = 1 << 17, MAX = 1 << 22 };

struct input {
        const uint8_t *data;
        size_t left, step;
};

static int read_input(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct input *in = ctx;

        (void)err;
        n = n < in->step ? n : in->step;
        n = n < in->left ? n : in->left;
        memcpy(buf, in->data, n);
        in->data += n;
        in->left -= n;
        *ret = n;
        return 0;
}

/* The sanitizer does not see what ISA-L's assembly writes: behind the output is nothing. */
static uint8_t *output(void)
{
        static uint8_t *p;

        if (!p) {
                p = mmap(NULL, OUT + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                         0);
                if (p == MAP_FAILED || mprotect(p + OUT, 4096, PROT_NONE) < 0)
                        abort();
        }
        return p;
}

static bool ours(struct input in, size_t chunk, struct cc_buf *out)
{
        INFLATE struct inflate *s = NULL;
        uint8_t *end = output() + OUT;
        size_t n = 0;
        int r = inflate_open(INFLATE_LAYER, read_input, &in, "fuzz", &s, NULL);

        do {
                if (r == 0)
                        r = inflate_read(s, end - chunk, chunk, &n, NULL);
                if (r == 0)
                        cc_buf_add(out, end - chunk, n);
        } while (r == 0 && n && out->len < MAX);
        return r == 0;
}

/* The first member's bytes. *ret_left: what follows it. */
static bool theirs(const uint8_t *data, size_t size, struct cc_buf *out, size_t *ret_left)
{
        static uint8_t buf[1 << 16];
        z_stream z = { .next_in = (Bytef *)data, .avail_in = (uInt)size };
        int r = inflateInit2(&z, 31);

        while (r == Z_OK && out->len < MAX) {
                z.next_out = buf;
                z.avail_out = sizeof(buf);
                r = inflate(&z, Z_NO_FLUSH);
                cc_buf_add(out, buf, sizeof(buf) - z.avail_out);
        }
        *ret_left = z.avail_in;
        (void)inflateEnd(&z);
        return r == Z_STREAM_END;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CC_BUF struct cc_buf a = { 0 };
        CC_BUF struct cc_buf b = { 0 };
        size_t left = 0;
        bool accepted;
        bool whole;

        /* What is no gzip at all passes as it is. */
        if (size < 12 || memcmp(data + 2, "\x1f\x8b\x08", 3) != 0 || data[5] & 0xe0)
                return 0;
        accepted = ours((struct input){ data + 2, size - 2, 1 + (size_t)data[0] * data[0] },
                        1 + (size_t)data[1] * 512, &a);
        whole = theirs(data + 2, size - 2, &b, &left);
        /* The header's own checksum is nobody's business but zlib's. */
        if (accepted && !whole && a.len < MAX && !(data[5] & 2))
                abort();
        if (whole && accepted && (a.len < b.len || memcmp(a.data, b.data, b.len) != 0))
                abort();
        if (whole && !accepted && left == 0)
                abort();
        return 0;
}
