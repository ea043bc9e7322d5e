/* Manifests and blobs over the registry protocol. See fetch.h. */
#include "image/pull/fetch.h"

#include <string.h>

#include "base/alloc.h"
#include "image/pull/digest.h"

/* So much new data makes a broken download worth a fresh set of tries. */
enum { PROGRESS_RESETS_TRIES = 1 << 20 };

int fetch_manifest(struct registry *g, struct http *h, const char *target, const char *digest,
                   struct http_response *ret, char *ret_digest, struct cc_err *err)
{
        HTTP_RESPONSE struct http_response answer = { 0 };
        CC_FREE char *url =
                xasprintf("%s/v2/%s/manifests/%s", g->ref->base, g->ref->repository, target);
        struct http_request rq = { .url = url, .accept = manifest_accept, .max = MANIFEST_MAX };
        char hex[DIGEST_HEX_LEN + 1];
        int r = registry_send(g, h, &rq, true, "manifest", &answer, NULL, NULL, err);

        if (r < 0)
                return r;
        digest_of(answer.body.data ? answer.body.data : "", answer.body.len, hex);
        if (digest && !cc_streq(digest_digits(digest), hex))
                return cc_fail(err, CC_CORRUPT,
                               "manifest: registry %s sent sha256:%s instead of %s",
                               g->ref->registry, hex, digest);
        (void)snprintf(ret_digest, DIGEST_TEXT_LEN + 1, "sha256:%s", hex);
        *ret = answer;
        memset(&answer, 0, sizeof(answer));
        return 0;
}

static char *blob_url(const struct registry *g, const struct descriptor *d)
{
        return xasprintf("%s/v2/%s/blobs/%s", g->ref->base, g->ref->repository, d->digest);
}

int fetch_small_blob(struct registry *g, struct http *h, const struct descriptor *d, char **ret,
                     size_t *ret_len, struct cc_err *err)
{
        HTTP_RESPONSE struct http_response answer = { 0 };
        CC_FREE char *url = blob_url(g, d);
        struct http_request rq = { .url = url, .max = MANIFEST_MAX };
        char hex[DIGEST_HEX_LEN + 1];
        int r;

        if (d->size > MANIFEST_MAX)
                return cc_fail(err, CC_INVALID, "image configuration: larger than %d bytes",
                               MANIFEST_MAX);
        r = registry_send(g, h, &rq, true, "image configuration", &answer, NULL, NULL, err);
        if (r < 0)
                return r;
        digest_of(answer.body.data ? answer.body.data : "", answer.body.len, hex);
        if ((int64_t)answer.body.len != d->size || !cc_streq(digest_digits(d->digest), hex))
                return cc_fail(err, CC_CORRUPT,
                               "image configuration: registry %s sent %zu bytes with sha256:%s "
                               "instead of %lld with %s",
                               g->ref->registry, answer.body.len, hex, (long long)d->size,
                               d->digest);
        *ret_len = answer.body.len;
        *ret = cc_buf_take(&answer.body);
        return 0;
}

/* One layer's download over all its answers. */
struct download {
        const struct descriptor *want;
        struct stage *stage;
        struct digest *digest;
        int64_t have; /* bytes hashed and staged */
        int64_t skip; /* of the current answer, because the server started anew */
        bool begun;   /* the current answer was checked */
        char *etag;
        fetch_progress_fn progress;
        void *ctx;
};

/* Does this answer continue where we stopped? A server without ranges starts at zero again. */
static int check_answer(struct download *d, const struct http_response *r, struct cc_err *err)
{
        d->begun = true;
        d->skip = 0;
        if (r->status == 206) {
                if (r->range_start != d->have || r->range_total != d->want->size)
                        return cc_fail(err, CC_NETWORK,
                                       "the registry answered with another range than asked for");
                return 0;
        }
        d->skip = d->have;
        if (r->content_length >= 0 && r->content_length != d->want->size)
                return cc_fail(err, CC_CORRUPT, "the registry offers %lld bytes instead of %lld",
                               (long long)r->content_length, (long long)d->want->size);
        if (r->etag && !cc_startswith(r->etag, "W/"))
                cc_strset(&d->etag, r->etag);
        return 0;
}

static int on_data(void *ctx, const struct http_response *r, const void *data, size_t n,
                   struct cc_err *err)
{
        struct download *d = ctx;
        const char *p = data;
        int res = d->begun ? 0 : check_answer(d, r, err);

        if (res < 0)
                return res;
        if (d->skip > 0) {
                size_t drop = (int64_t)n < d->skip ? n : (size_t)d->skip;

                d->skip -= (int64_t)drop;
                p += drop;
                n -= drop;
        }
        if ((int64_t)n > d->want->size - d->have)
                return cc_fail(err, CC_CORRUPT, "the registry sent more than %lld bytes",
                               (long long)d->want->size);
        if (n == 0)
                return 0;
        res = stage_append(d->stage, p, n, err);
        if (res < 0)
                return res;
        digest_add(d->digest, p, n);
        d->have += (int64_t)n;
        if (d->progress)
                d->progress(d->ctx, d->have);
        return 0;
}

static bool worth_retrying(const struct cc_err *e, long status)
{
        if (status >= 300)
                return http_status_retryable(status);
        return e->class == CC_NETWORK || e->class == CC_TIMEOUT;
}

static int run(struct download *d, struct registry *g, struct http *h, bool *ret_resumed,
               struct cc_err *err)
{
        CC_FREE char *url = blob_url(g, d->want);
        int64_t last = 0;
        int next = 1;

        for (;;) {
                HTTP_RESPONSE struct http_response answer = { 0 };
                struct cc_err e = CC_ERR_INIT;
                struct http_request rq = { .url = url, .sink = on_data, .sink_ctx = d };
                int64_t retry_after = 0;
                long status = 0;
                int r;

                rq.offset = d->have;
                rq.etag = d->etag;
                d->begun = false;
                r = registry_send(g, h, &rq, false, "layer", &answer, &status, &retry_after, &e);
                if (r == 0 && d->have == d->want->size)
                        return 0;
                if (r == 0)
                        (void)cc_fail(
                                &e, CC_NETWORK, "layer: registry %s ended after %lld of %lld bytes",
                                g->ref->registry, (long long)d->have, (long long)d->want->size);
                if (cancel_pending(http_cancel(h)))
                        return cc_fail(err, CC_CANCELED, "canceled");
                if (!worth_retrying(&e, status))
                        return cc_err_copy(err, &e);
                if (d->have - last >= PROGRESS_RESETS_TRIES)
                        next = 1;
                last = d->have;
                *ret_resumed |= d->have > 0;
                if (!http_backoff(h, next++, retry_after))
                        return cancel_pending(http_cancel(h))
                                       ? cc_fail(err, CC_CANCELED, "canceled")
                                       : cc_err_copy(err, &e);
        }
}

int fetch_layer(struct registry *g, struct http *h, const struct descriptor *want, struct stage *s,
                fetch_progress_fn progress, void *ctx, bool *ret_resumed, struct cc_err *err)
{
        DIGEST struct digest *digest = digest_new();
        struct download d = { .want = want, .stage = s, .digest = digest };
        char hex[DIGEST_HEX_LEN + 1];
        int r;

        d.progress = progress;
        d.ctx = ctx;
        *ret_resumed = false;
        r = run(&d, g, h, ret_resumed, err);
        free(d.etag);
        if (r < 0)
                return r;
        digest_hex(digest, hex);
        if (!cc_streq(hex, digest_digits(want->digest)))
                return cc_fail(err, CC_CORRUPT,
                               "the registry sent bytes with sha256:%s instead of %s", hex,
                               want->digest);
        return 0;
}
