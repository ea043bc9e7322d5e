/* Opening the store: which files are accepted, which are refused, when a new one is made. Fails
 * closed: a store that cannot be read for certain is never replaced by an empty one. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/timeutil.h"
#include "meta/internal.h"

#define DEFAULT_BUSY_MS 30000

int (*meta_statfs)(const char *path, struct statfs *ret) = statfs;

const char *meta_refused_fs(long magic)
{
        /* Shared memory or byte locks are missing or lie there (linux/magic.h and kin). */
        static const struct {
                unsigned long magic;
                const char *name;
        } refused[] = {
                { 0x6969, "NFS" },        { 0x517B, "SMB" },        { 0xFF534D42, "SMB" },
                { 0xFE534D42, "SMB" },    { 0x01021997, "9p" },     { 0x65735546, "FUSE" },
                { 0x5346414F, "AFS" },    { 0x6B414653, "AFS" },    { 0x73757245, "Coda" },
                { 0x00C36400, "Ceph" },   { 0x0BD00BD0, "Lustre" }, { 0x564c, "NCP" },
                { 0x786F4256, "vboxsf" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(refused); i++)
                if ((unsigned long)magic == refused[i].magic ||
                    (unsigned long)(unsigned)magic == refused[i].magic)
                        return refused[i].name;
        return NULL;
}

char *meta_uri_path(const char *path)
{
        CC_BUF struct cc_buf b = { 0 };

        for (const char *p = path; *p; p++)
                if (strchr("%?# ", *p) || (unsigned char)*p < ' ')
                        cc_buf_printf(&b, "%%%02x", (unsigned)(unsigned char)*p);
                else
                        cc_buf_char(&b, *p);
        return cc_buf_take(&b);
}

static int denied(struct cc_err *err)
{
        cc_hint(err, "run as root, or choose a directory you may write with --root-dir");
        return -CC_DENIED;
}

/* 1 exists, 0 absent. The database is looked at before SQLite may touch its WAL. */
static int probe(const struct meta *m, const char *path, struct cc_err *err)
{
        struct statfs fs;
        const char *name;

        if (meta_statfs(path, &fs) < 0) {
                if (errno == ENOENT)
                        return 0;
                if (errno == EACCES || errno == EPERM) {
                        cc_fail_errno(err, errno, "open store in %s", m->dir);
                        return denied(err);
                }
                return cc_fail_errno(err, errno, "open store %s", path);
        }
        name = meta_refused_fs((long)fs.f_type);
        if (name)
                return cc_fail(err, CC_UNSUPPORTED,
                               "the store %s is on a %s file system: root_dir must be on a local "
                               "one",
                               m->dir, name);
        return 1;
}

static int open_failed(struct meta *m, int rc, struct cc_err *err)
{
        int r = meta_sql_fail(m->db, rc, err);

        if (r == -CC_CORRUPT)
                cc_hint(err, "restore a backup of %s", m->path);
        r = err ? cc_wrap(err, "open %s", m->path) : r;
        return r == -CC_DENIED ? denied(err) : r;
}

/* One integer from a statement that gives one row; *ret as it was if it gives none. */
static int get_int(struct meta *m, const char *sql, int *ret, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, sql, &s, err);

        if (r == 0)
                r = meta_step(m, s, err);
        if (r > 0)
                *ret = sqlite3_column_int(s, 0);
        return r < 0 ? r : 0;
}

/* 1 the initialisation was finished, 0 not. */
static int has_state(struct meta *m, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int rc = sqlite3_prepare_v2(m->db, "SELECT 1 FROM meta_kv WHERE k = 'state'", -1, &s, NULL);

        if (rc == SQLITE_ERROR) /* no such table */
                return 0;
        return rc == SQLITE_OK ? meta_step(m, s, err) : meta_sql_fail(m->db, rc, err);
}

/* A file put back from a copy made elsewhere may be in another mode; the mode is persistent. */
static int ensure_wal(struct meta *m, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, "PRAGMA journal_mode", &s, err);

        if (r == 0)
                r = meta_step(m, s, err);
        if (r < 0 || (r > 0 && strcmp(meta_text(s, 0), "wal") == 0))
                return r < 0 ? r : 0;
        return meta_exec(m, "PRAGMA journal_mode = WAL", err);
}

/* Whose database is it, is it complete, which version: 1 fine, 0 an initialisation that never
 * finished. */
static int identify(struct meta *m, int *ret_version, struct cc_err *err)
{
        int id = 0;
        int tables = 0;
        int r;

        if ((r = get_int(m, "PRAGMA application_id", &id, err)) < 0)
                return r;
        if (id == 0) {
                r = get_int(m, "SELECT count(*) FROM sqlite_schema", &tables, err);
                if (r < 0 || tables == 0)
                        return r;
        }
        if (id == META_UPSTREAM_ID)
                return cc_fail(err, CC_SCHEMA,
                               "%s is the store of an older installation: run \"cocoon meta "
                               "import\"",
                               m->path);
        if (id != META_APPLICATION_ID)
                return cc_fail(err, CC_SCHEMA, "%s is not a cocoon store (application_id 0x%08x)",
                               m->path, (unsigned)id);
        if ((r = get_int(m, "PRAGMA user_version", ret_version, err)) < 0)
                return r;
        if (*ret_version > META_VERSION)
                return cc_fail(err, CC_SCHEMA,
                               "the store %s has version %d, this cocoon knows %d: use a newer "
                               "cocoon",
                               m->path, *ret_version, META_VERSION);
        return has_state(m, err);
}

static int count_wal_pages(void *ctx, sqlite3 *db, const char *name, int pages)
{
        struct meta *m = ctx;

        m->wal_pages = pages;
        return SQLITE_OK;
}

static void configure(struct meta *m)
{
        /* Settings of the connection, by call: each PRAGMA would cost a parse. */
        (void)sqlite3_extended_result_codes(m->db, 1);
        (void)sqlite3_busy_timeout(m->db, 50);
        (void)sqlite3_db_config(m->db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
        (void)sqlite3_db_config(m->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        (void)sqlite3_db_config(m->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        (void)sqlite3_db_config(m->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        (void)sqlite3_wal_hook(m->db, count_wal_pages, m);
}

int meta_connect(struct meta *m, int *ret_version, struct cc_err *err)
{
        int rc;
        int r = probe(m, m->path, err);

        if (r <= 0)
                return r;
        rc = sqlite3_open_v2(m->path, &m->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
        if (rc != SQLITE_OK)
                return open_failed(m, rc, err);
        configure(m);
        if (sqlite3_db_readonly(m->db, "main") == 1) {
                cc_fail(err, CC_DENIED, "open %s: it may only be read", m->path);
                return denied(err);
        }
        r = identify(m, ret_version, err);
        if (r <= 0) {
                if (r == -CC_CORRUPT)
                        cc_hint(err, "restore a backup of %s", m->path);
                return r;
        }
        r = ensure_wal(m, err);
        return r < 0 ? r : 1;
}

/* Under meta.lock, which whoever finished before us may have held until just now: look again. */
static int create_or_upgrade(struct meta *m, struct cc_err *err)
{
        int version = META_VERSION;
        int r = meta_connect(m, &version, err);

        if (r < 0)
                return r;
        if (r > 0)
                return version == META_VERSION
                               ? 0
                               : meta_migrate(m, version, META_VERSION, meta_migrations,
                                              meta_migrations_len, err);
        meta_db_close(m);
        r = probe(m, m->dir, err);
        if (r >= 0)
                r = meta_may_create(m, err);
        if (r == 0)
                r = meta_create(m, err);
        if (r < 0)
                return r;
        r = meta_connect(m, &version, err);
        if (r == 0)
                r = cc_fail(err, CC_INTERNAL, "the new store %s is not usable", m->path);
        return r < 0 ? r : 0;
}

static int make_dirs(const struct meta *m, const char *locks, struct cc_err *err)
{
        int r = cc_mkdir_p(m->root, 0750, err);

        if (r == 0)
                r = cc_mkdir_p(m->dir, 0700, err);
        if (r == 0)
                r = cc_mkdir_p(locks, 0750, err);
        return r == -CC_DENIED ? denied(err) : r;
}

/* Many first commands may start at once: one makes the store under meta.lock, the others look for
 * it meanwhile and need no lock once it is there. */
static int open_store(struct meta *m, bool existing, struct cc_err *err)
{
        int64_t deadline = cc_monotonic() + m->busy_ms * CC_NSEC_PER_MSEC;
        CC_FREE char *locks = cc_path_join(m->root, "locks");
        CC_FREE char *lock_path = cc_path_join(locks, "meta.lock");
        int delay = 0;

        for (;;) {
                CC_CLOSE int lock = -1;
                struct cc_err busy = CC_ERR_INIT;
                int version = META_VERSION;
                int r = meta_connect(m, &version, err);

                if (r < 0 || (r > 0 && version == META_VERSION))
                        return r < 0 ? r : 0;
                meta_db_close(m);
                if (r == 0 && existing) {
                        r = meta_may_create(m, err);
                        return r < 0 ? r : cc_fail(err, CC_NOT_FOUND, "no store in %s yet", m->dir);
                }
                r = make_dirs(m, locks, err);
                if (r < 0)
                        return r;
                r = cc_lock_try(lock_path, CC_LOCK_EXCLUSIVE, "meta.init", &lock, &busy);
                if (r == 0)
                        return create_or_upgrade(m, err);
                if (r != -CC_BUSY)
                        return cc_err_copy(err, &busy);
                r = meta_backoff(deadline, &delay, err);
                if (r < 0)
                        return r;
        }
}

struct meta *meta_new(const struct meta_open_args *args)
{
        struct meta *m = xcalloc(1, sizeof(*m));

        m->writer_fd = -1;
        m->root = xstrdup(args->root_dir);
        m->run_dir = xstrdup(args->run_dir);
        m->dir = cc_path_join(args->root_dir, "meta");
        m->path = cc_path_join(m->dir, "meta.db");
        m->writer_path = cc_path_join(args->root_dir, "locks/writer.lock");
        m->busy_ms = args->busy_timeout_ms > 0 ? args->busy_timeout_ms : DEFAULT_BUSY_MS;
        return m;
}

int meta_open(const struct meta_open_args *args, struct meta **ret, struct cc_err *err)
{
        META struct meta *m = meta_new(args);
        int r = open_store(m, args->existing, err);

        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}
