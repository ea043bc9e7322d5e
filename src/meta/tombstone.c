/* Tombstones: what is being removed, by whom, and everything needed to finish it (state.md §7). */
#include <string.h>

#include "base/alloc.h"
#include "meta/internal.h"

static const char *const phases[] = {
        [TOMBSTONE_LEASED] = "leased",
        [TOMBSTONE_DELETING] = "deleting",
};

int meta_tombstone_refuse(struct meta *m, const char *kind, const char *id, struct cc_err *err)
{
        bool there = false;
        int r = meta_exists(m, SQL_TOMBSTONE_GET, kind, id, &there, err);

        if (r < 0 || !there)
                return r;
        r = cc_fail(err, CC_CONFLICT, "%s %s is being removed: try again, or run \"cocoon gc\"",
                    kind, id);
        cc_code(err, "being_removed");
        return r;
}

int meta_tombstone_put(struct meta *m, const struct tombstone *t, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_need_write(m, err);

        if (r == 0)
                r = meta_prepare(m,
                                 "INSERT INTO tombstones(kind, id, lease_id, phase, leased_at, "
                                 "payload) VALUES(?1, ?2, ?3, ?4, ?5, ?6) "
                                 "ON CONFLICT(kind, id) DO UPDATE SET phase = excluded.phase, "
                                 "payload = excluded.payload WHERE lease_id = excluded.lease_id",
                                 &s, err);
        if (r < 0)
                return r;
        meta_bind(s, 1, t->kind);
        meta_bind(s, 2, t->id);
        meta_bind(s, 3, t->lease_id);
        meta_bind(s, 4, phases[t->phase]);
        sqlite3_bind_int64(s, 5, t->leased_at);
        meta_bind(s, 6, t->payload);
        r = meta_run(m, s, err);
        if (r == 0 && sqlite3_changes(m->db) == 0)
                r = cc_fail(err, CC_CONFLICT, "%s %s is already being removed", t->kind, t->id);
        return r;
}

static enum tombstone_phase phase_of(const char *text)
{
        return strcmp(text, phases[TOMBSTONE_LEASED]) == 0 ? TOMBSTONE_LEASED : TOMBSTONE_DELETING;
}

/* A row, copied: the callback may delete it. Columns: lease_id, phase, leased_at, payload. */
static int give(sqlite3_stmt *s, const char *kind, const char *id, meta_tombstone_fn fn, void *ctx,
                struct cc_err *err)
{
        CC_FREE char *lease = xstrdup(meta_text(s, 0));
        CC_FREE char *payload = xstrdup(meta_text(s, 3));
        struct tombstone t = { .kind = kind,
                               .id = id,
                               .lease_id = lease,
                               .phase = phase_of(meta_text(s, 1)),
                               .leased_at = sqlite3_column_int64(s, 2),
                               .payload = payload };

        sqlite3_reset(s);
        return fn(ctx, &t, err);
}

int meta_tombstone_get(struct meta *m, const char *kind, const char *id, meta_tombstone_fn fn,
                       void *ctx, struct cc_err *err)
{
        STMT sqlite3_stmt *s = NULL;
        int r = meta_stmt(m, SQL_TOMBSTONE_GET, &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, kind);
        meta_bind(s, 2, id);
        r = meta_step(m, s, err);
        return r <= 0 ? r : give(s, kind, id, fn, ctx, err);
}

int meta_tombstone_each(struct meta *m, meta_tombstone_fn fn, void *ctx, struct cc_err *err)
{
        CC_STRV struct cc_strv kinds = { 0 };
        CC_STRV struct cc_strv ids = { 0 };
        STMT_OWN sqlite3_stmt *s = NULL;
        bool own;
        int r = meta_read_begin(m, &own, err);

        if (r < 0)
                return r;
        r = meta_prepare(m, "SELECT kind, id FROM tombstones ORDER BY leased_at, kind, id", &s,
                         err);
        if (r == 0) {
                while ((r = meta_step(m, s, err)) > 0) {
                        cc_strv_add(&kinds, meta_text(s, 0));
                        cc_strv_add(&ids, meta_text(s, 1));
                }
        }
        /* Keys first: the callback may finish a tombstone and delete it. */
        for (size_t i = 0; i < ids.len && r == 0; i++)
                r = meta_tombstone_get(m, kinds.v[i], ids.v[i], fn, ctx, err);
        meta_read_end(m, own);
        return r;
}

int meta_tombstone_delete(struct meta *m, const char *kind, const char *id, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_need_write(m, err);

        if (r == 0)
                r = meta_prepare(m, "DELETE FROM tombstones WHERE kind = ?1 AND id = ?2", &s, err);
        if (r < 0)
                return r;
        meta_bind(s, 1, kind);
        meta_bind(s, 2, id);
        return meta_run(m, s, err);
}
