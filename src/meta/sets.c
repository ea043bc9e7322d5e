/* Whole sets of keys, for garbage collection (state.md §7) and completion: one query each over the
 * derived columns, no record is parsed. */
#include "base/alloc.h"
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

int meta_vm_ids_hibernating(struct meta *m, const char *driver, struct cc_strv *ret,
                            struct cc_err *err)
{
        /* The flag has no column; inside a string of the record its quotes would be escaped. */
        return keys(m,
                    "SELECT id FROM vms WHERE backend = ?1 AND state = ?2 "
                    "AND instr(data, '\"hibernating\":true') ORDER BY id",
                    driver, vm_state_name(VM_RUNNING), ret, err);
}

/* Keys from ?1 on and before ?2, at most ?3; ?4 is `also`. */
static int range(struct meta *m, const char *sql, const char *prefix, size_t limit,
                 const char *also, struct cc_strv *ret, struct cc_err *err)
{
        CC_FREE char *end = meta_after_prefix(prefix);
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, sql, &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, prefix);
        /* Names and IDs are far below this, the last character of Unicode. */
        meta_bind(s, 2, end ? end : "\xf4\x8f\xbf\xbf");
        sqlite3_bind_int64(s, 3, (sqlite3_int64)limit);
        if (also)
                meta_bind(s, 4, also);
        while ((r = meta_step(m, s, err)) > 0)
                cc_strv_add(ret, meta_text(s, 0));
        return r;
}

int meta_vm_names_in_state(struct meta *m, const char *state, const char *prefix, size_t limit,
                           struct cc_strv *ret, struct cc_err *err)
{
        return range(m,
                     "SELECT name FROM vms WHERE state = ?4 AND name >= ?1 AND name < ?2 "
                     "ORDER BY name LIMIT ?3",
                     prefix, limit, state, ret, err);
}

int meta_vm_ids_like(struct meta *m, const char *state, const char *prefix, size_t limit,
                     struct cc_strv *ret, struct cc_err *err)
{
        return range(m,
                     "SELECT id FROM vms WHERE id >= ?1 AND id < ?2 AND state = ?4 "
                     "ORDER BY id LIMIT ?3",
                     prefix, limit, state, ret, err);
}

int meta_snapshot_names(struct meta *m, const char *prefix, size_t limit, struct cc_strv *ret,
                        struct cc_err *err)
{
        return range(m,
                     "SELECT name FROM snapshots WHERE name >= ?1 AND name < ?2 AND pending = 0 "
                     "ORDER BY name LIMIT ?3",
                     prefix, limit, NULL, ret, err);
}

int meta_snapshot_ids_like(struct meta *m, const char *prefix, bool unnamed, size_t limit,
                           struct cc_strv *ret, struct cc_err *err)
{
        return range(m,
                     unnamed ? "SELECT id FROM snapshots WHERE id >= ?1 AND id < ?2 "
                               "AND name IS NULL AND pending = 0 ORDER BY id LIMIT ?3"
                             : "SELECT id FROM snapshots WHERE id >= ?1 AND id < ?2 "
                               "AND pending = 0 ORDER BY id LIMIT ?3",
                     prefix, limit, NULL, ret, err);
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
