/* Snapshot rows: the record as JSON, with the columns and pins derived from it (state.md §2). */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/timeutil.h"
#include "meta/internal.h"

static int no_snapshot(struct cc_err *err)
{
        int r = cc_fail(err, CC_NOT_FOUND, "snapshot not found");

        cc_code(err, "snapshot_not_found");
        return r;
}

/* ---- reading ---- */

static int parse(const char *text, const char *id, struct snapshot_record *ret, struct cc_err *err)
{
        int r = snapshot_record_parse(text, strlen(text), ret, err);

        return r < 0 ? cc_wrap(err, "store: row %s", id) : 0;
}

int meta_snapshot_get(struct meta *m, const char *id, struct snapshot_record *ret,
                      struct cc_err *err)
{
        STMT sqlite3_stmt *s = NULL;
        int r = meta_stmt(m, SQL_SNAPSHOT_GET, &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, id);
        r = meta_step(m, s, err);
        if (r < 0)
                return r;
        return r == 0 ? no_snapshot(err) : parse(meta_text(s, 0), id, ret, err);
}

/* 1 found, 0 not, AMBIGUOUS with more than one row. Columns: id, pending. */
static int find_one(struct meta *m, const char *sql, const char *key, char ret_id[27],
                    bool *ret_pending, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, sql, &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, key);
        r = meta_step(m, s, err);
        if (r <= 0)
                return r;
        (void)snprintf(ret_id, 27, "%s", meta_text(s, 0));
        if (ret_pending)
                *ret_pending = sqlite3_column_int(s, 1) != 0;
        r = meta_step(m, s, err);
        if (r < 0)
                return r;
        if (r > 0)
                return cc_fail(err, CC_AMBIGUOUS, "ambiguous ref \"%s\": multiple matches", key);
        return 1;
}

int meta_snapshot_holder(struct meta *m, const char *name, char ret_id[27], bool *ret_pending,
                         struct cc_err *err)
{
        return find_one(m, "SELECT id, pending FROM snapshots WHERE name = ?1", name, ret_id,
                        ret_pending, err);
}

static void suggest(struct meta *m, const char *ref, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        STMT_OWN sqlite3_stmt *s = NULL;
        const char *close;

        if (!err ||
            meta_prepare(m,
                         "SELECT name FROM snapshots WHERE name IS NOT NULL AND NOT pending "
                         "LIMIT 10000",
                         &s, NULL) < 0)
                return;
        while (meta_step(m, s, NULL) > 0)
                cc_strv_add(&names, meta_text(s, 0));
        close = cc_closest(ref, (const char *const *)names.v, names.len);
        if (close)
                cc_hint(err, "did you mean \"%s\"?", close);
}

int meta_snapshot_resolve(struct meta *m, const char *ref, bool pending, char ret_id[27],
                          struct cc_err *err)
{
        size_t n = strlen(ref);
        char id[27];
        int r = 0;

        if (cc_id_valid(ref))
                r = find_one(m,
                             pending ? "SELECT id, pending FROM snapshots WHERE id = ?1"
                                     : "SELECT id, pending FROM snapshots WHERE id = ?1 "
                                       "AND NOT pending",
                             ref, id, NULL, err);
        if (r == 0)
                r = find_one(m,
                             pending ? "SELECT id, pending FROM snapshots WHERE name = ?1"
                                     : "SELECT id, pending FROM snapshots WHERE name = ?1 "
                                       "AND NOT pending",
                             ref, id, NULL, err);
        /* Digits and letters of an ID only, so that the pattern has no wildcard of the user's. */
        if (r == 0 && n >= 3 && n < CC_ID_LEN &&
            strspn(ref, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == n)
                r = find_one(m,
                             pending ? "SELECT id, pending FROM snapshots WHERE id GLOB ?1 || '*' "
                                       "LIMIT 2"
                                     : "SELECT id, pending FROM snapshots WHERE id GLOB ?1 || '*' "
                                       "AND NOT pending LIMIT 2",
                             ref, id, NULL, err);
        if (r < 0)
                return r;
        if (r == 0) {
                r = no_snapshot(err);
                suggest(m, ref, err);
                return r;
        }
        memcpy(ret_id, id, sizeof(id));
        return 0;
}

int meta_snapshot_each(struct meta *m, meta_snapshot_fn fn, void *ctx, struct cc_err *err)
{
        CC_STRV struct cc_strv ids = { 0 };
        STMT_OWN sqlite3_stmt *s = NULL;
        const char *id;
        bool own;
        int r = meta_read_begin(m, &own, err);

        if (r < 0)
                return r;
        r = meta_prepare(m, "SELECT id FROM snapshots ORDER BY created_at, id", &s, err);
        while (r == 0 && (r = meta_step(m, s, err)) > 0) {
                cc_strv_add(&ids, meta_text(s, 0));
                r = 0;
        }
        /* Keys first: the callback may use the store. */
        cc_strv_foreach (&ids, i, id) {
                SNAPSHOT_RECORD struct snapshot_record row = SNAPSHOT_RECORD_INIT;

                if (r < 0)
                        break;
                r = meta_snapshot_get(m, id, &row, err);
                if (r == 0)
                        r = fn(ctx, &row, err);
                if (r != 0)
                        break;
        }
        meta_read_end(m, own);
        return r;
}

/* ---- writing ---- */

static int check_name(struct meta *m, const struct snapshot_record *s, struct cc_err *err)
{
        char holder[27];
        int r;

        if (cc_isempty(s->name))
                return 0;
        r = meta_snapshot_holder(m, s->name, holder, NULL, err);
        if (r <= 0 || cc_streq(holder, s->id))
                return r < 0 ? r : 0;
        r = cc_fail(err, CC_CONFLICT, "snapshot name \"%s\" already in use by %s", s->name, holder);
        cc_code(err, "snapshot_name_taken");
        return r;
}

static int check_row(struct meta *m, const struct snapshot_record *s, struct cc_err *err)
{
        const char *hex;
        int r = meta_need_write(m, err);

        if (r == 0 && !cc_id_valid(s->id ? s->id : ""))
                r = cc_fail(err, CC_INVALID, "store: invalid snapshot ID \"%s\"",
                            s->id ? s->id : "");
        if (r == 0)
                r = record_check(&snapshot_record_type, s, err);
        if (r == 0)
                r = check_name(m, s, err);
        cc_strv_foreach (&s->image_blob_ids, i, hex) {
                if (r == 0)
                        r = meta_tombstone_refuse(m, "blob", hex, err);
        }
        return r;
}

static int put_blobs(struct meta *m, const struct snapshot_record *s, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *clear = NULL;
        STMT_OWN sqlite3_stmt *add = NULL;
        const char *hex;
        int r = meta_prepare(m, "DELETE FROM snapshot_blobs WHERE snapshot_id = ?1", &clear, err);

        if (r < 0)
                return r;
        meta_bind(clear, 1, s->id);
        r = meta_run(m, clear, err);
        if (r == 0)
                r = meta_prepare(m,
                                 "INSERT OR IGNORE INTO snapshot_blobs(snapshot_id, hex) "
                                 "VALUES(?1, ?2)",
                                 &add, err);
        cc_strv_foreach (&s->image_blob_ids, i, hex) {
                if (r < 0)
                        break;
                sqlite3_reset(add);
                meta_bind(add, 1, s->id);
                meta_bind(add, 2, hex);
                r = meta_run(m, add, err);
        }
        return r;
}

static int put_text(struct meta *m, const char *sql, const struct snapshot_record *s,
                    const char *text, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *st = NULL;
        int r = meta_prepare(m, sql, &st, err);

        if (r < 0)
                return r;
        meta_bind(st, 1, s->id);
        meta_bind(st, 2, cc_isempty(s->name) ? NULL : s->name);
        sqlite3_bind_int(st, 3, s->pending);
        sqlite3_bind_int64(st, 4, s->created_at);
        if (s->last_accessed_at)
                sqlite3_bind_int64(st, 5, s->last_accessed_at);
        sqlite3_bind_int64(st, 6, s->bytes);
        meta_bind(st, 7, text);
        r = meta_run(m, st, err);
        if (r == 0 && sqlite3_changes(m->db) == 0)
                r = no_snapshot(err);
        return r < 0 ? r : put_blobs(m, s, err);
}

static int put_row(struct meta *m, const char *sql, const struct snapshot_record *s,
                   struct cc_err *err)
{
        CC_FREE char *text = snapshot_record_text(s);

        return put_text(m, sql, s, text, err);
}

#define INSERT                                                                                     \
        "INSERT INTO snapshots(id, name, pending, created_at, accessed_at, bytes, data) "          \
        "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)"

int meta_snapshot_insert(struct meta *m, struct snapshot_record *s, struct cc_err *err)
{
        int r = check_row(m, s, err);

        if (r == 0)
                r = meta_tombstone_refuse(m, "snapshot", s->id, err);
        if (r < 0)
                return r;
        if (!s->created_at)
                s->created_at = cc_now();
        return put_row(m, INSERT, s, err);
}

int meta_snapshot_insert_as(struct meta *m, const struct snapshot_record *s, const char *text,
                            struct cc_err *err)
{
        int r = check_row(m, s, err);

        if (r == 0)
                r = meta_tombstone_refuse(m, "snapshot", s->id, err);
        return r < 0 ? r : put_text(m, INSERT, s, text, err);
}

int meta_snapshot_update(struct meta *m, const struct snapshot_record *s, struct cc_err *err)
{
        int r = check_row(m, s, err);

        return r < 0 ? r
                     : put_row(m,
                               "UPDATE snapshots SET name = ?2, pending = ?3, created_at = ?4, "
                               "accessed_at = ?5, bytes = ?6, data = ?7 WHERE id = ?1",
                               s, err);
}

int meta_snapshot_touch(struct meta *m, const char *id, int64_t when, struct cc_err *err)
{
        SNAPSHOT_RECORD struct snapshot_record s = SNAPSHOT_RECORD_INIT;
        STMT_OWN sqlite3_stmt *st = NULL;
        CC_FREE char *text = NULL;
        struct cc_err why = CC_ERR_INIT;
        int r = meta_snapshot_get(m, id, &s, &why);

        if (r == -CC_NOT_FOUND)
                return 0;
        if (r < 0)
                return cc_err_copy(err, &why);
        s.last_accessed_at = when;
        text = snapshot_record_text(&s);
        /* Nothing that names or pins depends on it. */
        r = meta_prepare(m, "UPDATE snapshots SET accessed_at = ?2, data = ?3 WHERE id = ?1", &st,
                         err);
        if (r < 0)
                return r;
        meta_bind(st, 1, id);
        sqlite3_bind_int64(st, 2, when);
        meta_bind(st, 3, text);
        return meta_run(m, st, err);
}

/* The record of a VM is the truth, its child rows are derived: both lose the ID. */
static int forget_in_vm(struct meta *m, const char *vm_id, const char *id, struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        struct cc_strv *set = &vm.snapshot_ids;
        size_t kept = 0;
        int r = meta_vm_get(m, vm_id, &vm, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < set->len; i++) {
                if (strcmp(set->v[i], id) == 0)
                        free(set->v[i]);
                else
                        set->v[kept++] = set->v[i];
        }
        if (set->v)
                set->v[kept] = NULL;
        set->len = kept;
        return meta_vm_update(m, &vm, NULL, err);
}

static int forget_in_vms(struct meta *m, const char *id, struct cc_err *err)
{
        CC_STRV struct cc_strv vms = { 0 };
        const char *vm;
        int r;
        {
                STMT_OWN sqlite3_stmt *s = NULL;

                r = meta_prepare(m, "SELECT vm_id FROM vm_snapshots WHERE snapshot_id = ?1", &s,
                                 err);
                if (r < 0)
                        return r;
                meta_bind(s, 1, id);
                while ((r = meta_step(m, s, err)) > 0)
                        cc_strv_add(&vms, meta_text(s, 0));
        }
        cc_strv_foreach (&vms, i, vm) {
                if (r == 0)
                        r = forget_in_vm(m, vm, id, err);
        }
        return r;
}

int meta_snapshot_delete(struct meta *m, const char *id, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_need_write(m, err);

        if (r == 0)
                r = forget_in_vms(m, id, err);
        if (r == 0)
                r = meta_prepare(m, "DELETE FROM snapshots WHERE id = ?1", &s, err);
        if (r < 0)
                return r;
        meta_bind(s, 1, id);
        return meta_run(m, s, err);
}
