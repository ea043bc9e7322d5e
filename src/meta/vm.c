/* VM rows: the record as JSON, with the columns and child rows derived from it (state.md §2). */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/id.h"
#include "base/timeutil.h"
#include "meta/internal.h"

static int no_vm(const char *ref, struct cc_err *err)
{
        int r = cc_fail(err, CC_NOT_FOUND, "vm %s: vm not found", ref);

        cc_code(err, "vm_not_found");
        return r;
}

/* ---- reading ---- */

/* Column 0 holds the record. A damaged one is an error that names the row. */
static int parse_row(sqlite3_stmt *s, const char *id, bool brief, struct vm_record *ret,
                     struct cc_err *err)
{
        const char *text = meta_text(s, 0);
        size_t n = (size_t)sqlite3_column_bytes(s, 0);
        int r = brief ? vm_record_parse_brief(text, n, ret, err)
                      : vm_record_parse(text, n, ret, err);

        return r < 0 && err ? cc_wrap(err, "store: row %s", id) : r;
}

int meta_vm_get(struct meta *m, const char *id, struct vm_record *ret, struct cc_err *err)
{
        STMT sqlite3_stmt *s = NULL;
        int r = meta_stmt(m, SQL_VM_GET, &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, id);
        r = meta_step(m, s, err);
        if (r < 0)
                return r;
        return r == 0 ? no_vm(id, err) : parse_row(s, id, false, ret, err);
}

char *meta_after_prefix(const char *prefix)
{
        CC_FREE char *end = xstrdup(prefix);

        for (size_t n = strlen(end); n > 0; n--) {
                if ((unsigned char)end[n - 1] < 0xff) {
                        end[n - 1]++;
                        end[n] = '\0';
                        return TAKE_PTR(end);
                }
        }
        return NULL;
}

/* 1 found, 0 not. */
static int id_by(struct meta *m, enum meta_sql which, const char *key, char ret_id[27],
                 struct cc_err *err)
{
        STMT sqlite3_stmt *s = NULL;
        int r = meta_stmt(m, which, &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, key);
        r = meta_step(m, s, err);
        if (r > 0 && ret_id)
                (void)snprintf(ret_id, 27, "%s", meta_text(s, 0));
        return r;
}

static int id_by_prefix(struct meta *m, const char *ref, char ret_id[27], struct cc_err *err)
{
        CC_FREE char *end = meta_after_prefix(ref);
        STMT sqlite3_stmt *s = NULL;
        int r = meta_stmt(m, SQL_VM_PREFIX, &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, ref);
        meta_bind(s, 2, end);
        r = meta_step(m, s, err);
        if (r <= 0)
                return r;
        (void)snprintf(ret_id, 27, "%s", meta_text(s, 0));
        r = meta_step(m, s, err);
        if (r < 0)
                return r;
        if (r > 0)
                return cc_fail(err, CC_AMBIGUOUS, "ambiguous ref \"%s\": multiple matches", ref);
        return 1;
}

/* The closest name as a hint; the miss itself is reported either way. */
static void suggest(struct meta *m, const char *ref, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *close;

        if (!err || meta_vm_names(m, "", 10000, &names, NULL) < 0)
                return;
        close = cc_closest(ref, (const char *const *)names.v, names.len);
        if (close)
                cc_hint(err, "did you mean \"%s\"?", close);
}

int meta_vm_resolve(struct meta *m, const char *ref, char ret_id[27], struct cc_err *err)
{
        char id[27];
        int r = cc_id_valid(ref) ? id_by(m, SQL_VM_HAS_ID, ref, NULL, err) : 0;

        if (r > 0) {
                memcpy(ret_id, ref, 27);
                return 0;
        }
        if (r == 0)
                r = id_by(m, SQL_VM_BY_NAME, ref, id, err);
        if (r == 0 && strlen(ref) >= 3 && strlen(ref) < CC_ID_LEN)
                r = id_by_prefix(m, ref, id, err);
        if (r < 0)
                return r;
        if (r == 0) {
                r = no_vm(ref, err);
                suggest(m, ref, err);
                return r;
        }
        memcpy(ret_id, id, sizeof(id));
        return 0;
}

struct row_key {
        int64_t created_at;
        int64_t rowid;
};

static int by_creation(const void *a, const void *b)
{
        const struct row_key *x = a;
        const struct row_key *y = b;

        if (x->created_at != y->created_at)
                return x->created_at < y->created_at ? -1 : 1;
        return x->rowid < y->rowid ? -1 : x->rowid > y->rowid;
}

/* Sorting in SQL would carry every record through the sorter (and a temporary file when there are
 * many); sorting 16 bytes a row here keeps the records streaming. */
static int row_keys(struct meta *m, struct row_key **ret, size_t *ret_n, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        CC_FREE struct row_key *keys = NULL;
        size_t n = 0;
        size_t cap = 0;
        int r = meta_prepare(m, "SELECT created_at, rowid FROM vms", &s, err);

        while (r == 0) {
                r = meta_step(m, s, err);
                if (r < 0)
                        return r;
                if (r == 0) {
                        if (n)
                                qsort(keys, n, sizeof(*keys), by_creation);
                        *ret = TAKE_PTR(keys);
                        *ret_n = n;
                        return 0;
                }
                if (n == cap) {
                        cap = cap ? cap * 2 : 64;
                        keys = xreallocarray(keys, cap, sizeof(*keys));
                }
                keys[n++] = (struct row_key){ .created_at = sqlite3_column_int64(s, 0),
                                              .rowid = sqlite3_column_int64(s, 1) };
                r = 0;
        }
        return r;
}

static int visit(struct meta *m, int64_t rowid, bool brief, meta_vm_fn fn, void *ctx,
                 struct cc_err *err)
{
        VM_RECORD struct vm_record vm = VM_RECORD_INIT;
        {
                STMT sqlite3_stmt *s = NULL;
                int r = meta_stmt(m, SQL_VM_BY_ROWID, &s, err);

                if (r < 0)
                        return r;
                sqlite3_bind_int64(s, 1, rowid);
                r = meta_step(m, s, err);
                if (r > 0)
                        r = parse_row(s, meta_text(s, 1), brief, &vm, err);
                else if (r == 0) /* deleted by the callback of an earlier row */
                        return 0;
                if (r < 0)
                        return r;
        }
        return fn(ctx, &vm, err);
}

static int each(struct meta *m, bool brief, meta_vm_fn fn, void *ctx, struct cc_err *err)
{
        CC_FREE struct row_key *keys = NULL;
        size_t n = 0;
        bool own;
        int r = meta_read_begin(m, &own, err);

        if (r < 0)
                return r;
        r = row_keys(m, &keys, &n, err);
        for (size_t i = 0; i < n && r == 0; i++)
                r = visit(m, keys[i].rowid, brief, fn, ctx, err);
        meta_read_end(m, own);
        return r;
}

int meta_vm_each(struct meta *m, meta_vm_fn fn, void *ctx, struct cc_err *err)
{
        return each(m, false, fn, ctx, err);
}

int meta_vm_each_brief(struct meta *m, meta_vm_fn fn, void *ctx, struct cc_err *err)
{
        return each(m, true, fn, ctx, err);
}

int meta_vm_names(struct meta *m, const char *prefix, size_t limit, struct cc_strv *ret,
                  struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        CC_FREE char *end = meta_after_prefix(prefix);
        int r = meta_prepare(m,
                             end ? "SELECT name FROM vms WHERE name >= ?1 AND name < ?2 "
                                   "ORDER BY name LIMIT ?3"
                                 : "SELECT name FROM vms WHERE name >= ?1 ORDER BY name LIMIT ?3",
                             &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, prefix);
        if (end)
                meta_bind(s, 2, end);
        sqlite3_bind_int64(s, 3, (sqlite3_int64)limit);
        while ((r = meta_step(m, s, err)) > 0)
                cc_strv_add(ret, meta_text(s, 0));
        return r;
}

/* ---- writing ---- */

static int taken(enum cc_class class, const char *code, struct cc_err *err, const char *text)
{
        int r = cc_fail(err, class, "%s", text);

        cc_code(err, code);
        return r;
}

/* The name must be free, or the VM's own. */
static int check_name(struct meta *m, const struct vm_record *vm, struct cc_err *err)
{
        CC_FREE char *text = NULL;
        char holder[27] = "";
        int r;

        if (cc_isempty(vm->config.name))
                return 0;
        r = id_by(m, SQL_VM_BY_NAME, vm->config.name, holder, err);
        if (r <= 0 || strcmp(holder, vm->id) == 0)
                return r < 0 ? r : 0;
        text = xasprintf("vm name \"%s\" already exists (id: %s)", vm->config.name, holder);
        return taken(CC_CONFLICT, "name_taken", err, text);
}

/* Blobs and IDs under a tombstone are on their way out and cannot be pinned any more. */
static int check_pins(struct meta *m, const struct vm_record *vm, struct cc_err *err)
{
        const char *hex;
        int r = meta_tombstone_refuse(m, "vm", vm->id, err);

        cc_strv_foreach (&vm->image_blob_ids, i, hex) {
                if (r == 0)
                        r = meta_tombstone_refuse(m, "blob", hex, err);
        }
        return r;
}

static int check_new(struct meta *m, const struct vm_record *vm, struct cc_err *err)
{
        CC_FREE char *text = NULL;
        char id8[CC_ID8_LEN + 1];
        int r;

        if (!cc_id_valid(vm->id))
                return cc_fail(err, CC_INVALID, "store: invalid VM ID \"%s\"",
                               vm->id ? vm->id : "");
        (void)snprintf(id8, sizeof(id8), "%s", vm->id);
        r = check_name(m, vm, err);
        if (r < 0)
                return r;
        r = id_by(m, SQL_VM_HAS_ID8, id8, NULL, err);
        if (r < 0)
                return r;
        if (r > 0) {
                text = xasprintf("vm id prefix %s is in use", id8);
                return taken(CC_CONFLICT, "id8_taken", err, text);
        }
        return check_pins(m, vm, err);
}

/* Make the child rows of one kind equal to `want`; untouched when they already are. */
static int sync_children(struct meta *m, const char *vm_id, const struct cc_strv *want,
                         enum meta_sql list, enum meta_sql clear, enum meta_sql add,
                         struct cc_err *err)
{
        size_t same = 0;
        bool equal = true;
        int r;
        {
                STMT sqlite3_stmt *s = NULL;

                r = meta_stmt(m, list, &s, err);
                if (r < 0)
                        return r;
                meta_bind(s, 1, vm_id);
                while ((r = meta_step(m, s, err)) > 0) {
                        if (!cc_strv_has(want, meta_text(s, 0)))
                                equal = false;
                        same++;
                }
                if (r < 0)
                        return r;
        }
        if (equal && same == want->len)
                return 0;
        {
                STMT sqlite3_stmt *s = NULL;

                r = meta_stmt(m, clear, &s, err);
                if (r < 0)
                        return r;
                meta_bind(s, 1, vm_id);
                r = meta_run(m, s, err);
        }
        for (size_t i = 0; i < want->len && r == 0; i++) {
                STMT sqlite3_stmt *s = NULL;

                r = meta_stmt(m, add, &s, err);
                if (r < 0)
                        return r;
                meta_bind(s, 1, vm_id);
                meta_bind(s, 2, want->v[i]);
                r = meta_run(m, s, err);
        }
        return r;
}

/* Write the row and what derives from it. 0 rows changed: NOT_FOUND. */
static int put_text(struct meta *m, enum meta_sql which, const struct vm_record *vm,
                    const char *text, struct cc_err *err)
{
        STMT sqlite3_stmt *s = NULL;
        char id8[CC_ID8_LEN + 1];
        int64_t seq;
        int r = meta_seq_next(m, &seq, err);

        if (r == 0)
                r = meta_stmt(m, which, &s, err);
        if (r != 0)
                return r;
        (void)snprintf(id8, sizeof(id8), "%s", vm->id);
        meta_bind(s, 1, vm->id);
        meta_bind(s, 2, id8);
        meta_bind(s, 3, vm->hypervisor ? vm->hypervisor : "");
        meta_bind(s, 4, cc_isempty(vm->config.name) ? NULL : vm->config.name);
        meta_bind(s, 5, vm->state);
        sqlite3_bind_int64(s, 6, vm->created_at);
        sqlite3_bind_int64(s, 7, seq);
        meta_bind(s, 8, text);
        r = meta_run(m, s, err);
        if (r == 0 && sqlite3_changes(m->db) == 0)
                r = no_vm(vm->id, err);
        if (r == 0)
                r = sync_children(m, vm->id, &vm->image_blob_ids, SQL_VM_BLOBS, SQL_VM_BLOB_CLEAR,
                                  SQL_VM_BLOB_ADD, err);
        if (r == 0)
                r = sync_children(m, vm->id, &vm->snapshot_ids, SQL_VM_SNAPSHOTS,
                                  SQL_VM_SNAPSHOT_CLEAR, SQL_VM_SNAPSHOT_ADD, err);
        return r;
}

static int put_row(struct meta *m, enum meta_sql which, const struct vm_record *vm,
                   struct cc_err *err)
{
        CC_FREE char *text = NULL;
        int r = record_check(&vm_record_type, vm, err);

        if (r < 0)
                return r;
        text = vm_record_text(vm);
        return put_text(m, which, vm, text, err);
}

int meta_vm_insert_as(struct meta *m, const struct vm_record *vm, const char *text,
                      struct cc_err *err)
{
        int r = meta_need_write(m, err);

        if (r == 0)
                r = check_new(m, vm, err);
        return r < 0 ? r : put_text(m, SQL_VM_INSERT, vm, text, err);
}

int meta_vm_insert(struct meta *m, struct vm_record *vm, struct cc_err *err)
{
        int64_t now = cc_now();
        int r = meta_need_write(m, err);

        if (r == 0)
                r = check_new(m, vm, err);
        if (r < 0)
                return r;
        if (!vm->state)
                vm->state = xstrdup(vm_state_name(VM_CREATING));
        /* A record that brings its own creation time was imported and keeps it. */
        if (!vm->created_at)
                vm->created_at = now;
        vm->updated_at = now;
        if (!vm->transition_generation) {
                vm->transition_generation = 1;
                cc_strset(&vm->last_transition_reason, "create");
                vm->last_transition_at = now;
        }
        return put_row(m, SQL_VM_INSERT, vm, err);
}

int meta_vm_update(struct meta *m, struct vm_record *vm, const char *reason, struct cc_err *err)
{
        int64_t now = cc_now();
        int r = meta_need_write(m, err);

        if (r == 0 && (cc_isempty(vm->id) || cc_isempty(vm->state)))
                r = cc_fail(err, CC_INVALID, "store: VM record without ID or state");
        if (r == 0)
                r = check_name(m, vm, err);
        if (r < 0)
                return r;
        vm->updated_at = now;
        if (reason) {
                vm->transition_generation++;
                cc_strset(&vm->last_transition_reason, reason);
                vm->last_transition_at = now;
        }
        return put_row(m, SQL_VM_UPDATE, vm, err);
}

/* Keep the newest META_GONE_KEPT deletions. Counting back over them costs as much as a durable
 * write, so about one deletion in 64 does it, chosen by a hash no pattern of numbers can dodge. */
static int trim_gone(struct meta *m, int64_t seq, struct cc_err *err)
{
        CC_FREE char *sql = NULL;

        if (((uint64_t)seq * UINT64_C(0x9E3779B97F4A7C15)) >> 58 != 0)
                return 0;
        sql = xasprintf("UPDATE meta_kv SET v = (SELECT seq FROM vm_gone ORDER BY seq DESC"
                        " LIMIT 1 OFFSET %d) WHERE k = 'gone_floor'"
                        " AND (SELECT count(*) FROM vm_gone) > %d;"
                        "DELETE FROM vm_gone WHERE seq <= (SELECT CAST(v AS INTEGER) FROM meta_kv"
                        " WHERE k = 'gone_floor')",
                        META_GONE_KEPT, META_GONE_KEPT);
        return meta_exec(m, sql, err);
}

int meta_vm_delete(struct meta *m, const char *id, struct cc_err *err)
{
        STMT sqlite3_stmt *gone = NULL;
        CC_FREE char *name = NULL;
        int64_t seq;
        int r = meta_need_write(m, err);

        if (r < 0)
                return r;
        {
                STMT sqlite3_stmt *s = NULL;

                r = meta_stmt(m, SQL_VM_DELETE, &s, err);
                if (r < 0)
                        return r;
                meta_bind(s, 1, id);
                r = meta_step(m, s, err);
                if (r <= 0)
                        return r;
                name = xstrdup(meta_text(s, 0));
        }
        r = meta_seq_next(m, &seq, err);
        if (r == 0)
                r = meta_stmt(m, SQL_GONE_ADD, &gone, err);
        if (r < 0)
                return r;
        sqlite3_bind_int64(gone, 1, seq);
        meta_bind(gone, 2, id);
        meta_bind(gone, 3, *name ? name : NULL);
        r = meta_run(m, gone, err);
        return r < 0 ? r : trim_gone(m, seq, err);
}
