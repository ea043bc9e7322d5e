/* Download and conversion of one layer, side by side. See layer.h. */
#include "image/pull/layer.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"

/* The converter's side of a stage. */
struct conversion {
        const struct layer_request *rq;
        struct stage *stage;
        int64_t pos;
        struct built_layer built;
        struct cc_err err;
};

static int read_stage(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct conversion *c = ctx;
        int r = stage_read(c->stage, c->pos, buf, n, ret, err);

        if (r == 0)
                c->pos += (int64_t)*ret;
        return r;
}

static void *convert_main(void *arg)
{
        struct conversion *c = arg;

        (void)convert_layer(c->rq->config, read_stage, c, c->rq->diff_id, c->rq->out, &c->built,
                            &c->err);
        /* Refused bytes are still downloaded, to learn whether they are the registry's or the
         * image's fault; a host that cannot take the result need not wait for them. */
        if (c->err.class != CC_OK && c->err.class != CC_INVALID && c->err.class != CC_CORRUPT)
                stage_abandon(c->stage);
        return NULL;
}

/* One attempt. *ret_stitched: the digest was wrong and the bytes came in pieces. */
static int attempt(const struct layer_request *rq, struct registry *g, struct http *h,
                   struct built_layer *ret, bool *ret_stitched, struct cc_err *err)
{
        struct stage stage;
        struct conversion c = { .rq = rq, .stage = &stage, .err = CC_ERR_INIT };
        struct cc_err fetch_err = CC_ERR_INIT;
        pthread_t thread;
        int r = stage_create(&stage, rq->stage, err);

        if (r < 0)
                return r;
        r = pthread_create(&thread, NULL, convert_main, &c);
        if (r != 0) {
                stage_close(&stage);
                (void)cc_unlink(rq->stage, NULL);
                return cc_fail_errno(err, r, "start a thread");
        }
        r = fetch_layer(g, h, rq->descriptor, &stage, rq->progress, rq->progress_ctx, ret_stitched,
                        &fetch_err);
        stage_end(&stage, r == 0);
        (void)pthread_join(thread, NULL);
        stage_close(&stage);
        (void)cc_unlink(rq->stage, NULL);
        *ret_stitched &= fetch_err.class == CC_CORRUPT;
        /* An abandoned download reports CANCELED: the converter knows why. */
        if (r < 0 && (fetch_err.class != CC_CANCELED || c.err.class == CC_CANCELED ||
                      c.err.class == CC_OK)) {
                (void)cc_unlink(rq->out, NULL);
                return cc_err_copy(err, &fetch_err);
        }
        if (c.err.class != CC_OK)
                return cc_err_copy(err, &c.err);
        *ret = c.built;
        return 0;
}

int layer_from_registry(const struct layer_request *rq, struct registry *g, struct http *h,
                        struct built_layer *ret, struct cc_err *err)
{
        bool stitched = false;
        int r = attempt(rq, g, h, ret, &stitched, err);

        if (r < 0 && stitched)
                r = attempt(rq, g, h, ret, &stitched, err);
        if (r < 0)
                return cc_wrap(err, "layer %.19s", rq->descriptor->digest);
        return 0;
}

/* Feeds the converter from a file and hashes on the way. */
struct file_source {
        struct stage *stage;
        struct digest *digest;
        int64_t pos;
};

static int read_file(void *ctx, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct file_source *f = ctx;
        int r = stage_read(f->stage, f->pos, buf, n, ret, err);

        if (r == 0) {
                digest_add(f->digest, buf, *ret);
                f->pos += (int64_t)*ret;
        }
        return r;
}

/* The tail that a decompressor does not ask for belongs to the digest too. */
static int drain(struct file_source *f, struct cc_err *err)
{
        CC_FREE char *buf = xmalloc(1 << 16);
        size_t n;
        int r;

        do {
                r = read_file(f, buf, 1 << 16, &n, err);
        } while (r == 0 && n > 0);
        return r;
}

int layer_from_file(const struct layer_request *rq, const char *file, struct built_layer *ret,
                    struct cc_err *err)
{
        DIGEST struct digest *digest = digest_new();
        struct stage stage;
        struct file_source source = { .stage = &stage, .digest = digest };
        struct cc_err convert_err = CC_ERR_INIT;
        char hex[DIGEST_HEX_LEN + 1];
        int converted;
        int r = stage_open(&stage, file, err);

        if (r < 0)
                return cc_wrap(err, "layer %.19s", rq->descriptor->digest);
        converted = convert_layer(rq->config, read_file, &source, rq->diff_id, rq->out, ret,
                                  &convert_err);
        r = drain(&source, err);
        stage_close(&stage);
        if (r == 0) {
                digest_hex(digest, hex);
                if (source.pos != rq->descriptor->size ||
                    !cc_streq(hex, digest_digits(rq->descriptor->digest)))
                        r = cc_fail(err, CC_CORRUPT,
                                    "the archive holds %lld bytes with sha256:%s instead of %lld",
                                    (long long)source.pos, hex, (long long)rq->descriptor->size);
                else if (converted < 0)
                        r = cc_err_copy(err, &convert_err);
        }
        if (r < 0) {
                (void)cc_unlink(rq->out, NULL);
                return cc_wrap(err, "layer %.19s", rq->descriptor->digest);
        }
        return 0;
}
