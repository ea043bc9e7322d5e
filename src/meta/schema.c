/* The schema of state.md §2, building a new store, and migrations of an older one. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/alloc.h"
#include "base/failpoint.h"
#include "base/fs.h"
#include "base/id.h"
#include "base/timeutil.h"
#include "meta/internal.h"

static const char ddl[] =
        "PRAGMA application_id = 0x434F4343;"
        "PRAGMA user_version = 1;"
        "CREATE TABLE meta_kv(k TEXT NOT NULL PRIMARY KEY, v TEXT NOT NULL);"
        "CREATE TABLE vms(id TEXT NOT NULL PRIMARY KEY, id8 TEXT NOT NULL, backend TEXT NOT NULL,"
        " name TEXT UNIQUE, state TEXT NOT NULL, created_at INTEGER NOT NULL,"
        " seq INTEGER NOT NULL, data TEXT NOT NULL);"
        "CREATE INDEX vms_id8 ON vms(id8);"
        "CREATE INDEX vms_seq ON vms(seq);"
        "CREATE INDEX vms_state ON vms(state, name, backend);"
        "CREATE TABLE vm_blobs(vm_id TEXT NOT NULL REFERENCES vms(id) ON DELETE CASCADE,"
        " hex TEXT NOT NULL, PRIMARY KEY(vm_id, hex)) WITHOUT ROWID;"
        "CREATE INDEX vm_blobs_hex ON vm_blobs(hex);"
        "CREATE TABLE vm_snapshots(vm_id TEXT NOT NULL REFERENCES vms(id) ON DELETE CASCADE,"
        " snapshot_id TEXT NOT NULL, PRIMARY KEY(vm_id, snapshot_id)) WITHOUT ROWID;"
        "CREATE INDEX vm_snapshots_snapshot ON vm_snapshots(snapshot_id);"
        "CREATE TABLE vm_gone(seq INTEGER PRIMARY KEY, id TEXT NOT NULL, name TEXT);"
        "CREATE TABLE snapshots(id TEXT NOT NULL PRIMARY KEY, name TEXT UNIQUE,"
        " pending INTEGER NOT NULL, created_at INTEGER NOT NULL, accessed_at INTEGER,"
        " bytes INTEGER, data TEXT NOT NULL);"
        "CREATE TABLE snapshot_blobs("
        " snapshot_id TEXT NOT NULL REFERENCES snapshots(id) ON DELETE CASCADE,"
        " hex TEXT NOT NULL, PRIMARY KEY(snapshot_id, hex)) WITHOUT ROWID;"
        "CREATE INDEX snapshot_blobs_hex ON snapshot_blobs(hex);"
        "CREATE TABLE networks(id TEXT NOT NULL PRIMARY KEY, vm_id TEXT NOT NULL,"
        " if_name TEXT NOT NULL, data TEXT NOT NULL, UNIQUE(vm_id, if_name));"
        "CREATE TABLE images(kind TEXT NOT NULL, digest TEXT NOT NULL, data TEXT NOT NULL,"
        " PRIMARY KEY(kind, digest));"
        "CREATE TABLE image_refs(kind TEXT NOT NULL, ref TEXT NOT NULL, digest TEXT NOT NULL,"
        " data TEXT NOT NULL, PRIMARY KEY(kind, ref),"
        " FOREIGN KEY(kind, digest) REFERENCES images(kind, digest));"
        "CREATE INDEX image_refs_digest ON image_refs(kind, digest);"
        "CREATE TABLE image_blobs(kind TEXT NOT NULL, digest TEXT NOT NULL, hex TEXT NOT NULL,"
        " PRIMARY KEY(kind, digest, hex),"
        " FOREIGN KEY(kind, digest) REFERENCES images(kind, digest) ON DELETE CASCADE)"
        " WITHOUT ROWID;"
        "CREATE INDEX image_blobs_hex ON image_blobs(hex);"
        "CREATE TABLE tombstones(kind TEXT NOT NULL, id TEXT NOT NULL, lease_id TEXT NOT NULL,"
        " phase TEXT NOT NULL CHECK(phase IN ('leased','deleting')), leased_at INTEGER NOT NULL,"
        " payload TEXT NOT NULL, PRIMARY KEY(kind, id)) WITHOUT ROWID;";

static int fill(sqlite3 *db, struct cc_err *err)
{
        sqlite3_stmt *s = NULL;
        char uuid[37];
        char now[CC_RFC3339_MAX];
        int rc;

        cc_uuid_new(uuid);
        cc_time_rfc3339(cc_now(), now);
        rc = sqlite3_exec(db, "PRAGMA journal_mode = WAL; BEGIN", NULL, NULL, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_exec(db, ddl, NULL, NULL, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_prepare_v2(db,
                                        "INSERT INTO meta_kv(k, v) VALUES('store_uuid', ?1),"
                                        "('created_at', ?2), ('seq', '0'), ('gone_floor', '0'),"
                                        "('state', 'initialized')",
                                        -1, &s, NULL);
        if (rc == SQLITE_OK) {
                meta_bind(s, 1, uuid);
                meta_bind(s, 2, now);
                rc = sqlite3_step(s) == SQLITE_DONE ? SQLITE_OK : sqlite3_errcode(db);
        }
        sqlite3_finalize(s);
        if (rc == SQLITE_OK)
                rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
        return rc == SQLITE_OK ? 0 : meta_sql_fail(db, rc, err);
}

static int build(const char *path, struct cc_err *err)
{
        sqlite3 *db = NULL;
        int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
        int r = rc == SQLITE_OK ? fill(db, err) : meta_sql_fail(db, rc, err);

        /* The last close folds the WAL back and removes it: one complete file remains. */
        rc = sqlite3_close(db);
        if (r == 0 && rc != SQLITE_OK)
                r = meta_sql_fail(NULL, rc, err);
        return r;
}

/* path and its -wal and -shm; absent is fine. */
int meta_remove_db(const char *path, struct cc_err *err)
{
        static const char *const suffix[] = { "-wal", "-shm", "" };
        int r = 0;

        for (size_t i = 0; i < CC_ARRAY_LEN(suffix) && r == 0; i++) {
                CC_FREE char *name = xasprintf("%s%s", path, suffix[i]);

                r = cc_unlink(name, err);
        }
        return r;
}

int meta_build(const char *path, struct cc_err *err)
{
        int fd;
        int r = meta_remove_db(path, err);

        if (r < 0)
                return r;
        /* SQLite gives -wal and -shm the mode of the database, so this decides all three. */
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return cc_fail_errno(err, errno, "create store %s", path);
        close(fd);
        return build(path, err);
}

int meta_create(struct meta *m, struct cc_err *err)
{
        CC_FREE char *temp = xasprintf("%s.new", m->path);
        int r = meta_build(temp, err); /* a killed predecessor left its own; we hold meta.lock */

        if (r == 0)
                r = cc_failpoint("meta_init.M1", err);
        /* What a crashed initialisation of another kind left has no records (open.c checked). */
        if (r == 0)
                r = meta_remove_db(m->path, err);
        if (r == 0)
                r = cc_publish_file(temp, m->path, false, err);
        if (r < 0)
                (void)meta_remove_db(temp, NULL);
        return r < 0 ? r : cc_failpoint("meta_init.M2", err);
}

/* Version 1 is the first: nothing leads to it. A later one adds a row and a test. */
const struct meta_migration *const meta_migrations = NULL;
const size_t meta_migrations_len = 0;

static const char *step_from(int from, const struct meta_migration *table, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (table[i].from == from)
                        return table[i].sql;
        return NULL;
}

int meta_migrate(struct meta *m, int from, int to, const struct meta_migration *table, size_t n,
                 struct cc_err *err)
{
        CC_FREE char *backup = xasprintf("%s.v%d.bak", m->path, from);
        CC_FREE char *finish = xasprintf("PRAGMA user_version = %d; COMMIT", to);
        int r;

        for (int v = from; v < to; v++)
                if (!step_from(v, table, n))
                        return cc_fail(
                                err, CC_SCHEMA,
                                "the store %s has version %d, from which there is no upgrade",
                                m->path, from);
        r = meta_backup(m, backup, err);
        if (r < 0)
                return cc_wrap(err, "back up the store before its upgrade");
        r = meta_exec(m, "BEGIN IMMEDIATE", err);
        for (int v = from; v < to && r == 0; v++)
                r = meta_exec(m, step_from(v, table, n), err);
        if (r == 0)
                r = meta_exec(m, finish, err);
        if (r < 0 && !sqlite3_get_autocommit(m->db))
                (void)meta_exec(m, "ROLLBACK", NULL);
        return r;
}
