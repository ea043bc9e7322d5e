/* Compressed bytes → plain tar → EROFS. See convert.h. */
#include "image/pull/convert.h"

#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/size.h"
#include "image/pull/erofs_build.h"

enum {
        /* Real layers compress five- to tenfold, zero-filled files a thousandfold. A layer this
         * much smaller than what it unpacks to, beyond a size that could not matter, is a bomb. */
        BOMB_RATIO = 100,
};
#define BOMB_FLOOR (INT64_C(1) << 30)

struct plain {
        struct inflate *inflate;
        struct digest *digest;
        int64_t len, max;
};

static int read_plain(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct plain *p = ctx;
        char shown[24];
        int r = inflate_read(p->inflate, buf, n, ret, err);

        if (r < 0)
                return r;
        if (cc_interrupted())
                return cc_fail(err, CC_CANCELED, "canceled");
        p->len += (int64_t)*ret;
        digest_add(p->digest, buf, *ret);
        if (p->len > p->max) {
                cc_size_format(p->max, shown);
                r = cc_fail(err, CC_INVALID, "the layer unpacks to more than %s", shown);
                cc_hint(err, "layer_max_size in the configuration raises the limit");
                return r;
        }
        if (p->len > BOMB_FLOOR && p->len / BOMB_RATIO > inflate_consumed(p->inflate))
                return cc_fail(err, CC_INVALID,
                               "the layer unpacks to more than %d times its size: refused as a "
                               "decompression bomb",
                               BOMB_RATIO);
        return 0;
}

/* The digest covers everything behind the tar's end marker too. */
static int drain(struct plain *p, struct cc_err *err)
{
        CC_FREE char *buf = xmalloc(1 << 16);
        size_t n = 1;
        int r = 0;

        while (r == 0 && n > 0)
                r = read_plain(p, buf, 1 << 16, &n, err);
        return r;
}

const char *convert_builder(void)
{
        return erofs_builder();
}

int convert_layer(const struct config *config, inflate_source_fn source, void *ctx,
                  const char *diff_id, const char *out, struct built_layer *ret, struct cc_err *err)
{
        INFLATE struct inflate *inflate = NULL;
        DIGEST struct digest *digest = digest_new();
        struct plain plain = { .digest = digest };
        struct built_layer built;
        struct erofs_builder *b = NULL;
        char hex[DIGEST_HEX_LEN + 1];
        int r = inflate_open(INFLATE_LAYER, source, ctx, "layer", &inflate, err);

        if (r < 0)
                return r;
        plain.inflate = inflate;
        plain.max = config->layer_max_size > 0 ? config->layer_max_size : INT64_MAX;
        r = erofs_build_start(out, config, &b, err);
        if (r == 0)
                r = erofs_build_read(b, read_plain, &plain, err);
        if (r == 0)
                r = drain(&plain, err);
        if (r == 0) {
                digest_hex(digest, hex);
                if (diff_id && !cc_streq(hex, digest_digits(diff_id)))
                        r = cc_fail(err, CC_CORRUPT,
                                    "the unpacked layer has sha256:%s instead of %s", hex, diff_id);
        }
        if (r == 0)
                r = erofs_build_finish(b, hex, built.erofs_sha256, err);
        erofs_build_free(b);
        if (r < 0) {
                (void)cc_unlink(out, NULL);
                return r;
        }
        (void)snprintf(built.diff_id, sizeof(built.diff_id), "sha256:%s", hex);
        *ret = built;
        return 0;
}
