/* What meta_open() makes, accepts and refuses (state.md §2, "Open, fail closed"). */
#include "helper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void refused(struct store *s, enum cc_class class, const char *part)
{
        int r = store_open(s);

        if (r != -(int)class)
                fail_msg("class %s instead of %s: %s",
                         cc_class_name(r < 0 ? (enum cc_class) - r : 0), cc_class_name(class),
                         s->err.msg);
        if (!strstr(s->err.msg, part))
                fail_msg("\"%s\" lacks \"%s\"", s->err.msg, part);
        assert_null(s->m);
}

static void opens(struct store *s)
{
        if (store_open(s) < 0)
                fail_msg("%s", s->err.msg);
}

static char *in_root(const struct store *s, const char *name)
{
        return cc_path_join(s->root, name);
}

static void put(const struct store *s, const char *name, const void *data, size_t n)
{
        CC_FREE char *path = in_root(s, name);
        CC_FREE char *dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));

        assert_int_equal(cc_mkdir_p(dir, 0700, NULL), 0);
        assert_int_equal(cc_publish(path, data, n, 0600, NULL), 0);
}

/* Run SQL on the closed store behind its back. */
static void sql(const struct store *s, const char *text)
{
        CC_FREE char *path = in_root(s, "meta/meta.db");
        sqlite3 *db;

        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
                fail_msg("%s", sqlite3_errmsg(db));
        sqlite3_close(db);
}

static bool there(const struct store *s, const char *name)
{
        CC_FREE char *path = in_root(s, name);

        return cc_exists(path);
}

static void a_new_store(void **state)
{
        struct store *s = *state;
        CC_FREE char *dir = in_root(s, "meta");
        CC_FREE char *file = in_root(s, "meta/meta.db");
        struct stat st;

        cc_rm_rf(s->root, NULL); /* not even the root exists */
        opens(s);
        assert_int_equal(stat(dir, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        assert_int_equal(stat(file, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_false(there(s, "meta/meta.db.new"));
        assert_int_equal(store_count(s, "PRAGMA application_id"), 0x434F4343);
        assert_int_equal(store_count(s, "PRAGMA user_version"), 1);
        assert_int_equal(store_count(s, "PRAGMA foreign_keys"), 1);
        assert_int_equal(store_count(s, "PRAGMA trusted_schema"), 0);
        assert_int_equal(store_count(s, "SELECT journal_mode = 'wal' FROM pragma_journal_mode"), 1);
        assert_int_equal(store_count(s, "SELECT count(*) FROM meta_kv WHERE k IN ('store_uuid',"
                                        "'created_at', 'seq', 'state')"),
                         4);
        /* Every key column refuses NULL; there is a key in every table. */
        assert_int_equal(
                store_count(s, "SELECT count(*) FROM sqlite_schema t, pragma_table_info(t.name) c "
                               "WHERE t.type = 'table' AND c.pk > 0 AND c.\"notnull\" = 0 AND "
                               "NOT (t.name = 'vm_gone' AND c.name = 'seq')"),
                0);
        store_is_sound(s);
}

/* A hypervisor that inherits a descriptor of the store would hold its locks. */
static void descriptors_close_on_exec(void **state)
{
        struct store *s = *state;
        unsigned mine = 0;

        opens(s);
        add_vm(s, "web", NULL);
        for (int fd = 3; fd < 100; fd++) {
                char link[64];
                char target[512];
                ssize_t n;

                snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
                n = readlink(link, target, sizeof(target) - 1);
                if (n <= 0)
                        continue;
                target[n] = '\0';
                if (!cc_startswith(target, s->root))
                        continue;
                mine++;
                assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        }
        assert_int_equal(mine, 4); /* database, WAL, shared memory, writer.lock */
}

static void other_databases(void **state)
{
        struct store *s = *state;

        opens(s);
        store_close(s);
        sql(s, "PRAGMA application_id = 77");
        refused(s, CC_SCHEMA, "is not a cocoon store (application_id 0x0000004d)");
        sql(s, "PRAGMA application_id = 0x434F434E");
        refused(s, CC_SCHEMA, "run \"cocoon meta import\"");
        /* A database without an ID that holds something is someone else's. */
        sql(s, "PRAGMA application_id = 0");
        refused(s, CC_SCHEMA, "is not a cocoon store");
        sql(s, "PRAGMA application_id = 0x434F4343; PRAGMA user_version = 2");
        refused(s, CC_SCHEMA, "has version 2, this cocoon knows 1: use a newer cocoon");
        sql(s, "PRAGMA user_version = 0");
        refused(s, CC_SCHEMA, "has version 0, from which there is no upgrade");
        sql(s, "PRAGMA user_version = 1");
        opens(s);
}

static void garbage(void **state)
{
        struct store *s = *state;
        CC_FREE char *path = in_root(s, "meta/meta.db");
        char noise[8192];

        memset(noise, 'x', sizeof(noise));
        put(s, "meta/meta.db", noise, sizeof(noise));
        refused(s, CC_CORRUPT, "not a database");
        assert_non_null(strstr(s->err.hint, "restore a backup"));
        /* It is left as it was. */
        assert_int_equal(cc_unlink(path, NULL), 0);
        put(s, "meta/meta.db/x", "", 0);
        assert_true(store_open(s) < 0);
}

static void damaged_pages(void **state)
{
        struct store *s = *state;
        CC_FREE char *path = in_root(s, "meta/meta.db");
        char noise[4096];
        int fd;

        opens(s);
        add_vm(s, "web", NULL);
        meta_checkpoint(s->m, true);
        store_close(s);
        memset(noise, 0xa5, sizeof(noise));
        fd = open(path, O_WRONLY | O_CLOEXEC);
        for (int page = 1; page < 30; page++)
                assert_int_equal(pwrite(fd, noise, sizeof(noise), page * 4096), sizeof(noise));
        close(fd);
        refused(s, CC_CORRUPT, "malformed");
}

/* No store, but signs of one: an empty store would make gc take everything for orphans. */
static void evidence(void **state)
{
        struct store *s = *state;
        static const struct {
                const char *path;
                enum cc_class class;
                const char *message;
        } cases[] = {
                { "run/qemu/ABCDEFGHIJKLMNOPQRSTUVWXYZ/x", CC_CORRUPT, "restore a backup" },
                { "run/firecracker/ABCDEFGHIJKLMNOPQRSTUVWXYZ/x", CC_CORRUPT, "restore a backup" },
                { "run/cloudhypervisor/ABCDEFGHIJKLMNOPQRSTUVWXYZ.restore-staging/x", CC_CORRUPT,
                  "restore a backup" },
                { "snapshot/localfile/ABCDEFGHIJKLMNOPQRSTUVWXYZ/x", CC_CORRUPT,
                  "restore a backup" },
                { "oci/blobs/aa.erofs", CC_CORRUPT, "restore a backup" },
                { "cloudimg/blobs/aa.qcow2", CC_CORRUPT, "restore a backup" },
                { "meta/meta.db-wal", CC_CORRUPT, "restore a backup" },
                { "cloudhypervisor/db/vms.json", CC_SCHEMA, "run \"cocoon meta import\"" },
                { "firecracker/db/vms.json", CC_SCHEMA, "run \"cocoon meta import\"" },
                { "snapshot/db/snapshots.json", CC_SCHEMA, "run \"cocoon meta import\"" },
                { "cni/db/networks.json.prev", CC_SCHEMA, "run \"cocoon meta import\"" },
                { "oci/db/images.json", CC_SCHEMA, "run \"cocoon meta import\"" },
                { "cloudimg/db/images.json", CC_SCHEMA, "run \"cocoon meta import\"" },
        };

        for (size_t i = 0; i < CC_ARRAY_LEN(cases); i++) {
                put(s, cases[i].path, "x", 1);
                refused(s, cases[i].class, cases[i].message);
                assert_false(there(s, "meta/meta.db"));
                cc_rm_rf(s->root, NULL);
        }
        /* Names that are no VM's do not count. */
        put(s, "run/qemu/notes/x", "x", 1);
        put(s, "run/qemu/ABCDEFGHIJKLMNOPQRSTUVWXYZX/x", "x", 1);
        put(s, "oci/temp/aa.erofs", "x", 1);
        opens(s);
}

static void an_upstream_database(void **state)
{
        struct store *s = *state;
        CC_FREE char *path = in_root(s, "db/metadata.sqlite");
        sqlite3 *db;

        put(s, "db/metadata.sqlite", "", 0);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, "PRAGMA application_id = 0x434F434E; CREATE TABLE t(a)",
                                      NULL, NULL, NULL),
                         SQLITE_OK);
        sqlite3_close(db);
        refused(s, CC_SCHEMA, "run \"cocoon meta import\"");
}

/* Initialisations that never finished: nothing there, or an empty file, or no `state`. */
static void crashed_init(void **state)
{
        struct store *s = *state;

        put(s, "meta/meta.db", "", 0);
        put(s, "meta/meta.db.new", "junk", 4);
        opens(s);
        store_close(s);
        sql(s, "DELETE FROM meta_kv WHERE k = 'state'");
        opens(s);
        assert_int_equal(store_count(s, "SELECT count(*) FROM meta_kv WHERE k = 'state'"), 1);
        store_close(s);
        /* The same where VMs exist is not an initialisation. */
        sql(s, "DELETE FROM meta_kv WHERE k = 'state'");
        put(s, "run/qemu/ABCDEFGHIJKLMNOPQRSTUVWXYZ/x", "x", 1);
        refused(s, CC_CORRUPT, "restore a backup");
}

/* Killed at each step of the initialisation, the next command finds or makes a whole store. */
static void killed_during_init(void **state)
{
        struct store *s = *state;
        static const char *const labels[] = { "meta_init.M1", "meta_init.M2" };

        for (size_t i = 0; i < CC_ARRAY_LEN(labels); i++) {
                pid_t pid = fork();
                int status;

                if (pid == 0) {
                        setenv("COCOON_FAILPOINT", labels[i], 1);
                        store_open(s);
                        _exit(0);
                }
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
                opens(s);
                add_vm(s, "web", NULL);
                store_is_sound(s);
                store_close(s);
                assert_false(there(s, "meta/meta.db.new"));
                cc_rm_rf(s->root, NULL);
        }
        setenv("COCOON_FAILPOINT", "meta_init.M1:error", 1);
        refused(s, CC_INTERNAL, "injected failure");
        unsetenv("COCOON_FAILPOINT");
        assert_false(there(s, "meta/meta.db.new"));
        assert_false(there(s, "meta/meta.db"));
}

static void first_commands_race(void **state)
{
        struct store *s = *state;
        pid_t pids[16];

        cc_rm_rf(s->root, NULL);
        for (size_t i = 0; i < CC_ARRAY_LEN(pids); i++) {
                pids[i] = fork();
                if (pids[i] == 0)
                        _exit(store_open(s) < 0 ? 1 : 0);
        }
        for (size_t i = 0; i < CC_ARRAY_LEN(pids); i++) {
                int status;

                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_int_equal(status, 0);
        }
        opens(s);
        assert_int_equal(store_count(s, "SELECT count(*) FROM meta_kv WHERE k = 'store_uuid'"), 1);
}

static long fake_magic;

static int fake_statfs(const char *path, struct statfs *ret)
{
        int r = statfs(path, ret);

        if (r == 0)
                ret->f_type = fake_magic;
        return r;
}

static void file_systems(void **state)
{
        struct store *s = *state;
        static const long magics[] = { 0x6969,           0x517B,     (long)0xFF534D42,
                                       (long)0xFE534D42, 0x01021997, 0x65735546 };

        meta_statfs = fake_statfs;
        for (size_t i = 0; i < CC_ARRAY_LEN(magics); i++) {
                fake_magic = magics[i];
                refused(s, CC_UNSUPPORTED, "must be on a local one");
                assert_false(there(s, "meta/meta.db"));
        }
        fake_magic = 0xEF53;
        opens(s);
        store_close(s);
        fake_magic = 0x6969;
        refused(s, CC_UNSUPPORTED, "on a NFS file system");
        meta_statfs = statfs;
}

/* Without permission: the directory and the way out are named. */
static void another_user(void **state)
{
        struct store *s = *state;
        pid_t pid;
        int status;

        if (geteuid() != 0)
                skip();
        opens(s);
        store_close(s);
        assert_int_equal(chmod(s->root, 0755), 0);
        pid = fork();
        if (pid == 0) {
                bool ok;

                if (setgid(65534) < 0 || setuid(65534) < 0)
                        _exit(2);
                ok = store_open(s) == -CC_DENIED && strstr(s->err.msg, s->root) &&
                     strstr(s->err.hint, "--root-dir");
                snprintf(s->root, sizeof(s->root), "/proc/nowhere");
                ok = ok && store_open(s) < 0;
                snprintf(s->root, sizeof(s->root), "/var/lib/cocoon-test-denied");
                ok = ok && store_open(s) == -CC_DENIED && strstr(s->err.msg, s->root) &&
                     strstr(s->err.hint, "--root-dir");
                _exit(ok ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void upgrade(void **state)
{
        struct store *s = *state;
        static const struct meta_migration table[] = {
                { .from = 2,
                  .sql = "INSERT INTO meta_kv(k, v) VALUES('c', (SELECT v FROM meta_kv "
                         "WHERE k = 'b'))" },
                { .from = 1, .sql = "INSERT INTO meta_kv(k, v) VALUES('b', '2')" },
        };
        static const struct meta_migration broken[] = {
                { .from = 3, .sql = "INSERT INTO meta_kv(k, v) VALUES('d', '1')" },
                { .from = 4, .sql = "no SQL at all" },
        };

        opens(s);
        assert_int_equal(meta_migrate(s->m, 1, 4, table, 2, &s->err), -CC_SCHEMA);
        assert_false(there(s, "meta/meta.db.v1.bak"));
        assert_int_equal(meta_migrate(s->m, 1, 3, table, 2, &s->err), 0);
        assert_true(there(s, "meta/meta.db.v1.bak"));
        assert_int_equal(store_count(s, "PRAGMA user_version"), 3);
        assert_int_equal(store_count(s, "SELECT v FROM meta_kv WHERE k = 'c'"), 2);
        /* All or nothing. */
        assert_true(meta_migrate(s->m, 3, 5, broken, 2, &s->err) < 0);
        assert_int_equal(store_count(s, "PRAGMA user_version"), 3);
        assert_int_equal(store_count(s, "SELECT count(*) FROM meta_kv WHERE k = 'd'"), 0);
        /* The connection of an older version may not write any more. */
        assert_int_equal(meta_begin(s->m, META_DURABLE, &s->err), -CC_SCHEMA);
        assert_int_equal(meta_begin(s->m, META_READ, &s->err), 0);
        meta_rollback(s->m);
        store_close(s);
        refused(s, CC_SCHEMA, "has version 3");
}

#define T(f) cmocka_unit_test_setup_teardown(f, store_root, store_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                T(a_new_store),
                T(descriptors_close_on_exec),
                T(other_databases),
                T(garbage),
                T(damaged_pages),
                T(evidence),
                T(an_upstream_database),
                T(crashed_init),
                T(killed_during_init),
                T(first_commands_race),
                T(file_systems),
                T(another_user),
                T(upgrade),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
