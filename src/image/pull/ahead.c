/*
 * A ring of chunks with one thread that fills it and one or two that use it. See ahead.h.
 *
 * Every party counts the chunks it is through with: `filled` runs ahead of `taken` (the reader, one
 * behind the chunk it has been lent) and `hashed`. A chunk is filled again when both have passed
 * it.
 */
#include "image/pull/ahead.h"

#include <pthread.h>
#include <stdbool.h>

#include "base/alloc.h"

#define CHUNKS 8
#define CHUNK  ((size_t)256 << 10)

struct ahead {
        inflate_source_fn source;
        void *ctx;
        struct digest *digest;
        pthread_t filler, hasher;
        bool filling, hashing; /* the threads exist */
        pthread_mutex_t lock;
        pthread_cond_t more; /* chunks, or the end */
        pthread_cond_t room; /* or, at the end, the last chunk hashed */
        uint8_t *bytes;
        size_t len[CHUNKS];
        unsigned long filled, taken, hashed; /* chunks ever */
        bool lent;                           /* chunk `taken`; the reader's own */
        bool ended, stop;
        struct cc_err err; /* valid when ended; CC_OK: end of stream */
};

static unsigned long passed(const struct ahead *a)
{
        return a->hashing && a->hashed < a->taken ? a->hashed : a->taken;
}

static uint8_t *chunk(const struct ahead *a, unsigned long i)
{
        return a->bytes + i % CHUNKS * CHUNK;
}

static void *fill(void *arg)
{
        struct ahead *a = arg;
        bool end = false;

        while (!end) {
                struct cc_err err = CC_ERR_INIT;
                size_t n = 0;
                int r;

                pthread_mutex_lock(&a->lock);
                while (a->filled - passed(a) == CHUNKS && !a->stop)
                        pthread_cond_wait(&a->room, &a->lock);
                end = a->stop;
                pthread_mutex_unlock(&a->lock);
                if (end)
                        break;
                r = a->source(a->ctx, chunk(a, a->filled), CHUNK, &n, &err);
                pthread_mutex_lock(&a->lock);
                if (r < 0 || n == 0) {
                        a->err = err;
                        a->ended = end = true;
                } else {
                        a->len[a->filled % CHUNKS] = n;
                        a->filled++;
                }
                pthread_cond_broadcast(&a->more);
                pthread_mutex_unlock(&a->lock);
        }
        return NULL;
}

static void *hash(void *arg)
{
        struct ahead *a = arg;

        pthread_mutex_lock(&a->lock);
        for (;;) {
                while (a->filled == a->hashed && !a->ended && !a->stop)
                        pthread_cond_wait(&a->more, &a->lock);
                if (a->stop || a->filled == a->hashed)
                        break;
                pthread_mutex_unlock(&a->lock);
                digest_add(a->digest, chunk(a, a->hashed), a->len[a->hashed % CHUNKS]);
                pthread_mutex_lock(&a->lock);
                a->hashed++;
                pthread_cond_broadcast(&a->room);
        }
        pthread_mutex_unlock(&a->lock);
        return NULL;
}

int ahead_start(inflate_source_fn source, void *ctx, struct digest *digest, enum ahead_digest how,
                struct ahead **ret, struct cc_err *err)
{
        AHEAD struct ahead *a = xcalloc(1, sizeof(*a));
        int r = 0;

        *a = (struct ahead){ .source = source, .ctx = ctx, .digest = digest, .err = CC_ERR_INIT };
        a->bytes = xmalloc(CHUNKS * CHUNK);
        pthread_mutex_init(&a->lock, NULL);
        pthread_cond_init(&a->more, NULL);
        pthread_cond_init(&a->room, NULL);
        if (digest && how == AHEAD_BY_THREAD) {
                r = pthread_create(&a->hasher, NULL, hash, a);
                a->hashing = r == 0;
        }
        if (r == 0) {
                r = pthread_create(&a->filler, NULL, fill, a);
                a->filling = r == 0;
        }
        if (r != 0)
                return cc_fail_errno(err, r, "start a thread");
        *ret = TAKE_PTR(a);
        return 0;
}

int ahead_next(void *ahead, const void **ret, size_t *ret_n, struct cc_err *err)
{
        struct ahead *a = ahead;
        bool empty;

        pthread_mutex_lock(&a->lock);
        if (a->lent) {
                a->taken++;
                a->lent = false;
                pthread_cond_broadcast(&a->room);
        }
        while (a->filled == a->taken && !a->ended)
                pthread_cond_wait(&a->more, &a->lock);
        empty = a->filled == a->taken;
        while (empty && a->hashing && a->hashed < a->filled)
                pthread_cond_wait(&a->room, &a->lock);
        pthread_mutex_unlock(&a->lock);
        if (empty && a->err.class != CC_OK)
                return cc_err_copy(err, &a->err);
        a->lent = !empty;
        *ret = chunk(a, a->taken);
        *ret_n = empty ? 0 : a->len[a->taken % CHUNKS];
        if (a->digest && !a->hashing)
                digest_add(a->digest, *ret, *ret_n);
        return 0;
}

void ahead_stop(struct ahead *a)
{
        if (!a)
                return;
        pthread_mutex_lock(&a->lock);
        a->stop = true;
        pthread_cond_broadcast(&a->more);
        pthread_cond_broadcast(&a->room);
        pthread_mutex_unlock(&a->lock);
        if (a->filling)
                (void)pthread_join(a->filler, NULL);
        if (a->hashing)
                (void)pthread_join(a->hasher, NULL);
        pthread_mutex_destroy(&a->lock);
        pthread_cond_destroy(&a->more);
        pthread_cond_destroy(&a->room);
        free(a->bytes);
        free(a);
}

void ahead_stopp(struct ahead **a)
{
        ahead_stop(*a);
}
