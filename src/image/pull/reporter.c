/* Serialised progress events. See reporter.h. */
#include "image/pull/reporter.h"

#include "base/timeutil.h"

#define MIN_INTERVAL (50 * CC_NSEC_PER_MSEC)

void reporter_init(struct reporter *r, const struct image_env *env, size_t total)
{
        r->env = env;
        r->total = total;
        (void)pthread_mutex_init(&r->lock, NULL);
}

void reporter_free(struct reporter *r)
{
        (void)pthread_mutex_destroy(&r->lock);
}

static void send(struct reporter *r, const struct image_progress *p)
{
        if (!r->env->progress)
                return;
        (void)pthread_mutex_lock(&r->lock);
        r->env->progress(r->env->progress_ctx, p);
        (void)pthread_mutex_unlock(&r->lock);
}

void reporter_phase(struct reporter *r, enum image_phase phase)
{
        struct image_progress p = { .phase = phase, .total = r->total };

        send(r, &p);
}

void reporter_transfer(struct reporter *r, enum image_phase phase, int64_t bytes, int64_t total)
{
        struct image_progress p = { .phase = phase, .bytes = bytes, .total_bytes = total };
        int64_t now = cc_monotonic();

        if (bytes != total && now - r->last < MIN_INTERVAL)
                return;
        r->last = now;
        send(r, &p);
}

void reporter_layer_bytes(void *ctx, int64_t bytes)
{
        struct reporter_layer *l = ctx;
        int64_t now = cc_monotonic();
        struct image_progress p = { .phase = IMAGE_LAYER, .index = l->index };

        if (bytes < l->total_bytes && now - l->last < MIN_INTERVAL)
                return;
        l->last = now;
        p.total = l->reporter->total;
        p.digest = l->digest;
        p.bytes = bytes;
        p.total_bytes = l->total_bytes;
        send(l->reporter, &p);
}
