/*
 * The SQLite store of a newer upstream root, found by its identity. The file is foreign: it is
 * looked at through plain tables only (no views), and read as it lies on disk once its WAL is
 * folded in, so that what was read is what the digest speaks of.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/json.h"
#include "meta/import_internal.h"

#define UPSTREAM_VERSION 1
#define ROWS_MAX         10000000

static const struct table {
        const char *name;
        enum import_kind kind;
        const char *driver;
        const char *refs; /* of images: the table of references */
        bool named;
} tables[] = {
        { "vms_cloudhypervisor", IMPORT_VM, "cloud-hypervisor", NULL, true },
        { "vms_firecracker", IMPORT_VM, "firecracker", NULL, true },
        { "snapshots", IMPORT_SNAPSHOT, NULL, NULL, true },
        { "networks", IMPORT_NETWORK, NULL, NULL, false },
        { "images_oci", IMPORT_OCI, NULL, "image_oci_refs", false },
        { "images_cloudimg", IMPORT_CLOUDIMG, NULL, "image_cloudimg_refs", false },
};

static void close_db(sqlite3 **db)
{
        (void)sqlite3_close(*db);
}
#define DB CC_CLEANUP(close_db)

static int fail(sqlite3 *db, const char *path, int rc, struct cc_err *err)
{
        int r = meta_sql_fail(db, rc, err);

        return err ? cc_wrap(err, "%s", path) : r;
}

static int prepare(sqlite3 *db, const char *path, const char *sql, sqlite3_stmt **ret,
                   struct cc_err *err)
{
        int rc = sqlite3_prepare_v2(db, sql, -1, ret, NULL);

        return rc == SQLITE_OK ? 0 : fail(db, path, rc, err);
}

/* 1 a row, 0 the end. */
static int step(sqlite3 *db, const char *path, sqlite3_stmt *s, struct cc_err *err)
{
        int rc = sqlite3_step(s);

        return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : fail(db, path, rc, err);
}

static void secure(sqlite3 *db)
{
        (void)sqlite3_extended_result_codes(db, 1);
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
        (void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, IMPORT_RECORD_MAX);
}

/* Fold the WAL in and let go of the file: then it is complete by itself. */
static int settle(const char *path, struct cc_err *err)
{
        CC_FREE char *wal = xasprintf("%s-wal", path);
        sqlite3 *db = NULL;
        int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
        int r = 0;

        if (rc == SQLITE_OK) {
                secure(db);
                /* A connection that has read nothing does not know that there is a WAL. */
                rc = sqlite3_exec(db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL);
        }
        if (rc == SQLITE_OK)
                rc = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
        if (rc != SQLITE_OK)
                r = fail(db, path, rc, err);
        (void)sqlite3_close(db);
        /* The last to close removes it. */
        if (r == -CC_BUSY || (r == 0 && cc_exists(wal)))
                r = cc_fail(err, CC_BUSY, "%s is open in another program: end that first", path);
        return r;
}

static int is_table(sqlite3 *db, const char *path, const char *name, bool *ret, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = prepare(db, path,
                        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 "
                        "AND sql LIKE 'CREATE TABLE %'",
                        &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, name);
        r = step(db, path, s, err);
        *ret = r > 0;
        return r < 0 ? r : 0;
}

static int one_int(sqlite3 *db, const char *path, const char *sql, int64_t *ret, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = prepare(db, path, sql, &s, err);

        if (r == 0)
                r = step(db, path, s, err);
        if (r > 0)
                *ret = sqlite3_column_int64(s, 0);
        return r < 0 ? r : 0;
}

static int check_whole(sqlite3 *db, const char *path, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int64_t version = 0;
        int r = one_int(db, path, "PRAGMA user_version", &version, err);

        if (r == 0 && version != UPSTREAM_VERSION)
                r = cc_fail(err, CC_SCHEMA, "%s has version %lld, this cocoon reads %d", path,
                            (long long)version, UPSTREAM_VERSION);
        if (r == 0)
                r = prepare(db, path, "PRAGMA integrity_check(1)", &s, err);
        if (r == 0)
                r = step(db, path, s, err);
        if (r < 0)
                return r;
        if (strcmp(meta_text(s, 0), "ok") != 0)
                return cc_fail(err, CC_CORRUPT, "%s is damaged: %s", path, meta_text(s, 0));
        return 0;
}

/* A removal that began over there is only known how to finish over there. */
static int check_tombstones(sqlite3 *db, const char *path, struct cc_err *err)
{
        CC_STRV struct cc_strv names = { 0 };
        const char *name;
        int r;
        {
                STMT_OWN sqlite3_stmt *s = NULL;

                r = prepare(db, path,
                            "SELECT name FROM sqlite_schema WHERE type = 'table' AND "
                            "name LIKE '%\\_tombstones' ESCAPE '\\' LIMIT 100",
                            &s, err);
                while (r == 0 && (r = step(db, path, s, err)) > 0) {
                        cc_strv_add(&names, meta_text(s, 0));
                        r = 0;
                }
        }
        cc_strv_foreach (&names, i, name) {
                char *sql = NULL;
                int64_t n = 0;

                if (r < 0)
                        break;
                sql = sqlite3_mprintf("SELECT count(*) FROM \"%w\" WHERE phase = 'deleting'", name);
                r = sql ? one_int(db, path, sql, &n, err)
                        : cc_fail(err, CC_INTERNAL, "out of memory");
                sqlite3_free(sql);
                if (r == 0 && n)
                        r = cc_fail(err, CC_STATE,
                                    "%s: %lld unfinished removals in %s: let the older program's "
                                    "gc finish them",
                                    path, (long long)n, name);
        }
        return r;
}

static int parse(const char *text, const char *path, const char *key, json_t **ret,
                 struct cc_err *err)
{
        int r = cc_json_parse(text, strlen(text), "record", ret, err);

        return r < 0 && err ? cc_wrap(err, "%s: %s", path, key) : r;
}

/* Columns: key, data, name, data of the digest. */
static int take_row(struct import *im, const struct table *t, const char *path, sqlite3_stmt *s,
                    struct cc_err *err)
{
        const char *key = meta_text(s, 0);
        const char *name;
        json_t *data = NULL;
        int r = parse(meta_text(s, 1), path, key, &data, err);

        if (r < 0)
                return r;
        if (t->refs) {
                CC_JSON json_t *own = data;
                json_t *whole = NULL;

                /* What the reference says is about it alone; the rest is the digest's. */
                r = parse(meta_text(s, 3), path, key, &whole, err);
                if (r < 0)
                        return r;
                (void)json_object_update(whole, own);
                return import_add(im, t->kind, t->driver, key, whole, err);
        }
        if (t->named) {
                const json_t *holder =
                        t->kind == IMPORT_VM ? json_object_get(data, "config") : data;

                name = json_string_value(json_object_get(holder, "name"));
                if (strcmp(name ? name : "", meta_text(s, 2)) != 0) {
                        json_decref(data);
                        return cc_fail(err, CC_CONFLICT,
                                       "%s: record %s has another name than its row", path, key);
                }
        }
        return import_add(im, t->kind, t->driver, key, data, err);
}

static int take_table(struct import *im, const struct table *t, sqlite3 *db, const char *path,
                      struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        CC_FREE char *sql = NULL;
        bool have = false;
        size_t n = 0;
        int r = is_table(db, path, t->refs ? t->refs : t->name, &have, err);

        if (r < 0 || !have)
                return r;
        if (t->refs)
                sql = xasprintf("SELECT r.ref, r.data, '', d.data FROM %s r JOIN %s d "
                                "ON d.digest = r.digest ORDER BY r.ref",
                                t->refs, t->name);
        else
                sql = xasprintf("SELECT id, data, %s FROM %s ORDER BY id",
                                t->named ? "coalesce(name, '')" : "''", t->name);
        r = prepare(db, path, sql, &s, err);
        while (r == 0 && (r = step(db, path, s, err)) > 0) {
                if (++n > ROWS_MAX)
                        return cc_fail(err, CC_INVALID, "%s: too many rows in %s", path, t->name);
                r = take_row(im, t, path, s, err);
        }
        return r;
}

static int read_store(struct import *im, const char *path, struct cc_err *err)
{
        CC_FREE char *uri = NULL;
        char *escaped;
        DB sqlite3 *db = NULL;
        int rc;
        int r = settle(path, err);

        if (r == 0)
                r = import_source(im, path, err);
        if (r < 0)
                return r;
        escaped = meta_uri_path(path);
        uri = xasprintf("file:%s?mode=ro&immutable=1", escaped);
        free(escaped);
        rc = sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI,
                             NULL);
        if (rc != SQLITE_OK)
                return fail(db, path, rc, err);
        secure(db);
        r = check_whole(db, path, err);
        if (r == 0)
                r = check_tombstones(db, path, err);
        for (size_t i = 0; i < CC_ARRAY_LEN(tables) && r == 0; i++)
                r = take_table(im, &tables[i], db, path, err);
        return r;
}

int import_read_sqlite(struct import *im, struct cc_err *err)
{
        CC_FREE char *path = meta_find_upstream_db(im->args->root_dir);

        if (!path)
                return 0;
        if (im->n)
                return cc_fail(err, CC_CONFLICT,
                               "both %s and %s hold records: move away the one that is out of date",
                               im->sources[0].path, path);
        return read_store(im, path, err);
}
