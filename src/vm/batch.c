/* Verbs on several VMs: all references resolved in one read first, then every VM on its own, best
 * effort, pool_size at a time (cli.md §5.5). */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/interrupt.h"
#include "vm/internal.h"

/* A thread costs a database connection; more than this never helps. */
#define MAX_WORKERS 64

struct crew {
        const struct config *config;
        struct vm_batch_item *items;
        size_t n;
        atomic_size_t next;
        vm_batch_fn fn;
        void *ctx;
};

static void *work(void *arg)
{
        struct crew *crew = arg;
        ENGINE struct engine e = { 0 };
        struct cc_err open_err = CC_ERR_INIT;
        int opened = engine_open(crew->config, &e, &open_err);
        size_t i;

        while ((i = atomic_fetch_add(&crew->next, 1)) < crew->n) {
                struct vm_batch_item *item = &crew->items[i];

                item->err = (struct cc_err)CC_ERR_INIT;
                if (opened < 0)
                        (void)cc_err_copy(&item->err, &open_err);
                else if (cc_interrupted())
                        (void)cc_fail(&item->err, CC_CANCELED, "interrupted before it began");
                else
                        (void)crew->fn(&e, item->id, crew->ctx, &item->err);
        }
        return NULL;
}

/* One line per failed item. A single failure keeps its class, code and hint. */
static int sum_up(const struct vm_batch_item *items, size_t n, struct cc_err *err)
{
        struct cc_err all = CC_ERR_INIT;
        size_t failed = 0;

        for (size_t i = 0; i < n; i++) {
                struct cc_err one = CC_ERR_INIT;

                if (items[i].err.class == CC_OK)
                        continue;
                (void)cc_err_copy(&one, &items[i].err);
                (void)cc_wrap(&one, "item %s", items[i].id);
                if (failed++ == 0)
                        (void)cc_err_copy(&all, &one);
                else
                        (void)cc_join(&all, &one);
        }
        if (failed == 0)
                return 0;
        if (failed > 1) {
                all.class = CC_PARTIAL;
                all.code = NULL;
        }
        return cc_err_copy(err, &all);
}

int vm_batch(const struct config *c, struct vm_batch_item *items, size_t n, vm_batch_fn fn,
             void *ctx, struct cc_err *err)
{
        struct crew crew = { .config = c, .items = items, .n = n, .fn = fn, .ctx = ctx };
        pthread_t threads[MAX_WORKERS];
        size_t want = n < (size_t)c->pool_size ? n : (size_t)c->pool_size;
        size_t started = 0;

        /* This thread works too. */
        while (started + 1 < want && started < MAX_WORKERS &&
               pthread_create(&threads[started], NULL, work, &crew) == 0)
                started++;
        (void)work(&crew);
        for (size_t i = 0; i < started; i++)
                (void)pthread_join(threads[i], NULL);
        return sum_up(items, n, err);
}

int vm_resolve_all(struct engine *e, const char *const *refs, size_t n, struct vm_batch_item **ret,
                   size_t *ret_n, struct cc_err *err)
{
        CC_FREE struct vm_batch_item *items = xcalloc(n + 1, sizeof(*items));
        size_t len = 0;
        int r = meta_begin(e->meta, META_READ, err);

        for (size_t i = 0; i < n && r == 0; i++) {
                bool seen = false;

                r = meta_vm_resolve(e->meta, refs[i], items[len].id, err);
                for (size_t k = 0; k < len && r == 0; k++)
                        seen = seen || cc_streq(items[k].id, items[len].id);
                if (r == 0 && !seen)
                        len++;
        }
        meta_rollback(e->meta);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(items);
        *ret_n = len;
        return 0;
}
