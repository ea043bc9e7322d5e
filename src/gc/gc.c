/* One cycle: the table of modules and the order of things. See gc.h. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/timeutil.h"
#include "config/layout.h"
#include "gc/internal.h"

/* Behind the drivers. Images come after all that may unpin them. */
static const struct gc_module others[] = {
        { .name = "net", .scan = gc_net_scan, .collect = gc_net_collect },
        { .name = "snapshot", .scan = gc_snapshots_scan, .collect = gc_snapshots_collect },
        { .name = "oci", .scan = gc_oci_scan, .collect = gc_blob_collect },
        { .name = "cloudimg", .scan = gc_cloudimg_scan, .collect = gc_blob_collect },
        { .name = "vmlock", .scan = gc_locks_scan, .collect = gc_locks_collect },
};

/* Every driver of the table, whether or not its binary is installed, then the others. */
static size_t modules(struct gc_module **ret)
{
        struct gc_module *v = NULL;
        const struct hv_driver *drv;
        size_t n = 0;

        while ((drv = hv_driver_at(n))) {
                v = xreallocarray(v, n + 1, sizeof(*v));
                v[n++] = (struct gc_module){ .name = drv->name,
                                             .drv = drv,
                                             .scan = gc_vms_scan,
                                             .collect = gc_vms_collect };
        }
        v = xreallocarray(v, n + CC_ARRAY_LEN(others), sizeof(*v));
        memcpy(v + n, others, sizeof(others));
        *ret = v;
        return n + CC_ARRAY_LEN(others);
}

void gc_report_clear(struct gc_report *r)
{
        for (size_t i = 0; i < r->n_items; i++) {
                free(r->items[i].id);
                free(r->items[i].detail);
        }
        for (size_t i = 0; i < r->n_failures; i++) {
                free(r->failures[i].id);
                free(r->failures[i].error);
        }
        free(r->items);
        free(r->failures);
        *r = (struct gc_report){ 0 };
}

void gc_collected(struct gc *gc, const char *module, const char *id, const char *reason,
                  char *detail, int64_t bytes, bool would)
{
        struct gc_report *r = gc->report;
        CC_FREE char *tag = xasprintf("gc.%s", module);

        if (!gc->options->quiet)
                cc_info(tag, "%s %s reason=%s", would ? "would collect" : "collected",
                        detail ? detail : id, reason);
        r->items = xreallocarray(r->items, r->n_items + 1, sizeof(*r->items));
        r->items[r->n_items++] = (struct gc_item){
                .module = module,
                .reason = reason,
                .id = xstrdup(id),
                .detail = detail,
                .would = would,
                .bytes = bytes,
        };
}

void gc_failed(struct gc *gc, const char *module, const char *id, const struct cc_err *why)
{
        struct gc_report *r = gc->report;

        r->failures = xreallocarray(r->failures, r->n_failures + 1, sizeof(*r->failures));
        r->failures[r->n_failures++] = (struct gc_failure){ .module = module,
                                                            .id = xstrdup(id),
                                                            .error = xstrdup(why->msg) };
}

/* A module that cannot be read would leave pins unseen or garbage judged wrongly. */
static int check_readable(struct gc *gc, const struct gc_module *v, size_t n, struct cc_err *err)
{
        for (size_t i = 0; i < n; i++) {
                GC_LIST struct gc_list list = { 0 };

                if (v[i].scan(gc, &v[i], &list, err) < 0)
                        return cc_wrap(err, "gc aborted: %s", v[i].name);
        }
        return 0;
}

static int collect(struct gc *gc, const struct gc_module *mod, struct cc_err *err)
{
        GC_LIST struct gc_list list = { 0 };
        int r = mod->scan(gc, mod, &list, err);

        if (r < 0)
                return cc_wrap(err, "gc aborted: %s", mod->name);
        for (size_t i = 0; i < list.n; i++) {
                const struct gc_candidate *c = &list.v[i];
                CC_FREE char *detail = NULL;
                struct cc_err why = CC_ERR_INIT;
                int64_t bytes = 0;

                if (cc_interrupted())
                        return cc_fail(err, CC_CANCELED, "interrupted");
                r = mod->collect(gc, mod, c, &detail, &bytes, &why);
                if (r > 0)
                        gc_collected(gc, mod->name, c->id, c->reason, TAKE_PTR(detail), bytes,
                                     r == GC_WOULD);
                else if (r < 0)
                        gc_failed(gc, mod->name, c->id, &why);
        }
        return 0;
}

static int cycle(struct gc *gc, struct cc_err *err)
{
        CC_FREE struct gc_module *v = NULL;
        size_t n = modules(&v);
        int r = check_readable(gc, v, n, err);

        if (r == 0)
                r = gc_recover(gc, err);
        for (size_t i = 0; i < n && r == 0; i++)
                r = collect(gc, &v[i], err);
        return r;
}

int gc_run(struct engine *e, const struct gc_options *options, struct gc_report *ret,
           struct cc_err *err)
{
        CC_FREE char *dir = layout_lock_dir(e->config);
        CC_FREE char *path = cc_path_join(dir, "gc.lock");
        GC_REPORT struct gc_report report = { 0 };
        struct gc gc = {
                .e = e,
                .options = options,
                .dry_run = options->dry_run,
                .report = &report,
        };
        int64_t start = cc_monotonic();
        CC_CLOSE int lock = -1;
        int r = gc_lock(path, &lock, err);

        if (r < 0)
                return r;
        report.busy = r == 0;
        if (!report.busy)
                r = cycle(&gc, err);
        if (r < 0)
                return r;
        report.duration = cc_monotonic() - start;
        *ret = report;
        report = (struct gc_report){ 0 };
        return 0;
}
