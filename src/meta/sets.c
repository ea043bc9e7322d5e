/* Whole sets of keys for garbage collection (state.md §7): one query each over the derived columns,
 * no record is parsed. */
#include "meta/internal.h"

static int keys(struct meta *m, const char *sql, const char *a, const char *b, struct cc_strv *ret,
                struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, sql, &s, err);

        if (r < 0)
                return r;
        if (a)
                meta_bind(s, 1, a);
        if (b)
                meta_bind(s, 2, b);
        while ((r = meta_step(m, s, err)) > 0)
                cc_strv_add(ret, meta_text(s, 0));
        return r;
}

int meta_vm_ids(struct meta *m, struct cc_strv *ret, struct cc_err *err)
{
        return keys(m, "SELECT id FROM vms ORDER BY id", NULL, NULL, ret, err);
}

int meta_vm_ids_in_state(struct meta *m, const char *driver, const char *state, struct cc_strv *ret,
                         struct cc_err *err)
{
        return keys(m, "SELECT id FROM vms WHERE backend = ?1 AND state = ?2 ORDER BY id", driver,
                    state, ret, err);
}

int meta_vm_exists(struct meta *m, const char *id, bool *ret, struct cc_err *err)
{
        return meta_exists(m, SQL_VM_HAS_ID, id, NULL, ret, err);
}

int meta_snapshot_ids(struct meta *m, bool pending_only, struct cc_strv *ret, struct cc_err *err)
{
        return keys(m,
                    pending_only ? "SELECT id FROM snapshots WHERE pending = 1 ORDER BY id"
                                 : "SELECT id FROM snapshots ORDER BY id",
                    NULL, NULL, ret, err);
}

int meta_snapshot_uses(struct meta *m, meta_snapshot_use_fn fn, void *ctx, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m,
                             "SELECT id, name, bytes, accessed_at, created_at FROM snapshots "
                             "WHERE pending = 0 "
                             "ORDER BY coalesce(nullif(accessed_at, 0), created_at) DESC, id",
                             &s, err);

        if (r < 0)
                return r;
        while ((r = meta_step(m, s, err)) > 0) {
                struct meta_snapshot_use use = {
                        .id = meta_text(s, 0),
                        .name = meta_text(s, 1),
                        .bytes = sqlite3_column_int64(s, 2),
                        .accessed_at = sqlite3_column_int64(s, 3),
                        .created_at = sqlite3_column_int64(s, 4),
                };

                fn(ctx, &use);
        }
        return r;
}

int meta_blobs(struct meta *m, struct cc_strv *ret, struct cc_err *err)
{
        return keys(m,
                    "SELECT hex FROM image_blobs UNION SELECT hex FROM vm_blobs "
                    "UNION SELECT hex FROM snapshot_blobs ORDER BY hex",
                    NULL, NULL, ret, err);
}
