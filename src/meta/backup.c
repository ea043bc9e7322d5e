/* A consistent copy of the store while others use it (state.md §2, Backup). */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fs.h"
#include "base/id.h"
#include "meta/internal.h"

static int vacuum_into(struct meta *m, const char *temp, struct cc_err *err)
{
        STMT_OWN sqlite3_stmt *s = NULL;
        int r = meta_prepare(m, "VACUUM INTO ?1", &s, err);

        if (r < 0)
                return r;
        meta_bind(s, 1, temp);
        return meta_run(m, s, err);
}

/* The copy must be whole, ours, and in WAL mode, so that putting it back is all a restore takes. */
static int check(sqlite3 *db, struct cc_err *err)
{
        sqlite3_stmt *s = NULL;
        int rc = sqlite3_exec(db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
        int r = 0;

        if (rc == SQLITE_OK)
                rc = sqlite3_prepare_v2(db, "SELECT integrity_check FROM pragma_integrity_check(1)",
                                        -1, &s, NULL);
        if (rc == SQLITE_OK)
                rc = sqlite3_step(s);
        if (rc != SQLITE_ROW)
                r = meta_sql_fail(db, rc, err);
        else if (strcmp(meta_text(s, 0), "ok") != 0)
                r = cc_fail(err, CC_CORRUPT, "the copy is damaged: %s", meta_text(s, 0));
        sqlite3_finalize(s);
        return r;
}

static int check_copy(const char *temp, struct cc_err *err)
{
        sqlite3 *db = NULL;
        int rc = sqlite3_open_v2(temp, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
        int r = rc == SQLITE_OK ? check(db, err) : meta_sql_fail(db, rc, err);

        rc = sqlite3_close(db);
        return r == 0 && rc != SQLITE_OK ? meta_sql_fail(NULL, rc, err) : r;
}

static int copy_to(struct meta *m, const char *temp, const char *dest, struct cc_err *err)
{
        /* VACUUM INTO accepts an empty file: this one has the right mode from the start. */
        int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        int r;

        if (fd < 0)
                return cc_fail_errno(err, errno, "create %s", temp);
        close(fd);
        r = vacuum_into(m, temp, err);
        if (r == 0)
                r = check_copy(temp, err);
        return r < 0 ? r : cc_publish_file(temp, dest, false, err);
}

int meta_backup(struct meta *m, const char *dest, struct cc_err *err)
{
        static const char *const left[] = { "", "-wal", "-shm", "-journal" };
        const char *base = cc_basename(dest);
        char suffix[CC_ID_LEN + 1];
        CC_FREE char *temp = NULL;
        int r;

        if (m->mode != MODE_NONE)
                return cc_fail(err, CC_INTERNAL, "store: backup inside a transaction");
        if (!*base)
                return cc_fail(err, CC_INVALID, "backup: %s is a directory", dest);
        cc_id_new(suffix);
        temp = xasprintf("%.*s.tmp-%s-%.8s", (int)(base - dest), dest, base, suffix);
        r = copy_to(m, temp, dest, err);
        for (size_t i = 0; i < CC_ARRAY_LEN(left) && r < 0; i++) {
                CC_FREE char *path = xasprintf("%s%s", temp, left[i]);

                (void)cc_unlink(path, NULL);
        }
        return r < 0 && err ? cc_wrap(err, "backup to %s", dest) : r;
}
