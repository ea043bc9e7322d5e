/* A thread pool for one list. See work.h. */
#include "image/pull/work.h"

#include <pthread.h>

#include "base/alloc.h"

struct pool {
        pthread_mutex_t lock; /* guards next and err */
        size_t next, n;
        struct cancel *cancel;
        work_fn fn;
        void *ctx;
        struct cc_err err;
};

struct worker {
        struct pool *pool;
        size_t index;
        pthread_t thread;
};

static void failed(struct pool *p, const struct cc_err *e)
{
        (void)pthread_mutex_lock(&p->lock);
        /* A sibling that was stopped by the first failure is not the cause. */
        if (p->err.class == CC_OK || (p->err.class == CC_CANCELED && e->class != CC_CANCELED))
                p->err = *e;
        (void)pthread_mutex_unlock(&p->lock);
        cancel_fire(p->cancel);
}

static void *worker_main(void *arg)
{
        struct worker *w = arg;
        struct pool *p = w->pool;

        for (;;) {
                struct cc_err e = CC_ERR_INIT;
                size_t item;

                (void)pthread_mutex_lock(&p->lock);
                item = p->next++;
                (void)pthread_mutex_unlock(&p->lock);
                if (item >= p->n)
                        return NULL;
                if (cancel_pending(p->cancel))
                        (void)cc_fail(&e, CC_CANCELED, "canceled");
                else
                        (void)p->fn(p->ctx, w->index, item, &e);
                if (e.class != CC_OK) {
                        failed(p, &e);
                        return NULL;
                }
        }
}

int work_run(size_t n, size_t workers, struct cancel *cancel, work_fn fn, void *ctx,
             struct cc_err *err)
{
        struct pool p = { .n = n, .cancel = cancel, .fn = fn, .ctx = ctx, .err = CC_ERR_INIT };
        CC_FREE struct worker *list = NULL;
        size_t started = 0;

        if (workers > n)
                workers = n;
        if (workers == 0)
                return 0;
        list = xcalloc(workers, sizeof(*list));
        (void)pthread_mutex_init(&p.lock, NULL);
        for (; started < workers; started++) {
                int r;

                list[started] = (struct worker){ .pool = &p, .index = started };
                r = pthread_create(&list[started].thread, NULL, worker_main, &list[started]);
                if (r != 0) {
                        struct cc_err e = CC_ERR_INIT;

                        /* Fewer threads do the same work; none cannot. */
                        if (started > 0)
                                break;
                        (void)cc_fail_errno(&e, r, "start a thread");
                        failed(&p, &e);
                        break;
                }
        }
        for (size_t i = 0; i < started; i++)
                (void)pthread_join(list[i].thread, NULL);
        (void)pthread_mutex_destroy(&p.lock);
        return p.err.class == CC_OK ? 0 : cc_err_copy(err, &p.err);
}
