/*
 * Snapshots: builds that nobody finishes, directories without a row, and on request those that were
 * not used for long. A snapshot in use has its lease taken, and is left alone.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "gc/internal.h"
#include "vm/snapshot.h"

static const char orphan[] = "orphan";
static const char stale_pending[] = "stale-pending";

enum { LRU_AGE = 1, LRU_KEEP = 2, LRU_SIZE = 4 };

/* By the criteria that a snapshot fails; 0: evict all. */
static const char *const lru_reason[] = {
        [0] = "lru-all",
        [LRU_AGE] = "lru-age",
        [LRU_KEEP] = "lru-keep",
        [LRU_AGE | LRU_KEEP] = "lru-age+lru-keep",
        [LRU_SIZE] = "lru-size",
        [LRU_AGE | LRU_SIZE] = "lru-age+lru-size",
        [LRU_KEEP | LRU_SIZE] = "lru-keep+lru-size",
        [LRU_AGE | LRU_KEEP | LRU_SIZE] = "lru-age+lru-keep+lru-size",
};

struct eviction {
        const struct gc_options *o;
        struct gc_list *ret;
        int64_t now, seen, bytes;
};

/* Called with the most recently used first. */
static void judge(void *ctx, const struct meta_snapshot_use *use)
{
        struct eviction *ev = ctx;
        const struct gc_options *o = ev->o;
        int64_t used = use->accessed_at ? use->accessed_at : use->created_at;
        bool all = o->keep < 0 && o->age < 0 && o->size < 0;
        int why = 0;

        ev->seen++;
        ev->bytes += use->bytes;
        if (o->keep >= 0 && ev->seen > o->keep)
                why |= LRU_KEEP;
        if (o->age >= 0 && ev->now - used > o->age)
                why |= LRU_AGE;
        if (o->size >= 0 && ev->bytes > o->size)
                why |= LRU_SIZE;
        if (all || why)
                gc_list_add(ev->ret, use->id, lru_reason[why], NULL);
}

static int scan_dirs(struct gc *gc, struct gc_list *ret, struct cc_err *err)
{
        CC_FREE char *dir = cc_path_join(gc->e->config->root_dir, "snapshot/localfile");
        CC_STRV struct cc_strv known = { 0 };
        CC_STRV struct cc_strv names = { 0 };
        const char *name;
        int r = meta_snapshot_ids(gc->e->meta, false, &known, err);

        if (r == 0)
                r = gc_names(dir, &names, err);
        cc_strv_foreach (&names, i, name) {
                if (cc_id_valid(name) && !gc_has(&known, name))
                        gc_list_add(ret, name, orphan, cc_path_join(dir, name));
        }
        return r;
}

int gc_snapshots_scan(struct gc *gc, const struct gc_module *mod, struct gc_list *ret,
                      struct cc_err *err)
{
        struct eviction ev = { .o = gc->options, .ret = ret, .now = cc_now() };
        CC_STRV struct cc_strv pending = { 0 };
        const char *id;
        int r = meta_snapshot_ids(gc->e->meta, true, &pending, err);

        cc_strv_foreach (&pending, i, id)
                gc_list_add(ret, id, stale_pending, NULL);
        if (r == 0)
                r = scan_dirs(gc, ret, err);
        if (r == 0 && gc->options->snapshots)
                r = meta_snapshot_uses(gc->e->meta, judge, &ev, err);
        return r;
}

static int collect_dir(struct gc *gc, const struct gc_candidate *c, char **ret_detail,
                       int64_t *ret_bytes, struct cc_err *err)
{
        CC_FREE char *lock_path = layout_snap_lock(gc->e->config, c->id);
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        struct cc_err why = CC_ERR_INIT;
        CC_CLOSE int lock = -1;
        int r = gc_lock(lock_path, &lock, err);

        if (r <= 0)
                return r;
        r = meta_snapshot_get(gc->e->meta, c->id, &s, &why);
        if (r == 0)
                return 0;
        if (r != -CC_NOT_FOUND)
                return cc_err_copy(err, &why);
        *ret_bytes = cc_tree_bytes(c->path);
        *ret_detail = xasprintf("id=%s dir=%s", c->id, c->path);
        if (gc->dry_run)
                return GC_WOULD;
        r = cc_rm_rf(c->path, err);
        return r < 0 ? r : GC_DONE;
}

/* "id= name= bytes= last_accessed=" */
static char *describe(const struct snapshot_record *s)
{
        char when[CC_RFC3339_MAX] = "never";

        if (s->last_accessed_at)
                cc_time_rfc3339(s->last_accessed_at, when);
        return xasprintf("id=%s name=%s bytes=%lld last_accessed=%s", s->id, s->name ? s->name : "",
                         (long long)s->bytes, when);
}

/* A build or clone that is at it holds the lease. */
static int is_free(struct gc *gc, const char *id, struct cc_err *err)
{
        CC_FREE char *lock_path = layout_snap_lock(gc->e->config, id);
        CC_CLOSE int lock = -1;

        return gc_lock(lock_path, &lock, err);
}

static int collect_row(struct gc *gc, const struct gc_candidate *c, bool dry_run, char **ret_detail,
                       int64_t *ret_bytes, struct cc_err *err)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        struct cc_err why = CC_ERR_INIT;
        int r = is_free(gc, c->id, err);

        if (r <= 0)
                return r;
        r = meta_snapshot_get(gc->e->meta, c->id, &s, &why);
        /* A build may have ended well since the scan. */
        if (r == 0 && c->reason == stale_pending && !s.pending)
                return 0;
        if (r == 0 && !dry_run)
                r = vm_snapshot_rm(gc->e, c->id, &why);
        if (r == -CC_NOT_FOUND || r == -CC_BUSY)
                return 0;
        if (r < 0)
                return cc_err_copy(err, &why);
        *ret_bytes = s.bytes;
        *ret_detail = describe(&s);
        return dry_run ? GC_WOULD : GC_DONE;
}

int gc_snapshots_collect(struct gc *gc, const struct gc_module *mod, const struct gc_candidate *c,
                         char **ret_detail, int64_t *ret_bytes, struct cc_err *err)
{
        bool dry_run = gc->dry_run;

        if (c->reason == orphan)
                return collect_dir(gc, c, ret_detail, ret_bytes, err);
        if (c->reason != stale_pending)
                dry_run |= gc->options->snapshots_dry_run;
        return collect_row(gc, c, dry_run, ret_detail, ret_bytes, err);
}
