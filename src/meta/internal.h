/*
 * What the files of the store share: the connection, cached statements, error mapping and the
 * transaction guard. Nothing outside src/meta includes this, except the store's own tests.
 *
 * Theory of operation. Writers queue on flock(locks/writer.lock), then BEGIN IMMEDIATE, then write,
 * COMMIT (fsync of the WAL when durable), release. SQLite alone would make 256 writers poll; the
 * flock makes them wait in line. The flock is an optimisation only: correctness is SQLite's, so a
 * lost lock file or a foreign writer costs time, never data. Readers take no flock.
 *
 * The WAL. Its file is reused in place, because a commit that makes it longer also waits for the
 * file system's journal (measured: 4 times slower). So nothing truncates it while commands come and
 * go: a writer folds it into the database before its own transaction, which then starts over at the
 * file's beginning. It does so early (META_WAL_IDLE) when nobody else writes, because the first
 * process to open an idle store reads all that is valid in the WAL, and late (META_WAL_BUSY) in a
 * crowd or in a process that writes a lot; such a process, if alone, leaves an empty WAL behind.
 * How long the WAL is, writers tell each other in writer.lock: a hint, wrong only costs time.
 */
#pragma once

#include <sqlite3.h>
#include <sys/vfs.h>

#include "base/cleanup.h"
#include "meta/meta.h"

#define META_APPLICATION_ID 0x434F4343 /* "COCC" */
#define META_UPSTREAM_ID    0x434F434E /* the upstream project's own SQLite store */
#define META_VERSION        1

#define META_WAL_BUSY  1024 /* pages of 4 KiB */
#define META_WAL_IDLE  64
#define META_WAL_LEFT  128
#define META_GONE_KEPT 10000

/* Statements that are prepared once per connection; their text is in db.c. */
enum meta_sql {
        SQL_BEGIN_READ,
        SQL_BEGIN_WRITE,
        SQL_COMMIT,
        SQL_ROLLBACK,
        SQL_VERSION,
        SQL_SEQ_GET,
        SQL_SEQ_NEXT,
        SQL_VM_INSERT,
        SQL_VM_UPDATE,
        SQL_VM_DELETE,
        SQL_VM_GET,
        SQL_VM_BY_ROWID,
        SQL_VM_BY_NAME,
        SQL_VM_HAS_ID,
        SQL_VM_HAS_ID8,
        SQL_VM_PREFIX,
        SQL_VM_BLOBS,
        SQL_VM_BLOB_ADD,
        SQL_VM_BLOB_CLEAR,
        SQL_VM_SNAPSHOTS,
        SQL_VM_SNAPSHOT_ADD,
        SQL_VM_SNAPSHOT_CLEAR,
        SQL_GONE_ADD,
        SQL_BLOB_PINNED,
        SQL_SNAPSHOT_GET,
        SQL_TOMBSTONE_GET,
        SQL_MAX
};

enum meta_mode { MODE_NONE, MODE_READ, MODE_WRITE };

struct meta {
        sqlite3 *db;
        char *root, *dir, *path, *run_dir;
        char *writer_path;
        int64_t busy_ms;
        enum meta_mode mode;
        int writer_fd;    /* open lock file, -1 until the first write */
        bool writer_held; /* we hold the flock on it */
        bool queued;      /* had to wait for it at least once */
        bool wrote;       /* committed a write at least once */
        int synchronous;  /* what the connection is set to: 0 unknown, 1 NORMAL, 2 FULL */
        int wal_pages;    /* size of the WAL after our last commit */
        sqlite3_stmt *stmt[SQL_MAX];
};

/* ---- db.c: statements and errors ---- */

/* Map a result code; the text is "store: <what SQLite says>". Returns the negative class. */
int meta_sql_fail(sqlite3 *db, int rc, struct cc_err *err);

/* A cached statement, reset and unbound. */
int meta_stmt(struct meta *m, enum meta_sql which, sqlite3_stmt **ret, struct cc_err *err);

/* A statement of its own, for iterations during which callbacks may use the store. */
int meta_prepare(struct meta *m, const char *sql, sqlite3_stmt **ret, struct cc_err *err);

/* 1 a row, 0 done, negative error. The first step of a read outside a transaction waits out BUSY.
 */
int meta_step(struct meta *m, sqlite3_stmt *s, struct cc_err *err);

/* Step a statement that gives no rows. */
int meta_run(struct meta *m, sqlite3_stmt *s, struct cc_err *err);

/* SQL text without parameters or results. */
int meta_exec(struct meta *m, const char *sql, struct cc_err *err);

/* Bind UTF-8 text that outlives the statement's use; NULL binds NULL. Index from 1. */
void meta_bind(sqlite3_stmt *s, int i, const char *text);

/* Column as text, "" for NULL; valid until the next step or reset. */
const char *meta_text(sqlite3_stmt *s, int i);

/* Cleanup functions: cached statements are reset, own ones finalized. */
void meta_resetp(sqlite3_stmt **s);
void meta_finalizep(sqlite3_stmt **s);
#define STMT     CC_CLEANUP(meta_resetp)
#define STMT_OWN CC_CLEANUP(meta_finalizep)

/* Close the connection and everything prepared on it. */
void meta_db_close(struct meta *m);

/* ---- tx.c ---- */

/* Refuse a write outside a write transaction: a bug of the caller. */
int meta_need_write(const struct meta *m, struct cc_err *err);

/* A read that spans statements: begins one if none is open; *ret_own says so, for meta_read_end. */
int meta_read_begin(struct meta *m, bool *ret_own, struct cc_err *err);
void meta_read_end(struct meta *m, bool own);

/* Sleep before a retry (5 → 100 ms, jittered). BUSY behind the deadline, CANCELED on a signal. */
int meta_backoff(int64_t deadline, int *delay_ms, struct cc_err *err);

/* Fold the WAL into the database as far as its readers allow; `empty` also truncates it if there
 * are none. Never waits, never fails. */
void meta_checkpoint(struct meta *m, bool empty);

/* The next change number. */
int meta_seq_next(struct meta *m, int64_t *ret, struct cc_err *err);

/* ---- schema.c ---- */

/* Build a complete store at m->path and make it appear in one rename. */
int meta_create(struct meta *m, struct cc_err *err);

/* The two halves of it: build a complete, empty store in the new file `path` (what an earlier try
 * left there is removed), and remove a store with its -wal and -shm; absent is fine. */
int meta_build(const char *path, struct cc_err *err);
int meta_remove_db(const char *path, struct cc_err *err);

struct meta_migration {
        int from; /* version that `sql` brings to from + 1 */
        const char *sql;
};

extern const struct meta_migration *const meta_migrations;
extern const size_t meta_migrations_len;

/* Bring an open store from version `from` to `to` in one transaction, after a backup
 * meta.db.v<from>.bak. The caller holds meta.lock. */
int meta_migrate(struct meta *m, int from, int to, const struct meta_migration *table, size_t n,
                 struct cc_err *err);

/* ---- evidence.c ---- */

/* May an empty store be created here? No when the root already holds what a store would know. */
int meta_may_create(const struct meta *m, struct cc_err *err);

/* The file of an upstream SQLite store below the root, by its identity; NULL if there is none.
 * Caller frees. */
char *meta_find_upstream_db(const char *root);
bool meta_is_upstream_db(const char *path);

/* ---- vm.c, snapshot.c: a new row whose record is `text` word for word; `vm` and `s` are what it
 * parses to. Times and generations stay as they are. ---- */
int meta_vm_insert_as(struct meta *m, const struct vm_record *vm, const char *text,
                      struct cc_err *err);
int meta_snapshot_insert_as(struct meta *m, const struct snapshot_record *s, const char *text,
                            struct cc_err *err);

/* ---- open.c ---- */

/* A store that is not open yet: paths and limits only. Ended by meta_close(). */
struct meta *meta_new(const struct meta_open_args *args);

/* Open and judge the file m->path: 1 usable, 0 there is no store (or only the debris of one),
 * negative: refused. */
int meta_connect(struct meta *m, int *ret_version, struct cc_err *err);

/* "/a b" → "/a%20b": what a file: URI takes. Caller frees. */
char *meta_uri_path(const char *path);

/* Name of a file system that cannot carry a WAL store, NULL for all others. */
const char *meta_refused_fs(long magic);

/* statfs(2), replaceable by tests. */
extern int (*meta_statfs)(const char *path, struct statfs *ret);

/* ---- shared between record files ---- */

/* Smallest text behind every text that starts with `prefix`; NULL if there is none. */
char *meta_after_prefix(const char *prefix);

/* CONFLICT when a tombstone (kind, id) exists. */
int meta_tombstone_refuse(struct meta *m, const char *kind, const char *id, struct cc_err *err);

/* True when there is a row in `which` for the two bound texts. */
int meta_exists(struct meta *m, enum meta_sql which, const char *a, const char *b, bool *ret,
                struct cc_err *err);
