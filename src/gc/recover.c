/* Tombstones first: a removal that was decided is finished before anything new is (state.md §7). */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/str.h"
#include "config/layout.h"
#include "gc/internal.h"
#include "vm/snapshot.h"

struct entry {
        char *kind, *id;
        enum tombstone_phase phase;
};

struct entries {
        struct entry *v;
        size_t n;
};

static void entries_clear(struct entries *e)
{
        for (size_t i = 0; i < e->n; i++) {
                free(e->v[i].kind);
                free(e->v[i].id);
        }
        free(e->v);
}

static int note(void *ctx, const struct tombstone *t, struct cc_err *err)
{
        struct entries *e = ctx;

        e->v = xreallocarray(e->v, e->n + 1, sizeof(*e->v));
        e->v[e->n++] =
                (struct entry){ .kind = xstrdup(t->kind), .id = xstrdup(t->id), .phase = t->phase };
        return 0;
}

static int drop(struct gc *gc, const struct entry *t, struct cc_err *err)
{
        struct meta *m = gc->e->meta;
        int r = meta_begin(m, META_DURABLE, err);

        if (r < 0)
                return r;
        r = meta_tombstone_delete(m, t->kind, t->id, err);
        if (r < 0) {
                meta_rollback(m);
                return r;
        }
        return meta_commit(m, err);
}

static int recover_blob(struct gc *gc, const struct entry *t, bool *ret_done, struct cc_err *err)
{
        CC_FREE char *path = layout_blob_lock(gc->e->config, t->id);
        CC_CLOSE int lock = -1;
        int r;

        /* The id becomes a path. */
        if (!cc_is_hex(t->id, 64))
                return cc_fail(err, CC_CORRUPT, "tombstone of the invalid blob \"%s\"", t->id);
        r = gc_lock(path, &lock, err);
        if (r <= 0)
                return r;
        if (t->phase == TOMBSTONE_DELETING)
                r = gc_blob_files_remove(gc->e, t->id, err);
        if (r >= 0)
                r = drop(gc, t, err);
        *ret_done = r >= 0;
        return r;
}

static int recover(struct gc *gc, const struct entry *t, bool *ret_done, struct cc_err *err)
{
        if (cc_streq(t->kind, "vm"))
                return vm_finish_removal(gc->e, t->id, ret_done, err);
        if (cc_streq(t->kind, "blob"))
                return recover_blob(gc, t, ret_done, err);
        if (cc_streq(t->kind, "snapshot")) {
                struct cc_err why = CC_ERR_INIT;
                int r = vm_snapshot_rm(gc->e, t->id, &why);

                *ret_done = r == 0;
                return r == 0 || r == -CC_BUSY ? 0 : cc_err_copy(err, &why);
        }
        return cc_fail(err, CC_UNSUPPORTED, "tombstone of unknown kind \"%s\"", t->kind);
}

int gc_recover(struct gc *gc, struct cc_err *err)
{
        CC_CLEANUP(entries_clear) struct entries entries = { 0 };
        int r = meta_tombstone_each(gc->e->meta, note, &entries, err);

        for (size_t i = 0; i < entries.n && r >= 0; i++) {
                const struct entry *t = &entries.v[i];
                struct cc_err why = CC_ERR_INIT;
                bool done = gc->dry_run;

                if (!gc->dry_run && recover(gc, t, &done, &why) < 0)
                        gc_failed(gc, "tombstone", t->id, &why);
                else if (done)
                        gc_collected(gc, "tombstone", t->id, "interrupted-removal",
                                     xasprintf("kind=%s id=%s", t->kind, t->id), 0, gc->dry_run);
        }
        return r;
}
