/* A read-ahead thread with a ring of chunks. See ahead.h. */
#include "image/pull/ahead.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"

#define CHUNKS 8
#define CHUNK  ((size_t)256 << 10)

struct ahead {
        inflate_source_fn source;
        void *ctx;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        uint8_t *bytes;
        size_t len[CHUNKS];
        unsigned long filled, taken; /* chunks ever; filled - taken <= CHUNKS */
        size_t pos;                  /* in chunk `taken`; the reader's own */
        bool ended, stop;
        struct cc_err err; /* valid when ended; CC_OK: end of stream */
};

static void *fill(void *arg)
{
        struct ahead *a = arg;
        bool end = false;

        while (!end) {
                struct cc_err err = CC_ERR_INIT;
                size_t slot;
                size_t n = 0;
                int r;

                pthread_mutex_lock(&a->lock);
                while (a->filled - a->taken == CHUNKS && !a->stop)
                        pthread_cond_wait(&a->changed, &a->lock);
                end = a->stop;
                slot = a->filled % CHUNKS;
                pthread_mutex_unlock(&a->lock);
                if (end)
                        break;
                r = a->source(a->ctx, a->bytes + slot * CHUNK, CHUNK, &n, &err);
                pthread_mutex_lock(&a->lock);
                if (r < 0 || n == 0) {
                        a->err = err;
                        a->ended = end = true;
                } else {
                        a->len[slot] = n;
                        a->filled++;
                }
                pthread_cond_signal(&a->changed);
                pthread_mutex_unlock(&a->lock);
        }
        return NULL;
}

int ahead_start(inflate_source_fn source, void *ctx, struct ahead **ret, struct cc_err *err)
{
        struct ahead *a = xcalloc(1, sizeof(*a));
        int r;

        *a = (struct ahead){ .source = source, .ctx = ctx, .err = CC_ERR_INIT };
        a->bytes = xmalloc(CHUNKS * CHUNK);
        pthread_mutex_init(&a->lock, NULL);
        pthread_cond_init(&a->changed, NULL);
        r = pthread_create(&a->thread, NULL, fill, a);
        if (r != 0) {
                free(a->bytes);
                free(a);
                return cc_fail_errno(err, r, "start a thread");
        }
        *ret = a;
        return 0;
}

int ahead_read(void *ahead, void *buf, size_t n, size_t *ret, struct cc_err *err)
{
        struct ahead *a = ahead;
        size_t slot = a->taken % CHUNKS;
        bool empty;

        pthread_mutex_lock(&a->lock);
        while (a->filled == a->taken && !a->ended)
                pthread_cond_wait(&a->changed, &a->lock);
        empty = a->filled == a->taken;
        pthread_mutex_unlock(&a->lock);
        if (empty) {
                if (a->err.class != CC_OK)
                        return cc_err_copy(err, &a->err);
                *ret = 0;
                return 0;
        }
        if (n > a->len[slot] - a->pos)
                n = a->len[slot] - a->pos;
        memcpy(buf, a->bytes + slot * CHUNK + a->pos, n);
        a->pos += n;
        if (a->pos == a->len[slot]) {
                a->pos = 0;
                pthread_mutex_lock(&a->lock);
                a->taken++;
                pthread_cond_signal(&a->changed);
                pthread_mutex_unlock(&a->lock);
        }
        *ret = n;
        return 0;
}

void ahead_stop(struct ahead *a)
{
        if (!a)
                return;
        pthread_mutex_lock(&a->lock);
        a->stop = true;
        pthread_cond_signal(&a->changed);
        pthread_mutex_unlock(&a->lock);
        (void)pthread_join(a->thread, NULL);
        pthread_mutex_destroy(&a->lock);
        pthread_cond_destroy(&a->changed);
        free(a->bytes);
        free(a);
}

void ahead_stopp(struct ahead **a)
{
        ahead_stop(*a);
}
