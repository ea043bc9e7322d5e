/* What changed since a change number: the store's side of `vm status` (state.md §2, Events). */
#include "base/str.h"
#include "meta/internal.h"

static int changed_rows(struct meta *m, int64_t since, meta_vm_fn fn, void *ctx, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, "SELECT data FROM vms WHERE seq > ?1 ORDER BY seq", &s, err);

        if (r < 0)
                return r;
        sqlite3_bind_int64(s, 1, since);
        while ((r = meta_step(m, s, err)) > 0) {
                VM_RECORD struct vm_record vm = VM_RECORD_INIT;
                const char *text = meta_text(s, 0);

                r = vm_record_parse(text, (size_t)sqlite3_column_bytes(s, 0), &vm, err);
                if (r == 0)
                        r = fn(ctx, &vm, err);
                if (r != 0)
                        return r;
        }
        return r;
}

static int gone_rows(struct meta *m, int64_t since, meta_gone_fn fn, void *ctx, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, "SELECT id, name FROM vm_gone WHERE seq > ?1 ORDER BY seq", &s,
                             err);

        if (r < 0)
                return r;
        sqlite3_bind_int64(s, 1, since);
        while ((r = meta_step(m, s, err)) > 0) {
                r = fn(ctx, meta_text(s, 0), meta_text(s, 1), err);
                if (r != 0)
                        return r;
        }
        return r;
}

/* Deletions up to the floor are forgotten; a number from the future is of another store (a backup
 * was put back). */
static int is_complete(struct meta *m, int64_t since, bool *ret, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int64_t seq;
        int r = meta_seq(m, &seq, err);

        if (r == 0)
                r = meta_prepare(m, "SELECT CAST(v AS INTEGER) FROM meta_kv WHERE k = 'gone_floor'",
                                 &s, err);
        if (r == 0)
                r = meta_step(m, s, err);
        if (r < 0)
                return r;
        *ret = since <= seq && since >= (r > 0 ? sqlite3_column_int64(s, 0) : 0);
        return 0;
}

int meta_changes(struct meta *m, int64_t since, meta_vm_fn changed, meta_gone_fn gone, void *ctx,
                 bool *ret_complete, struct cc_err *err)
{
        bool complete = false;
        bool own;
        int r = meta_read_begin(m, &own, err);

        if (r < 0)
                return r;
        r = is_complete(m, since, &complete, err);
        if (r == 0)
                r = changed_rows(m, since, changed, ctx, err);
        if (r == 0)
                r = gone_rows(m, since, gone, ctx, err);
        meta_read_end(m, own);
        if (r == 0)
                *ret_complete = complete;
        return r;
}
