/* gzip against zlib: every way to cut input and output, members in a row, damage at every bit. */
#include "../unit.h"

#include <string.h>
#include <zlib.h>

#include "base/alloc.h"
#include "base/str.h"
#include "image/pull/inflate.h"

/* Hands out at most `step` bytes at a time. */
struct source {
        const uint8_t *data;
        size_t left, step;
        bool broken; /* fails instead of ending */
};

static int read_source(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct source *s = ctx;

        if (s->left == 0 && s->broken)
                return cc_fail(err, CC_IO, "the source broke");
        n = n < s->step ? n : s->step;
        n = n < s->left ? n : s->left;
        memcpy(buf, s->data, n);
        s->data += n;
        s->left -= n;
        *ret = n;
        return 0;
}

static int unpack(struct source source, size_t chunk, struct cc_buf *out, struct cc_err *err)
{
        INFLATE struct inflate *s = NULL;
        CC_FREE uint8_t *buf = xmalloc(chunk);
        size_t n = 0;
        int r = inflate_open(INFLATE_LAYER, read_source, &source, "test", &s, err);

        out->len = 0;
        do {
                if (r == 0)
                        r = inflate_read(s, buf, chunk, &n, err);
                if (r == 0)
                        cc_buf_add(out, buf, n);
        } while (r == 0 && n);
        return r;
}

static void expect(const struct cc_buf *gz, const struct cc_buf *plain, size_t step, size_t chunk)
{
        CC_BUF struct cc_buf out = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct source source = { (const uint8_t *)gz->data, gz->len, step, false };

        if (unpack(source, chunk, &out, &err) < 0)
                fail_msg("%s (input by %zu, output by %zu)", err.msg, step, chunk);
        assert_int_equal(out.len, plain->len);
        if (plain->len)
                assert_memory_equal(out.data, plain->data, plain->len);
}

static void refused(const struct cc_buf *gz, size_t len)
{
        CC_BUF struct cc_buf out = { 0 };
        struct cc_err err = CC_ERR_INIT;
        struct source source = { (const uint8_t *)gz->data, len, 7, false };

        if (unpack(source, 100, &out, &err) == 0)
                fail_msg("accepted %zu of %zu bytes", len, gz->len);
        assert_int_equal(err.class, CC_INVALID);
}

struct how {
        int level, strategy;
        const char *name, *comment;
        size_t extra;
        bool header_crc;
};

/* Append a member with these n bytes. */
static void member(struct cc_buf *gz, const void *data, size_t n, const struct how *how)
{
        static uint8_t extra[UINT16_MAX];
        gz_header header = { .name = (Bytef *)how->name,
                             .comment = (Bytef *)how->comment,
                             .extra = how->extra ? extra : NULL,
                             .extra_len = (uInt)how->extra,
                             .hcrc = how->header_crc };
        z_stream z = { 0 };
        size_t max;
        CC_FREE uint8_t *buf = NULL;

        assert_int_equal(deflateInit2(&z, how->level, Z_DEFLATED, 31, 8, how->strategy), Z_OK);
        assert_int_equal(deflateSetHeader(&z, &header), Z_OK);
        max = deflateBound(&z, n);
        buf = xmalloc(max);
        z.next_in = (Bytef *)data;
        z.avail_in = (uInt)n;
        z.next_out = buf;
        z.avail_out = (uInt)max;
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        cc_buf_add(gz, buf, max - z.avail_out);
        (void)deflateEnd(&z);
}

/* Compressible, with matches near and as far as they go. */
static void text(struct cc_buf *out, size_t n)
{
        uint64_t x = 88172645463325252u;

        while (out->len < n) {
                size_t len;

                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                len = 3 + x % 300;
                if (out->len > 1 << 16 && x & 1 << 20) {
                        size_t from = out->len - 1 - (x >> 32) % (1 << 15);

                        for (size_t i = from; i < from + len; i++) {
                                char byte = out->data[i];

                                cc_buf_add(out, &byte, 1);
                        }
                } else {
                        cc_buf_add(out, &x, sizeof(x));
                }
        }
        out->len = n;
}

static const struct how kinds[] = {
        { 6, Z_DEFAULT_STRATEGY },
        { 0, Z_DEFAULT_STRATEGY },
        { 1, Z_DEFAULT_STRATEGY, .name = "layer.tar" },
        { 9, Z_FIXED, .name = "layer.tar", .comment = "a comment", .header_crc = true },
        { 6, Z_HUFFMAN_ONLY, .extra = 1 },
        { 9, Z_RLE, .comment = "", .extra = UINT16_MAX },
};

static void test_cuts(void **state)
{
        static const size_t steps[] = { 1, 3, 7, 8, 9, 64, 4096, SIZE_MAX };
        static const size_t chunks[] = { 1000, 32768, 40000, 1 << 18 };
        CC_BUF struct cc_buf plain = { 0 };

        text(&plain, 100000);
        for (size_t k = 0; k < CC_ARRAY_LEN(kinds); k++) {
                CC_BUF struct cc_buf gz = { 0 };

                member(&gz, plain.data, plain.len, &kinds[k]);
                for (size_t i = 0; i < CC_ARRAY_LEN(steps); i++)
                        expect(&gz, &plain, steps[i], chunks[(i + k) % CC_ARRAY_LEN(chunks)]);
        }
}

/* The decoder reads beyond the end of a member; what it took is the next one's beginning, wherever
 * the input was cut. */
static void test_members(void **state)
{
        CC_BUF struct cc_buf plain = { 0 };
        CC_BUF struct cc_buf gz = { 0 };
        CC_BUF struct cc_buf all = { 0 };

        text(&plain, 3000);
        for (size_t n = 0; n < 60; n++) {
                member(&gz, plain.data + n, n * n % 1000, &kinds[n % CC_ARRAY_LEN(kinds)]);
                cc_buf_add(&all, plain.data + n, n * n % 1000);
        }
        for (size_t step = 1; step < 100; step++)
                expect(&gz, &all, step, 500 + step % 5 * 500);
        /* What follows the last one and is no member is not ours. */
        for (size_t i = 0; i < 20; i++) {
                cc_buf_add(&gz, "\0\0\0\0garbage", 11);
                expect(&gz, &all, 1 + i, 4096);
        }
}

/* Any place in an input that is longer than what is read of it at once. */
static void test_long(void **state)
{
        CC_BUF struct cc_buf plain = { 0 };
        CC_BUF struct cc_buf gz = { 0 };
        CC_BUF struct cc_buf all = { 0 };

        text(&plain, 300000);
        for (size_t i = 0; i < 6; i++) {
                size_t n = plain.len - i * 1001;

                member(&gz, plain.data, n, &kinds[i % CC_ARRAY_LEN(kinds)]);
                cc_buf_add(&all, plain.data, n);
        }
        expect(&gz, &all, SIZE_MAX, 1 << 18);
        expect(&gz, &all, (1 << 18) - 1, 100000);
}

static void test_truncated(void **state)
{
        CC_BUF struct cc_buf plain = { 0 };
        CC_BUF struct cc_buf gz = { 0 };
        CC_BUF struct cc_buf one = { 0 };
        size_t first;

        text(&plain, 1000);
        member(&gz, plain.data, 600, &kinds[0]);
        first = gz.len;
        for (size_t n = 10; n < first; n++)
                refused(&gz, n);
        member(&gz, plain.data + 600, 400, &kinds[3]);
        cc_buf_add(&one, gz.data, first);
        /* Within the second one's header there is no second one yet. */
        for (size_t n = first; n < first + 10; n++) {
                one.len = 0;
                cc_buf_add(&one, gz.data, n);
                expect(&one, &(struct cc_buf){ .data = plain.data, .len = 600 }, 5, 99);
        }
        for (size_t n = first + 10 + strlen("layer.tar") + strlen("a comment") + 4; n < gz.len; n++)
                refused(&gz, n);
        expect(&gz, &plain, 5, 1);
}

/* Whatever is wrong, what is accepted is what was packed: the checksum sees to it. */
static void test_damage(void **state)
{
        CC_BUF struct cc_buf plain = { 0 };

        text(&plain, 400);
        for (size_t k = 0; k < 4; k++) {
                CC_BUF struct cc_buf gz = { 0 };
                CC_BUF struct cc_buf out = { 0 };
                size_t accepted = 0;

                member(&gz, plain.data, plain.len, &kinds[k]);
                /* In the first bytes damage makes it no gzip at all, or another kind of header. */
                for (size_t bit = 32; bit < gz.len * 8; bit++) {
                        struct source source = { (const uint8_t *)gz.data, gz.len, 13, false };
                        struct cc_err err = CC_ERR_INIT;

                        gz.data[bit / 8] = (char)(gz.data[bit / 8] ^ 1 << bit % 8);
                        if (unpack(source, 1000, &out, &err) < 0) {
                                assert_int_equal(err.class, CC_INVALID);
                        } else {
                                accepted++;
                                assert_int_equal(out.len, plain.len);
                                assert_memory_equal(out.data, plain.data, plain.len);
                        }
                        gz.data[bit / 8] = (char)(gz.data[bit / 8] ^ 1 << bit % 8);
                }
                /* Time, name and what is between the last block and the next byte. */
                assert_true(accepted < 300);
        }
}

/* Once only: a gzip stream inside one is the layer, and then no tar. */
static void test_nested(void **state)
{
        CC_BUF struct cc_buf inner = { 0 };
        CC_BUF struct cc_buf outer = { 0 };

        member(&inner, "plain", 5, &kinds[0]);
        member(&outer, inner.data, inner.len, &kinds[0]);
        expect(&outer, &inner, SIZE_MAX, 4096);
}

static void test_source_error(void **state)
{
        CC_BUF struct cc_buf plain = { 0 };
        CC_BUF struct cc_buf gz = { 0 };
        CC_BUF struct cc_buf out = { 0 };

        text(&plain, 1000);
        member(&gz, plain.data, plain.len, &kinds[3]);
        for (size_t n = 0; n <= gz.len; n++) {
                struct source source = { (const uint8_t *)gz.data, n, 11, true };
                struct cc_err err = CC_ERR_INIT;

                assert_true(unpack(source, 1000, &out, &err) < 0);
                assert_string_equal(err.msg, "the source broke");
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cuts),         cmocka_unit_test(test_members),
                cmocka_unit_test(test_long),         cmocka_unit_test(test_truncated),
                cmocka_unit_test(test_damage),       cmocka_unit_test(test_nested),
                cmocka_unit_test(test_source_error),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
