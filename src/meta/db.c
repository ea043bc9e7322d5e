/* Statements and errors: the thin layer between the store and SQLite. See internal.h. */
#include <errno.h>
#include <string.h>

#include "base/timeutil.h"
#include "meta/internal.h"

/* clang-format off */
static const char *const sql_text[SQL_MAX] = {
        [SQL_BEGIN_READ]  = "BEGIN",
        [SQL_BEGIN_WRITE] = "BEGIN IMMEDIATE",
        [SQL_COMMIT]      = "COMMIT",
        [SQL_ROLLBACK]    = "ROLLBACK",
        [SQL_VERSION]     = "PRAGMA user_version",
        [SQL_SEQ_GET]     = "SELECT CAST(v AS INTEGER) FROM meta_kv WHERE k = 'seq'",
        [SQL_SEQ_NEXT]    = "UPDATE meta_kv SET v = CAST(v AS INTEGER) + 1 WHERE k = 'seq' "
                            "RETURNING CAST(v AS INTEGER)",
        [SQL_VM_INSERT]   = "INSERT INTO vms(id, id8, backend, name, state, created_at, seq, data) "
                            "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        [SQL_VM_UPDATE]   = "UPDATE vms SET backend = ?3, name = ?4, state = ?5, created_at = ?6, "
                            "seq = ?7, data = ?8 WHERE id = ?1 AND id8 = ?2",
        [SQL_VM_DELETE]   = "DELETE FROM vms WHERE id = ?1 RETURNING name",
        [SQL_VM_GET]      = "SELECT data FROM vms WHERE id = ?1",
        [SQL_VM_BY_ROWID] = "SELECT data, id FROM vms WHERE rowid = ?1",
        [SQL_VM_BY_NAME]  = "SELECT id FROM vms WHERE name = ?1",
        [SQL_VM_HAS_ID]   = "SELECT 1 FROM vms WHERE id = ?1",
        [SQL_VM_HAS_ID8]  = "SELECT 1 FROM vms WHERE id8 = ?1",
        [SQL_VM_PREFIX]   = "SELECT id FROM vms WHERE id >= ?1 AND id < ?2 LIMIT 2",
        [SQL_VM_BLOBS]      = "SELECT hex FROM vm_blobs WHERE vm_id = ?1 ORDER BY hex",
        [SQL_VM_BLOB_ADD]   = "INSERT INTO vm_blobs(vm_id, hex) VALUES(?1, ?2)",
        [SQL_VM_BLOB_CLEAR] = "DELETE FROM vm_blobs WHERE vm_id = ?1",
        [SQL_VM_SNAPSHOTS]      = "SELECT snapshot_id FROM vm_snapshots WHERE vm_id = ?1 "
                                  "ORDER BY snapshot_id",
        [SQL_VM_SNAPSHOT_ADD]   = "INSERT INTO vm_snapshots(vm_id, snapshot_id) VALUES(?1, ?2)",
        [SQL_VM_SNAPSHOT_CLEAR] = "DELETE FROM vm_snapshots WHERE vm_id = ?1",
        [SQL_GONE_ADD]      = "INSERT INTO vm_gone(seq, id, name) VALUES(?1, ?2, ?3)",
        [SQL_BLOB_PINNED]   = "SELECT 1 WHERE EXISTS(SELECT 1 FROM image_blobs WHERE hex = ?1) "
                              "OR EXISTS(SELECT 1 FROM vm_blobs WHERE hex = ?1) "
                              "OR EXISTS(SELECT 1 FROM snapshot_blobs WHERE hex = ?1)",
        [SQL_SNAPSHOT_GET]  = "SELECT data FROM snapshots WHERE id = ?1",
        [SQL_TOMBSTONE_GET] = "SELECT lease_id, phase, leased_at, payload FROM tombstones "
                              "WHERE kind = ?1 AND id = ?2",
};
/* clang-format on */

static enum cc_class class_of(sqlite3 *db, int rc)
{
        int sys = db ? sqlite3_system_errno(db) : 0;

        switch (rc & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return CC_BUSY;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return CC_CORRUPT;
        case SQLITE_FULL:
                return CC_NO_SPACE;
        case SQLITE_CONSTRAINT:
                return CC_CONFLICT;
        case SQLITE_READONLY:
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return CC_DENIED;
        case SQLITE_INTERRUPT:
                return CC_CANCELED;
        case SQLITE_IOERR:
        case SQLITE_CANTOPEN:
                /* The WAL cannot grow, the -shm file cannot be made: SQLite says I/O error. */
                if (sys == ENOSPC || sys == EDQUOT)
                        return CC_NO_SPACE;
                return sys == EACCES || sys == EPERM ? CC_DENIED : CC_IO;
        default:
                return CC_INTERNAL;
        }
}

int meta_sql_fail(sqlite3 *db, int rc, struct cc_err *err)
{
        enum cc_class class = class_of(db, rc);
        int r = cc_fail(err, class, "store: %s", db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));

        if (err && (class == CC_IO || class == CC_NO_SPACE || class == CC_DENIED) && db)
                err->sys = sqlite3_system_errno(db);
        return r;
}

int meta_prepare(struct meta *m, const char *sql, sqlite3_stmt **ret, struct cc_err *err)
{
        int rc = sqlite3_prepare_v2(m->db, sql, -1, ret, NULL);

        return rc == SQLITE_OK ? 0 : meta_sql_fail(m->db, rc, err);
}

int meta_stmt(struct meta *m, enum meta_sql which, sqlite3_stmt **ret, struct cc_err *err)
{
        sqlite3_stmt **s = &m->stmt[which];

        if (!*s) {
                int rc = sqlite3_prepare_v3(m->db, sql_text[which], -1, SQLITE_PREPARE_PERSISTENT,
                                            s, NULL);

                if (rc != SQLITE_OK)
                        return meta_sql_fail(m->db, rc, err);
        }
        *ret = *s;
        return 0;
}

int meta_step(struct meta *m, sqlite3_stmt *s, struct cc_err *err)
{
        int64_t deadline = 0;
        int delay = 0;

        for (;;) {
                bool first = !sqlite3_stmt_busy(s);
                int rc = sqlite3_step(s);
                int r;

                if (rc == SQLITE_ROW)
                        return 1;
                if (rc == SQLITE_DONE)
                        return 0;
                if ((rc & 0xff) != SQLITE_BUSY || m->mode != MODE_NONE || !first)
                        return meta_sql_fail(m->db, rc, err);
                if (!deadline)
                        deadline = cc_monotonic() + m->busy_ms * CC_NSEC_PER_MSEC;
                sqlite3_reset(s);
                r = meta_backoff(deadline, &delay, err);
                if (r < 0)
                        return r;
        }
}

int meta_run(struct meta *m, sqlite3_stmt *s, struct cc_err *err)
{
        int r = meta_step(m, s, err);

        return r < 0 ? r : 0;
}

int meta_exec(struct meta *m, const char *sql, struct cc_err *err)
{
        int rc = sqlite3_exec(m->db, sql, NULL, NULL, NULL);

        return rc == SQLITE_OK ? 0 : meta_sql_fail(m->db, rc, err);
}

void meta_bind(sqlite3_stmt *s, int i, const char *text)
{
        /* Cannot fail for a valid index: static text is not copied. */
        (void)sqlite3_bind_text(s, i, text, -1, SQLITE_STATIC);
}

const char *meta_text(sqlite3_stmt *s, int i)
{
        const char *t = (const char *)sqlite3_column_text(s, i);

        return t ? t : "";
}

void meta_resetp(sqlite3_stmt **s)
{
        if (*s) {
                sqlite3_reset(*s);
                sqlite3_clear_bindings(*s);
        }
}

void meta_finalizep(sqlite3_stmt **s)
{
        sqlite3_finalize(*s);
}

int meta_exists(struct meta *m, enum meta_sql which, const char *a, const char *b, bool *ret,
                struct cc_err *err)
{
        STMT sqlite3_stmt *s = NULL;
        int r = meta_stmt(m, which, &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, a);
        if (b)
                meta_bind(s, 2, b);
        r = meta_step(m, s, err);
        if (r < 0)
                return r;
        *ret = r > 0;
        return 0;
}

void meta_db_close(struct meta *m)
{
        for (size_t i = 0; i < SQL_MAX; i++) {
                sqlite3_finalize(m->stmt[i]);
                m->stmt[i] = NULL;
        }
        (void)sqlite3_close_v2(m->db);
        m->db = NULL;
        m->synchronous = 0;
}
